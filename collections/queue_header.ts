import { sharedClock } from "../backends/clock.ts";
import { SyncError } from "../sync/errors.ts";
import { PrimitiveKind, type Slot } from "../sync/slot.ts";
import { halfSipHash } from "./half_sip_hash.ts";
import {
  JOBS_MAX,
  MEMBERS_MAX,
  MUTEX_BYTE,
  queueBytes,
  type QueueShape,
  UNITS_MAX,
  UNITS_MIN,
} from "./queue_shape.ts";

/** The words of the header of a queue after the two that each slot has. The last one is a checksum of the others. */
const [UNITS, JOBS, MEMBERS, SCOPE, CHECK] = [2, 3, 4, 5, 6];
const CHECK_KEY = 0x71756575;

/** Creates a queue: writes its header, and then calls `fill`, which writes the rest. */
export function makeQueueHeader(
  call: string,
  slot: Slot,
  shape: QueueShape,
  fill: () => void,
): void {
  slot.make(call, PrimitiveKind.SharedQueue, queueBytes(shape), () => {
    const words = slot.view(Int32Array, 0, MUTEX_BYTE / 4);
    words[UNITS] = shape.units;
    words[JOBS] = shape.jobs;
    words[MEMBERS] = shape.members;
    words[SCOPE] = sharedClock().scope;
    words[CHECK] = checkOf(words);
    fill();
  });
}

/** Reads the header of a queue. @throws {SyncError} if it is not that of a queue that this process can use */
export function readQueueHeader(call: string, slot: Slot): QueueShape {
  slot.join(call, PrimitiveKind.SharedQueue, MUTEX_BYTE);
  const words = slot.view(Int32Array, 0, MUTEX_BYTE / 4).slice();
  const shape = queueShapeIn(words);
  if (shape === null) {
    throw new SyncError(
      "Damaged",
      `${call}: the header of the queue has been overwritten; create it again when no process uses it`,
    );
  }
  slot.require(call, queueBytes(shape));
  if (words[SCOPE] !== sharedClock().scope) {
    throw new SyncError(
      "WrongKind",
      `${call}: the queue was created before this system was started, or in another time namespace ` +
        "(another container), so the times of delayed jobs mean nothing here; create it again",
    );
  }
  return shape;
}

/** Returns what the words of a header say, or `null` if they are not those of a header. */
export function queueShapeIn(words: Int32Array): QueueShape | null {
  const shape = { units: words[UNITS]!, jobs: words[JOBS]!, members: words[MEMBERS]! };
  return isPossible(shape) && words[CHECK] === checkOf(words) ? shape : null;
}

function isPossible({ units, jobs, members }: QueueShape): boolean {
  return units >= UNITS_MIN && units <= UNITS_MAX && (units & units - 1) === 0 &&
    jobs >= 8 && jobs < JOBS_MAX && members >= 8 && members <= MEMBERS_MAX;
}

function checkOf(words: Int32Array): number {
  return halfSipHash(CHECK_KEY, 0, words.slice(UNITS, CHECK), CHECK - UNITS, 0);
}
