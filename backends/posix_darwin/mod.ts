import type { Ffi } from "../../ffi/types.ts";
import { type Backend, NO_FOLDERS } from "../types.ts";
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

/** Loads the backend for this process. */
export function loadDarwinPosix(): Backend {
  const libc = sharedLibraryOfUsers();
  return darwinPosix(libc.ffi, libc);
}
