/** The keys that the programs use, and what depends on the type of the keys. */
import type { Inspection } from "../../backends/inventory.ts";
import { PosixInspection } from "../../backends/posix/inspection.ts";
import { posix } from "../../backends/posix/mod.ts";
import { SystemVInspection } from "../../backends/systemv/inspection.ts";
import { systemV } from "../../backends/systemv/mod.ts";
import type { Backend } from "../../backends/types.ts";
import { Libc } from "../../backends/unix/libc.ts";
import { ARCH, type SimulatedFfi } from "./ffi.ts";

/** The key files of the keys "k" and "s", as Qt names them. */
export const SEGMENT_KEY = "/tmp/qipc_sharedmemory_k13fbd79c3d390e5d6585a21e11ff5ec1970cff0c";
export const LOCK_KEY = "/tmp/qipc_systemsem_k13fbd79c3d390e5d6585a21e11ff5ec1970cff0c";
export const SEMAPHORE_KEY = "/tmp/qipc_systemsem_sa0f1490a20d0211c997b44bc357e1972deab8ae3";
/** The file of a C program, which has a segment of that file. */
export const CHOSEN_FILE = "/tmp/data of a program";

/** The objects of a POSIX key, in `/dev/shm`. */
export const POSIX_SEGMENT = "k";
export const POSIX_LOCK = "sem.k";
/** The object of a C program. */
export const POSIX_CHOSEN = "data of a program";

export interface KeyType {
  /** What the names of its programs begin with. */
  readonly prefix: string;
  /** The native keys of a segment, its lock, and a semaphore. */
  readonly segment: string;
  readonly lock: string;
  readonly semaphore: string;
  /** The native key of what a C program has created. */
  readonly chosen: string;
  backend(ffi: SimulatedFfi): Backend;
  inspection(ffi: SimulatedFfi): Inspection;
}

export const SYSTEM_V: KeyType = {
  prefix: "",
  segment: SEGMENT_KEY,
  lock: LOCK_KEY,
  semaphore: SEMAPHORE_KEY,
  chosen: CHOSEN_FILE,
  backend: (ffi) => systemV(ffi, { os: "linux", arch: ARCH }),
  inspection: (ffi) => new SystemVInspection(libcOf(ffi), () => "/tmp"),
};

export const POSIX: KeyType = {
  prefix: "POSIX ",
  segment: "/k",
  lock: "/k",
  semaphore: "/s",
  chosen: `/${POSIX_CHOSEN}`,
  backend: (ffi) => posix(ffi, libcOf(ffi)),
  inspection: (ffi) => new PosixInspection(libcOf(ffi), "sem."),
};

/** The type of the keys that a program uses. */
export function keyTypeOf(program: string): KeyType {
  return program.startsWith(POSIX.prefix) ? POSIX : SYSTEM_V;
}

function libcOf(ffi: SimulatedFfi): Libc {
  return new Libc(ffi, ARCH, "linux");
}
