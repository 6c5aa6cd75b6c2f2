import type { Ffi } from "../../ffi/types.ts";
import { NativeIpcKeyType } from "../native_key.ts";
import { type Platform, thisPlatform } from "../platform.ts";
import type { Backend, KeyType } from "../types.ts";
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

/** System V keys. The type of a key is its project id for `ftok()`, which is `"Q"` by default. */
export const SYSTEM_V: KeyType = {
  capabilities: {
    name: "System V",
    exactSize: true,
    survivesCrash: true,
    persistent: true,
    removedWith: "lastUser",
    killedHolder: "undone",
    zerosTransferred: true,
    namesHolder: true,
    semaphoreUndo: true,
    semaphoreCreate: "sets",
    permissions: true,
  },
  schemeOf(type) {
    if (type === NativeIpcKeyType.SystemV) return "systemv";
    return Number.isInteger(type) && type >= 1 && type <= 0xff ? `systemv-${type}` : "";
  },
  typeOf(scheme) {
    if (scheme === "systemv") return NativeIpcKeyType.SystemV;
    const id = Number(/^systemv-([0-9]+)$/.exec(scheme)?.[1]);
    return id >= 1 && id <= 0xff ? id : 0;
  },
  supports: (os) => os !== "win32",
  safeKey: (key, place) => key.startsWith("/") ? key : `${place.folder}/${key}`,
  legacyKey: (name, folder) => `${folder}/${name}`,
  load(projectId) {
    const libc = sharedLibraryOfUsers();
    return systemV(libc.ffi, thisPlatform(), projectId, libc);
  },
};
