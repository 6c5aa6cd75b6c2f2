import { HEADER_BYTES } from "../sync/slot.ts";
import { Counter, CounterBlock, Event, Gauge, Mutex, Snapshot } from "../sync/mod.ts";
import { describeMutex } from "./holders.ts";
import { bytesOf, roomOf, wordsOf } from "./reading.ts";
import type { Describer, Description, Place } from "./types.ts";

/** The words after the two that each header has. */
const [FIRST_WORD, SECOND_WORD] = [2, 3];
const VALUE_BYTE = HEADER_BYTES;

/** The entries of a `CounterBlock`: see counter_block.ts. */
const ENTRY_BYTES = 64;
const [VALUE, NAME] = [8, 16];
const CAPACITY_MAX = 2 ** 20;
const GAUGE = 1n;
const NAMES_SHOWN = 1000;

const RECORD_BYTES_MAX = 2 ** 30;
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

function fixed(
  kind: string,
  { BYTES, ALIGNMENT }: { readonly BYTES: number; readonly ALIGNMENT: number },
  describe: (place: Place) => Description,
): Describer {
  return {
    kind,
    alignment: ALIGNMENT,
    sizeOf: (place) => roomOf(place) >= BYTES ? BYTES : null,
    // deno-lint-ignore require-yield
    *describe(place) {
      return describe(place);
    },
  };
}

export const MUTEX: Describer = fixed("Mutex", Mutex, (place) => {
  const { problem, ...rest } = describeMutex(wordsOf(place, 0, Mutex.BYTES / 4));
  return problem === "" ? rest : { ...rest, problem };
});

export const EVENT: Describer = fixed("Event", Event, (place) => ({
  facts: { notifications: wordsOf(place, 0, 4)[FIRST_WORD]! >>> 0 },
}));

export const COUNTER: Describer = fixed("Counter", Counter, (place) => ({
  facts: { value: new BigInt64Array(bytesOf(place, VALUE_BYTE, 8).buffer)[0]! },
}));

export const GAUGE_DESCRIBER: Describer = fixed("Gauge", Gauge, (place) => ({
  facts: { value: new Float64Array(bytesOf(place, VALUE_BYTE, 8).buffer)[0]! },
}));

export const COUNTER_BLOCK: Describer = {
  kind: "CounterBlock",
  alignment: CounterBlock.ALIGNMENT,
  sizeOf: (place) => {
    const capacity = wordsOf(place, 0, 4)[FIRST_WORD]!;
    if (!(capacity >= 1 && capacity <= CAPACITY_MAX)) return null;
    const bytes = CounterBlock.bytesFor(capacity);
    return bytes <= roomOf(place) ? bytes : null;
  },
  *describe(place) {
    const capacity = wordsOf(place, 0, 4)[FIRST_WORD]!;
    const values: [name: string, value: number | bigint][] = [];
    let names = 0;
    for (; names < capacity; names++) {
      if (names % 256 === 255) yield;
      const entry = bytesOf(place, (1 + names) * ENTRY_BYTES, ENTRY_BYTES);
      const hash = new BigUint64Array(entry.buffer, 0, 1)[0]!;
      if (hash === 0n) break;
      if (names >= NAMES_SHOWN) continue;
      const text = entry.subarray(NAME);
      const end = text.indexOf(0);
      const name = decoder.decode(text.subarray(0, end < 0 ? text.length : end));
      if (name === "") continue; // the process that reserved the entry has not written the name yet
      const value = (hash & GAUGE) === 0n
        ? new BigInt64Array(entry.buffer, VALUE, 1)[0]!
        : new Float64Array(entry.buffer, VALUE, 1)[0]!;
      values.push([name, value]);
    }
    return { facts: { names, room: capacity }, values: Object.fromEntries(values) };
  },
};

export const SNAPSHOT: Describer = {
  kind: "Snapshot",
  alignment: Snapshot.ALIGNMENT,
  sizeOf: (place) => {
    const recordBytes = wordsOf(place, 0, 4)[FIRST_WORD]!;
    if (!(recordBytes >= 1 && recordBytes <= RECORD_BYTES_MAX)) return null;
    const bytes = Snapshot.bytesFor(recordBytes);
    return bytes <= roomOf(place) ? bytes : null;
  },
  // deno-lint-ignore require-yield
  *describe(place) {
    const words = wordsOf(place, 0, 4);
    return { facts: { recordBytes: words[FIRST_WORD]!, version: words[SECOND_WORD]! >>> 0 } };
  },
};
