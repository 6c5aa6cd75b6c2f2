import process from "node:process";
import { UnsupportedError } from "../errors.ts";
import { selectFfi } from "../ffi/mod.ts";
import type { Ffi } from "../ffi/types.ts";
import { isSupported, NativeIpcKeyType, schemeOf } from "../native_ipc_key.ts";
import { _SC_PAGESIZE } from "./constants.ts";
import { errnoText, Failure } from "./errno.ts";
import { Libc } from "./libc.ts";
import { Mappings } from "./mapping.ts";
import { PosixLibrary } from "./posix_library.ts";
import { PosixSegments } from "./posix_segment.ts";
import { PosixSemaphores } from "./posix_semaphore.ts";
import { PROJECT_ID } from "./systemv_key_file.ts";
import { SystemVSegments } from "./systemv_segment.ts";
import { SystemVSemaphores } from "./systemv_semaphore.ts";
import type { Backend } from "./types.ts";

export interface Platform {
  readonly os: string;
  readonly arch: string;
}

/** System V, which Qt's string keys mean on Unix. */
export function systemV(
  ffi: Ffi,
  platform: Platform,
  projectId = PROJECT_ID,
  libc: Libc = libraryOf(ffi, platform),
): Backend {
  const pageBytes = Number(libc.c.sysconf(_SC_PAGESIZE));
  return {
    arrayBuffer: (address, byteLength) => ffi.arrayBuffer(address, byteLength),
    segments: new SystemVSegments(libc, ffi.maxBufferBytes, pageBytes, projectId),
    semaphores: new SystemVSemaphores(libc, projectId),
    folder: () => temporaryFolder(libc),
    runtimeFolder: () => runtimeFolder(libc),
  };
}

/** POSIX, the other kind of key on Unix. */
function posix(ffi: Ffi, libc: Libc): Backend {
  const mappings = new Mappings(libc, Number(libc.c.sysconf(_SC_PAGESIZE)));
  return {
    arrayBuffer: (address, byteLength) => ffi.arrayBuffer(address, byteLength),
    segments: new PosixSegments(libc, mappings, ffi.maxBufferBytes),
    semaphores: new PosixSemaphores(new PosixLibrary(libc)),
    folder: () => "",
    runtimeFolder: () => "",
  };
}

/** @throws {UnsupportedError} where there is no backend */
export function libraryOf(ffi: Ffi, { os, arch }: Platform): Libc {
  if (os !== "linux" || (arch !== "x64" && arch !== "arm64")) {
    throw new UnsupportedError(
      `shared memory is not supported on ${os} ${arch} yet: only on Linux x64 and arm64`,
    );
  }
  return new Libc(ffi, arch);
}

/** Where Qt puts key files: `TMPDIR`, else `/tmp`, without symbolic links. */
export function temporaryFolder(libc: Libc): string {
  const folder = libc.getenv("TMPDIR") || "/tmp";
  const resolved = libc.realpath(folder);
  if (typeof resolved === "string") return resolved === "/" ? "" : resolved;
  throw new Failure(
    "KeyError",
    `the folder of the key files, ${folder}, cannot be used; create it or set TMPDIR to another ` +
      `[realpath: ${errnoText(resolved)}]`,
    "realpath",
    resolved,
  );
}

/** Qt's `RuntimeLocation`. */
function runtimeFolder(libc: Libc): string {
  const folder = libc.getenv("XDG_RUNTIME_DIR");
  if (folder) return folder;
  const uid = libc.c.geteuid();
  return `${temporaryFolder(libc)}/runtime-${libc.loginName(uid) ?? uid}`;
}

const backends = new Map<NativeIpcKeyType, Backend>();
let libc: Libc | undefined;

/** The backend of this system for a type of keys, loaded on first use. */
export function backendOf(type: NativeIpcKeyType): Backend {
  let backend = backends.get(type);
  if (backend === undefined) backends.set(type, backend = load(type));
  return backend;
}

function load(type: NativeIpcKeyType): Backend {
  const { platform: os, arch } = process;
  if (!isSupported(type, os)) {
    const text = type === 0
      ? "the key has no type"
      : `${os} has no objects of type ${schemeOf(type)}`;
    throw new Failure("KeyError", `${text}; see SharedMemory.isKeyTypeSupported()`);
  }
  const ffi = selectFfi();
  libc ??= libraryOf(ffi, { os, arch });
  if (type === NativeIpcKeyType.PosixRealtime) return posix(ffi, libc);
  return systemV(ffi, { os, arch }, type, libc);
}
