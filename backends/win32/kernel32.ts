import type { Background, CFunctions, CSignatures, Ffi, ThreadCode } from "../../ffi/types.ts";
import {
  LPTR,
  SEMAPHORE_VALUE_MAX,
  WAIT_ABANDONED,
  WAIT_FAILED,
  WAIT_OBJECT_0,
  WAIT_TIMEOUT,
} from "./constants.ts";
import { ERROR_NOT_ENOUGH_MEMORY, isKnown, windowsFailure } from "./errors.ts";

const LIBRARIES = ["kernel32.dll"];

/** The Windows functions that this module calls. `HANDLE`, `SIZE_T` and addresses are `u64`. */
const SIGNATURES = {
  GetLastError: { args: [], returns: "u32" },
  SetLastError: { args: ["u32"], returns: "void" },
  CloseHandle: { args: ["u64"], returns: "i32" },
  Sleep: { args: ["u32"], returns: "void" }, // (milliseconds)
  ProcessIdToSessionId: { args: ["u32", "buffer"], returns: "i32" }, // (pid, DWORD *session)
  LocalAlloc: { args: ["u32", "u64"], returns: "u64" }, // (flags, bytes) -> HLOCAL
  LocalFree: { args: ["u64"], returns: "u64" },
  RtlMoveMemory: { args: ["u64", "buffer", "u64"], returns: "void" }, // (destination, source, length)

  // (file, attributes, protection, high and low half of the size, name)
  CreateFileMappingW: { args: ["u64", "u64", "u32", "u32", "u32", "buffer"], returns: "u64" },
  OpenFileMappingW: { args: ["u32", "i32", "buffer"], returns: "u64" }, // (access, inherit, name)
  // (mapping, access, high and low half of the offset, bytes) -> address
  MapViewOfFile: { args: ["u64", "u32", "u32", "u32", "u64"], returns: "u64" },
  UnmapViewOfFile: { args: ["u64"], returns: "i32" },
  VirtualQuery: { args: ["u64", "buffer", "u64"], returns: "u64" }, // (address, MEMORY_BASIC_INFORMATION *, length)

  CreateSemaphoreW: { args: ["u64", "i32", "i32", "buffer"], returns: "u64" }, // (attributes, value, maximum, name)
  ReleaseSemaphore: { args: ["u64", "i32", "buffer"], returns: "i32" }, // (semaphore, count, LONG *previous)
  CreateMutexW: { args: ["u64", "i32", "buffer"], returns: "u64" }, // (attributes, owned, name)
  ReleaseMutex: { args: ["u64"], returns: "i32" },
  CreateEventW: { args: ["u64", "i32", "i32", "buffer"], returns: "u64" }, // (attributes, manual reset, set, name)
  OpenEventW: { args: ["u32", "i32", "buffer"], returns: "u64" }, // (access, inherit, name)
  SetEvent: { args: ["u64"], returns: "i32" },
  WaitForSingleObject: { args: ["u64", "u32"], returns: "u32" }, // (handle, milliseconds)
  // (count, HANDLE *, all of them, milliseconds)
  WaitForMultipleObjects: { args: ["u32", "u64", "i32", "u32"], returns: "u32" },
} as const satisfies CSignatures;

const { WaitForSingleObject, WaitForMultipleObjects, ReleaseSemaphore } = SIGNATURES;
/** The functions that run on other threads. */
const BACKGROUND = { WaitForSingleObject, WaitForMultipleObjects, ReleaseSemaphore };

/** The maximum number of attempts of a call whose error is not one that it can have. */
const ATTEMPTS = 3;

/**
 * The outcome of a wait. `abandoned` means that the last owner of the mutex died; the waiting thread owns the mutex
 * then, too.
 */
export type WaitResult = "taken" | "abandoned" | "timeout";

/** The functions of kernel32.dll, with helpers to use them from JavaScript. */
export class Kernel32 {
  readonly c: CFunctions<typeof SIGNATURES>;
  readonly ffi: Ffi;
  readonly #backgrounds = new Map<ThreadCode, Background>();
  readonly #previous = new Int32Array(1);
  readonly #previousBytes = new Uint8Array(this.#previous.buffer);

  constructor(ffi: Ffi) {
    this.ffi = ffi;
    this.c = ffi.load(LIBRARIES, SIGNATURES);
  }

  /** Creates a wait on other threads. */
  background(code: ThreadCode): Background {
    let background = this.#backgrounds.get(code);
    if (background === undefined) {
      background = this.ffi.background(LIBRARIES, BACKGROUND, code);
      this.#backgrounds.set(code, background);
    }
    return background;
  }

  /** The error of the last {@linkcode Kernel32.attempt}, even if the call succeeded. */
  error = 0;

  /**
   * Makes a call that returns 0 if it fails. `GetLastError()` is a separate call, and once in 100,000 times it returns
   * the error of a call that the runtime itself has made in between, for example to allocate memory. So if the error is
   * not one that the call can have, the call is repeated.
   */
  attempt(call: () => bigint): bigint {
    const { SetLastError, GetLastError } = this.c;
    for (let attempt = 1;; attempt++) {
      SetLastError(0);
      const result = call();
      this.error = GetLastError();
      if (result !== 0n || attempt === ATTEMPTS || isKnown(this.error)) return result;
    }
  }

  /**
   * Makes a call that returns the handle of a named object.
   *
   * @throws {BackendError} if the call fails
   */
  #handle(call: string, name: string, make: () => bigint): bigint {
    const handle = this.attempt(make);
    if (handle === 0n) throw windowsFailure(call, this.error, name);
    return handle;
  }

  /** Opens or creates the semaphore with a name. `name` is for texts. */
  openSemaphore(
    name: string,
    wide: Uint8Array,
    value: number,
    maximum = SEMAPHORE_VALUE_MAX,
  ): bigint {
    const { CreateSemaphoreW } = this.c;
    return this.#handle(
      "CreateSemaphoreW",
      name,
      () => CreateSemaphoreW(0n, value, maximum, wide),
    );
  }

  /** Opens or creates the mutex with a name, without owning it. `name` is for texts. */
  openMutex(name: string, wide: Uint8Array): bigint {
    const { CreateMutexW } = this.c;
    return this.#handle("CreateMutexW", name, () => CreateMutexW(0n, 0, wide));
  }

  /** Returns the session of a process, which decides which names it sees; 0 if that is not known. */
  sessionOf(pid: number): number {
    const session = new Uint32Array(1);
    this.c.ProcessIdToSessionId(pid, new Uint8Array(session.buffer));
    return session[0]!;
  }

  /** Waits for an object; `ms` must be a whole number. */
  wait(handle: bigint, ms: number): WaitResult {
    return this.#waited("WaitForSingleObject", this.c.WaitForSingleObject(handle, ms));
  }

  /** Waits for the two objects whose handles are at `address`, and acquires both or none. */
  waitForBoth(address: bigint, ms: number): WaitResult {
    const result = this.c.WaitForMultipleObjects(2, address, 1, ms);
    return this.#waited("WaitForMultipleObjects", result);
  }

  #waited(call: string, result: number): WaitResult {
    if (result === WAIT_TIMEOUT) return "timeout";
    if (result === WAIT_FAILED) throw windowsFailure(call, this.c.GetLastError());
    return result >= WAIT_ABANDONED ? "abandoned" : "taken";
  }

  /** Adds `count` to the value of a semaphore. Returns the previous value, or `null` if the call fails. */
  releaseSemaphore(handle: bigint, count: number): number | null {
    const released = this.c.ReleaseSemaphore(handle, count, this.#previousBytes);
    return released === 0 ? null : this.#previous[0]!;
  }

  /** Allocates C memory that contains `handles`. */
  allocateHandles(...handles: readonly bigint[]): bigint {
    const bytes = new Uint8Array(BigUint64Array.from(handles).buffer);
    const address = this.c.LocalAlloc(LPTR, BigInt(bytes.length));
    if (address === 0n) throw windowsFailure("LocalAlloc", ERROR_NOT_ENOUGH_MEMORY);
    this.c.RtlMoveMemory(address, bytes, BigInt(bytes.length));
    return address;
  }
}

/** Source text for other threads: returns whether a wait has acquired its object. */
export const IS_TAKEN = `(result) => result >= ${WAIT_OBJECT_0} && result < ${WAIT_ABANDONED}`;

/** Converts a time to what the waits accept: whole milliseconds, at least 0 and at most `most`. */
export function slice(left: number, most: number): number {
  return Math.ceil(Math.min(Math.max(0, left), most));
}
