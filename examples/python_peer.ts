/**
 * Shares memory with Python's own `multiprocessing.shared_memory`, without Qt. That opens POSIX shared memory
 * by name, so the key has to say that it is of this kind. Start both:
 *
 *     bun examples/python_peer.ts
 *     python3 examples/python_peer.py        # Python 3.8 or newer, on Linux
 */
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { NativeIpcKeyType, SharedMemory } from "../mod.ts";

const TURNS = 20_000;
const name = process.argv[2] ?? "counted_with_python";

const key = SharedMemory.platformSafeKey(name, NativeIpcKeyType.PosixRealtime);
using memory = SharedMemory.open(key, { size: 16 });
const total = memory.view(BigInt64Array, 0, 1);
const isPythonDone = memory.view(Int32Array, 8, 1);

console.log(`waiting for Python: ${key}`);
for (let i = 0; i < TURNS; i++) {
  memory.withLock(() => {
    total[0]! += 1n;
  });
}
while (Atomics.load(isPythonDone, 0) === 0) await sleep(5);
console.log(`Python and I counted to ${total[0]}`);
