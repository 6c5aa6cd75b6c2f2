/** A folder with the packed package and what others use beside it, outside of the repository. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { freePort } from "../free_port.ts";
import { findRuntime, type Runtime, type RuntimeName } from "../runtimes.ts";

const root = path.dirname(path.dirname(import.meta.dirname!));

const COMMAND_MS = 300_000;
const SERVER_MS = 60_000;

/** A runtime that must be installed. */
export function runtime(name: RuntimeName): Runtime {
  const found = findRuntime(name);
  if ("missing" in found) throw new Error(`${name} is ${found.missing}`);
  return found;
}

/** What a program says that cannot be fetched yet, or `undefined`. */
async function tryFetch(port: number): Promise<string | undefined> {
  try {
    const response = await fetch(`http://localhost:${port}/`);
    const text = await response.text();
    if (!response.ok) throw new Error(`HTTP ${response.status}: ${text.slice(0, 1000)}`);
    return text;
  } catch (error) {
    if (error instanceof TypeError) return undefined; // nobody listens
    throw error;
  }
}

/** What the command lists of an object. */
interface Listed {
  readonly keyFile: string | null;
}

/** The folder of all consumers, whose packages each of them finds. Key files are in it as well. */
export class Project {
  readonly folder: string = mkdtempSync(path.join(os.tmpdir(), "shared-memory-consumers-"));
  readonly #keys = path.join(this.folder, "keys");
  readonly #servers: ChildProcess[] = [];
  readonly #node = runtime("node");

  /** Packs the package, and installs it with what packages.json names. */
  install(): void {
    mkdirSync(this.#keys);
    this.#run("node", [path.join(root, "scripts/pack.ts"), this.folder, "--quick"], root);
    const tarball = readdirSync(this.folder).find((file) => file.endsWith(".tgz"))!;
    copyFileSync(
      path.join(import.meta.dirname!, "packages.json"),
      path.join(this.folder, "package.json"),
    );
    const quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
    this.#run("npm", ["install", ...quiet, path.join(this.folder, tarball)], this.folder);
  }

  /** Writes the files of a consumer, and returns its folder. */
  write(name: string, files: Readonly<Record<string, string>>): string {
    const folder = path.join(this.folder, name);
    const all = { "package.json": '{ "private": true, "type": "module" }', ...files };
    for (const [file, text] of Object.entries(all)) {
      mkdirSync(path.dirname(path.join(folder, file)), { recursive: true });
      writeFileSync(path.join(folder, file), text);
    }
    return folder;
  }

  /** Runs a program of an installed package in Node, and returns what it prints. */
  run(folder: string, program: string, ...args: string[]): string {
    return this.runWith([], folder, program, ...args);
  }

  /** Runs a program like `run()`, with flags for Node. */
  runWith(flags: readonly string[], folder: string, program: string, ...args: string[]): string {
    return this.#run(this.#node.command, [...flags, this.program(program), ...args], folder);
  }

  /** The path of a program of an installed package. */
  program(file: string): string {
    return path.join(this.folder, "node_modules", file);
  }

  get #env(): NodeJS.ProcessEnv {
    const Path = [path.dirname(this.#node.command), process.env["PATH"]].join(path.delimiter);
    return {
      ...process.env,
      ...{ TMPDIR: this.#keys, PATH: Path, NEXT_TELEMETRY_DISABLED: "1", NO_COLOR: "1" },
      NODE_OPTIONS: "--disable-warning=ExperimentalWarning",
    };
  }

  #run(command: string, args: readonly string[], cwd: string): string {
    const options = { cwd, env: this.#env, encoding: "utf8", timeout: COMMAND_MS } as const;
    const { status, stdout, stderr, error } = spawnSync(command, args, options);
    if (status === 0) return stdout;
    throw new Error(`${[command, ...args].join(" ")}: ${error?.message ?? ""}${stdout}${stderr}`);
  }

  /** Starts a server, with a port in its arguments and in PORT, and returns the function that fetches its page. */
  async serve(
    folder: string,
    command: string,
    argsFor: (port: number) => readonly string[],
  ): Promise<() => Promise<string>> {
    const port = await freePort();
    const child = spawn(command, argsFor(port), {
      cwd: folder,
      env: { ...this.#env, PORT: String(port) },
      stdio: ["ignore", "pipe", "pipe"],
    });
    this.#servers.push(child);
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => output += text);
    }
    return async () => {
      for (const end = Date.now() + SERVER_MS; Date.now() < end;) {
        const page = await tryFetch(port);
        if (page !== undefined) return page;
        if (child.exitCode !== null) break;
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
      throw new Error(`${[command, ...argsFor(port)].join(" ")} does not serve: ${output}`);
    };
  }

  /** Ends all servers. */
  async endServers(): Promise<void> {
    for (const child of this.#servers.splice(0)) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGKILL");
      await ended;
    }
  }

  /** Returns how many segments have key files of this project, and removes what has some. */
  cleanUp(): number {
    const command = "@shared-memory/shared-memory/cli.js";
    const isOwn = ({ keyFile }: Listed) => keyFile?.startsWith(this.#keys) === true;
    const { segments, semaphores }: Record<"segments" | "semaphores", Listed[]> = JSON.parse(
      this.run(this.folder, command, "list", "--json"),
    );
    const files = new Set(
      [...segments, ...semaphores].filter(isOwn).map(({ keyFile }) => keyFile!),
    );
    if (files.size > 0) this.run(this.folder, command, "cleanup", ...files);
    return segments.filter(isOwn).length;
  }

  remove(): void {
    rmSync(this.folder, { recursive: true });
  }
}
