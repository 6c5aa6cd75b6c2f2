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

/** How often something was done. Qt's tests find out whether it was done well; `unlocked` is the rest of `attached`. */
export interface StormTally {
  attached: number;
  locked: number;
  missing: number;
  acquired: number;
}

const { segments, semaphores }: StormTask = JSON.parse(process.argv[2]!);
const tally: StormTally = { attached: 0, locked: 0, missing: 0, acquired: 0 };
const open = semaphores.map((key) => new SystemSemaphore(key, 1));

function useSegment(key: string): void {
  using memory = new SharedMemory(key);
  if (!memory.attach()) {
    if (memory.error() !== SharedMemoryError.NotFound) throw new Error(memory.errorString());
    tally.missing++;
    return;
  }
  tally.attached++;
  // It is locked until it is detached, so that Qt, whose detach() waits for the lock, is not left with a segment that
  // this process will remove: Qt's tests would not expect that.
  if (!memory.lock()) throw new Error(memory.errorString());
  tally.locked++;
  if (memory.constData()!.length === 0) throw new Error(`${key} has no bytes`);
  if (!memory.detach()) throw new Error(memory.errorString());
}

function useSemaphore(semaphore: SystemSemaphore): void {
  if (!semaphore.tryAcquire()) return;
  tally.acquired++;
  if (!semaphore.release()) throw new Error(semaphore.errorString());
}

let isOver = false;
process.stdin.on("end", () => isOver = true).resume();
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
