import { LARGEST, LIVE, type QueueLog } from "./queue_log.ts";
import { DamagedLog } from "./ring_log.ts";

/** This part of the ring stays free, so that records can be moved without many moves for each job. */
export const RESERVE = 1 / 16;
/** So many records are dropped at once, as each change of `head` is slow. */
const DROPS = 32;

/**
 * Makes room for a record of `size` units; returns `false` if there is none. Records at the head that no job has are
 * dropped, and others are moved to the tail.
 */
export function makeRoom(log: QueueLog, size: number): boolean {
  if (!hasRoom(log, size)) {
    log.recount();
    if (!hasRoom(log, size)) return false;
  }
  const { head, span, units } = log;
  while (!canFollow(log, size)) {
    if (log.dropOldest(DROPS)) continue;
    // One lap of moves is enough to bring all free space together.
    if (log.head - head >>> 0 > span + units || !log.moveOldest()) throw new DamagedLog();
  }
  return true;
}

/** Whether the jobs leave enough free when the record has come: twice the largest record, and the reserve. */
function hasRoom({ units, words }: QueueLog, size: number): boolean {
  const largest = Math.max(words[LARGEST]!, size);
  return words[LIVE]! + size + Math.max(2 * largest, RESERVE * units) <= units;
}

/**
 * Whether a record can follow at the tail so that the oldest one can be moved afterwards. A record does not wrap around
 * the end of the ring, so it may need up to twice its size if the free space does, and otherwise its size. While that
 * space does not reach the end of the ring, it only grows.
 */
function canFollow(log: QueueLog, size: number): boolean {
  const { units, unitMask, words } = log;
  const position = log.placeFor(size);
  const free = log.freeAfter(position, size);
  if (free < 0) return false;
  const largest = Math.max(words[LARGEST]!, size);
  if (free >= 2 * largest) return true;
  return free >= largest && (position + size & unitMask) + free <= units;
}
