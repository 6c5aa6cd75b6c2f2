/**
 * A process that uses the keys of Qt's own tests, again and again, until its input ends: it attaches, locks, reads and
 * detaches segments, and acquires and releases semaphores, which the locks of segments are too. Then it prints what it
 * has done, as JSON.
 */
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { SharedMemory, SharedMemoryError, SystemSemaphore } from "../../mod.ts";

/** The keys. */
export interface StormTask {
  readonly segments: readonly string[];
  readonly semaphores: readonly string[];
}

/** How often something was done. */
export interface StormTally {
  attached: number;
  missing: number;
  acquired: number;
}

const { segments, semaphores }: StormTask = JSON.parse(process.argv[2]!);
const tally: StormTally = { attached: 0, missing: 0, acquired: 0 };

function useSegment(key: string): void {
  using memory = new SharedMemory(key);
  if (!memory.attach()) {
    if (memory.error() !== SharedMemoryError.NotFound) throw new Error(memory.errorString());
    tally.missing++;
    return;
  }
  if (!memory.lock()) throw new Error(memory.errorString());
  if (memory.constData()!.length === 0) throw new Error(`${key} has no bytes`);
  if (!memory.detach()) throw new Error(memory.errorString());
  tally.attached++;
}

function useSemaphore(semaphore: SystemSemaphore): void {
  if (!semaphore.tryAcquire()) return;
  if (!semaphore.release()) throw new Error(semaphore.errorString());
  tally.acquired++;
}

// They stay open: the object that has created a semaphore removes it when it is closed, even while Qt uses it.
const open = semaphores.map((key) => new SystemSemaphore(key, 1));
let isOver = false;
process.stdin.on("end", () => isOver = true);
// Between two rounds no use of a key is unfinished.
process.stdin.on("data", () => console.log("between rounds"));
console.log("ready");
while (!isOver) {
  for (let i = 0; i < 10; i++) {
    segments.forEach(useSegment);
    open.forEach(useSemaphore);
  }
  await delay(1);
}
for (const semaphore of open) semaphore[Symbol.dispose]();
console.log(JSON.stringify(tally));
