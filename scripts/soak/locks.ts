/** What the kernel knows of a key's lock, to explain a hang. */
import { statSync } from "node:fs";
import process from "node:process";
import { GETNCNT, GETPID, GETVAL } from "../../backends/unix/linux_constants.ts";
import { Libc } from "../../backends/unix/libc.ts";
import { selectFfi } from "../../ffi/mod.ts";
import type { KeyFiles } from "./key_files.ts";

const libc = new Libc(selectFfi(), process.arch);

export function describeLocks(files: KeyFiles): string {
  return files.paths().filter((path) => path.includes("qipc_systemsem_")).map((path) => {
    const status = statSync(path, { throwIfNoEntry: false });
    if (status === undefined) return "";
    const key = 0x51 << 24 | (status.dev & 0xff) << 16 | status.ino & 0xffff; // ftok(path, 'Q')
    const id = libc.c.semget(key, 0, 0);
    const [value, pid, waiting] = [GETVAL, GETPID, GETNCNT].map((get) =>
      libc.c.semctl(id, 0, get, 0n)
    );
    return `\n  ${path}: value ${value}, last used by ${pid}, ${waiting} waiting`;
  }).join("");
}
