import { Event, Mutex } from "../sync/mod.ts";
import { LOG_HEADER_BYTES, MARGIN_BYTES, UNIT_BYTES } from "./ring_log.ts";

/** How large the parts of a queue are. */
export interface QueueShape {
  /** The number of units of the ring of values, a power of two. */
  readonly units: number;
  /** The number of entries of the table of jobs, a multiple of 8. */
  readonly jobs: number;
  /** The number of slots of members, a multiple of 8. */
  readonly members: number;
}

/** The options that decide the shape of a queue. */
export interface QueueSize {
  /** The size of the queue in bytes, with all that it needs. It may use less. */
  readonly bytes: number;
  /**
   * The usual number of bytes of a value, 128 if left out. The number of jobs that the queue can hold follows from it: at
   * least as many as values of this size fit.
   */
  readonly jobBytes?: number | undefined;
  /** The number of threads that can hold jobs at the same time, 64 if left out. */
  readonly members?: number | undefined;
}

/** An entry of the table of jobs takes so many bytes, and so many in the heap of delayed jobs. */
export const ENTRY_BYTES = 64;
const HEAP_BYTES = 4;

/** Where the parts of a queue begin, in bytes: the mutex of all changes, the two events, and the log. */
export const MUTEX_BYTE = 64;
export const READY_BYTE = MUTEX_BYTE + Mutex.BYTES;
export const ROOM_BYTE = READY_BYTE + Event.BYTES;
export const LOG_BYTE = 192;
/** Where the parts of the log begin after the header of the log, in bytes from `LOG_BYTE`. */
export const WORDS_BYTE = LOG_HEADER_BYTES;
export const TOTALS_BYTE = WORDS_BYTE + 128;
export const GENERATIONS_BYTE = TOTALS_BYTE + 128;

/** Entries are numbered by 24 bits, and members by 10 bits of the word of a state. */
export const JOBS_MAX = 2 ** 24;
export const MEMBERS_MAX = 1024;
const MEMBERS = 64;
const JOB_BYTES = 128;
export const UNITS_MIN = 512;
export const UNITS_MAX = 2 ** 27;
/** A value may take this part of the ring. */
export const PART = 4;

/** Returns where the mutexes of the members begin, in bytes from the beginning of the log. */
export function mutexesByte({ members }: QueueShape): number {
  return GENERATIONS_BYTE + members * 4;
}

/** Returns where the table of jobs begins, in bytes from the beginning of the log. */
export function tableByte(shape: QueueShape): number {
  return mutexesByte(shape) + shape.members * Mutex.BYTES;
}

/** Returns where the heap of delayed jobs begins, in bytes from the beginning of the log. */
export function heapByte(shape: QueueShape): number {
  return tableByte(shape) + shape.jobs * ENTRY_BYTES;
}

/** Returns where the ring begins, in bytes from the beginning of the log. */
export function ringByte(shape: QueueShape): number {
  return heapByte(shape) + shape.jobs * HEAP_BYTES;
}

/** Returns the number of bytes of a queue. */
export function queueBytes(shape: QueueShape): number {
  return LOG_BYTE + ringByte(shape) + shape.units * UNIT_BYTES + MARGIN_BYTES;
}

/**
 * Returns the shape of a queue: the largest ring beside which there is room for the entries of its jobs. What is left
 * becomes entries as well, up to one for each two units.
 *
 * @throws {TypeError | RangeError} if an option is not a number in its range
 */
export function queueShape(call: string, options: QueueSize): QueueShape {
  const { bytes, jobBytes = JOB_BYTES, members: wanted = MEMBERS } = options;
  checkNumber(call, "bytes", bytes, 1, Number.MAX_SAFE_INTEGER);
  checkNumber(call, "jobBytes", jobBytes, 1, Number.MAX_SAFE_INTEGER);
  checkNumber(call, "members", wanted, 1, MEMBERS_MAX);
  const members = up8(wanted);
  const fixed = (units: number) => queueBytes({ units, jobs: 0, members });
  for (let units = UNITS_MAX; units >= UNITS_MIN; units /= 2) {
    const most = Math.floor((bytes - fixed(units)) / (ENTRY_BYTES + HEAP_BYTES) / 8) * 8;
    const jobs = Math.min(most, units / 2, JOBS_MAX - 8);
    if (jobs >= leastJobs(units, jobBytes)) return { units, jobs, members };
  }
  const least = queueBytes({ units: UNITS_MIN, jobs: leastJobs(UNITS_MIN, jobBytes), members });
  throw new RangeError(
    `${call}: a queue with ${members} members and values of ${jobBytes} bytes takes at least ${least} bytes, not ${bytes}`,
  );
}

/** Returns the number of entries for values of the usual size, at least 8. */
function leastJobs(units: number, jobBytes: number): number {
  return Math.max(8, Math.min(units / 2, JOBS_MAX - 8, up8(units * UNIT_BYTES / jobBytes)));
}

function up8(count: number): number {
  return Math.ceil(count / 8) * 8;
}

/** @throws {TypeError | RangeError} if an option is not an integer in its range */
export function checkNumber(
  call: string,
  name: string,
  value: unknown,
  least: number,
  most: number,
): asserts value is number {
  if (typeof value !== "number") {
    throw new TypeError(`${call}: ${name} must be a number, not ${typeof value}`);
  }
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw new RangeError(
    `${call}: ${name} must be an integer from ${least} to ${most}, not ${value}`,
  );
}
