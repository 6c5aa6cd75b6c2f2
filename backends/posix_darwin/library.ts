import type { CFunctions, CSignatures } from "../../ffi/types.ts";
import { BackendError } from "../failure.ts";
import { cString, type Libc } from "../unix/libc.ts";
import { DARWIN_LIBRARIES } from "../unix/signatures.ts";
import { loadFunctions } from "../unix/variadic.ts";

const SIGNATURES = {
  shm_open: { args: ["buffer", "i32", "u32"], returns: "i32", fixed: 2 }, // (name, flags, mode)
  shm_unlink: { args: ["buffer"], returns: "i32" },
  ftruncate: { args: ["i32", "u64"], returns: "i32" }, // (fd, length)
  // (name, flags, mode, value) -> sem_t *
  sem_open: { args: ["buffer", "i32", "u32", "u32"], returns: "u64", fixed: 2 },
  sem_unlink: { args: ["buffer"], returns: "i32" },
  sem_close: { args: ["u64"], returns: "i32" },
  sem_wait: { args: ["u64"], returns: "i32" },
  sem_trywait: { args: ["u64"], returns: "i32" },
  sem_post: { args: ["u64"], returns: "i32" },
} as const satisfies CSignatures;

/** The functions for POSIX objects on macOS, where these objects are not files in a file system. */
export class DarwinPosixLibrary {
  readonly libc: Libc;
  readonly c: CFunctions<typeof SIGNATURES>;

  constructor(libc: Libc) {
    this.libc = libc;
    this.c = loadFunctions(libc.ffi, libc, DARWIN_LIBRARIES, SIGNATURES);
  }
}

/**
 * The maximum length of a name in bytes. PSEMNAMLEN in posix_sem.c includes the NUL; the name of a segment could have
 * one byte more.
 */
const NAME_BYTES = 30;

/**
 * Converts a native key to the name of an object, as a C string.
 *
 * @throws {BackendError} `KeyError` if the native key is not a valid name
 */
export function darwinName(nativeKey: string): Uint8Array {
  const refuse = (why: string): never => {
    throw new BackendError("KeyError", `the native key ${JSON.stringify(nativeKey)} ${why}`);
  };
  const name = cString(nativeKey);
  const bytes = name.length - 1;
  if (/^\/*$/.test(nativeKey)) refuse('is no name; use one like "/name"');
  if (name.indexOf(0) < bytes) {
    refuse("contains a NUL character, which no name can have; leave it out");
  }
  if (bytes > NAME_BYTES) {
    refuse(
      `has ${bytes} bytes, and macOS allows ${NAME_BYTES}, the slash included; use a shorter one, or ` +
        "SharedMemory.legacyNativeKey(), which turns any key into one that fits",
    );
  }
  return name;
}
