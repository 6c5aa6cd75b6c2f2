/** Maps in shared bytes: what a process has of one, and what must be true of it in the end. */
import { sharedClock } from "../../backends/clock.ts";
import { MapCore } from "../../collections/map_core.ts";
import type { MapHeader } from "../../collections/map_header.ts";
import { entriesOf } from "../../collections/map_iterator.ts";
import { MapReader } from "../../collections/map_reader.ts";
import { computerByte, COMPUTERS, mapBytes, stripeByte } from "../../collections/map_shape.ts";
import { COUNT } from "../../collections/map_stripe.ts";
import { MapWriter } from "../../collections/map_writer.ts";
import { RECOVERED } from "../../collections/ring_log.ts";
import type { SectionMutex } from "../../collections/section_lock.ts";
import { type Context, enterContext } from "../../context.ts";
import { registry } from "../../registry.ts";
import { PrimitiveKind, Slot } from "../../sync/slot.ts";
import { makeMutex, mutexAt } from "./owner_mutex.ts";
import type { Ending } from "./scenario.ts";
import type { SharedBytes } from "./shared_bytes.ts";

/** How long a writer waits for another one, in ms. */
export const LOCK_MS = 10_000;
const CALL = "SharedMap.at";
const NOTES = 4;

export function expect(isTrue: boolean, text: string): void {
  if (!isTrue) throw new Error(text);
}

/** A map of one stripe, in which all keys are in one of few buckets. */
function headerOf(evicts: boolean, units = 32): MapHeader {
  return { stripes: 1, units, buckets: 8, evicts, key0: 1, key1: 2, codec: "" };
}

/** What a process has of a map. */
export interface Joined {
  readonly core: MapCore;
  readonly reader: MapReader;
  readonly writer: MapWriter;
  /** Words after the map, in which processes note what they have done. */
  readonly notes: Int32Array;
}

function joined(
  slot: Slot,
  header: MapHeader,
  mutex: MapCore["joinMutex"],
  isOrdered: boolean,
): Joined {
  const core = new MapCore(slot, header, mutex, isOrdered);
  const notes = slot.view(Int32Array, mapBytes(header), NOTES);
  return { core, reader: new MapReader(core), writer: new MapWriter(core, LOCK_MS), notes };
}

/** A mutex whose other users have all ended. */
export class FreeMutex implements SectionMutex {
  readonly wasAbandoned = false;
  isHeld = false;

  tryLock(): boolean {
    const wasFree = !this.isHeld;
    this.isHeld = true;
    return wasFree;
  }

  unlock(): void {
    this.isHeld = false;
  }
}

/** The map as nobody else uses it: before the processes begin, and after all have ended. */
function alone(view: Uint8Array, header: MapHeader, make = false): Joined {
  const slot = new Slot(CALL, view, 0, 64);
  if (make) {
    slot.make(CALL, PrimitiveKind.SharedMap, mapBytes(header), () => {
      makeMutex(view, stripeByte(header, 0));
      for (let i = 0; i < COMPUTERS; i++) makeMutex(view, computerByte(i));
    });
  }
  slot.join(CALL, PrimitiveKind.SharedMap, 128);
  return joined(slot, header, () => new FreeMutex(), true);
}

/** A value of which each byte has the number. */
export function value(number: number): Uint8Array {
  return new Uint8Array(8).fill(number);
}

/** Returns the number of a value, 0 if there is none. */
export function numberOf(found: Uint8Array | number | undefined): number {
  if (found === undefined || typeof found === "number") return found ?? 0;
  expect(found.length === 8 && found.every((byte) => byte === found[0]), `a torn value: ${found}`);
  return found[0]!;
}

/** Returns the number that was found, 0 if there is no value. */
export function read({ reader }: Joined, key: string): number {
  return numberOf(reader.get("get", key));
}

export function set({ writer }: Joined, key: string, number: number): void {
  writer.set("set", key, value(number), 0);
}

export type Step = (map: Joined) => void;

export interface MapScenario {
  readonly name: string;
  readonly evicts?: boolean;
  readonly units?: number;
  readonly isInOrder?: boolean;
  readonly isAsync?: boolean;
  /** The time of the clock, which stands still; without it, the processes have virtual time. */
  readonly time?: number;
  readonly prepare: Step;
  readonly programs: readonly ((map: Joined) => void | Promise<void>)[];
  /** Says what is wrong with the numbers that are found in the end, before and after the next change. */
  readonly check: (map: Joined, ending: Ending) => string | null;
}

/** Returns what is wrong with the map itself. */
function problemOf(map: Joined): string | null {
  const entries = [...entriesOf(map.core, "entries")];
  const keys = new Set(entries.map(([key]) => key));
  if (keys.size < entries.length) return "a key is found twice";
  const count = map.core.stripes[0]!.words[COUNT];
  return count === entries.length ? null : `the count is ${count}, not ${entries.length}`;
}

const KEYS = "abcdefn";

/** Removes all keys; returns the one of which an older value is found then. */
function comingBack(map: Joined, { hasKill }: Ending): string | null {
  for (const key of KEYS) {
    map.writer.delete("delete", key);
    if (map.reader.probe("has", key)) return `${key} comes back after it was removed`;
  }
  const isRepaired = map.core.stripes[0]!.words[RECOVERED] !== 0;
  return isRepaired && !hasKill ? "it was repaired for nothing" : null;
}

/** Calls `body` where the clock is at 0, so that nothing has expired. */
export function beforeAllTimes<Result>(body: () => Result): Result {
  const clock = { scope: 0, now: () => 0 };
  const before = enterContext({ registry, values: new Map([[sharedClock, clock]]) });
  try {
    return body();
  } finally {
    enterContext(before);
  }
}

/** Gives the process that runs a clock. */
export function setClock(now: () => number): void {
  const own: Context = enterContext({ registry, values: new Map() });
  own.values.set(sharedClock, { scope: 0, now });
  enterContext(own);
}

export function bytesOf(scenario: MapScenario): SharedBytes {
  const { name, evicts = false, units, isInOrder = true, isAsync = false, time } = scenario;
  const { prepare, programs, check } = scenario;
  const header = headerOf(evicts, units);
  return {
    name,
    bytes: mapBytes(header) + 4 * NOTES,
    isInOrder,
    isAsync,
    prepare: (view) => beforeAllTimes(() => prepare(alone(view, header, true))),
    programs: programs.map((program) => (place) => {
      setClock(time === undefined ? () => performance.now() : () => time);
      const slot = new Slot(CALL, place.view, 0, 64);
      slot.join(CALL, PrimitiveKind.SharedMap, 128);
      return program(joined(slot, header, (byte) => mutexAt(place, byte), isInOrder));
    }),
    check: (view, ending) =>
      beforeAllTimes(() => {
        const map = alone(view, header);
        const before = check(map, ending);
        if (before !== null) return before;
        map.writer.delete("delete", "z"); // the next change, which repairs what a killed process has left
        const after = problemOf(map) ?? check(map, ending) ?? comingBack(map, ending);
        return after === null ? null : `after the next change: ${after}`;
      }),
  };
}

/** Says what is wrong with a number that must be one of some. */
export function among(map: Joined, key: string, numbers: readonly number[]): string | null {
  const found = read(map, key);
  return numbers.includes(found) ? null : `${key} is ${found}, not one of ${numbers}`;
}
