import type { Ffi } from "../../ffi/types.ts";
import { NativeIpcKeyType } from "../native_key.ts";
import { type Backend, type KeyType, NO_FOLDERS, onlyType } from "../types.ts";
import type { Libc } from "../unix/libc.ts";
import { Mappings } from "../unix/mappings.ts";
import { sharedLibraryOfUsers } from "../unix/shared_libc.ts";
import { PosixLibrary } from "./library.ts";
import { PosixSegments } from "./segments.ts";
import { PosixSemaphores } from "./semaphore.ts";

/** Creates the backend for POSIX objects on Linux, which are files in `/dev/shm`. */
export function posix(ffi: Ffi, libc: Libc, library = new PosixLibrary(libc)): Backend {
  const mappings = new Mappings(libc, libc.pageBytes);
  return {
    arrayBuffer: (address, byteLength) => ffi.arrayBuffer(address, byteLength),
    segments: new PosixSegments(libc, mappings, ffi.maxBufferBytes),
    semaphores: new PosixSemaphores(library),
    ...NO_FOLDERS,
    users: libc,
  };
}

/** POSIX keys on Linux. */
export const POSIX: KeyType = {
  capabilities: {
    name: "POSIX",
    exactSize: true,
    survivesCrash: true,
    persistent: true,
    removedWith: "lastUser",
    killedHolder: "takenOver",
    zerosTransferred: true,
    namesHolder: true,
    semaphoreUndo: false,
    semaphoreCreate: "sets",
    permissions: true,
  },
  ...onlyType(NativeIpcKeyType.PosixRealtime, "posix"),
  supports: (os) => os !== "win32" && os !== "darwin",
  safeKey: (key) => `/${key}`,
  legacyKey: (name) => `/${name}`,
  load() {
    const libc = sharedLibraryOfUsers();
    return posix(libc.ffi, libc);
  },
};
