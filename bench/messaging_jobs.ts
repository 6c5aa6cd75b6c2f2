/**
 * The queue, the topic and the value under one runtime: `<runtime> messaging_jobs.ts JOB COUNT INDEX KEY` takes part as one
 * of COUNT processes in the segments of KEY, and does what its standard input says.
 */
import process from "node:process";
import { json, SharedQueue, SharedTopic, SharedValue, SyncError } from "../collections/mod.ts";
import { SharedMemory } from "../mod.ts";
import { Event, Mutex } from "../sync/mod.ts";
import { type Job, obey, repeat, type Result } from "./commands.ts";
import { messageBytes } from "./messaging_measures.ts";
import { now, undisturbedMean } from "./timing.ts";

const mib = 2 ** 20;
const batch = 500;
/** Who waits for others fails after this time in ms. */
const deadlineMs = 10_000;
/** How long a call of the crew waits before it looks whether its time is over. */
const sliceMs = 20;
/** Who is about to sleep is asleep after this time. */
const asleepMs = 0.1;

const [jobText, countText, indexText, key] = process.argv.slice(2);
if (key === undefined) throw new Error("usage: messaging_jobs.ts JOB COUNT INDEX KEY");
const [name, argument] = jobText!.split(":") as [string, string | undefined];
const [count, index] = [Number(countText), Number(indexText)];

const message = new Uint8Array(messageBytes);
const numbers = new Int32Array(message.buffer, 0, 1);
const sleeper = new Int32Array(new SharedArrayBuffer(4));

function stamp(): void {
  numbers[0]!++;
}

function requireMessage(found: Uint8Array | undefined): void {
  const isSame = found?.length === messageBytes && found[0] === message[0] &&
    found[1] === message[1];
  if (!isSame) throw new Error("another message");
}

/** Measures an operation alone, each time after what `prepare` does. */
function repeatAfter(ms: number, prepare: () => void, operation: () => void): Result {
  const times: number[] = [];
  const begin = now();
  do {
    prepare();
    const start = now();
    operation();
    times.push(now() - start);
  } while (now() - begin < ms * 1e6);
  const ns = times.reduce((sum, one) => sum + one, 0);
  return { ops: times.length, ns, perOp: undisturbedMean(times) };
}

function queueJob(): Job {
  const queue = SharedQueue.open(key!, { bytes: mib });
  const pass = () => {
    stamp();
    if (!queue.trySend(message)) throw new Error("the queue is full");
    if (queue.receive()?.length !== messageBytes) throw new Error("a missing message");
  };
  const check = () => {
    stamp();
    queue.trySend(message);
    requireMessage(queue.receive());
  };
  return {
    run: (ms, isCheck) => isCheck ? repeat(ms, 1, check) : repeat(ms, batch, pass),
    end: () => queue[Symbol.dispose](),
  };
}

function leaseJob(): Job {
  const queue = SharedQueue.open(key!, { bytes: mib });
  const pass = () => {
    stamp();
    if (!queue.trySend(message)) throw new Error("the queue is full");
    const job = queue.tryTake();
    if (job?.value.length !== messageBytes || !job.ack()) throw new Error("a missing message");
  };
  return { run: (ms) => repeat(ms, batch, pass), end: () => queue[Symbol.dispose]() };
}

/** Every second process sends, and the others receive. */
function crewJob(): Job {
  const queue = SharedQueue.open(key!, { bytes: mib });
  const send = (end: number) => {
    while (now() < end) {
      try {
        queue.send(message, { timeout: sliceMs });
      } catch (error) {
        if (!(error instanceof SyncError) || error.code !== "Full") throw error;
      }
    }
    return {};
  };
  const receive = (end: number) => {
    const begin = now();
    let ops = 0;
    while (now() < end) {
      const found = queue.receive({ timeout: sliceMs });
      if (found === undefined) continue;
      requireMessage(found);
      ops++;
    }
    const ns = now() - begin;
    return { ops, ns, perOp: ns / Math.max(1, ops) };
  };
  return {
    run: (ms) => (index % 2 === 0 ? send : receive)(now() + ms * 1e6),
    end: () => queue[Symbol.dispose](),
  };
}

function mutexJob(): Job {
  const memory = SharedMemory.open(key!, {
    size: Mutex.BYTES,
    initialize: (bytes) => void Mutex.create(bytes),
  });
  const mutex = Mutex.at(memory.bytes);
  const lock = () => {
    mutex.lock();
    mutex.unlock();
  };
  return { run: (ms) => repeat(ms, batch, lock), end: () => void memory.detach() };
}

function publishJob(): Job {
  const topic = SharedTopic.open(key!, { bytes: mib });
  const reader = topic.reader();
  const publish = () => {
    stamp();
    topic.publish(message);
  };
  const check = () => {
    while (reader.next() !== undefined);
    publish();
    requireMessage(reader.next()?.value);
  };
  return {
    run: (ms, isCheck) => isCheck ? repeat(ms, 1, check) : repeat(ms, batch, publish),
    end: () => topic[Symbol.dispose](),
  };
}

/** The words that the processes of a job share, and an event: how many deliveries are still missing. */
class Deliveries {
  readonly #memory: SharedMemory;
  readonly #left: Int32Array;
  readonly #allHere: Event;

  constructor() {
    this.#memory = SharedMemory.open(`${key}-deliveries`, {
      size: 128,
      initialize: (bytes) => void Event.create(bytes),
    });
    this.#allHere = Event.at(this.#memory.bytes);
    this.#left = this.#memory.view(Int32Array, 64, 1);
  }

  expect(number: number): void {
    Atomics.store(this.#left, 0, number);
  }

  note(): void {
    if (Atomics.sub(this.#left, 0, 1) === 1) this.#allHere.notify();
  }

  wait(): void {
    const isOver = () => Atomics.load(this.#left, 0) === 0;
    if (!this.#allHere.waitUntil(isOver, deadlineMs)) throw new Error("a message is missing");
  }

  end(): void {
    this.#memory.detach();
  }
}

/** The first process publishes, and the others, or several objects of the other, have subscribed. */
function topicJob(
  subscriptions: number,
  publisher: (topic: SharedTopic, deliveries: Deliveries) => Job["run"],
): Job {
  const topics = Array.from(
    { length: index === 0 ? 1 : subscriptions },
    () => SharedTopic.open(key!, { bytes: mib }),
  );
  const deliveries = new Deliveries();
  const end = () => {
    for (const topic of topics) topic[Symbol.dispose]();
    deliveries.end();
  };
  if (index === 0) return { run: publisher(topics[0]!, deliveries), end };
  for (const topic of topics) {
    topic.subscribe(({ value, lost }) => {
      if (lost > 0 || value.length !== messageBytes) throw new Error("a message was lost");
      deliveries.note();
    });
  }
  return { run: () => ({}), end };
}

/** Waits until so many threads sleep until the next message. */
function untilAsleep(topic: SharedTopic, subscribers: number): void {
  const end = now() + deadlineMs * 1e6;
  while (topic.stats().waiters < subscribers) {
    if (now() > end) throw new Error(`only ${topic.stats().waiters} subscribers sleep`);
    Atomics.wait(sleeper, 0, 0, asleepMs);
  }
  Atomics.wait(sleeper, 0, 0, asleepMs);
}

/** The time of `publish()` alone. */
function wakeJob(subscribers: number): Job {
  return topicJob(subscribers, (topic, deliveries) => (ms) =>
    repeatAfter(ms, () => {
      deliveries.wait();
      untilAsleep(topic, subscribers);
      deliveries.expect(subscribers);
      stamp();
    }, () => void topic.publish(message)));
}

/** The time until all have the messages. */
function fanJob(burst: number): Job {
  return topicJob(1, (topic, deliveries) => (ms) => {
    const { ops, ns, perOp } = repeatAfter(ms, () => {
      deliveries.expect((count - 1) * burst);
      untilAsleep(topic, count - 1);
    }, () => {
      for (let i = 0; i < burst; i++) topic.publish(message);
      deliveries.wait();
    });
    return { ops: ops * burst, ns, perOp: perOp / burst };
  });
}

/** The routes of a table that is some 10 MB of JSON. */
const routeCount = 80_000;

function routeOf(i: number): unknown {
  const to = `10.0.${i >> 8 & 255}.${i & 255}`;
  return { to, weight: i % 100, tags: ["a", "b"], note: "x".repeat(50) };
}

function tableOf(): Record<string, unknown> {
  return Object.fromEntries(
    Array.from({ length: routeCount }, (_, i) => [`/route/${i}`, routeOf(i)]),
  );
}

/** Looks at some of the routes: all of them take long, and there is a turn for each program. */
function requireTable(table: Record<string, unknown> | undefined): void {
  const routes = Object.keys(table ?? {});
  const isWhole = routes.length === routeCount &&
    routes.every((route, i) =>
      i % 1000 > 0 || JSON.stringify(table![route]) === JSON.stringify(routeOf(i))
    );
  if (!isWhole) throw new Error("another value");
}

function valueJob(kind: string): Job {
  const value = SharedValue.open<Record<string, unknown>>(key!, {
    maxBytes: 16 * mib,
    codec: json,
  });
  const table = tableOf();
  value.set(table);
  const bytes = json.encode(table);
  const raw = SharedValue.open(key!, { maxBytes: 16 * mib });
  const runs: Record<string, (ms: number) => Result> = {
    read: (ms) => {
      let found = 0;
      const result = repeat(ms, batch, () => {
        if (value.value !== undefined) found++;
      });
      if (found !== result.ops) throw new Error("a missing value");
      return result;
    },
    first: (ms) => repeatAfter(ms, () => void raw.set(bytes), () => void value.value),
    parse: (ms) => repeatAfter(ms, () => {}, () => void json.decode(bytes)),
    set: (ms) => repeatAfter(ms, () => {}, () => void value.set(table)),
    encode: (ms) => repeatAfter(ms, () => {}, () => void json.encode(table)),
  };
  return {
    run(ms, isCheck) {
      if (isCheck) requireTable(value.value);
      return runs[kind]!(ms);
    },
    end() {
      raw[Symbol.dispose]();
      value[Symbol.dispose]();
    },
  };
}

const jobs: Record<string, () => Job> = {
  queue: queueJob,
  lease: leaseJob,
  crew: crewJob,
  mutex: mutexJob,
  publish: publishJob,
  wake: () => wakeJob(Number(argument)),
  fan: () => fanJob(Number(argument)),
  value: () => valueJob(argument!),
};

await obey(jobs[name]!());
