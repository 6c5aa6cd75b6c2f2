/** Shared topics in shared bytes: what processes publish and read, and what must be true. */
import { RECOVERED } from "../../collections/ring_log.ts";
import { SectionLock, type SectionMutex } from "../../collections/section_lock.ts";
import { TopicCursor } from "../../collections/topic_cursor.ts";
import { TopicLog } from "../../collections/topic_log.ts";
import type { TopicStart } from "../../collections/topic_options.ts";
import { MUTEX_BYTE, TOPIC_ALIGNMENT, topicBytes } from "../../collections/topic_shape.ts";
import { PrimitiveKind, Slot } from "../../sync/slot.ts";
import { makeMutex, mutexAt } from "./owner_mutex.ts";
import type { Ending, Scenario } from "./scenario.ts";
import { scenarioOf, type SharedBytes } from "./shared_bytes.ts";
import { expect } from "./shared_maps.ts";

/** How long a publisher waits for another one, in ms. */
const LOCK_MS = 10_000;
const CALL = "SharedTopic.at";
const UNITS = 64;
const BYTES = topicBytes(UNITS);

/** What a process has of a topic. */
class Topic {
  readonly log: TopicLog;
  readonly #slot: Slot;
  readonly #lock: SectionLock;

  constructor(slot: Slot, mutex: SectionMutex, isInOrder: boolean) {
    const log = new TopicLog(slot, UNITS, isInOrder);
    this.log = log;
    this.#slot = slot;
    const section = {
      words: log.words,
      recover: () => log.recover(),
      reset: () => log.reset(),
      name: "SharedTopic",
      part: "the topic",
    };
    this.#lock = new SectionLock(section, mutex);
  }

  /** Publishes a message each byte of which is `byte`. */
  publish(byte: number, length = 8): number {
    const message = new Uint8Array(length).fill(byte);
    return this.#lock.change("publish", LOCK_MS, () => this.log.publish(message, length));
  }

  cursor(from: TopicStart): TopicCursor {
    return new TopicCursor(CALL, this.#slot, this.log, from);
  }
}

/** Messages by their number, each as the byte that it consists of. */
type Messages = Map<number, number>;

/** Reads up to so many messages. They are whole, numbered without gaps, and never go back. */
function read(cursor: TopicCursor, most: number, known: Messages = new Map()): Messages {
  const messages: Messages = new Map();
  for (let i = 0; i < most; i++) {
    const expected = cursor.following;
    const message = cursor.next("next");
    if (message === null) break;
    const { sequence, lost } = cursor;
    expect(expected !== 0 && sequence === expected + lost, `${sequence} after ${expected - 1}`);
    const [byte] = message;
    const isWhole = byte !== 0 && message.every((other) => other === byte);
    expect(isWhole, `a torn message: ${message}`);
    const before = known.get(sequence);
    expect(before === undefined || before === byte, `${sequence} is ${byte}, and was ${before}`);
    messages.set(sequence, byte!);
  }
  return messages;
}

/** The topic as nobody else uses it: before the processes begin, and after all have ended. */
function alone(view: Uint8Array, make = false): Topic {
  const slot = new Slot(CALL, view, 0, TOPIC_ALIGNMENT);
  if (make) {
    const fill = () => makeMutex(view, MUTEX_BYTE);
    slot.make(CALL, PrimitiveKind.SharedTopic, BYTES, fill, Math.log2(UNITS));
  }
  slot.join(CALL, PrimitiveKind.SharedTopic, 128);
  const mutex = { isHeld: true, wasAbandoned: false, tryLock: () => true, unlock() {} };
  return new Topic(slot, mutex, true);
}

interface TopicScenario {
  readonly name: string;
  readonly isInOrder?: boolean;
  /** The messages that were published before, each as its byte. */
  readonly before: readonly number[];
  /** What each program publishes, as bytes; those that publish nothing read. */
  readonly programs: readonly (readonly number[])[];
  /** Where the readers begin. */
  readonly from: TopicStart;
  /** The length of what the programs publish. */
  readonly length?: number;
  /** Where positions begin. */
  readonly position?: number;
}

/** Says what is wrong in the end. */
function problemOf(topic: Topic, scenario: TopicScenario, { outcomes, hasKill }: Ending) {
  const { before, programs } = scenario;
  const messages = [...read(topic.cursor("oldest"), 100)];
  const numbers = messages.map(([number]) => number);
  const last = numbers.at(-1) ?? before.length;
  if (numbers.some((number, i) => number !== numbers[0]! + i)) return `there are ${numbers}`;
  const published = messages.filter(([number]) => number > before.length).map(([, byte]) => byte);
  for (const [i, bytes] of programs.entries()) {
    const own = published.filter((byte) => bytes.includes(byte));
    if (outcomes[i] === "ok" && own.length < bytes.length) return `program ${i} has only ${own}`;
    if (own.some((byte, at) => byte !== bytes[at])) return `program ${i} has published ${own}`;
  }
  const next = topic.publish(200);
  if (next !== last + 1) return `${next} follows ${last}`;
  const latest = topic.cursor(next);
  if (read(latest, 2).get(next) !== 200) return "the next message is not read";
  const isRepaired = topic.log.words[RECOVERED] !== 0;
  return isRepaired && !hasKill ? "it was repaired for nothing" : null;
}

function bytesOf(scenario: TopicScenario): SharedBytes {
  const { name, before, programs, from, length, position = 0, isInOrder = true } = scenario;
  return {
    name,
    bytes: BYTES,
    isInOrder,
    prepare(view) {
      const topic = alone(view, true);
      topic.log.words[0] = topic.log.words[16] = position;
      for (const byte of before) topic.publish(byte);
    },
    programs: programs.map((bytes) => (place) => {
      const slot = new Slot(CALL, place.view, 0, TOPIC_ALIGNMENT);
      slot.join(CALL, PrimitiveKind.SharedTopic, 128);
      const topic = new Topic(slot, mutexAt(place, MUTEX_BYTE), isInOrder);
      for (const byte of bytes) topic.publish(byte, length);
      if (bytes.length > 0) return;
      const first = topic.cursor(from);
      const known = read(first, 2);
      read(topic.cursor("oldest"), 1, known);
      read(first, 2, known);
    }),
    check(view, ending) {
      try {
        return problemOf(alone(view), scenario, ending);
      } catch (error) {
        return String(error);
      }
    },
  };
}

/** Each message takes 3 units, so 21 of them are a full ring. */
const FULL = Array.from({ length: 21 }, (_, i) => i + 1);

const scenarios: readonly TopicScenario[] = [
  { name: "topic: publish and read", before: [1, 2], programs: [[101, 102], []], from: 3 },
  { name: "topic: the first message", before: [], programs: [[101], []], from: "oldest" },
  {
    name: "topic: publish in a full ring, and read",
    before: FULL,
    programs: [[101], []],
    from: "oldest",
  },
  {
    name: "topic: padding in a full ring",
    before: FULL.slice(0, 20),
    programs: [[101], []],
    from: 3,
    length: 24,
  },
  {
    name: "topic: where positions become 0",
    before: FULL.slice(0, 3),
    programs: [[101], []],
    from: "oldest",
    position: -10,
  },
  {
    name: "topic: where positions become negative",
    before: FULL,
    programs: [[101], []],
    from: "oldest",
    position: 2 ** 31 - 1,
  },
  { name: "topic: two publishers", before: FULL, programs: [[101], [111]], from: "latest" },
];

export const TOPIC_SCENARIOS: Readonly<Record<string, Scenario>> = Object.fromEntries(
  scenarios
    .flatMap((one) => [one, { ...one, isInOrder: false, name: `${one.name}, reordered` }])
    .map((one) => [one.name, scenarioOf(bytesOf(one))]),
);
