import { bufferOfArray } from "../core/view_extent.ts";
import type { Slot } from "../sync/slot.ts";
import {
  attemptOf,
  BEFORE,
  ENTRY_FLOATS,
  ENTRY_WORDS,
  ID,
  LENGTH,
  MOST,
  NEXT,
  ORDER,
  POSITION,
  REASON,
  Reason,
  STATE,
  State,
  stateWord,
  TIME,
  UNTIL,
} from "./queue_entry.ts";
import {
  GENERATIONS_BYTE,
  heapByte,
  LOG_BYTE,
  PART,
  type QueueShape,
  ringByte,
  tableByte,
  TOTALS_BYTE,
  WORDS_BYTE,
} from "./queue_shape.ts";
import { DamagedLog, HEAD, RingLog, TAIL, UNIT_BYTES } from "./ring_log.ts";

const WORDS = WORDS_BYTE / 4;
/** The lists: the first and the last entry of each, as its number + 1, and how many it has. */
export const READY = { first: WORDS, last: WORDS + 1, count: WORDS + 2 } as const;
export const FAILED = { first: WORDS + 3, last: WORDS + 4, count: WORDS + 5 } as const;
export const RUNNING = { first: WORDS + 6, last: WORDS + 7, count: WORDS + 8 } as const;
/** The entries that are free: the first one of those that were used before, and the number of those that never were. */
const [FREE, FRESH] = [WORDS + 9, WORDS + 10];
/** The number of delayed jobs, which are in the heap. */
export const DELAYED = WORDS + 11;
/** The number of units of the records of all jobs, of those of failed jobs, and of the largest record. */
export const [LIVE, FAILED_UNITS, LARGEST] = [WORDS + 12, WORDS + 13, WORDS + 14];
/** Whether the largest record may be gone. */
export const STALE = WORDS + 15;
/** Whether somebody sleeps until there is a job, or until there is room; whether the queue is closed. */
export const [RECEIVERS, SENDERS, CLOSED] = [WORDS + 16, WORDS + 17, WORDS + 18];
/** In which way the job ends whose entry is freed next: the index of its total. */
export const FINISHING = WORDS + 19;

/** The totals: how many jobs were sent, and how many have ended in each way. */
export const [SENT, ACKED, RECEIVED, CLEARED, DROPPED] = [0, 1, 2, 3, 4];
/** In these ways a job ends. */
const ENDS = [ACKED, RECEIVED, CLEARED, DROPPED];
/** The number of the next job that becomes ready; how many jobs were put back since their member had ended, or was late. */
export const [NEXT_ORDER, RETURNED, RETRIED, LATE] = [5, 6, 7, 8];
/** When somebody looked last for members that have ended, and a time before which no job is late. */
export const [LOOKED, SOONEST] = [9, 10];
const TOTALS = 16;

/** A record has a unit before the value: its size, and the number of its entry. */
const RECORD_WORDS = 2;
/** Failed jobs may take this part of the ring, and of the table. */
const FAILED_PART = 4;

type List = typeof READY | typeof FAILED | typeof RUNNING;

/** Returns the number of units of the record of a value. */
export function unitsFor(length: number): number {
  return 1 + (length + UNIT_BYTES - 1 >>> 3);
}

/**
 * The log of a queue is a table of jobs beside a ring of their values. An entry of the table says all of a job: where its
 * record lies in the ring, and its state, which changes by one store of a word. So a process may be killed after any
 * store, and what it leaves is the state before or the state after. The lists, the heap and the counts follow from the
 * entries: whoever finds that a writer was killed makes them anew.
 *
 * A record lives if its entry is not free and has its position. So a record is moved by a copy at the tail and one store
 * of the position, and a job that runs, waits for its time or has failed does not keep the space of others.
 *
 * All methods are called with the lock of the queue held.
 */
export class QueueLog extends RingLog {
  // For `declare`, see Slot.
  declare readonly shape: QueueShape;
  /** The totals, the table in words and in floats, and the heap of the numbers of delayed jobs. */
  declare readonly totals: Float64Array;
  declare readonly table: Int32Array;
  declare readonly numbers: Float64Array;
  declare readonly heap: Int32Array;
  declare readonly generations: Int32Array;
  /** The number of entries. */
  declare readonly jobs: number;

  constructor(slot: Slot, shape: QueueShape) {
    super(slot, LOG_BYTE, ringByte(shape), shape.units, true);
    const { jobs, members } = shape;
    this.shape = shape;
    this.jobs = jobs;
    this.totals = slot.view(Float64Array, LOG_BYTE + TOTALS_BYTE, TOTALS);
    this.generations = slot.view(Int32Array, LOG_BYTE + GENERATIONS_BYTE, members);
    this.table = slot.view(Int32Array, LOG_BYTE + tableByte(shape), jobs * ENTRY_WORDS);
    this.numbers = slot.view(Float64Array, LOG_BYTE + tableByte(shape), jobs * ENTRY_FLOATS);
    this.heap = slot.view(Int32Array, LOG_BYTE + heapByte(shape), jobs);
  }

  /** The largest number of bytes that a value may have. */
  get valueMax(): number {
    return (this.units / PART - 1) * UNIT_BYTES;
  }

  // Entries.

  /** Returns an entry that is free, which goes on being free; -1 if there is none. */
  freeEntry(): number {
    const free = this.words[FREE]!;
    if (free !== 0) return this.entry(free - 1);
    const fresh = this.words[FRESH]!;
    return fresh < this.jobs ? this.entry(fresh) : -1;
  }

  /** Writes what an entry that is free says of a job, but for what belongs to its state. */
  writeEntry(entry: number, position: number, length: number, most: number, id: number): void {
    const { numbers, table } = this;
    const at = entry * ENTRY_WORDS;
    table[at + POSITION] = position;
    table[at + LENGTH] = length;
    table[at + MOST] = most;
    table[at + REASON] = Reason.None;
    const float = entry * ENTRY_FLOATS;
    numbers[float + ID] = id;
    numbers[float + TIME] = 0;
    numbers[float + UNTIL] = 0;
  }

  /** Takes the entry that {@linkcode QueueLog.freeEntry} has returned from those that are free. */
  useEntry(entry: number): void {
    const { table, words } = this;
    if (words[FREE] === entry + 1) words[FREE] = table[entry * ENTRY_WORDS + NEXT]!;
    else words[FRESH] = entry + 1;
  }

  /** The number of free entries is not counted: this is the number of those that are in use. */
  get used(): number {
    const { words } = this;
    return words[READY.count]! + words[DELAYED]! + words[RUNNING.count]! + words[FAILED.count]!;
  }

  /** Returns the number of an entry that was read from the segment. */
  entry(number: number): number {
    if (number >>> 0 >= this.jobs) throw new DamagedLog();
    return number;
  }

  /** Returns the state word of an entry. */
  state(entry: number): number {
    return this.table[entry * ENTRY_WORDS + STATE]!;
  }

  /** Stores the state word of an entry: the step by which a change happens. */
  setState(entry: number, word: number): void {
    Atomics.store(this.table, entry * ENTRY_WORDS + STATE, word);
  }

  word(entry: number, word: number): number {
    return this.table[entry * ENTRY_WORDS + word]!;
  }

  setWord(entry: number, word: number, value: number): void {
    this.table[entry * ENTRY_WORDS + word] = value;
  }

  number(entry: number, float: number): number {
    return this.numbers[entry * ENTRY_FLOATS + float]!;
  }

  setNumber(entry: number, float: number, value: number): void {
    this.numbers[entry * ENTRY_FLOATS + float] = value;
  }

  nextOrder(): number {
    const { totals } = this;
    const order = totals[NEXT_ORDER]!;
    totals[NEXT_ORDER] = order + 1;
    return order;
  }

  // Records.

  /** Returns the index in `data` of the value of an entry, whose length is correct for its record. */
  valueWord(entry: number): number {
    const { data, table, words } = this;
    const position = table[entry * ENTRY_WORDS + POSITION]!;
    const length = table[entry * ENTRY_WORDS + LENGTH]!;
    const size = unitsFor(length);
    const at = this.wordOf(position);
    const left = words[TAIL]! - position >>> 0;
    const isWhole = length >= 0 && data[at] === size && data[at + 1] === entry && size <= left &&
      position - words[HEAD]! >>> 0 < this.span && (position & this.unitMask) + size <= this.units;
    if (!isWhole) throw new DamagedLog();
    return at + RECORD_WORDS;
  }

  /** Writes the record of an entry at the position that there is room for. */
  writeRecord(position: number, entry: number, value: Uint8Array, length: number): void {
    const size = unitsFor(length);
    const at = this.wordOf(position);
    this.data[at] = size;
    this.data[at + 1] = entry;
    const from = (at + RECORD_WORDS) << 2;
    // An `ArrayBuffer` has the same length all the time. Another thread may make a shared one longer meanwhile.
    if (bufferOfArray(value) instanceof ArrayBuffer) this.bytes.set(value, from);
    else this.bytes.subarray(from, from + length).set(value);
    this.append(position, size);
  }

  /**
   * Drops records at the head that no job has, as many as there are, up to `most`; returns whether there was one. If no
   * job has any, all are dropped.
   */
  dropOldest(most: number): boolean {
    const { head, words } = this;
    let left = this.span;
    if (left === 0) return false;
    let position = head;
    if (words[LIVE] === 0) {
      position = this.tail;
    } else {
      for (let count = 0; count < most && left > 0; count++) {
        const size = this.sizeAt(position, left);
        if (size > 0 && this.ownerOf(position) !== -1) break;
        position = position + Math.abs(size) | 0;
        left -= Math.abs(size);
      }
    }
    if (position === head) return false;
    this.moveHead(position);
    return true;
  }

  /** Returns the entry that has the record at a position, -1 if none does. */
  ownerOf(position: number): number {
    const { table } = this;
    const entry = this.data[this.wordOf(position) + 1]!;
    if (entry >>> 0 >= this.jobs) return -1;
    const at = entry * ENTRY_WORDS;
    return table[at + STATE] !== 0 && table[at + POSITION] === position ? entry : -1;
  }

  /** Moves the record at the head, which a job has, to the tail; returns `false` if there is no room. */
  moveOldest(): boolean {
    const position = this.head;
    const size = this.sizeAt(position, this.span);
    const place = this.placeFor(size);
    if (this.freeAfter(place, size) < 0) return false;
    const from = this.wordOf(position);
    this.data.copyWithin(this.wordOf(place), from, from + size * 2);
    this.data[this.wordOf(place)] = size; // the copy may have begun with another number if it was overwritten
    this.append(place, size);
    Atomics.store(this.table, this.data[from + 1]! * ENTRY_WORDS + POSITION, place);
    this.moveHead(position + size | 0);
    return true;
  }

  /** Counts the units of a record that has come (1) or gone (-1). */
  count(entry: number, sign: 1 | -1): void {
    const { words } = this;
    const size = unitsFor(this.word(entry, LENGTH));
    const largest = words[LARGEST]!;
    words[LIVE]! += sign * size;
    if (size < largest) return;
    if (sign === 1) words[LARGEST] = size;
    else words[STALE] = 1;
  }

  /** Finds the largest record again, if it may be gone. */
  recount(): void {
    const { words } = this;
    if (words[STALE] === 0) return;
    let largest = 0;
    for (let entry = 0; entry < this.jobs; entry++) {
      if (this.state(entry) === 0) continue;
      largest = Math.max(largest, unitsFor(this.word(entry, LENGTH)));
    }
    words[LARGEST] = largest;
    words[STALE] = 0;
  }

  /** @throws {DamagedLog} if the counts by which there is room are not those of the entries */
  requireCounts(): void {
    const { words } = this;
    let [used, live, largest] = [0, 0, 0];
    for (let entry = 0; entry < this.jobs; entry++) {
      if (this.state(entry) === 0) continue;
      const size = unitsFor(this.word(entry, LENGTH));
      used++;
      live += size;
      largest = Math.max(largest, size);
    }
    const isRight = used === this.used && live === words[LIVE] &&
      (words[STALE] !== 0 || largest === words[LARGEST]);
    if (!isRight) throw new DamagedLog();
  }

  // Lists.

  /** Adds an entry at the end of a list. */
  push(list: List, entry: number): void {
    const { table, words } = this;
    const last = words[list.last]!;
    table[entry * ENTRY_WORDS + NEXT] = 0;
    table[entry * ENTRY_WORDS + BEFORE] = last;
    if (last === 0) words[list.first] = entry + 1;
    else table[this.entry(last - 1) * ENTRY_WORDS + NEXT] = entry + 1;
    words[list.last] = entry + 1;
    words[list.count]!++;
  }

  /** Adds an entry at the beginning of a list. */
  unshift(list: List, entry: number): void {
    const { table, words } = this;
    const first = words[list.first]!;
    table[entry * ENTRY_WORDS + NEXT] = first;
    table[entry * ENTRY_WORDS + BEFORE] = 0;
    if (first === 0) words[list.last] = entry + 1;
    else table[this.entry(first - 1) * ENTRY_WORDS + BEFORE] = entry + 1;
    words[list.first] = entry + 1;
    words[list.count]!++;
  }

  /** Takes an entry out of a list. */
  unlink(list: List, entry: number): void {
    const { table, words } = this;
    const next = table[entry * ENTRY_WORDS + NEXT]!;
    const before = table[entry * ENTRY_WORDS + BEFORE]!;
    if (before === 0) words[list.first] = next;
    else table[this.entry(before - 1) * ENTRY_WORDS + NEXT] = next;
    if (next === 0) words[list.last] = before;
    else table[this.entry(next - 1) * ENTRY_WORDS + BEFORE] = before;
    words[list.count]!--;
  }

  /** Returns the first entry of a list, -1 if it is empty. Its state must be the one of the list. */
  first(list: List, state: State): number {
    const first = this.words[list.first]!;
    return first === 0 ? -1 : this.inState(first - 1, state);
  }

  /** Returns the entry after another one in a list, -1 after the last one. */
  after(entry: number, state: State): number {
    const next = this.word(entry, NEXT);
    return next === 0 ? -1 : this.inState(next - 1, state);
  }

  private inState(number: number, state: State): number {
    const entry = this.entry(number);
    if ((this.state(entry) & 7) !== state) throw new DamagedLog();
    return entry;
  }

  // The heap of delayed jobs: the one whose time comes first is at its beginning.

  /** Returns the delayed job whose time comes first, -1 if there is none. */
  firstDelayed(): number {
    if (this.words[DELAYED] === 0) return -1;
    return this.inState(this.heap[0]!, State.Delayed);
  }

  pushDelayed(entry: number): void {
    const { heap, words } = this;
    let at = words[DELAYED]!;
    if (at >>> 0 >= this.jobs) throw new DamagedLog();
    words[DELAYED] = at + 1;
    while (at > 0) {
      const parent = at - 1 >> 1;
      const other = this.entry(heap[parent]!);
      if (!this.isBefore(entry, other)) break;
      heap[at] = other;
      at = parent;
    }
    heap[at] = entry;
  }

  /** Takes the first one out of the heap. */
  shiftDelayed(): void {
    const { heap, words } = this;
    const count = words[DELAYED]! - 1;
    if (count >>> 0 >= this.jobs) throw new DamagedLog();
    words[DELAYED] = count;
    const entry = this.entry(heap[count]!);
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= count) break;
      if (child + 1 < count && this.isBefore(this.entry(heap[child + 1]!), heap[child]!)) child++;
      const other = this.entry(heap[child]!);
      if (!this.isBefore(other, entry)) break;
      heap[at] = other;
      at = child;
    }
    heap[at] = entry;
  }

  private isBefore(entry: number, other: number): boolean {
    const [time, otherTime] = [this.number(entry, TIME), this.number(other, TIME)];
    if (time !== otherTime) return time < otherTime;
    return this.number(entry, ORDER) < this.number(other, ORDER);
  }

  // Changes of jobs.

  /** Makes a job ready that is in no list. @param isFirst whether it comes before all others */
  makeReady(entry: number, attempt: number, isFirst = false): void {
    const first = isFirst ? this.first(READY, State.Ready) : -1;
    const order = first === -1 ? this.nextOrder() : this.number(first, ORDER) - 1;
    this.setNumber(entry, ORDER, order);
    if (first === -1) this.push(READY, entry);
    else this.unshift(READY, entry);
    this.setState(entry, stateWord(State.Ready, attempt));
  }

  /** Makes a job wait for a time that is in no list. */
  makeDelayed(entry: number, attempt: number, time: number): void {
    this.setNumber(entry, ORDER, this.nextOrder());
    this.setNumber(entry, TIME, time);
    this.pushDelayed(entry);
    this.setState(entry, stateWord(State.Delayed, attempt));
  }

  /** Makes those delayed jobs ready whose time has come. */
  promote(now: number): void {
    for (;;) {
      const entry = this.firstDelayed();
      if (entry === -1 || this.number(entry, TIME) > now) return;
      const attempt = attemptOf(this.state(entry));
      this.shiftDelayed();
      this.makeReady(entry, attempt);
    }
  }

  /** Makes a job fail that is in no list. The oldest ones are dropped if there are too many. */
  makeFailed(entry: number, attempt: number, now: number): void {
    const { words } = this;
    this.setNumber(entry, ORDER, this.nextOrder());
    this.setNumber(entry, TIME, now);
    this.setState(entry, stateWord(State.Failed, attempt));
    this.push(FAILED, entry);
    words[FAILED_UNITS]! += unitsFor(this.word(entry, LENGTH));
    const { units, jobs } = this;
    while (
      words[FAILED_UNITS]! > units / FAILED_PART || words[FAILED.count]! > jobs / FAILED_PART
    ) {
      const oldest = this.first(FAILED, State.Failed);
      if (oldest === -1) throw new DamagedLog();
      this.unlinkFailed(oldest);
      this.finish(oldest, DROPPED);
    }
  }

  unlinkFailed(entry: number): void {
    this.unlink(FAILED, entry);
    this.words[FAILED_UNITS]! -= unitsFor(this.word(entry, LENGTH));
  }

  /** Ends a job that is in no list. @param how the index of the total that counts it */
  finish(entry: number, how: number): void {
    const { totals, words } = this;
    words[FINISHING] = how;
    this.setState(entry, 0);
    totals[how]!++;
    this.count(entry, -1);
    this.setWord(entry, NEXT, words[FREE]!);
    words[FREE] = entry + 1;
  }

  /** Empties the queue, whatever its words are. The jobs that were in it count as dropped. */
  reset(): void {
    const { table, totals, words } = this;
    for (let entry = 0; entry < this.jobs; entry++) this.setState(entry, 0);
    table.fill(0);
    words.fill(0, WORDS, CLOSED);
    this.nextEpoch();
    this.cutTail(this.head);
    if (!Number.isFinite(totals[NEXT_ORDER])) totals[NEXT_ORDER] = 0;
    totals[LOOKED] = totals[SOONEST] = 0;
    this.balance(0, DROPPED);
  }

  /**
   * Makes the totals right when `used` jobs are there. Of a job that was sent and is not there any more, the writer may not
   * have noted how it ended.
   *
   * @param how the index of the total of the way in which it was to end
   */
  balance(used: number, how: number): void {
    const { totals } = this;
    for (const total of [SENT, ...ENDS]) {
      if (!(Number.isSafeInteger(totals[total]) && totals[total]! >= 0)) totals[total] = 0;
    }
    for (let entry = 0; entry < this.jobs; entry++) {
      if (this.state(entry) !== 0) totals[SENT] = Math.max(totals[SENT]!, this.number(entry, ID));
    }
    const ended = ENDS.reduce((sum, total) => sum + totals[total]!, 0);
    const missing = totals[SENT]! - used - ended;
    if (missing < 0) totals[SENT] = used + ended; // they were overwritten
    else if (missing > 0) totals[missing === 1 && ENDS.includes(how) ? how : DROPPED]! += missing;
  }

  /** Makes the lists and the heap empty, and all entries free: before they are made anew. */
  beginAnew(): void {
    this.words.fill(0, WORDS, RECEIVERS);
  }

  /** Makes an entry free without counting it. */
  free(entry: number): void {
    const { words } = this;
    this.setState(entry, 0);
    this.setWord(entry, NEXT, words[FREE]!);
    words[FREE] = entry + 1;
  }

  /** Says that the entries from a number on were never used. */
  setFresh(entry: number): void {
    this.words[FRESH] = entry;
  }

  /** Notes why a job was put back. */
  setReason(entry: number, reason: number): void {
    this.setWord(entry, REASON, reason);
  }
}
