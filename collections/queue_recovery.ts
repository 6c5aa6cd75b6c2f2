import { ID, LENGTH, memberOf, ORDER, State, stateOf, TIME, UNTIL } from "./queue_entry.ts";
import {
  FAILED,
  FAILED_UNITS,
  FINISHING,
  NEXT_ORDER,
  type QueueLog,
  READY,
  RUNNING,
  SOONEST,
  unitsFor,
} from "./queue_log.ts";
import { DamagedLog } from "./ring_log.ts";

/**
 * Repairs a queue whose last writer was killed, or has left it in the middle of a change for another reason. The entries
 * of the table are right, as each change is one store; the lists, the heap and the counts are made anew from them. The
 * bytes may also have been overwritten: then entries that cannot be right become free, or all if the log cannot be read.
 */
export function recoverQueue(log: QueueLog): void {
  try {
    repair(log);
  } catch (error) {
    if (!(error instanceof DamagedLog)) throw error;
    log.reset();
  }
}

function repair(log: QueueLog): void {
  const known = begins(log);
  const how = log.words[FINISHING]!;
  log.beginAnew();
  const inState = new Map<number, number[]>();
  const free: number[] = [];
  let used = 0;
  for (let entry = 0; entry < log.jobs; entry++) {
    const state = stateOf(log.state(entry));
    if (state === State.Free || !isRight(log, entry, known)) {
      free.push(entry);
      continue;
    }
    used++;
    log.count(entry, 1);
    const entries = inState.get(state);
    if (entries === undefined) inState.set(state, [entry]);
    else entries.push(entry);
  }
  relist(log, inState);
  refree(log, free);
  log.balance(used, how);
}

/** Returns for each entry whether its record is in the ring. */
function begins(log: QueueLog): Uint8Array {
  const known = new Uint8Array(log.jobs);
  let { head: position, span: left } = log;
  while (left > 0) {
    const size = log.sizeAt(position, left);
    const entry = size > 0 ? log.ownerOf(position) : -1;
    if (entry !== -1 && unitsFor(log.word(entry, LENGTH)) === size) {
      known[entry] = 1;
    }
    position = position + Math.abs(size) | 0;
    left -= Math.abs(size);
  }
  return known;
}

/** Whether an entry that is not free can be right. */
function isRight(log: QueueLog, entry: number, known: Uint8Array): boolean {
  const word = log.state(entry);
  const state = stateOf(word);
  const id = log.number(entry, ID);
  return known[entry] === 1 &&
    log.word(entry, LENGTH) >= 0 && word > 0 && state <= State.Failed &&
    Number.isSafeInteger(id) && id > 0 &&
    Number.isFinite(log.number(entry, ORDER)) && !Number.isNaN(log.number(entry, TIME)) &&
    (state !== State.Running || memberOf(word) < log.shape.members);
}

/** Sorts entries by a number of each. Each is loaded once, since other processes may overwrite it during the sort. */
function sortBy(log: QueueLog, float: number, entries: number[]): void {
  const keys = new Map(entries.map((entry) => [entry, log.number(entry, float)]));
  entries.sort((a, b) => keys.get(a)! - keys.get(b)!);
}

/** Makes the lists and the heap anew. */
function relist(log: QueueLog, inState: ReadonlyMap<number, number[]>): void {
  const { totals, words } = log;
  let order = Number.isFinite(totals[NEXT_ORDER]) ? totals[NEXT_ORDER]! : 0;
  for (const entries of inState.values()) {
    sortBy(log, ORDER, entries);
    order = Math.max(order, log.number(entries.at(-1)!, ORDER) + 1);
  }
  totals[NEXT_ORDER] = order;
  for (const entry of inState.get(State.Ready) ?? []) log.push(READY, entry);
  for (const entry of inState.get(State.Delayed) ?? []) log.pushDelayed(entry);
  for (const entry of inState.get(State.Failed) ?? []) {
    log.push(FAILED, entry);
    words[FAILED_UNITS]! += unitsFor(log.word(entry, LENGTH));
  }
  const running = inState.get(State.Running) ?? [];
  sortBy(log, TIME, running);
  for (const entry of running) log.push(RUNNING, entry);
  totals[SOONEST] = running.reduce((soonest, entry) => {
    const until = log.number(entry, UNTIL);
    return until > 0 ? Math.min(soonest, until) : soonest;
  }, Infinity);
}

/** Makes the list of free entries anew. */
function refree(log: QueueLog, free: readonly number[]): void {
  let fresh = log.jobs;
  let count = free.length;
  while (count > 0 && free[count - 1] === fresh - 1) {
    count--;
    fresh--;
    log.setState(fresh, 0);
  }
  log.setFresh(fresh);
  for (let i = count - 1; i >= 0; i--) log.free(free[i]!);
}
