import type { Ffi } from "../../ffi/types.ts";
import { type Platform, thisPlatform } from "../platform.ts";
import type { Backend } from "../types.ts";
import type { Libc } from "../unix/libc.ts";
import { libraryOf, sharedLibraryOfUsers } from "../unix/shared_libc.ts";
import { runtimeFolder, temporaryFolder } from "./folders.ts";
import { PROJECT_ID } from "./key_file.ts";
import { SystemVSegments } from "./segments.ts";
import { SystemVSemaphores } from "./semaphores.ts";

/** Creates the backend for System V, which Qt's string keys mean on Unix. */
export function systemV(
  ffi: Ffi,
  platform: Platform,
  projectId = PROJECT_ID,
  libc: Libc = libraryOf(ffi, platform),
): Backend {
  return {
    arrayBuffer: (address, byteLength) => ffi.arrayBuffer(address, byteLength),
    segments: new SystemVSegments(libc, ffi.maxBufferBytes, libc.pageBytes, projectId),
    semaphores: new SystemVSemaphores(libc, projectId),
    folder: () => temporaryFolder(libc),
    runtimeFolder: () => runtimeFolder(libc),
    users: libc,
  };
}

/** Creates the System V backend for this system. */
export function loadSystemV(projectId: number): Backend {
  const libc = sharedLibraryOfUsers();
  return systemV(libc.ffi, thisPlatform(), projectId, libc);
}
