import { registry } from "../../registry.ts";
import { _SC_CLK_TCK, CLOCK_BOOTTIME } from "../unix/linux_constants.ts";
import { readFile } from "../unix/files.ts";
import type { Libc } from "../unix/libc.ts";
import { once } from "../unix/once.ts";
import { isMainThread, startTime } from "../unix/processes.ts";
import { CLOCK, PTHREAD_LIBRARIES } from "../unix/c_variant.ts";
import { timespec } from "../unix/timespec.ts";

/**
 * This file finds out whether the process that changed a semaphore last can still have what it took. The kernel keeps
 * only the pid of that process. Where the answer is unknown, it counts as yes.
 */

/**
 * The precision of the time of a change: the kernel takes the time of its last tick, and rounds it down to whole
 * seconds.
 */
const PRECISION_SECONDS = 2;
const TICK_SECONDS = 0.02;

/**
 * The time at which this program, or this worker thread, began, in ms since 1970. It is read at once, as tests
 * replace clocks.
 */
const { timeOrigin } = performance;

/**
 * Whether the living process `pid` cannot have made a change at `seconds`, because it began later and has the pid of
 * the process that did. As the clock may have been set in between, the process must also show no sign of using a
 * lock: it has no System V segment attached, and holds no `flock`.
 */
export function hasPidOfAnother(libc: Libc, pid: number, seconds: number): boolean {
  const began = beginOf(libc, pid);
  return began !== null && began - seconds > PRECISION_SECONDS && !showsUse(libc, pid);
}

/**
 * Returns the time at which a process began, in s since 1970 by the clock as it is set now, or `null` if it is not
 * known.
 */
function beginOf(libc: Libc, pid: number): number | null {
  const ticks = startTime(libc, pid);
  if (ticks === null) return null;
  const { address, view } = timeOf(libc);
  // The clock of the day is read before the clock since boot. If this process is stopped in between, the beginning seems
  // earlier, which is the safe error: otherwise another process could take over the lock of a process that holds it.
  const seconds = Date.now() / 1000;
  // The time since the start of the system is not read from /proc/uptime, which containers replace.
  if (libc.ffi.load(PTHREAD_LIBRARIES, CLOCK).clock_gettime(CLOCK_BOOTTIME, address) !== 0) {
    return null;
  }
  const now = Number(view.getBigInt64(0, true));
  const age = now - ticks / Number(libc.c.sysconf(_SC_CLK_TCK));
  return age < -1 ? null : seconds - age;
}

const timeOf = once(timespec);

function showsUse(libc: Libc, pid: number): boolean {
  const maps = readFile(libc, `/proc/${pid}/maps`);
  if (typeof maps === "number" || SEGMENT.test(maps)) return true;
  const locks = readFile(libc, "/proc/locks");
  return typeof locks === "number" ||
    new RegExp(`^\\d+: FLOCK .* ${pid} \\w+:\\w+:`, "m").test(locks);
}

/** Matches a line of `/proc/PID/maps` for a segment: 7f12-7f13 rw-s 00000000 00:01 7 /SYSV51002a3f (deleted) */
const SEGMENT = /^([0-9a-f]+)-.* \/SYSV[0-9a-f]{8}/m;
const SEGMENTS = new RegExp(SEGMENT, "gm");

/**
 * Whether this process made a change at `seconds` before `exec` replaced the program in it, as `bun --watch` does on
 * each save. It must also be impossible that another thread of this program has what the process took. A thread whose
 * object is locked is attached, so all attached segments must belong to the objects of this program.
 */
export function isOfReplacedProgram(libc: Libc, seconds: number): boolean {
  if (libc.os !== "linux" || !isMainThread(libc)) return false; // the time origin of a worker is later
  if (!isOlderThanProgram(seconds + 1 + TICK_SECONDS)) return false;
  const maps = readFile(libc, "/proc/self/maps");
  if (typeof maps === "number") return false;
  const own = new Set([...registry.attachments].map(({ address }) => address));
  return [...maps.matchAll(SEGMENTS)].every(([, begin]) => own.has(BigInt(`0x${begin}`)));
}

/** Whether a time, in s since 1970, is before this program began. */
export function isOlderThanProgram(seconds: number): boolean {
  // The earlier of two times is used, as the clock may have been set forwards or backwards since.
  const began = Math.min(timeOrigin, Date.now() - performance.now());
  return seconds * 1000 <= began;
}
