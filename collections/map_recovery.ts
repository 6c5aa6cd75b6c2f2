import {
  ALIKE_MAX,
  GONE,
  HASH,
  isPossible,
  isSameKey,
  META,
  NEXT,
  NUMBER,
  PENDING,
  SIZE,
  VERSION,
} from "./map_record.ts";
import { COUNT, LARGEST, LIVE, type MapStripe, SOONEST, STALE } from "./map_stripe.ts";
import { DamagedLog } from "./ring_log.ts";

/** What is known of the units of the ring: a record begins there, and a chain has it. */
const [BEGINS, CHAINED] = [1, 2];

/**
 * Repairs a stripe whose last writer was killed, or has left it in the middle of a change for another reason. No key is
 * lost: a change is either whole or invisible. What can be wrong is that a chain has two records of a key, that the
 * newest record of the log has not come into a chain, and that the counts are wrong. The bytes may also have been
 * overwritten; then what makes no sense is taken out, or everything if the log cannot be read.
 */
export function recover(stripe: MapStripe): void {
  try {
    repair(stripe);
  } catch (error) {
    if (!(error instanceof DamagedLog)) throw error;
    stripe.reset();
  }
}

function repair(stripe: MapStripe): void {
  const { words } = stripe;
  const known = begins(stripe);
  words[COUNT] = words[LIVE] = words[LARGEST] = 0;
  words[STALE] = 1; // the time before which no record expires is found by recount() when it is needed
  stripe.totals[SOONEST] = Number.MIN_VALUE;
  for (let bucket = 0; bucket < stripe.buckets; bucket++) repairChain(stripe, bucket, known);
  stripe.cut(endOfChained(stripe, known));
}

/** Calls `visit` with each record of the log, the oldest one first. */
function visitRecords(stripe: MapStripe, visit: (position: number, size: number) => void): void {
  let { head: position, span: left } = stripe;
  while (left > 0) {
    const size = stripe.sizeAt(position, left);
    if (size > 0) visit(position, size);
    position = position + Math.abs(size) | 0;
    left -= Math.abs(size);
  }
}

/** Returns where records begin. */
function begins(stripe: MapStripe): Uint8Array {
  const known = new Uint8Array(stripe.units);
  visitRecords(stripe, (position, size) => {
    const meta = stripe.data[stripe.wordOf(position) + META]!;
    if (isPossible(size, meta)) known[position & stripe.unitMask] = BEGINS;
  });
  return known;
}

/** Lets a chain have each key once, and counts its records. */
function repairChain(stripe: MapStripe, bucket: number, known: Uint8Array): void {
  const { data, head, words } = stripe;
  const chain = new Map<number, number[]>();
  let distance = stripe.span;
  let before = -1;
  for (let position = stripe.firstOf(bucket); position !== 0;) {
    const at = stripe.wordOf(position);
    const isRecord = position - head >>> 0 < distance &&
      known[position & stripe.unitMask] === BEGINS &&
      stripe.bucketOf(data[at + HASH]!) === bucket;
    if (!isRecord) return stripe.link(before, bucket, 0);
    distance = position - head >>> 0;
    position = data[at + NEXT]!;
    const alike = chain.get(data[at + HASH]!) ?? [];
    if (alike.some((newer) => isSameKey(data, newer, data, at))) {
      stripe.link(before, bucket, position);
      continue;
    }
    if (alike.push(at) > ALIKE_MAX) throw new DamagedLog();
    chain.set(data[at + HASH]!, alike);
    known[at >> 1] = CHAINED;
    data[at + META]! &= ~GONE;
    words[LIVE]! += data[at + SIZE]!;
    words[LARGEST] = Math.max(words[LARGEST]!, data[at + SIZE]!);
    if ((data[at + META]! & PENDING) === 0) words[COUNT]!++;
    // A number may have been changed, and its version not yet.
    if ((data[at + META]! & NUMBER) !== 0) {
      stripe.floats[(at >> 1) + VERSION] = stripe.nextVersion();
    }
    before = at + NEXT;
  }
}

/** Returns where the newest record ends that a chain has. */
function endOfChained(stripe: MapStripe, known: Uint8Array): number {
  let end = stripe.head;
  visitRecords(stripe, (position, size) => {
    if (known[position & stripe.unitMask] === CHAINED) end = position + size | 0;
  });
  return end;
}
