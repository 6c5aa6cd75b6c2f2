/**
 * The primitives under one runtime: `<runtime> sync_jobs.ts JOB COUNT INDEX KEY` takes part as one of COUNT
 * processes in the segment KEY, and does what its standard input says.
 */
import process from "node:process";
import { SharedMemory } from "../mod.ts";
import { Counter, Event, Mutex, RecordSnapshot } from "../sync/mod.ts";
import { type Job, obey, repeat } from "./commands.ts";

const fields = 100;
const mib = 2 ** 20;
const page = 4096;
const publishMs = 0.1;

const layout = Object.fromEntries(
  Array.from({ length: fields }, (_, i) => [`f${i}`, "f64" as const]),
);
const [MUTEX, COUNTER, NUMBER, EVENTS, SNAPSHOT, MIBS] = [0, 64, 128, 192, 1024, 4096];
/** For each pair of processes two events, and whether to stop, one to each cache line. */
const eventsBytes = 3 * 64;

const [name, countText, indexText, key] = process.argv.slice(2);
if (key === undefined) throw new Error("usage: sync_jobs.ts JOB COUNT INDEX KEY");
const [count, index] = [Number(countText), Number(indexText)];
const pair = index >> 1;

const memory = SharedMemory.open(key, {
  size: MIBS + 2 * mib,
  initialize(bytes) {
    Mutex.create(bytes, MUTEX);
    Counter.create(bytes, COUNTER);
    for (const at of [0, 64, eventsBytes, eventsBytes + 64]) Event.create(bytes, EVENTS + at);
    RecordSnapshot.create(bytes, SNAPSHOT, layout).publish(recordOf(1));
  },
});
const bytes = memory.view(Uint8Array);

function recordOf(value: number): Record<string, number> {
  return Object.fromEntries(Object.keys(layout).map((name, i) => [name, value + i]));
}

/** The sum of all fields, as a program would write it that knows their names. */
const sumOf = new Function(
  "record",
  `return ${Object.keys(layout).map((name) => `record.${name}`).join(" + ")}`,
) as (record: Record<string, unknown>) => number;

function requireWhole(record: Record<string, unknown>): void {
  const first = record["f0"] as number;
  for (let i = 0; i < fields; i++) {
    if (record[`f${i}`] !== first + i) throw new Error("a torn record");
  }
}

function mutexJob(): Job {
  const mutex = Mutex.at(bytes, MUTEX);
  const number = memory.view(Float64Array, NUMBER, 1);
  const increment = () => {
    mutex.lock();
    number[0]!++;
    mutex.unlock();
  };
  return { run: (ms) => repeat(ms, 500, increment), total: () => number[0]! };
}

function counterJob(): Job {
  const counter = Counter.at(bytes, COUNTER);
  const add = () => void counter.add(1n);
  return { run: (ms) => repeat(ms, 500, add), total: () => Number(counter.get()) };
}

function atomicsJob(): Job {
  const number = memory.view(BigInt64Array, NUMBER, 1);
  const add = () => void Atomics.add(number, 0, 1n);
  return { run: (ms) => repeat(ms, 500, add), total: () => Number(number[0]) };
}

function snapshotJob(): Job {
  const snapshot = RecordSnapshot.at(bytes, SNAPSHOT, layout);
  const sleeper = new Int32Array(new SharedArrayBuffer(4));
  let value = 1;
  const publish = () => {
    snapshot.publish(recordOf(value++));
    Atomics.wait(sleeper, 0, 0, publishMs);
  };
  if (count > 1 && index === count - 1) {
    return {
      run(ms) {
        repeat(ms, 1, publish);
        return {};
      },
    };
  }
  let sum = 0;
  const readers: Record<string, () => void> = {
    snapshot: () => void snapshot.refresh(),
    fields: () => void (sum += sumOf(snapshot.refresh()!)),
    objects: () => void snapshot.read(),
  };
  const read = readers[name!]!;
  return {
    run(ms, isCheck) {
      if (!isCheck) return repeat(ms, 100, read);
      return repeat(ms, 1, () => {
        requireWhole(snapshot.read()!);
        requireWhole(snapshot.refresh()!);
        const record = snapshot.refresh()!;
        if (sumOf(record) !== fields * (record["f0"] as number) + fields * (fields - 1) / 2) {
          throw new Error("a wrong sum");
        }
        read();
      });
    },
  };
}

/** Every second process answers the one before. */
function pairJob(isMib: boolean): Job {
  const at = EVENTS + eventsBytes * pair;
  const [ping, pong] = [Event.at(bytes, at), Event.at(bytes, at + 64)];
  const stop = memory.view(Int32Array, at + 128, 1);
  const target = bytes.subarray(MIBS + mib * pair, MIBS + mib * (pair + 1));
  const source = Uint8Array.from({ length: mib }, (_, i) => i);
  const words = new Uint32Array(source.buffer);
  const targetWords = memory.view(Uint32Array, MIBS + mib * pair, mib / 4);
  let number = 0;

  const roundTrip = () => {
    const since = pong.sequence;
    ping.notify();
    pong.wait(Infinity, since);
    if (pong.sequence !== since + 1) throw new Error("a round trip too many");
  };
  const handOver = () => {
    number++;
    for (let i = 0; i < mib; i += page) words[i >> 2] = number;
    target.set(source);
    roundTrip();
  };
  if (index % 2 === 0) {
    return {
      run(ms) {
        const result = repeat(ms, isMib ? 1 : 10, isMib ? handOver : roundTrip);
        Atomics.store(stop, 0, 1);
        ping.notify();
        return result;
      },
    };
  }

  const readInPlace = (isCheck: boolean) => {
    number++;
    for (let i = 0; i < mib; i += page) {
      if (targetWords[i >> 2] !== number) throw new Error("not the bytes that were written");
    }
    if (!isCheck) return;
    for (let i = 0; i < mib; i++) {
      if (i % page >= 4 && target[i] !== (i & 0xff)) throw new Error("a byte is not as written");
    }
  };
  let seen = 0;
  return {
    run(_ms, isCheck) {
      for (;;) {
        ping.wait(Infinity, seen);
        seen = ping.sequence;
        if (Atomics.exchange(stop, 0, 0) !== 0) return {};
        if (isMib) readInPlace(isCheck);
        pong.notify();
      }
    },
  };
}

const jobs: Record<string, () => Job> = {
  mutex: mutexJob,
  counter: counterJob,
  atomics: atomicsJob,
  snapshot: snapshotJob,
  fields: snapshotJob,
  objects: snapshotJob,
  event: () => pairJob(false),
  mib: () => pairJob(true),
};

await obey({ end: () => void memory.detach(), ...jobs[name!]!() });
