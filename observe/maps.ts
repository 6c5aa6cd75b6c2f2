import { headerOf } from "../collections/map_header.ts";
import { MAP_HEADER_BYTES, mapBytes, stripeByte } from "../collections/map_shape.ts";
import {
  COUNT,
  EVICTED,
  EXPIRED,
  LAST_VERSION,
  LIVE,
  TOTALS_BYTE,
} from "../collections/map_stripe.ts";
import { LOG_HEADER_BYTES, RECOVERED, UNIT_BYTES } from "../collections/ring_log.ts";
import { Mutex } from "../sync/mod.ts";
import { bytesOf, roomOf, wordsOf } from "./reading.ts";
import { Sections } from "./sections.ts";
import type { Describer, Description, FactValue, Place } from "./types.ts";

/** Other code may run after this number of stripes. */
const STRIPES_AT_ONCE = 32;
const ALIGNMENT = 64;

/** What the stripes of a map have counted, all together. */
interface Totals {
  count: number;
  units: number;
  versions: number;
  evicted: number;
  expired: number;
  recovered: number;
}

function describer(
  kind: string,
  factsOf: (totals: Totals, capacity: number) => Record<string, FactValue>,
): Describer {
  return {
    kind,
    alignment: ALIGNMENT,
    sizeOf: (place) => {
      const header = headerOf(wordsOf(place, 0, MAP_HEADER_BYTES / 4));
      if (header === null) return null;
      const bytes = mapBytes(header);
      return bytes <= roomOf(place) ? bytes : null;
    },
    *describe(place) {
      const header = headerOf(wordsOf(place, 0, MAP_HEADER_BYTES / 4));
      if (header === null) return { facts: {}, problem: "its header has been overwritten" };
      const totals = { count: 0, units: 0, versions: 0, evicted: 0, expired: 0, recovered: 0 };
      const sections = new Sections();
      for (let i = 0; i < header.stripes; i++) {
        if (i % STRIPES_AT_ONCE === STRIPES_AT_ONCE - 1) yield;
        addStripe(place, stripeByte(header, i), totals, sections);
      }
      const capacity = header.stripes * header.units * UNIT_BYTES;
      return { facts: factsOf(totals, capacity), ...sections.description } satisfies Description;
    },
  };
}

/** Adds what a stripe, which begins with its mutex, has counted. */
function addStripe(place: Place, byte: number, totals: Totals, sections: Sections): void {
  const bytes = bytesOf(place, byte, Mutex.BYTES + LOG_HEADER_BYTES);
  const words = new Int32Array(bytes.buffer, Mutex.BYTES);
  const floats = new Float64Array(bytes.buffer, Mutex.BYTES + TOTALS_BYTE, 4);
  totals.count += words[COUNT]!;
  totals.units += words[LIVE]!;
  totals.recovered += words[RECOVERED]!;
  totals.versions += floats[LAST_VERSION]!;
  totals.evicted += floats[EVICTED]!;
  totals.expired += floats[EXPIRED]!;
  sections.add(new Int32Array(bytes.buffer, 0, Mutex.BYTES / 4), words);
}

export const SHARED_MAP: Describer = describer("SharedMap", (totals, capacity) => ({
  entries: totals.count,
  bytes: totals.units * UNIT_BYTES,
  capacity,
  changes: totals.versions,
  evicted: totals.evicted,
  expired: totals.expired,
  recovered: totals.recovered,
}));

/** A limiter is a map that never evicts; in the place of that total, it counts the names for which it had no room. */
export const RATE_LIMITER: Describer = describer("RateLimiter", (totals, capacity) => ({
  names: totals.count,
  bytes: totals.units * UNIT_BYTES,
  capacity,
  changes: totals.versions,
  noRoom: totals.evicted,
  expired: totals.expired,
  recovered: totals.recovered,
}));
