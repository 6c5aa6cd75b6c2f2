/** The primitives of ./sync in shared bytes: what processes do with them, and what must be true. */
import {
  Counter,
  CounterBlock,
  Event,
  Gauge,
  Mutex,
  RecordSnapshot,
  Snapshot,
} from "../../sync/mod.ts";
import { makeMutex, mutexAt } from "./owner_mutex.ts";
import { robustMutexes } from "./robust_mutex.ts";
import type { Ending, Scenario } from "./scenario.ts";
import { type Place, scenarioOf, type SharedBytes } from "./shared_bytes.ts";

/** Within this time in ms, a process that waits for a mutex notices that the holder was killed. */
const LOOK_MS = 20;
/** Within this time in ms, a process that waits for an event looks by itself. */
const SLICE_MS = 1000;

function wrong(text: string): never {
  throw new Error(text);
}

function expect(isTrue: boolean, text: string): void {
  if (!isTrue) wrong(text);
}

/** Returns what is wrong with a sum of what processes have added, where one that was killed may have added less. */
function sumProblem(sum: number, added: readonly number[], { outcomes }: Ending): string | null {
  const least = added.reduce((sum, one, i) => outcomes[i] === "ok" ? sum + one : sum, 0);
  const most = added.reduce((sum, one) => sum + one, 0);
  return sum >= least && sum <= most ? null : `the sum is ${sum}, not from ${least} to ${most}`;
}

function words({ view: { buffer } }: Place, byteOffset: number): Int32Array {
  return new Int32Array(buffer, byteOffset, 3);
}

const ADD = [1, 2, 4, 8] as const;

const counters: SharedBytes = {
  name: "counter",
  bytes: Counter.BYTES,
  prepare: (view) => void Counter.create(view),
  programs: [
    ({ view }) => {
      const counter = Counter.at(view);
      const before = counter.add(ADD[0]);
      counter.add(ADD[1]);
      expect((counter.get() & BigInt(ADD[0] + ADD[1])) === 3n, "its own additions are missing");
      expect((before & 3n) === 0n, "an addition was seen before it was made");
    },
    ({ view }) => {
      const counter = Counter.at(view);
      counter.add(ADD[2]);
      for (let found = counter.get();;) {
        const before = counter.compareExchange(found, found + BigInt(ADD[3]));
        if (before === found) break;
        found = before;
      }
    },
  ],
  check: (view, ending) => sumProblem(Number(Counter.at(view).get()), [3, 12], ending),
};

function createCounter({ view }: Place): void {
  const created = new Int32Array(view.buffer, Counter.BYTES, 1);
  try {
    Counter.create(view).add(1);
    Atomics.add(created, 0, 1);
  } catch (error) {
    if (!/AlreadyExists/.test(String((error as { code: string }).code))) throw error;
  }
  try {
    Counter.at(view).add(2);
  } catch (error) {
    // It is being created, or the process was killed while it created it.
    if ((error as { code: string }).code !== "NotFound") throw error;
  }
}

const creations: SharedBytes = {
  name: "create counter",
  bytes: Counter.BYTES + 8,
  prepare: () => {},
  programs: [createCounter, createCounter],
  check(view, { hasKill }) {
    const created = new Int32Array(view.buffer, Counter.BYTES, 1)[0]!;
    if (created > 1) return "two processes have created the counter";
    try {
      const value = Number(Counter.at(view).get());
      return hasKill || value === 3 || value === 5 ? null : `the value is ${value}`;
    } catch (error) {
      return hasKill ? null : `there is no counter: ${error}`;
    }
  },
};

const gauges: SharedBytes = {
  name: "gauge",
  bytes: Gauge.BYTES,
  prepare: (view) => Gauge.create(view).set(0.5),
  programs: [0, 1].map((i) => ({ view }: Place) => {
    const gauge = Gauge.at(view);
    gauge.add(ADD[2 * i]!);
    gauge.add(ADD[2 * i + 1]!);
  }),
  check: (view, ending) => sumProblem(Gauge.at(view).get() - 0.5, [3, 12], ending),
};

const CAPACITY = 2;
const NAMES = ["ab", "cd"] as const;

function blockProblem(values: Map<string, number | bigint>): string | null {
  for (const name of values.keys()) {
    if (!NAMES.includes(name as never)) return `there is a name ${JSON.stringify(name)}`;
  }
  return null;
}

const blocks: SharedBytes = {
  name: "counter block",
  bytes: CounterBlock.bytesFor(CAPACITY),
  prepare: (view) => void CounterBlock.create(view, 0, CAPACITY),
  programs: [
    ({ view }) => {
      const block = CounterBlock.at(view);
      block.counter(NAMES[0]).add(1);
      block.gauge(NAMES[1]).add(2);
    },
    ({ view }) => {
      const block = CounterBlock.at(view);
      block.gauge(NAMES[1]).add(4);
      const problem = blockProblem(block.values());
      if (problem !== null) wrong(problem);
      block.counter(NAMES[0]).add(8);
    },
  ],
  check(view, ending) {
    const block = CounterBlock.at(view);
    const problem = blockProblem(block.values());
    if (problem !== null) return problem;
    const counter = Number(block.counter(NAMES[0]).get());
    const gauge = block.gauge(NAMES[1]).get();
    if (block.values().size !== NAMES.length) return "a name is missing";
    return sumProblem(counter, [1, 8], ending) ?? sumProblem(gauge, [2, 4], ending);
  },
};

/** Two processes want the only entry of a block. */
const fullBlocks: SharedBytes = {
  name: "full counter block",
  bytes: CounterBlock.bytesFor(1),
  prepare: (view) => void CounterBlock.create(view, 0, 1),
  programs: NAMES.map((name) => ({ view }: Place) => {
    try {
      CounterBlock.at(view).counter(name).add(1);
    } catch (error) {
      if ((error as { code: string }).code !== "Full") throw error;
    }
  }),
  check(view, { hasKill }) {
    const values = CounterBlock.at(view).values();
    const problem = blockProblem(values);
    if (problem !== null || hasKill) return problem;
    return [...values.values()].join() === "1" ? null : `the values are ${[...values.values()]}`;
  },
};

const RECORD_BYTES = 2;
const SNAPSHOT_BYTES = Snapshot.bytesFor(RECORD_BYTES);

function record(number: number): Uint8Array {
  return new Uint8Array(RECORD_BYTES).fill(number);
}

/** Returns the number of the record that is read, 0 for none. */
function read(snapshot: Snapshot): number {
  const bytes = snapshot.read();
  if (bytes === null) return 0;
  expect(bytes[0] === bytes[1], `a torn record: ${bytes}`);
  return bytes[0]!;
}

function publish(first: number, last: number) {
  return ({ view, note }: Place) => {
    const snapshot = Snapshot.at(view);
    for (let number = first; number <= last; number++) {
      snapshot.publish(record(number));
      note("store");
      const found = read(snapshot);
      expect(found === number, `the writer reads ${found} after it has published ${number}`);
    }
  };
}

/** The snapshot in the end has the last record, and can be published again. */
function snapshotProblem(count: number) {
  return (view: Uint8Array, { outcomes }: Ending): string | null => {
    const snapshot = Snapshot.at(view);
    const found = read(snapshot);
    if (outcomes[0] === "ok" && found !== count) return `the last record is ${found}`;
    snapshot.publish(record(99));
    return read(snapshot) === 99 ? null : "the next writer has failed";
  };
}

const snapshots: SharedBytes = {
  name: "snapshot",
  bytes: SNAPSHOT_BYTES,
  prepare: (view) => Snapshot.create(view, 0, RECORD_BYTES).publish(record(1)),
  programs: [
    publish(2, 4),
    ({ view }) => {
      const snapshot = Snapshot.at(view);
      for (let i = 0, last = 0; i < 3; i++) {
        const found = read(snapshot);
        expect(found >= last, `record ${found} is read after ${last}`);
        last = found;
      }
    },
  ],
  check: snapshotProblem(4),
};

/** `refresh()` reads into the bytes of an object that it has returned before. */
const LAYOUT = { first: "u8", second: "u8" } as const;
const recordSnapshots: SharedBytes = {
  name: "record snapshot",
  bytes: RecordSnapshot.bytesFor(LAYOUT),
  prepare: (view) => RecordSnapshot.create(view, 0, LAYOUT).publish({ first: 1, second: 1 }),
  programs: [
    ({ view }) => {
      const snapshot = RecordSnapshot.at(view, 0, LAYOUT);
      for (let number = 2; number <= 3; number++) {
        snapshot.publish({ first: number, second: number });
      }
    },
    ({ view }) => {
      const snapshot = RecordSnapshot.at(view, 0, LAYOUT);
      for (let i = 0, last = 0; i < 2; i++) {
        const { first, second } = snapshot.refresh()!;
        expect(first === second, `a torn record: ${first}, ${second}`);
        expect(first >= last, `record ${first} is read after ${last}`);
        last = first;
      }
    },
  ],
};

/** Without reordering, a read returns what was published before it began. */
const currentSnapshots: SharedBytes = {
  name: "current snapshot",
  isInOrder: true,
  bytes: SNAPSHOT_BYTES,
  prepare: (view) => void Snapshot.create(view, 0, RECORD_BYTES),
  programs: [
    publish(1, 3),
    ({ view, note }) => {
      const snapshot = Snapshot.at(view);
      for (let i = 0; i < 3; i++) {
        const published = note("load");
        const found = read(snapshot);
        expect(found >= published, `record ${found} is read after ${published} was published`);
      }
    },
  ],
  check: snapshotProblem(3),
};

/** A reader that has heard of a record from elsewhere in the segment reads that one or a newer one. */
const announcedSnapshots: SharedBytes = {
  name: "announced snapshot",
  bytes: SNAPSHOT_BYTES + 8,
  prepare: (view) => void Snapshot.create(view, 0, RECORD_BYTES),
  programs: [
    (place) => {
      const snapshot = Snapshot.at(place.view);
      const announced = new Int32Array(place.view.buffer, SNAPSHOT_BYTES, 1);
      for (let number = 1; number <= 2; number++) {
        snapshot.publish(record(number));
        Atomics.store(announced, 0, number);
      }
    },
    (place) => {
      const snapshot = Snapshot.at(place.view);
      const announced = new Int32Array(place.view.buffer, SNAPSHOT_BYTES, 1);
      for (let i = 0; i < 2; i++) {
        const number = Atomics.load(announced, 0);
        const found = read(snapshot);
        expect(found >= number, `record ${found} is read after ${number} was announced`);
      }
    },
  ],
};

const DATA = Event.BYTES;
const LATE = 2;

/** Waits until the word has a value, and notes if that takes too long. */
function awaitWord(place: Place, value: number): void {
  const event = Event.at(place.view);
  const data = words(place, DATA);
  const began = performance.now();
  event.waitUntil(() => Atomics.load(data, 0) >= value, SLICE_MS);
  if (performance.now() > began) Atomics.store(data, LATE, 1);
}

/** Waits for a job, and takes it. It notes if it takes one that it should have taken before. */
function takeJob(place: Place): void {
  const event = Event.at(place.view);
  const data = words(place, DATA);
  const began = performance.now();
  const isTaken = event.waitUntil(
    () => Atomics.compareExchange(data, 0, 1, 0) === 1,
    3 * SLICE_MS,
  );
  if (isTaken && performance.now() - began > SLICE_MS) Atomics.store(data, LATE, 1);
}

/** A process waits too long only if the first one, which notifies, was killed. */
function lostProblem({ buffer }: Uint8Array, { outcomes: [notifier] }: Ending): string | null {
  const isLate = new Int32Array(buffer, DATA, 3)[LATE] !== 0;
  return isLate && notifier === "ok" ? "a wake-up was lost" : null;
}

const events: SharedBytes = {
  name: "event",
  bytes: Event.BYTES + 16,
  prepare: (view) => void Event.create(view),
  programs: [
    (place) => {
      const event = Event.at(place.view);
      const data = words(place, DATA);
      for (let i = 0; i < 2; i++) {
        Atomics.add(data, 0, 1);
        event.notify();
      }
    },
    (place) => awaitWord(place, 2),
  ],
  check: lostProblem,
};

/** What is stored without `Atomics` before a notification is visible to a process that it has woken. */
const plainEvents: SharedBytes = {
  name: "event and plain stores",
  bytes: Event.BYTES + 16,
  prepare: (view) => void Event.create(view),
  programs: [
    (place) => {
      const event = Event.at(place.view);
      const data = words(place, DATA);
      data[0] = data[1] = 1;
      event.notifyAll();
    },
    (place) => {
      const event = Event.at(place.view);
      const data = words(place, DATA);
      if (!event.wait(SLICE_MS, 0)) data[LATE] = 1;
      else expect(data[0] === 1 && data[1] === 1, "a store before the notification is not visible");
    },
  ],
  check: lostProblem,
};

/** A notification is for one waiter. If the process that gets it is killed, another looks by itself. */
const jobs: SharedBytes = {
  name: "job",
  bytes: Event.BYTES + 16,
  prepare: (view) => void Event.create(view),
  programs: [
    (place) => {
      const event = Event.at(place.view);
      Atomics.store(words(place, DATA), 0, 1);
      event.notify();
    },
    takeJob,
    takeJob,
  ],
  check(view, ending) {
    const jobs = new Int32Array(view.buffer, DATA, 1)[0];
    const isAnyLeft = ending.outcomes.slice(1).includes("ok");
    if (jobs !== 0 && isAnyLeft && ending.outcomes[0] === "ok") return "nobody took the job";
    return lostProblem(view, ending);
  },
};

const [SUM, COPY, DISTURBED] = [0, 1, 2] as const;

/** Increments two words that are equal unless the holder of the mutex is killed between them. */
function increment(data: Int32Array, wasAbandoned: boolean): void {
  if (wasAbandoned) {
    data[DISTURBED] = 1;
    data[COPY] = data[SUM]!;
  }
  expect(data[SUM] === data[COPY], "the holder was not told that the last one was killed");
  data[SUM] = data[SUM]! + 1;
  data[COPY] = data[COPY]! + 1;
}

function lockAndIncrement(times: number) {
  return (place: Place) => {
    const mutex = mutexAt(place);
    const data = words(place, Mutex.BYTES);
    for (let i = 0; i < times; i++) {
      const began = performance.now();
      mutex.lock();
      place.note("locked");
      const ms = performance.now() - began;
      expect(ms <= LOOK_MS, `nobody held the mutex for ${ms} ms`);
      if (ms > 0) data[DISTURBED] = 1;
      increment(data, mutex.wasAbandoned);
      place.note("unlocked");
      mutex.unlock();
    }
  };
}

function mutexProblem(times: number) {
  return ({ buffer }: Uint8Array, ending: Ending): string | null => {
    const data = new Int32Array(buffer, Mutex.BYTES, 3);
    if (data[DISTURBED] !== 0 && !ending.hasKill) {
      return "a process was told of a kill, or was not woken";
    }
    return sumProblem(data[SUM]!, ending.outcomes.map(() => times), ending);
  };
}

const mutexes: SharedBytes = {
  name: "mutex",
  bytes: Mutex.BYTES + 16,
  prepare: makeMutex,
  programs: [lockAndIncrement(2), lockAndIncrement(2)],
  check: mutexProblem(2),
};

/** Two processes find that the holder was killed. */
const threeMutexes: SharedBytes = {
  ...mutexes,
  name: "mutex of three",
  programs: [1, 1, 1].map(lockAndIncrement),
  check: mutexProblem(1),
};

/** A holder that is told of a kill and cannot repair the data passes that on. */
const brokenMutexes: SharedBytes = {
  name: "mutex that is not repaired",
  bytes: Mutex.BYTES + 16,
  prepare: makeMutex,
  programs: [
    (place) => {
      const mutex = mutexAt(place);
      mutex.lock();
      words(place, Mutex.BYTES)[0] = 1;
      words(place, Mutex.BYTES)[0] = 0;
      mutex.unlock();
    },
    (place) => {
      const mutex = mutexAt(place);
      const data = words(place, Mutex.BYTES);
      let wasTold = false;
      try {
        mutex.withLock((wasAbandoned) => {
          expect(data[0] === 0 || wasAbandoned, "the holder was not told of the kill");
          wasTold = wasAbandoned;
          if (wasAbandoned) throw new RangeError("no repair");
        });
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
      }
      mutex.withLock((wasAbandoned) => {
        expect(!wasTold || wasAbandoned, "the next holder was not told of the kill");
        if (wasAbandoned) data[0] = 0;
      });
      mutex.withLock((wasAbandoned) => expect(!wasTold || !wasAbandoned, "a repair is forgotten"));
    },
  ],
};

/** Writers that take turns by a mutex publish what they find and one more. Another process reads. */
const mutexAndSnapshot: SharedBytes = {
  name: "snapshot of two writers",
  bytes: Mutex.BYTES + SNAPSHOT_BYTES,
  prepare(view) {
    makeMutex(view);
    Snapshot.create(view, Mutex.BYTES, RECORD_BYTES);
  },
  programs: [0, 1].map(() => (place: Place) => {
    const mutex = mutexAt(place);
    const snapshot = Snapshot.at(place.view, Mutex.BYTES);
    mutex.lock();
    snapshot.publish(record(read(snapshot) + 1));
    mutex.unlock();
  }).concat(({ view }) => {
    const snapshot = Snapshot.at(view, Mutex.BYTES);
    const first = read(snapshot);
    expect(read(snapshot) >= first, "an older record is read");
  }),
  check(view, ending) {
    const snapshot = Snapshot.at(view, Mutex.BYTES);
    return sumProblem(read(snapshot), [1, 1, 0], ending);
  },
};

export const SYNC_SCENARIOS: Readonly<Record<string, Scenario>> = Object.fromEntries(
  [
    counters,
    creations,
    gauges,
    blocks,
    fullBlocks,
    snapshots,
    recordSnapshots,
    currentSnapshots,
    announcedSnapshots,
    events,
    plainEvents,
    jobs,
    mutexes,
    threeMutexes,
    brokenMutexes,
    mutexAndSnapshot,
    robustMutexes,
  ].map((bytes) => [bytes.name, scenarioOf(bytes)]),
);
