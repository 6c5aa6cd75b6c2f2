/**
 * Gives a run of the tests a folder of key files of its own and, where the system allows it, an IPC namespace and a
 * `/dev/shm` of its own, so that it neither disturbs nor sees what other programs share.
 */
import { spawn, spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
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

/** The wrapper, which is empty where the whole machine is this run's, or why there is none. */
function findWrapper(): { command: string[] } | { missing: string } {
  const wanted = process.env[SWITCH] || "on";
  if (wanted === "off") return { missing: `${SWITCH}=off` };
  if (wanted === "given") return { command: [] };
  if (wanted !== "on") throw new Error(`${SWITCH} is on, off or given, not ${wanted}`);
  if (process.platform !== "linux") return { missing: "only Linux has namespaces" };
  const command = wrapper();
  const [first, ...rest] = command;
  const tried = spawnSync(first!, [...rest, "true"], { encoding: "utf8" });
  if (tried.status === 0) return { command };
  return { missing: tried.error?.message ?? tried.stderr.trim().replaceAll(/\s+/g, " ") };
}

/** What of the rest is isolated, for people. */
function describe(found: ReturnType<typeof findWrapper>): string {
  if ("missing" in found) {
    return "; not isolated: System V and POSIX objects, of which only those of this run are looked " +
      `at (${found.missing})`;
  }
  return found.command.length > 0 ? ", System V objects, /dev/shm" : `; ${SWITCH}=given`;
}

/** How this process was started, without its arguments. */
function ownCommand(script: string): string[] {
  const { execPath, execArgv, versions } = process;
  if (versions["deno"]) return [execPath, "run", "--allow-all", "--quiet", script];
  return versions["bun"] ? [execPath, script] : [execPath, ...execArgv, script];
}

/**
 * Runs `script` again with the arguments of this process, isolated, and returns its exit code; `undefined` in the process
 * that is isolated already, and on Windows, where no key has a file.
 */
export async function runIsolated(script: string): Promise<number | undefined> {
  if (process.env[LEVEL] !== undefined || process.platform === "win32") return undefined;
  const found = findWrapper();
  const folder = mkdtempSync(path.join(os.tmpdir(), "shared-memory-test-"));
  chmodSync(folder, 0o1777); // some tests are other users
  try {
    console.log(`isolated: key files in ${folder}${describe(found)}`);
    const command = "command" in found ? found.command : [];
    const [first, ...rest] = [...command, ...ownCommand(script), ...process.argv.slice(2)];
    const level = "command" in found ? "all" : "folder";
    const child = spawn(first!, rest, {
      env: { ...process.env, TMPDIR: folder, [LEVEL]: level, [TAG]: runTag },
      stdio: "inherit",
    });
    // It ends its own children.
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
      process.on(signal, () => child.kill(signal));
    }
    return await new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("exit", (code, signal) => resolve(code ?? 128 + os.constants.signals[signal!]));
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
