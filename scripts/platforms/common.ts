/** What the scripts that test other platforms share: a cache, Debian's packages and npm's. */
import { spawnSync, type SpawnSyncOptions } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from "node:fs";
import path from "node:path";
import process from "node:process";

/** The repository. */
export const root = path.resolve(import.meta.dirname!, "../..");

/** Ends the process as wrong arguments do: it cannot work on this machine. */
export function giveUp(message: string): never {
  console.error(message);
  process.exit(2);
}

export function requireDebianRoot(): void {
  const { platform, arch } = process;
  if (platform !== "linux" || arch !== "x64") {
    giveUp(`This needs Linux on x64, and not ${platform} on ${arch}.`);
  }
  if (!existsSync("/usr/bin/apt-get")) giveUp("This needs Debian: there is no apt-get.");
  if (process.getuid!() !== 0) giveUp("This needs root: it installs packages, and mounts.");
}

/** A folder that stays from run to run, made if it is not there. */
export function cacheFolder(name: string): string {
  const cache = process.env["XDG_CACHE_HOME"] || "/var/cache";
  const folder = path.join(cache, "shared-memory-platforms", name);
  mkdirSync(folder, { recursive: true });
  return folder;
}

/** Says what is done and how long it took. */
export function step<Result>(title: string, action: () => Result): Result {
  process.stdout.write(`${title} ... `);
  const started = performance.now();
  const result = action();
  console.log(`${((performance.now() - started) / 1000).toFixed(1)} s`);
  return result;
}

/** What a command prints; the error of a failed one has the end of it. */
export function run(command: string, args: string[], options: SpawnSyncOptions = {}): string {
  const { status, signal, error, stdout, stderr } = spawnSync(command, args, {
    stdio: ["ignore", "pipe", "pipe"],
    maxBuffer: 64 * 2 ** 20,
    ...options,
    encoding: "utf8",
  });
  if (status === 0) return stdout;
  const end = `${stdout ?? ""}${stderr ?? ""}`.trimEnd().split("\n").slice(-40).join("\n");
  const how = error?.message ?? signal ?? `exit code ${status}`;
  throw new Error(`${command} ${args.join(" ")}: ${how}\n${end}`);
}

/** Makes a folder whole or not at all: `build` fills another one, which gets the name at the end. */
export function buildFolder(folder: string, build: (unfinished: string) => void): void {
  if (existsSync(folder)) return;
  const suffix = ".unfinished";
  const parent = path.dirname(folder);
  mkdirSync(parent, { recursive: true });
  for (const name of readdirSync(parent)) {
    const owner = name.slice(path.basename(folder).length + 1, -suffix.length);
    const isLeftOver = name === `${path.basename(folder)}.${owner}${suffix}` && /^\d+$/.test(owner);
    if (!isLeftOver || existsSync(`/proc/${owner}`) && owner !== `${process.pid}`) continue;
    // What the killed process has mounted in it is not ours to delete.
    run("rm", ["-rf", "--one-file-system", path.join(parent, name)]);
  }
  const unfinished = `${folder}.${process.pid}${suffix}`;
  mkdirSync(unfinished);
  build(unfinished);
  if (existsSync(folder)) rmSync(unfinished, { recursive: true }); // another process was faster
  else renameSync(unfinished, folder);
}

/** Installs those of Debian's packages that are missing. */
export function aptInstall(packages: string[]): void {
  const status = (name: string) =>
    spawnSync("dpkg-query", ["--show", "--showformat=${db:Status-Status}", name]).stdout.toString();
  const missing = packages.filter((name) => status(name) !== "installed");
  if (missing.length === 0) return;
  const wait = ["-o", "DPkg::Lock::Timeout=300"]; // s, for another process that installs something
  const apt = (...args: string[]) =>
    run("apt-get", [...wait, ...args], {
      env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" },
    });
  step(`installing ${missing.join(", ")}`, () => {
    const install = () => apt("install", "--yes", "--no-install-recommends", ...missing);
    try {
      install();
    } catch {
      apt("update"); // there was no list of packages yet, or an old one
      install();
    }
  });
}

/** The version of a package in package.json. */
export function versionOf(name: string): string {
  const { devDependencies, optionalDependencies } = JSON.parse(
    readFileSync(path.join(root, "package.json"), "utf8"),
  );
  const version = devDependencies[name] ?? optionalDependencies[name];
  if (version === undefined) throw new Error(`package.json does not name ${name}`);
  return version;
}

/** Unpacks `name@version` of npm into a folder within `parent`, whatever platform it is for. */
export function unpackNpm(spec: string, parent: string): string {
  const folder = path.join(parent, spec.replace(/^@/, "").replace(/[/@]/g, "-"));
  if (existsSync(folder)) return folder;
  step(`unpacking ${spec} of npm`, () =>
    buildFolder(folder, (unfinished) => {
      const packed = run("npm", ["pack", "--silent", "--pack-destination", unfinished, spec], {
        cwd: unfinished,
      });
      const archive = path.join(unfinished, packed.trim().split("\n").at(-1)!);
      run("tar", ["-xzf", archive, "-C", unfinished, "--strip-components=1", "--no-same-owner"]);
      rmSync(archive);
    }));
  return folder;
}
