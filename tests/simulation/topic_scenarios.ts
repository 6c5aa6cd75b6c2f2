/** Shared topics in shared bytes: publishers, and readers that look meanwhile. */
import { SectionLock, type SectionMutex } from "../../collections/section_lock.ts";
import { TopicCursor } from "../../collections/topic_cursor.ts";
import { TopicLog } from "../../collections/topic_log.ts";
import type { TopicStart } from "../../collections/topic_options.ts";
import { MUTEX_BYTE, TOPIC_ALIGNMENT, topicBytes } from "../../collections/topic_shape.ts";
import { PrimitiveKind, Slot } from "../../sync/slot.ts";
import { makeMutex, mutexAt } from "./owner_mutex.ts";
import type { Ending } from "./scenario.ts";
import type { SharedBytes } from "./shared_bytes.ts";
import { expect, FreeMutex, LOCK_MS, numberOf, value } from "./shared_maps.ts";

const CALL = "SharedTopic.at";
/** The ring has room for five messages of one unit. */
const UNITS = 16;
/** So many messages are published before. */
const BEFORE = 4;

/** What a process has of a topic. */
class Joined {
  readonly slot: Slot;
  readonly log: TopicLog;
  readonly #lock: SectionLock;

  constructor(view: Uint8Array, mutex: SectionMutex, isOrdered: boolean) {
    this.slot = new Slot(CALL, view, 0, TOPIC_ALIGNMENT);
    this.slot.join(CALL, PrimitiveKind.SharedTopic, topicBytes(UNITS));
    const log = this.log = new TopicLog(this.slot, UNITS, isOrdered);
    this.#lock = new SectionLock({
      words: log.words,
      recover: () => log.recover(),
      reset: () => log.reset(),
      name: "SharedTopic",
      part: "the topic",
    }, mutex);
  }

  /** Publishes a message of which each byte has the number; returns its sequence number. */
  publish(number: number): number {
    return this.#lock.change("publish", LOCK_MS, () => this.log.publish(value(number), 8));
  }

  cursor(from: TopicStart): TopicCursor {
    return new TopicCursor(CALL, this.slot, this.log, from);
  }
}

/** A message that was read: its sequence number, and that of its bytes. */
interface Read {
  readonly sequence: number;
  readonly number: number;
}

/** Reads what there is; each message comes after the ones before it, and the lost ones are counted. */
function readAll(cursor: TopicCursor): Read[] {
  const found: Read[] = [];
  let { following } = cursor;
  for (let bytes; (bytes = cursor.next("read")) !== null;) {
    const { sequence, lost } = cursor;
    expect(
      sequence === following + lost,
      `${lost} lost before ${sequence}, not after ${following}`,
    );
    expect(lost >= 0, `${sequence} comes after ${following - 1}`);
    following = sequence + 1;
    found.push({ sequence, number: numberOf(bytes) });
  }
  return found;
}

interface TopicScenario {
  readonly name: string;
  readonly isInOrder?: boolean;
  readonly programs: readonly ((topic: Joined) => void)[];
  /** Says what is wrong with the messages that there are in the end. */
  readonly check: (left: readonly Read[], ending: Ending) => string | null;
}

function alone(view: Uint8Array): Joined {
  return new Joined(view, new FreeMutex(), true);
}

/** Returns what is left, of which the sequence numbers must follow each other. */
function leftOf(topic: Joined): readonly Read[] | string {
  const left = readAll(topic.cursor("oldest"));
  const first = left[0]?.sequence ?? 0;
  const isWhole = left.every(({ sequence }, i) => sequence === first + i);
  if (!isWhole) return `the topic has ${left.map(({ sequence }) => sequence)}`;
  const next = topic.cursor("latest").following;
  const last = left.at(-1)?.sequence;
  return last === undefined || next === last + 1 ? left : `${next} comes after ${last}`;
}

function bytesOf({ name, isInOrder = true, programs, check }: TopicScenario): SharedBytes {
  return {
    name,
    bytes: topicBytes(UNITS),
    isInOrder,
    prepare(view) {
      const slot = new Slot(CALL, view, 0, TOPIC_ALIGNMENT);
      slot.make(CALL, PrimitiveKind.SharedTopic, topicBytes(UNITS), () => {
        makeMutex(view, MUTEX_BYTE);
      });
      const topic = alone(view);
      for (let i = 1; i <= BEFORE; i++) topic.publish(i);
    },
    programs: programs.map((program) => (place) => {
      program(new Joined(place.view, mutexAt(place, MUTEX_BYTE), isInOrder));
    }),
    check(view, ending) {
      const topic = alone(view);
      for (let next = 0; next < 2; next++) {
        const left = leftOf(topic);
        const what = typeof left === "string" ? left : check(left, ending);
        if (what !== null) return next === 0 ? what : `after the next message: ${what}`;
        const { sequence } = left.at(-1) as Read;
        if (topic.publish(LAST) !== sequence + 1) return "the next message has another number";
      }
      return null;
    },
  };
}

/** The number of what is published in the end. */
const LAST = 99;

/** A publisher of messages whose numbers are their sequence numbers, if it is alone. */
const publishing = (count: number) => (topic: Joined): void => {
  for (let i = 1; i <= count; i++) {
    const sequence = topic.publish(BEFORE + i);
    expect(sequence === BEFORE + i, `the sequence number is ${sequence}`);
  }
};

const isOwn = ({ sequence, number }: Read) => number === sequence || number === LAST;

const followed: TopicScenario = {
  name: "topic: publish and read",
  programs: [publishing(3), (topic) => {
    const cursor = topic.cursor("oldest");
    for (let i = 0; i < 2; i++) {
      for (const read of readAll(cursor)) {
        expect(isOwn(read), `message ${read.sequence} is ${read.number}`);
      }
    }
  }],
  check(left, { outcomes }) {
    const last = left.findLast(({ number }) => number !== LAST)!.sequence;
    if (!left.every(isOwn)) return `the messages are ${left.map(({ number }) => number)}`;
    return outcomes[0] !== "ok" || last === BEFORE + 3 ? null : `the last one is ${last}`;
  },
};

/** A reader that begins at the end, and one that begins at a number whose message may be gone. */
const begun: TopicScenario = {
  name: "topic: begin to read while others publish",
  programs: [publishing(2), (topic) => {
    for (const from of ["latest", BEFORE - 2] as const) {
      const cursor = topic.cursor(from);
      const { following } = cursor;
      expect(
        from === "latest" ? following > BEFORE : following === from,
        `it begins at ${following}`,
      );
      for (const read of readAll(cursor)) {
        expect(isOwn(read), `message ${read.sequence} is ${read.number}`);
      }
    }
  }],
  check: (left) => left.every(isOwn) ? null : `${left.map(({ number }) => number)}`,
};

/** Each publisher's messages stay in their order, and none is lost but those that there is no room for. */
const shared: TopicScenario = {
  name: "topic: two publish",
  programs: [(topic) => {
    topic.publish(10);
    topic.publish(11);
  }, (topic) => void topic.publish(20)],
  check(left, { outcomes }) {
    const numbers = left.map(({ number }) => number).filter((number) => number !== LAST);
    const has = (number: number) => numbers.includes(number);
    if (outcomes[0] === "ok" && !(has(10) && has(11))) return `the messages are ${numbers}`;
    if (outcomes[1] === "ok" && !has(20)) return `20 is not there: ${numbers}`;
    if (has(11) && numbers.indexOf(10) > numbers.indexOf(11)) return `11 comes first: ${numbers}`;
    const each = [1, 2, 3, 4, 10, 11, 20].map((one) => numbers.filter((n) => n === one).length);
    return each.every((count) => count < 2) ? null : `twice: ${numbers}`;
  },
};

/** A reader beside two publishers, of which one may be killed. */
const readBeside: TopicScenario = {
  ...shared,
  name: "topic: two publish and one reads",
  programs: [...shared.programs, (topic) => {
    const numbers = readAll(topic.cursor("oldest")).map(({ number }) => number);
    const sorted = numbers.toSorted((a, b) => a - b);
    const isInOrder = (of: (number: number) => boolean) =>
      numbers.filter(of).join() === sorted.filter(of).join();
    expect(isInOrder((n) => n < 20) && isInOrder((n) => n !== 20), `they are ${numbers}`);
  }],
};

export const TOPIC_BYTES: readonly SharedBytes[] = [followed, begun, shared, readBeside]
  .flatMap((one) => [one, { ...one, isInOrder: false, name: `${one.name}, reordered` }])
  .map(bytesOf);
