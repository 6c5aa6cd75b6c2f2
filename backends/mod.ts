import process from "node:process";
import { UnsupportedError } from "../errors.ts";
import { selectFfi } from "../ffi/mod.ts";
import type { Ffi } from "../ffi/types.ts";
import { _SC_PAGESIZE } from "./constants.ts";
import { errnoText, Failure } from "./errno.ts";
import { Libc } from "./libc.ts";
import { SystemVSegments } from "./systemv_segment.ts";
import { SystemVSemaphores } from "./systemv_semaphore.ts";
import type { Backend } from "./types.ts";

export interface Platform {
  readonly os: string;
  readonly arch: string;
}

/** System V, which Qt's string keys mean on Unix. */
export function systemV(ffi: Ffi, platform: Platform): Backend {
  const libc = libraryOf(ffi, platform);
  return {
    arrayBuffer: (address, byteLength) => ffi.arrayBuffer(address, byteLength),
    segments: new SystemVSegments(libc, ffi.maxBufferBytes, Number(libc.c.sysconf(_SC_PAGESIZE))),
    semaphores: new SystemVSemaphores(libc),
    nativeKey: (name) => `${temporaryFolder(libc)}/${name}`,
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

let backend: Backend | undefined;

/** The backend of this system, loaded on first use. */
export function defaultBackend(): Backend {
  return backend ??= systemV(selectFfi(), { os: process.platform, arch: process.arch });
}
