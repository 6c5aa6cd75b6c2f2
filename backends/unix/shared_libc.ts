import { selectFfi } from "../../ffi/mod.ts";
import type { Ffi } from "../../ffi/types.ts";
import { type Platform, requireSystem, thisPlatform } from "../platform.ts";
import { Libc } from "./libc.ts";

/** @throws {UnsupportedError} where there is no C library that is known */
export function libraryOf(ffi: Ffi, platform: Platform): Libc {
  requireSystem(["linux", "darwin"], platform);
  return new Libc(ffi, platform.arch, platform.os);
}

let libc: Libc | undefined;

/**
 * The C library of this system, loaded on first use.
 *
 * @throws {UnsupportedError} where there is no C library that is known
 */
export function sharedLibrary(): Libc {
  return libc ??= libraryOf(selectFfi(), thisPlatform());
}

/**
 * The same for objects that belong to users.
 *
 * @throws {BackendError} where other users cannot be told from this one
 */
export function sharedLibraryOfUsers(): Libc {
  const library = sharedLibrary();
  library.ownUid();
  return library;
}
