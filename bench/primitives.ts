/**
 * The primitives under one runtime: `<runtime> primitives.ts KEY` checks them, measures them and prints the
 * nanoseconds of each operation as one line of JSON.
 */
import process from "node:process";
import { SharedMemory } from "../mod.ts";
import { Counter, Mutex } from "../sync/mod.ts";
import { cost } from "./timing.ts";

const [MUTEX, COUNTER, BARE] = [0, 64, 128];

function mutexCost(memory: SharedMemory): number {
  const mutex = Mutex.create(memory.view(Uint8Array), MUTEX);
  const ns = cost(() => {
    mutex.lock();
    mutex.unlock();
  }, 500);
  if (mutex.isHeld || !mutex.tryLock()) throw new Error("free, but it cannot be locked");
  mutex.unlock();
  return ns;
}

/** Of a counter, and of what it is made of. */
function counterCosts(memory: SharedMemory): [counter: number, bare: number] {
  const counter = Counter.create(memory.view(Uint8Array), COUNTER);
  const bare = memory.view(BigInt64Array, BARE, 1);
  let calls = 0n;
  const ns = cost(() => {
    counter.add(1n);
    calls++;
  }, 500);
  if (counter.get() !== calls) throw new Error(`${counter.get()} after ${calls} additions`);
  let bareCalls = 0n;
  const bareNs = cost(() => {
    Atomics.add(bare, 0, 1n);
    bareCalls++;
  }, 500);
  if (bare[0] !== bareCalls) throw new Error(`${bare[0]} after ${bareCalls} additions`);
  return [ns, bareNs];
}

const key = process.argv[2];
if (key === undefined) throw new Error("usage: primitives.ts KEY");
using memory = new SharedMemory(`${key}-primitives`);
if (!memory.create(4096)) throw new Error(memory.errorString());
const [counter, bare] = counterCosts(memory);
console.log(JSON.stringify({
  ...(process.platform === "linux" ? { "mutex lock+unlock": mutexCost(memory) } : {}),
  "counter add": counter,
  "counter add (Atomics)": bare,
}));
