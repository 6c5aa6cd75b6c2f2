/** What must be true when all workers have ended. */
import { rmSync } from "node:fs";
import { type SharedMemory, SystemSemaphore, SystemSemaphoreMode } from "../../mod.ts";
import { SharedMemory as Memory } from "../../mod.ts";
import { recover, sumOfSlots } from "./counting.ts";
import type { Crew } from "./crew.ts";
import type { KeyFiles } from "./key_files.ts";
import { Count, type Keys, PERMITS, RECOVERED_MAX } from "./layout.ts";
import type { Leftovers } from "./leftovers.ts";
import type { QtPeer } from "./qt_peer.ts";

const LOCK_MS = 10_000;

/** That nobody's increment was completed by another while it lived. */
function checkRecoveries(words: Int32Array, crew: Crew, key: string): string[] {
  const count = Math.min(words[Count.Recoveries]!, RECOVERED_MAX);
  const pids = words.subarray(Count.Recovered, Count.Recovered + count);
  return [...pids].filter((pid) => !crew.killed.has(pid))
    .map((pid) => `${key}: process ${pid} had the lock together with another`);
}

/** Counts are exact; the workers' own reports lack at most one of each that was killed. */
export function judgeCounters(memories: readonly SharedMemory[], crew: Crew): string[] {
  const problems: string[] = [];
  let counted = 0;
  for (const memory of memories) {
    const key = memory.key()!;
    if (!memory.tryLock(LOCK_MS)) {
      problems.push(`${key}: the lock does not work: ${memory.errorString()}`);
      continue;
    }
    const words = memory.view(Int32Array);
    recover(words);
    const sum = sumOfSlots(words, crew.posts.length);
    if (sum !== words[Count.Total]) problems.push(`${key}: ${words[Count.Total]} is not ${sum}`);
    problems.push(...checkRecoveries(words, crew, key));
    counted = counted + sum | 0;
    if (!memory.unlock()) problems.push(`${key}: ${memory.errorString()}`);
  }
  const reported = crew.posts.reduce((sum, { tally }) => sum + tally.increments, 0);
  const missing = counted - reported | 0;
  if (missing < 0 || missing > crew.killed.size) {
    problems.push(`${missing} increments are not reported, with ${crew.killed.size} killed`);
  }
  return problems;
}

/** The kernel has given back what the killed had acquired. */
export function judgePool(pool: SystemSemaphore): string[] {
  let permits = 0;
  while (permits <= PERMITS && pool.tryAcquire()) permits++;
  for (let n = 0; n < permits; n++) pool.release();
  return permits === PERMITS ? [] : [`${permits} of ${PERMITS} permits are free at the end`];
}

/** Comes and goes once more, as after a crash, and then nothing may be left. */
export function judgeLeftovers(
  keys: Keys,
  crew: Crew,
  leftovers: Leftovers,
  all: KeyFiles,
  deleted: KeyFiles,
  qt: QtPeer | null,
): string[] {
  const problems: string[] = [];
  for (const key of keys.segments) {
    using memory = new Memory(key);
    if (!memory.createOrAttach(1)) problems.push(`${key} cannot be used: ${memory.errorString()}`);
  }
  for (const key of keys.filled) Memory.open(key, { size: 1, initialize: () => {} }).detach();
  for (const key of keys.semaphores) {
    new SystemSemaphore(key, 0, SystemSemaphoreMode.Create)[Symbol.dispose]();
  }
  if (crew.killed.size > 0) leftovers.removeOrphanSemaphores();
  // Qt looks whether there is a semaphore, and then makes it whether or not: if somebody has removed it in
  // between, nobody gives it a value, and whoever deletes the key file leaves it behind.
  const isOfQt = (key: number) => qt?.owns(key) === true;
  const isOurs = (key: number) => deleted.systemKeys.has(key) || isOfQt(key);
  for (const leftover of leftovers.find(crew.pids, isOurs)) {
    // Without its key file nobody finds what a killed process has left.
    const isExplained = deleted.systemKeys.has(leftover.key) && crew.killed.size > 0;
    if (!isExplained && !isOfQt(leftover.key)) problems.push(`left behind: ${leftover.text}`);
    leftovers.remove(leftover);
  }
  for (const path of all.paths()) {
    problems.push(`left behind: ${path}`);
    rmSync(path, { force: true });
  }
  return problems;
}
