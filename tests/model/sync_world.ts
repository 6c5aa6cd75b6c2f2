/** What the primitives of one segment are, as far as calls from several processes can tell: the model. */
import type { Random } from "../../scripts/random.ts";

/** Processes, and the objects that each has of every primitive. */
export const PROCESSES = 3;
export const OBJECTS = 2;
/** Where in the segment what is, and of what size, in bytes. */
export const PLACES = { mutex: 0, counter: 64, gauge: 96, event: 128, block: 192, snapshot: 512 };
export const RECORD = 640;
export const CAPACITY = 3;
export const RECORD_BYTES = 12;

/** JavaScript of who does the call, and what must come of it. */
export interface Step {
  readonly who: number;
  readonly object: number;
  readonly call: string;
  readonly expected: unknown;
}

/** What an error comes to. */
const thrown = (code: string) => ({ thrown: code });

const INT64 = [0n, 1n, -1n, 2n ** 63n - 1n, -(2n ** 63n), 77n];
const FLOATS = [0, 1.5, -2, 0.1, 1e300, -1e300];
const NAMES = ["a", "b", "naïve", "d"];

interface Holder {
  readonly who: number;
  readonly object: number;
}

type Rule = (random: Random, at: Holder) => readonly [call: string, expected: unknown];

/** Values that JSON has not. */
const text = (value: bigint) => `${value}n`;

export class SyncWorld {
  #holder: Holder | null = null;
  /** Whether who held it last left without giving it back, and nobody has repaired. */
  #isAbandoned = false;
  #counter = 0n;
  #gauge = 0;
  #sequence = 0;
  readonly #block = new Map<string, bigint | number>();
  #snapshot: readonly number[] | null = null;
  #record: { id: number; name: string; isOpen: boolean } | null = null;
  /** How many waits for the event have begun and not ended, of each object of each process. */
  readonly waits = Array.from({ length: PROCESSES }, () => Array<number>(OBJECTS).fill(0));

  /** A random call. */
  step(random: Random): Step {
    const [who, object] = [random.below(PROCESSES), random.below(OBJECTS)];
    const rule = random.weighted<Rule>([
      [5, this.#mutexRule],
      [2, this.#counterRule],
      [2, this.#gaugeRule],
      [3, this.#blockRule],
      [2, this.#eventRule],
      [2, this.#snapshotRule],
      [2, this.#recordRule],
    ]);
    const [call, expected] = rule(random, { who, object });
    return { who, object, call, expected };
  }

  /** The process, or only its object's segment, is gone, and with it what it held. */
  leave(who: number, object: number | null): void {
    const holder = this.#holder;
    if (holder?.who !== who || (object !== null && holder.object !== object)) return;
    this.#holder = null;
    this.#isAbandoned = true;
  }

  /** Whether a call ends the waits. */
  static isNotification({ call }: Step): boolean {
    return call.startsWith("event.notify");
  }

  /** What taking the mutex comes to where nobody else has it: `free` if this process has not either. */
  #taking(free: () => unknown): unknown {
    return this.#holder === null ? free() : thrown("Deadlock");
  }

  /** What a try to take the mutex comes to. */
  #try(at: Holder): boolean {
    return this.#holder === null && this.#take(at);
  }

  #take(at: Holder): true {
    this.#holder = at;
    return true;
  }

  readonly #mutexRule: Rule = (random, at) =>
    random.oneOf<() => readonly [string, unknown]>([
      () => ["mutex.tryLock()", this.#try(at)],
      () => ["mutex.tryLock(3)", this.#try(at)],
      () => [
        "mutex.lockAsync({ timeout: 3 })",
        // Also if this thread has it: another call of it may give it back.
        this.#holder === null ? this.#take(at) : false,
      ],
      () => ["mutex.unlock()", this.#unlock(at)],
      () => ["mutex.unlock()", this.#unlock(at)],
      () => [
        "[mutex.isHeld, mutex.wasAbandoned]",
        this.#isHolder(at) ? [true, this.#isAbandoned] : [false, false],
      ],
      () =>
        this.#holder !== null && this.#holder.who !== at.who // it would wait
          ? ["mutex.isHeld", false]
          : [
            "mutex.withLock((wasAbandoned) => wasAbandoned)",
            this.#taking(() => this.#repair()),
          ],
      () =>
        this.#holder !== null && this.#holder.who !== at.who ? ["mutex.isHeld", false] : [
          "mutex.withLock(() => { throw Object.assign(new Error(), { code: 'mine' }); })",
          this.#taking(() => thrown("mine")),
        ],
    ])();

  #isHolder({ who, object }: Holder): boolean {
    return this.#holder?.who === who && this.#holder.object === object;
  }

  #unlock(at: Holder): unknown {
    if (!this.#isHolder(at)) return thrown("NotOwner");
    this.#holder = null;
    this.#isAbandoned = false;
    return null;
  }

  #repair(): boolean {
    const was = this.#isAbandoned;
    this.#isAbandoned = false;
    return was;
  }

  #setCounter(value: bigint, result: unknown): unknown {
    this.#counter = BigInt.asIntN(64, value);
    return result;
  }

  readonly #counterRule: Rule = (random) => {
    const [value, other] = [random.oneOf(INT64), random.oneOf(INT64)];
    const before = this.#counter;
    return random.oneOf<() => readonly [string, unknown]>([
      () => ["counter.get()", text(before)],
      () => [`counter.add(${value}n)`, this.#setCounter(before + value, text(before))],
      () => [`counter.set(${value}n)`, this.#setCounter(value, null)],
      () => [`counter.exchange(${value}n)`, this.#setCounter(value, text(before))],
      () => [
        `counter.compareExchange(${value}n, ${other}n)`,
        this.#setCounter(before === value ? other : before, text(before)),
      ],
    ])();
  };

  #setGauge(value: number, result: unknown): unknown {
    this.#gauge = value;
    return result;
  }

  readonly #gaugeRule: Rule = (random) => {
    const value = random.oneOf(FLOATS);
    const before = this.#gauge;
    return random.oneOf<() => readonly [string, unknown]>([
      () => ["String(gauge.get())", String(before)],
      () => [`String(gauge.add(${value}))`, this.#setGauge(before + value, String(before))],
      () => [`gauge.set(${value})`, this.#setGauge(value, null)],
      () => [`String(gauge.exchange(${value}))`, this.#setGauge(value, String(before))],
    ])();
  };

  readonly #blockRule: Rule = (random) => {
    const name = random.oneOf(NAMES);
    const isGauge = random.chance(0.4);
    const found = this.#block.get(name);
    const call = isGauge
      ? `String(block.gauge("${name}").add(0.5))`
      : `block.counter("${name}").add(3n)`;
    if (random.chance(0.3)) {
      const values = [...this.#block].map(([name, value]) => [name, String(value)]);
      return ["[...block.values()].map(([name, value]) => [name, String(value)])", values];
    }
    if (found === undefined && this.#block.size === CAPACITY) return [call, thrown("Full")];
    const before = found ?? (isGauge ? 0 : 0n);
    if ((typeof before === "number") !== isGauge) return [call, thrown("WrongKind")];
    this.#block.set(name, typeof before === "number" ? before + 0.5 : before + 3n);
    return [call, typeof before === "number" ? String(before) : text(before)];
  };

  readonly #eventRule: Rule = (random, { who, object }) => {
    const before = this.#sequence;
    /** Ends all waits, which the caller then looks at. */
    const notify = (call: string) => {
      this.#sequence++;
      return [call, null] as const;
    };
    return random.oneOf<() => readonly [string, unknown]>([
      () => ["event.sequence", before],
      () => notify("event.notify()"),
      () => notify("event.notify(2)"),
      () => notify("event.notifyAll()"),
      () => {
        this.waits[who]![object]!++;
        const end = "event.waitAsync().catch((error) => error.code)";
        return [`void waits.push(${end})`, null];
      },
      () => ["event.wait(2)", false],
      () => ["event.waitAsync({ timeout: 2 })", false],
      () => [`event.wait(2, ${before - 1})`, true],
      () => [`event.waitAsync({ since: ${before - 1} })`, true],
      () => [`event.waitUntil(() => event.sequence === ${before}, 2)`, true],
      () => [`event.waitUntilAsync(() => event.sequence !== ${before}, { timeout: 2 })`, false],
    ])();
  };

  readonly #snapshotRule: Rule = (random) => {
    if (random.chance(0.5)) return ["snapshot.read() && [...snapshot.read()]", this.#snapshot];
    const bytes = Array.from({ length: RECORD_BYTES }, () => random.below(256));
    this.#snapshot = bytes;
    return [`snapshot.publish(Uint8Array.of(${bytes}))`, null];
  };

  readonly #recordRule: Rule = (random) => {
    if (random.chance(0.5)) return ["record.read()", this.#record];
    const record = {
      id: random.below(2 ** 32),
      name: random.oneOf(["", "x", "äö", "12345678"]),
      isOpen: random.chance(0.5),
    };
    this.#record = record;
    return [`record.publish(${JSON.stringify(record)})`, null];
  };
}
