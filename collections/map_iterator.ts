import type { Bytes } from "../core/view_types.ts";
import { keyBytes, keyOf } from "./map_key.ts";
import type { MapCore } from "./map_core.ts";
import {
  ALIKE_MAX,
  EXPIRY,
  HASH,
  isSameKey,
  META,
  NUMBER,
  PENDING,
  RECORD_WORDS,
  SIZE,
  valueBytes,
} from "./map_record.ts";
import type { MapStripe } from "./map_stripe.ts";

/** An entry of a map as it was found. */
export type RawEntry = [key: string | Uint8Array, value: Bytes | number];

/**
 * Yields the entries of a map. An entry that exists all the time is yielded exactly once, whatever is changed meanwhile,
 * since it stays in its bucket, and a bucket is copied as it was at one moment.
 */
export function* entriesOf(core: MapCore, method: string): Generator<RawEntry, void, undefined> {
  for (const stripe of core.stripes) {
    for (let bucket = 0; bucket < stripe.buckets; bucket++) {
      core.require(method);
      if (!stripe.hasRecords(bucket)) continue;
      for (const record of newestOf(copyOf(core, method, stripe, bucket))) {
        if (isPresent(stripe, record)) yield entryOf(record);
      }
    }
  }
}

function copyOf(core: MapCore, method: string, stripe: MapStripe, bucket: number): Int32Array[] {
  for (let attempt = 0;; attempt++) {
    const records = stripe.copyBucket(bucket);
    if (records !== null) return records;
    core.overtaken(method, attempt);
  }
}

/** Leaves out what a killed process has left behind a newer record of the same key. */
function newestOf(records: readonly Int32Array[]): Int32Array[] {
  const newest = new Map<number, Int32Array[]>();
  return records.filter((record) => {
    const alike = newest.get(record[HASH]!) ?? [];
    if (alike.length >= ALIKE_MAX || alike.some((newer) => isSameKey(newer, 0, record, 0))) {
      return false;
    }
    alike.push(record);
    newest.set(record[HASH]!, alike);
    return true;
  });
}

function isPresent(stripe: MapStripe, record: Int32Array): boolean {
  return (record[META]! & PENDING) === 0 &&
    !stripe.hasPassed(new Float64Array(record.buffer)[EXPIRY]!);
}

function entryOf(record: Int32Array): RawEntry {
  const meta = record[META]!;
  const bytes = new Uint8Array(record.buffer);
  const keyAt = RECORD_WORDS * 4;
  const length = keyBytes(meta);
  const valueAt = keyAt + Math.ceil(length / 8) * 8;
  const key = keyOf(meta, bytes.slice(keyAt, keyAt + length));
  if ((meta & NUMBER) !== 0) return [key, new Float64Array(record.buffer)[valueAt / 8]!];
  return [key, bytes.slice(valueAt, valueAt + valueBytes(record[SIZE]!, meta)) as Bytes];
}
