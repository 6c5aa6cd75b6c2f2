/** Shared values in shared bytes: writers, and readers that look meanwhile. */
import { SectionLock, type SectionMutex } from "../../collections/section_lock.ts";
import { ValueHalves } from "../../collections/value_halves.ts";
import { MUTEX_BYTE, valueBytes } from "../../collections/value_header.ts";
import { PrimitiveKind, Slot } from "../../sync/slot.ts";
import { makeMutex, mutexAt } from "./owner_mutex.ts";
import type { Ending } from "./scenario.ts";
import type { SharedBytes } from "./shared_bytes.ts";
import { expect, FreeMutex, LOCK_MS } from "./shared_maps.ts";

const CALL = "SharedValue.at";
const MAX_BYTES = 8;

/** A number as a value, of which each byte has it: as many bytes as it says, but at most eight. */
function bytesFor(number: number): Uint8Array {
  return new Uint8Array(Math.min(number, MAX_BYTES)).fill(number);
}

/** What a process has of a value. */
class Joined {
  readonly halves: ValueHalves;
  readonly #lock: SectionLock;

  constructor(view: Uint8Array, mutex: SectionMutex, isOrdered: boolean) {
    const slot = new Slot(CALL, view, 0, 64);
    slot.join(CALL, PrimitiveKind.SharedValue, valueBytes(MAX_BYTES));
    this.halves = new ValueHalves(slot, MAX_BYTES, isOrdered);
    const { words } = this.halves;
    const section = { words, recover() {}, reset() {}, name: "SharedValue", part: "the value" };
    this.#lock = new SectionLock(section, mutex);
  }

  /** Sets a number; returns its version, -1 if the version was another one. */
  set(number: number, ifVersion?: number): number {
    const bytes = bytesFor(number);
    return this.#lock.change(
      "set",
      LOCK_MS,
      () => this.halves.write(bytes, bytes.length, ifVersion),
    );
  }

  /** Returns the number, 0 if there is none, and its version. */
  read(): { number: number; version: number } {
    const { version, bytes } = this.halves.read("value");
    const number = bytes?.[0] ?? 0;
    const isWhole = bytes === null ? version === 0 : `${bytes}` === `${bytesFor(number)}`;
    expect(isWhole, `a torn value: ${bytes}`);
    return { number, version };
  }
}

interface ValueScenario {
  readonly name: string;
  readonly isInOrder?: boolean;
  readonly programs: readonly ((value: Joined) => void)[];
  /** Says what is wrong with the number and the version in the end. */
  readonly check: (number: number, version: number, ending: Ending) => string | null;
}

function bytesOf({ name, isInOrder = true, programs, check }: ValueScenario): SharedBytes {
  const alone = (view: Uint8Array) => new Joined(view, new FreeMutex(), true);
  return {
    name,
    bytes: valueBytes(MAX_BYTES),
    isInOrder,
    prepare(view) {
      const slot = new Slot(CALL, view, 0, 64);
      const make = () => makeMutex(view, MUTEX_BYTE);
      slot.make(CALL, PrimitiveKind.SharedValue, valueBytes(MAX_BYTES), make);
      alone(view).set(3);
    },
    programs: programs.map((program) => (place) => {
      program(new Joined(place.view, mutexAt(place, MUTEX_BYTE), isInOrder));
    }),
    check(view, ending) {
      const found = alone(view);
      const { number, version } = found.read();
      const what = check(number, version, ending);
      if (what !== null) return `${what}: ${number} of version ${version}`;
      const next = found.set(9);
      const after = found.read();
      const isNext = next === version + 1 && after.version === next && after.number === 9;
      return isNext ? null : `after the next change: ${after.number} of version ${next}`;
    },
  };
}

/** Reads again and again: versions do not go back, and each has one number. */
const reading = (times: number) => (value: Joined): void => {
  let last = value.read();
  for (let i = 1; i < times; i++) {
    const now = value.read();
    expect(now.version >= last.version, `version ${now.version} after ${last.version}`);
    expect(now.version > last.version || now.number === last.number, "a version has two values");
    expect(value.halves.version("version") >= now.version, "the version goes back");
    last = now;
  }
};

const replaced: ValueScenario = {
  name: "value: set and read",
  programs: [(value) => {
    for (const number of [4, 5]) {
      const version = value.set(number);
      expect(version === number - 2, `the version is ${version}`);
      expect(value.read().number === number, "the writer does not read what it has set");
    }
  }, reading(2)],
  check: (number, version, { outcomes }) =>
    version === number - 2 && (outcomes[0] !== "ok" || number === 5) ? null : "it is wrong",
};

/** Of two changes that need the same version, one is made. */
const compared: ValueScenario = {
  name: "value: two set one version",
  programs: [4, 6].map((number) => (value) => {
    const { version } = value.read();
    const set = value.set(number, version);
    if (version === 1) expect([2, -1].includes(set), `the version is ${set}`);
    else expect(version === 2 && set === 3, `the version is ${set} after ${version}`);
  }),
  check: (number, version, { outcomes }) => {
    const isPossible = version === 1 ? number === 3 : [4, 6].includes(number) && version <= 3;
    return isPossible && (version > 1 || !outcomes.includes("ok")) ? null : "it is wrong";
  },
};

/** Two set, and a reader sees a whole value although one of them is killed in the middle. */
const shared: ValueScenario = {
  name: "value: two set and one reads",
  programs: [(value) => void value.set(4), (value) => void value.set(6), reading(2)],
  check: (number, version, { outcomes }) => {
    const least = 1 + outcomes.slice(0, 2).filter((outcome) => outcome === "ok").length;
    const isPossible = version >= least && version <= 3 &&
      (version === 1 ? [3] : [4, 6]).includes(number);
    return isPossible ? null : "it is wrong";
  },
};

export const VALUE_BYTES: readonly SharedBytes[] = [replaced, compared, shared]
  .flatMap((one) => [one, { ...one, isInOrder: false, name: `${one.name}, reordered` }])
  .map(bytesOf);
