/**
 * Gives the tests of a runtime a folder of key files of its own and, where the system allows it, an IPC namespace and a
 * `/dev/shm` of its own, so that they neither disturb nor see what other programs share, which includes the tests of
 * another runtime.
 */
import { type ChildProcess, spawn, spawnSync, type StdioOptions } from "node:child_process";
import process from "node:process";

const SWITCH = "SHARED_MEMORY_TEST_ISOLATION";
/** What is isolated, for the processes within: `all`, or only the `folder` of the key files. */
const LEVEL = "SHARED_MEMORY_TEST_ISOLATED";

/** Whether System V and POSIX objects that appear can only be those of this run. */
export const isIsolated: boolean = process.env[LEVEL] === "all";

const TAG = "SHARED_MEMORY_TEST_RUN";

/** Letters, as Qt's names keep no others of a key, by which names of this run can be told from those of others. */
export const runTag: string = process.env[TAG] ??
  Array.from({ length: 8 }, () => String.fromCharCode(97 + Math.floor(26 * Math.random()))).join(
    "",
  );

const MOUNT = "mount -t tmpfs -o mode=1777 tmpfs /dev/shm";
const NAMESPACES = ["--ipc", "--mount", "--propagation", "private"];

/** The command line that starts a program in namespaces of its own, as the same user. */
function wrapper(): string[] {
  const shell = (rest: string) => ["sh", "-c", `${MOUNT} && exec ${rest}"$@"`, "sh"];
  if (process.getuid?.() === 0) return ["unshare", ...NAMESPACES, ...shell("")];
  // Only as an administrator of its own user namespace may an ordinary user mount; the tests run without that.
  const user = ["--user", "--map-current-user", "--keep-caps"];
  return [
    "unshare",
    ...user,
    ...NAMESPACES,
    ...shell("setpriv --inh-caps=-all --ambient-caps=-all "),
  ];
}

/** How the tests of a runtime are isolated. */
export interface Isolation {
  readonly level: "all" | "folder";
  /** What starts a program in namespaces of its own; empty where it gets none. */
  readonly wrapper: readonly string[];
  /** What is isolated beside the key files, for people. */
  readonly description: string;
}

/** How tests can be isolated here; `undefined` on Windows, where no key has a file. */
export function findIsolation(): Isolation | undefined {
  if (process.platform === "win32") return undefined;
  const notIsolated = (why: string): Isolation => ({
    level: "folder",
    wrapper: [],
    description:
      "; not isolated: System V and POSIX objects, of which only those of this run are " +
      `looked at (${why})`,
  });
  const given = (by: string): Isolation => ({
    level: "all",
    wrapper: [],
    description: `; ${by}`,
  });
  const outer = process.env[LEVEL];
  if (outer !== undefined) {
    return outer === "all" ? given(`${LEVEL}=all`) : notIsolated(`${LEVEL}=${outer}`);
  }
  const wanted = process.env[SWITCH] || "on";
  if (wanted === "off") return notIsolated(`${SWITCH}=off`);
  if (wanted === "given") return given(`${SWITCH}=given`);
  if (wanted !== "on") throw new Error(`${SWITCH} is on, off or given, not ${wanted}`);
  if (process.platform !== "linux") return notIsolated("only Linux has namespaces");
  const command = wrapper();
  const [first, ...rest] = command;
  const tried = spawnSync(first!, [...rest, "true"], { encoding: "utf8" });
  if (tried.status === 0) {
    return { level: "all", wrapper: command, description: ", System V objects, /dev/shm" };
  }
  return notIsolated(tried.error?.message ?? tried.stderr.trim().replaceAll(/\s+/g, " "));
}

/** How this process was started, without its arguments. */
function ownCommand(script: string): string[] {
  const { execPath, execArgv, versions } = process;
  if (versions["deno"]) return [execPath, "run", "--allow-all", "--quiet", script];
  return versions["bun"] ? [execPath, script] : [execPath, ...execArgv, script];
}

/** Starts a script in the runtime of this process, isolated, with a folder for its key files. */
export function spawnIsolated(
  { level, wrapper }: Isolation,
  folder: string,
  script: string,
  args: readonly string[],
  stdio: StdioOptions,
): ChildProcess {
  const [first, ...rest] = [...wrapper, ...ownCommand(script), ...args];
  const env = { ...process.env, TMPDIR: folder, [LEVEL]: level, [TAG]: runTag };
  return spawn(first!, rest, { env, stdio });
}
