/**
 * The collections under one runtime: `<runtime> collection_jobs.ts JOB:RANGE COUNT INDEX KEY` takes part as one of COUNT
 * processes in the segment KEY, and does what its standard input says.
 */
import process from "node:process";
import { RateLimiter, SharedMap, SyncError } from "../collections/mod.ts";
import { SharedMemory } from "../mod.ts";
import { type Job, type Latencies, obey, repeat, repeatBatches } from "./commands.ts";
import {
  entries,
  keysOf,
  limits,
  orderMask,
  orderOf,
  requireValue,
  setEvery,
  Value,
  valueBytes,
} from "./map_data.ts";
import { now } from "./timing.ts";

const mib = 2 ** 20;
/** Of which 15 MiB are used, so that nothing is evicted. */
const mapBytes = 32 * mib;
const batch = 500;
/** The number of operations between two that are measured one by one. */
const untimed = 15;

const [jobText, , indexText, key] = process.argv.slice(2);
if (key === undefined) throw new Error("usage: collection_jobs.ts JOB:RANGE COUNT INDEX KEY");
const [name, range] = jobText!.split(":");
const isFirst = indexText === "0";

const keys = keysOf();
const order = orderOf(range!);
let position = Number(indexText) * (orderMask + 1) / 8;
const value = new Value();
const into = new Uint8Array(valueBytes);
let change = 0;

const renew = () => value.renew(++change);

function filled(): SharedMap {
  const map = SharedMap.open(key!, { bytes: mapBytes });
  renew();
  if (isFirst) keys.forEach((key, i) => void map.set(key, value.stamp(i)));
  return map;
}

/** Each operation has loops of its own, as V8 compiles a function best that always calls the same one. */
interface Operation {
  run(count: number): void;
  check?(): void;
  total?(): number;
  bytes?(): number;
  end(): void;
}

function required(length: number): void {
  if (length !== valueBytes) throw new Error("a missing value");
}

function requireRead(map: SharedMap, entry: number): void {
  requireValue(map.get(keys[entry]!), entry);
  required(map.getInto(keys[entry]!, into));
  requireValue(into, entry);
}

function reads(): Operation {
  const map = filled();
  const getInto = (count: number) => {
    for (let i = 0; i < count; i++) {
      required(map.getInto(keys[order[position++ & orderMask]!]!, into));
    }
  };
  const get = (count: number) => {
    for (let i = 0; i < count; i++) {
      required(map.get(keys[order[position++ & orderMask]!]!)!.length);
    }
  };
  return {
    run: name === "get" ? get : getInto,
    check: () => requireRead(map, order[position++ & orderMask]!),
    bytes: leastBytes,
    end: () => map[Symbol.dispose](),
  };
}

function sets(): Operation {
  const map = filled();
  const set = () => {
    const entry = order[position++ & orderMask]!;
    if (!map.set(keys[entry]!, value.stamp(entry)).stored) throw new Error("not stored");
  };
  const onlySet = (count: number) => {
    for (let i = 0; i < count; i++) set();
  };
  const mix = (count: number) => {
    for (let i = 0; i < count; i++) {
      if (position % setEvery === 0) set();
      else required(map.getInto(keys[order[position++ & orderMask]!]!, into));
    }
  };
  return {
    run: name === "mix" ? mix : onlySet,
    check() {
      renew();
      const entry = order[position & orderMask]!;
      set();
      requireRead(map, entry);
    },
    end: () => map[Symbol.dispose](),
  };
}

function increments(): Operation {
  const map = SharedMap.open(key!, { bytes: mapBytes });
  const incr = (count: number) => {
    for (let i = 0; i < count; i++) map.incr(keys[order[position++ & orderMask]!]!);
  };
  const total = () =>
    keys.reduce((sum, key) => sum + ((map.get(key) as number | undefined) ?? 0), 0);
  return { run: incr, total, end: () => map[Symbol.dispose]() };
}

function takes(): Operation {
  const limiter = RateLimiter.open(key!, { ...limits, keys: entries });
  const take = (count: number) => {
    for (let i = 0; i < count; i++) {
      if (!limiter.take(keys[order[position++ & orderMask]!]!).allowed) throw new Error("refused");
    }
  };
  return { run: take, end: () => limiter[Symbol.dispose]() };
}

/** The size of the smallest segment that keeps all entries, in whole MiB. */
function leastBytes(): number {
  for (let bytes = 8 * mib;; bytes += mib) {
    using memory = SharedMemory.open(`${key}-size`, { size: bytes });
    const map = SharedMap.create(memory.bytes, 0, { bytes, evict: "none" });
    try {
      keys.forEach((key, i) => void map.set(key, value.stamp(i)));
      return bytes;
    } catch (error) {
      if (!(error instanceof SyncError) || error.code !== "Full") throw error;
    }
  }
}

/** The ns of single operations, without those of reading the clock. */
function latencies(ms: number, run: Operation["run"]): Latencies {
  const clock = Array.from({ length: 1000 }, () => {
    const start = now();
    return now() - start;
  }).toSorted((a, b) => a - b)[500]!;
  const times: number[] = [];
  const end = now() + ms * 1e6;
  do {
    run(untimed);
    const start = now();
    run(1);
    times.push(Math.max(0, now() - start - clock));
  } while (now() < end);
  return { ops: times.length * (untimed + 1), times };
}

const operations: Record<string, () => Operation> = {
  getInto: reads,
  get: reads,
  set: sets,
  mix: sets,
  incr: increments,
  take: takes,
};
const { run, check, total, bytes, end } = operations[name!]!();
const runBatch = () => run(batch);
const job: Job = {
  run: (ms, isCheck) =>
    isCheck && check !== undefined ? repeat(ms, 1, check) : repeatBatches(ms, batch, runBatch),
  latencies: (ms) => latencies(ms, run),
  ...(total === undefined ? {} : { total }),
  ...(bytes === undefined ? {} : { bytes }),
  end,
};
await obey(job);
