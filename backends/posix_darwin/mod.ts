import type { Ffi } from "../../ffi/types.ts";
import { NativeIpcKeyType } from "../native_key.ts";
import { type Backend, type KeyType, NO_FOLDERS, onlyType } from "../types.ts";
import type { Libc } from "../unix/libc.ts";
import { Mappings } from "../unix/mappings.ts";
import { sharedLibraryOfUsers } from "../unix/shared_libc.ts";
import { DarwinPosixLibrary } from "./library.ts";
import { DarwinPosixSegments } from "./segments.ts";
import { DarwinPosixSemaphores } from "./semaphore.ts";

/** Creates the backend for POSIX objects on macOS, which are not files. */
export function darwinPosix(ffi: Ffi, libc: Libc): Backend {
  const library = new DarwinPosixLibrary(libc);
  const mappings = new Mappings(libc, libc.pageBytes);
  return {
    arrayBuffer: (address, byteLength) => ffi.arrayBuffer(address, byteLength),
    segments: new DarwinPosixSegments(library, mappings, ffi.maxBufferBytes),
    semaphores: new DarwinPosixSemaphores(library),
    ...NO_FOLDERS,
    users: libc,
  };
}

/** Qt cuts names to this number of UTF-16 units after the slash: `SHM_NAME_MAX` without it. */
const NAME_LENGTH = 29;

/** POSIX keys on macOS, which does not tell which process uses an object and has no place to record it. */
export const DARWIN_POSIX: KeyType = {
  capabilities: {
    name: "POSIX on macOS",
    exactSize: false,
    survivesCrash: true,
    persistent: false,
    removedWith: "creator",
    killedHolder: "lost",
    zerosTransferred: true,
    namesHolder: false,
    semaphoreUndo: false,
    semaphoreCreate: "sets",
    permissions: true,
  },
  ...onlyType(NativeIpcKeyType.PosixRealtime, "posix"),
  supports: (os) => os === "darwin",
  safeKey: (key) => `/${key.slice(0, NAME_LENGTH)}`,
  /** There is only room for digits of the hash. */
  legacyKey: (name) => `/${name.slice(-40).slice(0, NAME_LENGTH)}`,
  load() {
    const libc = sharedLibraryOfUsers();
    return darwinPosix(libc.ffi, libc);
  },
};
