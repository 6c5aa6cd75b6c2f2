import { LARGEST, LIVE, type QueueLog } from "./queue_log.ts";
import { DamagedLog } from "./ring_log.ts";

/** This part of the ring stays free, so that records can be moved without many moves for each job. */
const RESERVE = 1 / 16;
/** So many records are dropped at once, as each change of `head` is slow. */
const DROPS = 32;

/**
 * Makes room for a record of `size` units; returns `false` if there is none. Records at the head that no job has are
 * dropped, and others are moved to the tail.
 *
 * A record does not wrap around the end of the ring, so one of s units may need 2s - 1 where the free space does. So if L
 * is the size of the largest record, 2L units are free after each new record. Then the oldest one can be moved. A move
 * around the end of the ring leaves at least L free, which is enough up to the next time; before that, `head` passes the
 * padding that it has made. After a lap of moves, all space is free that no job has, but for one padding: so 3L must be.
 */
export function makeRoom(log: QueueLog, size: number): boolean {
  if (!hasRoom(log, size)) {
    log.recount();
    if (!hasRoom(log, size)) return false;
  }
  const { head, span, units } = log;
  while (!canFollow(log, size)) {
    if (log.dropOldest(DROPS)) continue;
    const hasLapped = log.head - head >>> 0 > span + units;
    if (hasLapped || !log.moveOldest()) throw new DamagedLog();
  }
  return true;
}

/** Returns how many units must be free, if the largest record has `largest`. */
export function reserve(units: number, largest: number): number {
  return Math.max(3 * largest, RESERVE * units);
}

function hasRoom({ units, words }: QueueLog, size: number): boolean {
  const largest = Math.max(words[LARGEST]!, size);
  return words[LIVE]! + size + reserve(units, largest) <= units;
}

/** Whether enough is free after a record at the tail. */
function canFollow(log: QueueLog, size: number): boolean {
  const largest = Math.max(log.words[LARGEST]!, size);
  return log.freeAfter(log.placeFor(size), size) >= 2 * largest;
}
