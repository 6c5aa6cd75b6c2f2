import { LARGEST, LIVE, type QueueLog } from "./queue_log.ts";
import { DamagedLog } from "./ring_log.ts";

/** A sixteenth of the ring stays free, so that records can be moved without many moves for each job. */
const RESERVE_BITS = 4;
/** So many records are dropped at once, as each change of `head` is slow. */
const DROPS = 32;

/** There is no room for a record. */
export const NO_ROOM = 0;

/**
 * Makes room for a record of `size` units; returns its position, or `NO_ROOM` if there is none. Records at the head that
 * no job has are dropped, and others are moved to the tail.
 *
 * A record does not wrap around the end of the ring, so one of s units may need 2s - 1 where the free space does. So if L
 * is the size of the largest record, 2L units are free after each new record. Then the oldest one can be moved. A move
 * around the end of the ring leaves at least L free, which is enough up to the next time; before that, `head` passes the
 * padding that it has made. After a lap of moves, all space is free that no job has, but for one padding: so 3L must be.
 */
export function makeRoom(log: QueueLog, size: number): number {
  if (!hasRoom(log, size)) {
    // A recount looks at all entries: it is for the case that there is room if this record is the largest one.
    if (!hasRoomBeside(log, size, size)) return NO_ROOM;
    log.recount();
    if (!hasRoom(log, size)) return NO_ROOM;
  }
  const position = log.placeFor(size);
  return canFollow(log, position, size) ? position : clear(log, size);
}

/** Drops and moves the oldest records until one of `size` units can follow; returns its position. */
function clear(log: QueueLog, size: number): number {
  const { head, span, units } = log;
  for (;;) {
    if (!log.dropOldest(DROPS)) {
      const hasLapped = log.head - head >>> 0 > span + units;
      if (hasLapped || !log.moveOldest()) throw new DamagedLog();
    }
    const position = log.placeFor(size);
    if (canFollow(log, position, size)) return position;
  }
}

/** Returns how many units must be free, if the largest record has `largest`. */
export function reserve(units: number, largest: number): number {
  return Math.max(3 * largest, units >> RESERVE_BITS);
}

function hasRoom(log: QueueLog, size: number): boolean {
  return hasRoomBeside(log, size, Math.max(log.words[LARGEST]!, size));
}

/** Whether there is room for a record of `size` units if the largest one has `largest`. */
function hasRoomBeside({ units, words }: QueueLog, size: number, largest: number): boolean {
  return words[LIVE]! + size + reserve(units, largest) <= units;
}

/** Whether enough is free after a record at `position`, which is the place for it. */
function canFollow(log: QueueLog, position: number, size: number): boolean {
  return log.freeAfter(position, size) >= 2 * Math.max(log.words[LARGEST]!, size);
}
