import type { Background, CFunctions, CSignatures, Ffi, Usize } from "../../ffi/types.ts";
import { OS_CLOCK_MACH_ABSOLUTE_TIME, OS_SYNC_SHARED } from "../unix/darwin_constants.ts";
import { EINTR, ETIMEDOUT } from "../unix/errno.ts";
import type { Libc } from "../unix/libc.ts";
import { DARWIN_LIBRARIES } from "../unix/signatures.ts";
import { delay, nextPause, sleepSync } from "../timing.ts";
import type { Futex } from "./types.ts";

/** The functions of <os/os_sync_wait_on_address.h>, available since macOS 14.4. */
const WAIT = {
  // (address, value, size, flags, clock, nanoseconds) -> how many others wait, or -1
  os_sync_wait_on_address_with_timeout: {
    args: ["usize", "u64", "u64", "u32", "u32", "u64"],
    returns: "i32",
  },
} as const satisfies CSignatures;
const WAKE = {
  os_sync_wake_by_address_any: { args: ["usize", "u64", "u32"], returns: "i32" }, // (address, size, flags)
  os_sync_wake_by_address_all: { args: ["usize", "u64", "u32"], returns: "i32" },
} as const satisfies CSignatures;

const SLEEP =
  "({ os_sync_wait_on_address_with_timeout: wait }, _memory, ...args) => wait(...args) >= 0";

const WORD_BYTES = 4n;
const NS_PER_MS = 1e6;
/** The number of threads up to which they are woken one by one. More are woken all at once. */
const ONE_BY_ONE_MAX = 16;
const PAUSE_MS = nextPause(Infinity);

/** The futex of macOS. */
export class DarwinFutex implements Futex {
  readonly #libc: Libc;
  readonly #c: CFunctions<typeof WAIT & typeof WAKE>;
  #background: Background | undefined;

  private constructor(libc: Libc, c: CFunctions<typeof WAIT & typeof WAKE>) {
    this.#libc = libc;
    this.#c = c;
  }

  /** Loads the functions; returns `null` if this macOS is too old to have them. */
  static load(libc: Libc): DarwinFutex | null {
    const c = functionsOf(libc.ffi);
    return c === null ? null : new DarwinFutex(libc, c);
  }

  address(address: bigint): Usize {
    return this.#libc.ffi.usize(address);
  }

  wait(word: Usize, value: number, ms: number): void {
    const wait = this.#c.os_sync_wait_on_address_with_timeout;
    if (wait(...argumentsOf(word, value, ms)) >= 0) return;
    const errno = this.#libc.errno();
    if (errno !== ETIMEDOUT && errno !== EINTR) sleepSync(Math.min(ms, PAUSE_MS));
  }

  async waitInBackground(
    word: Usize,
    value: number,
    ms: number,
    keepsAlive: boolean,
  ): Promise<void> {
    const { ffi } = this.#libc;
    this.#background ??= ffi.background(DARWIN_LIBRARIES, WAIT, { take: SLEEP });
    const call = this.#background(...argumentsOf(word, value, ms));
    if (!keepsAlive) call.unref();
    await call.over;
    // The reason of a failure is known only on the other thread.
    if (!call.claim()) await delay(1, keepsAlive);
  }

  wake(word: Usize, count = 1): void {
    const { os_sync_wake_by_address_any: wakeAny, os_sync_wake_by_address_all: wakeAll } = this.#c;
    if (count > ONE_BY_ONE_MAX) wakeAll(word, WORD_BYTES, OS_SYNC_SHARED);
    else for (let i = 0; i < count && wakeAny(word, WORD_BYTES, OS_SYNC_SHARED) === 0; i++);
  }
}

function functionsOf(ffi: Ffi): CFunctions<typeof WAIT & typeof WAKE> | null {
  try {
    return ffi.load(DARWIN_LIBRARIES, { ...WAIT, ...WAKE });
  } catch {
    return null;
  }
}

/** Returns the arguments of a wait. The time is at least 1 ns, because 0 would not be a timeout. */
function argumentsOf(word: Usize, value: number, ms: number) {
  const ns = BigInt(Math.max(1, Math.ceil(ms * NS_PER_MS)));
  const clock = OS_CLOCK_MACH_ABSOLUTE_TIME;
  return [word, BigInt(value), WORD_BYTES, OS_SYNC_SHARED, clock, ns] as const;
}
