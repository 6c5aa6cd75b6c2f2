import { registry } from "../../registry.ts";
import { _SC_CLK_TCK, CLOCK_BOOTTIME } from "../unix/linux_constants.ts";
import type { Libc } from "../unix/libc.ts";
import { CLOCK, PTHREAD_LIBRARIES } from "../unix/c_variant.ts";
import { timespec } from "../unix/timespec.ts";

/**
 * Whether the process that changed a semaphore last, of which the kernel keeps only the pid, can still have what it
 * took. What cannot be found out counts as yes.
 */

/** The kernel rounds the time of a change down to whole seconds, and notes that of its last tick. */
const PRECISION_SECONDS = 2;
const TICK_SECONDS = 0.02;

/** When this program began, or this worker thread, in ms since 1970. Read at once, as tests replace clocks. */
const { timeOrigin } = performance;

/**
 * Whether the process `pid`, which lives, cannot have made a change at `seconds`, since it began later and got the
 * pid of the one that did. As the clock may have been set in between, it must also show no sign of using any lock:
 * it has no System V segment attached, and no `flock`.
 */
export function hasPidOfAnother(libc: Libc, pid: number, seconds: number): boolean {
  const began = beginOf(libc, pid);
  return began !== null && began - seconds > PRECISION_SECONDS && !showsUse(libc, pid);
}

/** When a process began, in s since 1970 by the clock as it is set now. */
function beginOf(libc: Libc, pid: number): number | null {
  const ticks = libc.startTime(pid);
  if (ticks === null) return null;
  const { address, view } = timeOf(libc);
  // Not from /proc/uptime, which containers replace.
  if (libc.ffi.load(PTHREAD_LIBRARIES, CLOCK).clock_gettime(CLOCK_BOOTTIME, address) !== 0) {
    return null;
  }
  const now = Number(view.getBigInt64(0, true));
  const age = now - ticks / Number(libc.c.sysconf(_SC_CLK_TCK));
  return age < -1 ? null : Date.now() / 1000 - age;
}

const times = new WeakMap<Libc, ReturnType<typeof timespec>>();

function timeOf(libc: Libc): ReturnType<typeof timespec> {
  const time = times.get(libc) ?? timespec(libc);
  times.set(libc, time);
  return time;
}

function showsUse(libc: Libc, pid: number): boolean {
  const maps = libc.readFile(`/proc/${pid}/maps`);
  if (typeof maps === "number" || SEGMENT.test(maps)) return true;
  const locks = libc.readFile("/proc/locks");
  return typeof locks === "number" ||
    new RegExp(`^\\d+: FLOCK .* ${pid} \\w+:\\w+:`, "m").test(locks);
}

/** A line of `/proc/PID/maps`: 7f12-7f13 rw-s 00000000 00:01 7 /SYSV51002a3f (deleted) */
const SEGMENT = /^([0-9a-f]+)-.* \/SYSV[0-9a-f]{8}/m;
const SEGMENTS = new RegExp(SEGMENT, "gm");

/**
 * Whether a change that this process made at `seconds` was made before `exec` replaced the program in it, as
 * `bun --watch` does on each save, and no other thread of this program can have what it took: each whose object is
 * locked is attached.
 */
export function isOfReplacedProgram(libc: Libc, seconds: number): boolean {
  if (libc.os !== "linux" || !libc.isMainThread()) return false; // that of a worker begins later
  if (!isOlderThanProgram(seconds + 1 + TICK_SECONDS)) return false;
  const maps = libc.readFile("/proc/self/maps");
  if (typeof maps === "number") return false;
  const own = new Set([...registry.attachments].map(({ address }) => address));
  return [...maps.matchAll(SEGMENTS)].every(([, begin]) => own.has(BigInt(`0x${begin}`)));
}

/** Whether a time, in s since 1970, was before this program began. */
export function isOlderThanProgram(seconds: number): boolean {
  // Whichever way the clock was set since.
  const began = Math.min(timeOrigin, Date.now() - performance.now());
  return seconds * 1000 <= began;
}
