import { perProcess } from "../context.ts";
import { hasCheapCalls } from "../ffi/mod.ts";
import { thisPlatform } from "./platform.ts";
import { CLOCK, PTHREAD_LIBRARIES } from "./unix/c_variant.ts";
import { pathStatus } from "./unix/files.ts";
import { cString, type Libc } from "./unix/libc.ts";
import { CLOCK_MONOTONIC } from "./unix/linux_constants.ts";
import { bootId } from "./unix/processes.ts";
import { sharedLibrary } from "./unix/shared_libc.ts";
import { DARWIN_LIBRARIES } from "./unix/signatures.ts";
import { timespec } from "./unix/timespec.ts";
import type { Kernel32 } from "./win32/kernel32.ts";
import { sharedKernel } from "./win32/shared_kernel.ts";

/** After this time in ms, the difference between the clock of the engine and that of the system is measured again. */
const CHECK_MS = 1000;
/** The two are read again, but not more often than this, if reading them has taken longer than this time in ms. */
const READS_MAX = 20;
const CLOSE_MS = 0.02;

/** The number of `CLOCK_MONOTONIC` on macOS (`sys/_types/_clock_id.h`). */
const DARWIN_CLOCK_MONOTONIC = 6;

const WINDOWS_CLOCK = {
  QueryPerformanceCounter: { args: ["buffer"], returns: "i32" }, // (LARGE_INTEGER *)
  QueryPerformanceFrequency: { args: ["buffer"], returns: "i32" },
} as const;

/** A clock of the operating system that all processes read alike, and that is never set. */
export interface SystemClock {
  /** Returns the time in ms since some moment before all processes began. */
  read(): number;
  /** A number that differs, as a rule, between starts of the system and between time namespaces. */
  readonly scope: number;
}

/** A clock that all processes read alike. It is the system's own one where calls of C are faster than `performance.now()`. */
export interface Clock {
  /** See {@linkcode SystemClock.scope}. */
  readonly scope: number;
  /** Returns the time in ms. */
  now(): number;
}

/**
 * A monotonic clock returns the time of a system clock, but reads it only now and then: in between it adds the time that
 * `performance.now()` has measured. All processes get the same time, apart from microseconds.
 *
 * On Linux the clock stands still while the machine sleeps.
 */
export class MonotonicClock implements Clock {
  readonly scope: number;
  readonly #system: SystemClock;
  #offset = 0;
  #next = -Infinity;
  #last = -Infinity;

  constructor(system: SystemClock) {
    this.#system = system;
    this.scope = system.scope;
  }

  now(): number {
    let time = performance.now();
    if (time >= this.#next || time < this.#last) time = this.#check();
    return time + this.#offset;
  }

  /** Measures the difference, also if other processes interrupt this one; returns `performance.now()`. */
  #check(): number {
    let closest = Infinity;
    let after = 0;
    for (let i = 0; i < READS_MAX && closest > CLOSE_MS; i++) {
      const before = performance.now();
      const read = this.#system.read();
      after = performance.now();
      if (after - before >= closest) continue;
      closest = after - before;
      this.#offset = read - (before + after) / 2;
    }
    this.#last = after;
    this.#next = after + CHECK_MS;
    return after;
  }
}

/** Returns the clock of this system, loaded on first use. */
export const sharedClock: () => Clock = perProcess(() => {
  const { os } = thisPlatform();
  if (os === "win32") return new MonotonicClock(windowsClock(sharedKernel()));
  const system = unixClock(sharedLibrary());
  if (!hasCheapCalls()) return new MonotonicClock(system);
  return { scope: system.scope, now: () => system.read() };
});

/** Reads `CLOCK_MONOTONIC` of Linux or macOS. */
export function unixClock(libc: Libc): SystemClock {
  const [libraries, number] = libc.os === "linux"
    ? [PTHREAD_LIBRARIES, CLOCK_MONOTONIC]
    : [DARWIN_LIBRARIES, DARWIN_CLOCK_MONOTONIC];
  const { clock_gettime } = libc.ffi.load(libraries, CLOCK);
  const { address, view } = timespec(libc);
  // The seconds and the nanoseconds, each as two words: a BigInt would take longer than the call.
  const words = new Uint32Array(view.buffer, view.byteOffset, 4);
  return {
    read() {
      clock_gettime(number, address);
      return (words[0]! + words[1]! * 2 ** 32) * 1e3 + words[2]! / 1e6;
    },
    scope: (hashOf(bootId(libc)) ^ timeNamespace(libc)) | 0,
  };
}

/** The number of the time namespace, in which `CLOCK_MONOTONIC` may differ; 0 if there is none. */
function timeNamespace(libc: Libc): number {
  if (libc.os !== "linux") return 0;
  const status = pathStatus(libc, cString("/proc/self/ns/time"), true);
  return typeof status === "object" ? status.inode : 0;
}

/** Reads `QueryPerformanceCounter`, which counts from the start of Windows. */
function windowsClock({ ffi }: Kernel32): SystemClock {
  const c = ffi.load(["kernel32.dll"], WINDOWS_CLOCK);
  const bytes = new Uint8Array(8);
  const value = new BigInt64Array(bytes.buffer);
  c.QueryPerformanceFrequency(bytes);
  const perMs = Number(value[0]) / 1000;
  return {
    read() {
      c.QueryPerformanceCounter(bytes);
      return Number(value[0]) / perMs;
    },
    scope: 0,
  };
}

/** FNV-1a of 32 bits. */
function hashOf(text: string): number {
  let hash = 0x811c9dc5 | 0;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash;
}
