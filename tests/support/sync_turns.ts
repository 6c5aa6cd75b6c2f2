/** What agents, threads and C programs do under a mutex, so that it can be told whether it excludes. */
import type { SharedMemory } from "../../mod.ts";
import { Counter, Mutex } from "../../sync/mod.ts";

/** Where the tests have what: a mutex, a counter, and two numbers that are equal while nobody holds it. */
export const [MUTEX, COUNTER, NUMBERS] = [0, 64, 128];

export function numbersOf(memory: SharedMemory): BigInt64Array {
  return memory.view(BigInt64Array, NUMBERS, 2);
}

export function makeAll(memory: SharedMemory): Mutex {
  Counter.create(memory.view(Uint8Array), COUNTER);
  return Mutex.create(memory.view(Uint8Array), MUTEX);
}

/** JavaScript: `turn()` does what a C peer does in a turn. `memory` is an expression. */
export const turn = (memory: string) => `
  const view = ${memory}.view(Uint8Array);
  const mutex = sync.Mutex.at(view, ${MUTEX});
  const counter = sync.Counter.at(view, ${COUNTER});
  const numbers = ${memory}.view(BigInt64Array, ${NUMBERS}, 2);
  const turn = () => {
    mutex.withLock((wasAbandoned) => {
      if (wasAbandoned) numbers[1] = numbers[0];
      if (numbers[0] !== numbers[1]) throw new Error("the numbers differ: " + numbers);
      numbers[0]++;
      numbers[1]++;
    });
    counter.add();
  };`;
