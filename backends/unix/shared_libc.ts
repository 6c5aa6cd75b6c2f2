import { perProcess } from "../../context.ts";
import { selectFfi } from "../../ffi/mod.ts";
import type { Ffi } from "../../ffi/types.ts";
import { type Platform, requireSystem, thisPlatform } from "../platform.ts";
import { Libc } from "./libc.ts";
import { ownUid } from "./users.ts";

/**
 * Binds the C library of a platform.
 *
 * @throws {UnsupportedError} on a platform whose C library is not known
 */
export function libraryOf(ffi: Ffi, platform: Platform): Libc {
  requireSystem(["linux", "darwin"], platform);
  return new Libc(ffi, platform.arch, platform.os);
}

/**
 * Returns the C library of this system, loaded on first use.
 *
 * @throws {UnsupportedError} on a platform whose C library is not known
 */
export const sharedLibrary: () => Libc = perProcess(() => libraryOf(selectFfi(), thisPlatform()));

/**
 * Returns the C library of this system, for objects that belong to users.
 *
 * @throws {BackendError} where other users cannot be distinguished from this one
 */
export function sharedLibraryOfUsers(): Libc {
  const library = sharedLibrary();
  ownUid(library);
  return library;
}
