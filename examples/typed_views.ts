/**
 * Several processes compute pi together, without a lock. Typed views show parts of the segment as numbers,
 * and `Atomics` changes one number so that nothing is lost. Start it in three terminals:
 *
 *     node examples/typed_views.ts 3     # it begins when three have come; 1 if left out
 */
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { SharedMemory } from "../mod.ts";

const processes = Number(process.argv[2] ?? 1);
const CHUNKS = 500;
const STEPS = 20_000; // in each chunk

using memory = SharedMemory.open("pi", { size: 16 + 8 * CHUNKS });

// The layout is up to us: three integers of 32 bits, and from byte 16 on the sums, floats of 64 bits. A
// view begins at a multiple of its numbers' size.
const counts = memory.view(Int32Array, 0, 3);
const sums = memory.view(Float64Array, 16, CHUNKS);
const [JOINED, TAKEN, DONE] = [0, 1, 2];

// `counts[JOINED]++` would read, add and write: two processes could read the same number, and one of them
// would be lost. Atomics.add does it in one piece, and returns what was there before.
Atomics.add(counts, JOINED, 1);
while (Atomics.load(counts, JOINED) < processes) await sleep(5);

let done = 0;
let isLast = false;
// Each chunk is taken by exactly one process, whoever is free: a fast one does more of them.
for (let chunk; (chunk = Atomics.add(counts, TAKEN, 1)) < CHUNKS; done++) {
  let sum = 0;
  for (let i = chunk * STEPS; i < (chunk + 1) * STEPS; i++) {
    const x = (i + 0.5) / (CHUNKS * STEPS);
    sum += 4 / (1 + x * x);
  }
  sums[chunk] = sum; // a plain store: nobody else writes this one
  // Whoever sees the new number of DONE also sees the stores that came before.
  isLast = Atomics.add(counts, DONE, 1) === CHUNKS - 1;
}

console.log(`I did ${done} of ${CHUNKS} chunks`);
if (isLast) {
  const total = sums.reduce((a, b) => a + b, 0);
  console.log(`pi is about ${(total / (CHUNKS * STEPS)).toFixed(10)}`);
}
// To wait for a change without looking again and again, see Event of ../sync/mod.ts: Atomics.wait wants
// a SharedArrayBuffer, which memory of other processes cannot be.
