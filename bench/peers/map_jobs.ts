/**
 * What people use today for state by name, under one runtime: `<runtime> map_jobs.ts PEER JOB:RANGE COUNT INDEX FOLDER`
 * does what its standard input says. A third part of the job says how many commands are sent together.
 */
import process from "node:process";
import { type Job, obey, repeat, repeatAsync, type Result } from "../commands.ts";
import { keysOf, orderMask, orderOf, requireValue, Value } from "../map_data.ts";

/** What is in this process: it answers at once. */
export interface LocalStore {
  /** Stores many values, in one transaction. */
  fill(keys: readonly string[], valueOf: (entry: number) => Uint8Array): void;
  get(key: string): Uint8Array;
  set(key: string, value: Uint8Array): void;
  /** Adds one under mutual exclusion, also with all other processes; `number` returns the number. */
  incr(key: string): void;
  number(key: string): number;
  /** Takes one from an allowance, likewise; returns whether it was allowed. */
  take(key: string): boolean;
  /** What the values take on disk. */
  bytes(): number;
  close(): void;
}

/** The same behind a connection. */
export interface RemoteStore {
  get(key: string): Promise<Uint8Array>;
  set(key: string, value: Uint8Array): Promise<unknown>;
  incr(key: string): Promise<unknown>;
  number(key: string): Promise<number>;
  take(key: string): Promise<boolean>;
  /** What the server keeps takes in memory. */
  bytes(): Promise<number>;
  close(): Promise<void>;
}

/** As many values are on their way at most. */
const together = 100;

const [peer, jobText, , , folder] = process.argv.slice(2);
if (folder === undefined) throw new Error("usage: map_jobs.ts PEER JOB:RANGE COUNT INDEX FOLDER");
const [name, range, sentTogether = "1"] = jobText!.split(":");
const needsValues = name === "get" || name === "set";

const keys = keysOf();
const order = orderOf(range!);
let position = 0;
const next = () => order[position++ & orderMask]!;

const values = Array.from({ length: together }, () => new Value());
/** The value of an entry, whose bytes are used again once it is not on its way any more. */
const valueOf = (entry: number) => values[position % together]!.stamp(entry);

function allowed(isAllowed: boolean): void {
  if (!isAllowed) throw new Error("refused");
}

function local(store: LocalStore): Job {
  if (needsValues) store.fill(keys, valueOf);
  const operations: Record<string, () => void> = {
    get: () => void store.get(keys[next()]!),
    set() {
      const entry = next();
      store.set(keys[entry]!, valueOf(entry));
    },
    incr: () => store.incr(keys[next()]!),
    take: () => allowed(store.take(keys[next()]!)),
  };
  const operation = operations[name!]!;
  const checked = () => {
    const entry = order[position & orderMask]!;
    operation();
    if (needsValues) requireValue(store.get(keys[entry]!), entry);
  };
  return {
    run: (ms, isCheck) => repeat(ms, 10, isCheck ? checked : operation),
    total: () => keys.reduce((sum, key) => sum + store.number(key), 0),
    bytes: () => store.bytes(),
    end: () => store.close(),
  };
}

/** Calls `act` for all entries, some at a time; returns what it has returned. */
async function forAll<Result>(act: (entry: number) => Promise<Result>): Promise<Result[]> {
  const results: Result[] = [];
  for (let i = 0; i < keys.length; i += together) {
    const count = Math.min(together, keys.length - i);
    results.push(...await Promise.all(Array.from({ length: count }, (_, k) => act(i + k))));
  }
  return results;
}

async function remote(store: RemoteStore): Promise<Job> {
  const empty = await store.bytes();
  if (needsValues) {
    await forAll((entry) => {
      position++;
      return store.set(keys[entry]!, valueOf(entry));
    });
  }
  const bytes = await store.bytes() - empty;
  const operations: Record<string, () => Promise<unknown>> = {
    get: () => store.get(keys[next()]!),
    set() {
      const entry = next();
      return store.set(keys[entry]!, valueOf(entry));
    },
    incr: () => store.incr(keys[next()]!),
    take: async () => allowed(await store.take(keys[next()]!)),
  };
  const operation = operations[name!]!;
  const checked = async () => {
    const entry = order[position & orderMask]!;
    await operation();
    if (needsValues) requireValue(await store.get(keys[entry]!), entry);
  };
  const count = Number(sentTogether);
  const many = async () => {
    await Promise.all(Array.from({ length: count }, operation));
  };
  return {
    async run(ms, isCheck): Promise<Result> {
      if (isCheck) return await repeatAsync(ms, 1, checked);
      if (count === 1) return await repeatAsync(ms, 1, async () => void await operation());
      const { ops, ns, perOp } = await repeatAsync(ms, 1, many);
      return { ops: ops * count, ns, perOp: perOp / count };
    },
    async total() {
      const numbers = await forAll((entry) => store.number(keys[entry]!));
      return numbers.reduce((sum, number) => sum + number);
    },
    bytes: () => bytes,
    end: () => store.close(),
  };
}

const { open } = await import(`./${peer}.ts`) as {
  open(folder: string): Promise<{ local: LocalStore } | { remote: RemoteStore }>;
};
const opened = await open(folder);
await obey("local" in opened ? local(opened.local) : await remote(opened.remote));
