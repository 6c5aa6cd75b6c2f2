/** Who does the jobs that people have such peers for, and what each needs. */
import { execFileSync, spawn } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { type Contender, here, output, runtime, Unavailable } from "../programs.ts";

type Name = "deno" | "bun" | "node";

/** What was started or installed for a peer. */
export interface Setup {
  version: string;
  env?: Record<string, string>;
  stop?(): void;
}

/** Installs an npm package in a folder of the benchmark's own: it is for nobody else. `variable` tells where. */
function install(folder: string, name: string, major: string, variable: string): Setup {
  const home = join(folder, variable);
  mkdirSync(home);
  writeFileSync(join(home, "package.json"), '{"private":true}');
  const args = ["install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error"];
  args.push(`${name}@${major}`);
  try {
    execFileSync("npm", args, { cwd: home, stdio: ["ignore", "ignore", "pipe"], timeout: 90_000 });
  } catch (cause) {
    const why = cause instanceof Error ? cause.message.trim().split("\n")[0] : cause;
    throw new Unavailable(
      `npm install ${name} did not succeed (${why}); it needs the npm registry`,
    );
  }
  const list = JSON.parse(output("npm", ["ls", "--json", "--prefix", home]) ?? "{}");
  return { version: list.dependencies?.[name]?.version ?? major, env: { [variable]: home } };
}

export function installLmdb(folder: string): Setup {
  return install(folder, "lmdb", "3", "BENCH_LMDB");
}

export function installRedisClient(folder: string): Setup {
  return install(folder, "@redis/client", "6", "BENCH_REDIS_CLIENT");
}

export const redisDatabases = 64;

export async function startRedis(folder: string): Promise<Setup> {
  const version = output("redis-server", ["--version"])?.match(/v=(\S+)/)?.[1];
  if (version === undefined) {
    throw new Unavailable("redis-server is not installed: apt-get install redis-server");
  }
  const socket = join(folder, "redis.sock");
  const options = ["--port", "0", "--unixsocket", socket, "--save", "", "--appendonly", "no"];
  options.push("--databases", String(redisDatabases));
  const child = spawn("redis-server", [...options, "--dir", folder], { stdio: "ignore" });
  for (let waited = 0; !existsSync(socket); waited += 20) {
    if (waited > 10_000 || child.exitCode !== null) {
      throw new Unavailable("redis-server does not start");
    }
    await delay(20);
  }
  child.unref();
  return { version, env: { BENCH_REDIS: socket }, stop: () => child.kill() };
}

/** A peer under a runtime; its processes meet in a folder of their own. */
export function peer(
  title: string,
  module: string,
  name: Name,
  setup?: Setup,
  program = "jobs.ts",
): Contender {
  const [command, args, version] = runtime(name);
  return {
    name: title,
    version: setup === undefined ? `${name} ${version}` : `${setup.version}, ${name} ${version}`,
    program(job, key, folder) {
      const own = join(folder, key);
      mkdirSync(own);
      const script = join(here, "peers", program);
      return {
        command,
        args: (index, count) => [...args, script, module, job, String(count), String(index), own],
        ...(setup?.env === undefined ? {} : { env: setup.env }),
      };
    },
  };
}

export function python(): Contender {
  const command = ["/usr/bin/python3", "python3"].find((name) =>
    output(name, ["-c", "from multiprocessing import shared_memory"]) !== null
  );
  if (command === undefined) throw new Unavailable("no Python 3.8: apt-get install python3");
  return {
    name: "Python multiprocessing",
    version: output(command, ["--version"])!.replace("Python ", ""),
    program: (job, key, folder) => ({
      command,
      args: (index, count) => [
        join(here, "peers/python.py"),
        job,
        String(count),
        String(index),
        join(folder, key),
      ],
    }),
  };
}
