import type { Bytes } from "../core/view_types.ts";
import { SyncError } from "../sync/errors.ts";
import type { Slot } from "../sync/slot.ts";
import { EPOCH, HEAD, PAD, TAIL } from "./ring_log.ts";
import { LENGTH, RECORD_WORDS, SIZE, type TopicLog, unitsFor } from "./topic_log.ts";
import type { TopicStart } from "./topic_options.ts";
import { ValuePool } from "./value_pool.ts";

/** A read fails after this time, in ms, if publishers are faster again and again. */
const OVERTAKEN_MS = 100;
/** The number of attempts before a read looks at the time. */
const ATTEMPTS = 100;
/** The cursor accepts any sequence number. */
const ANY = 0;

/** What {@linkcode TopicCursor.examine} returns instead of a number of units. */
const OVERTAKEN = 0;

/**
 * A cursor is the place of one reader in a topic. It is in the memory of the reader alone: publishers know nothing of it.
 *
 * A position is that of a record only while `head` has not passed it. So what was read counts only if `head`, which is
 * loaded afterwards, is still at or before the position, and the epoch is still the same: see RingLog. A position of
 * 2^32 units ago would look like one of now, but the epoch differs by 2 or more then. Besides, a message is only
 * accepted if it has the sequence number that the cursor expects.
 */
export class TopicCursor {
  // For `declare`, see Slot.
  declare private readonly log: TopicLog;
  declare private readonly slot: Slot;
  declare private readonly pool: ValuePool;
  private position = 0;
  /** The sequence number of the next message, or `ANY`. */
  private expected = ANY;
  /** The head and the epoch at a moment at which the position was that of a record, or the tail. */
  private seenHead = 0;
  private seenEpoch = 0;
  /** The tail as the current attempt has seen it. */
  private tail = 0;
  /** When a read fails that publishers have overtaken again and again. */
  private deadline = 0;
  /** The message that was read last: its number, and how many before it were lost. */
  sequence = 0;
  lost = 0;

  /** @throws {RangeError} if the topic has not had so many messages as `from` says */
  constructor(call: string, slot: Slot, log: TopicLog, from: TopicStart) {
    this.slot = slot;
    this.log = log;
    this.pool = new ValuePool();
    if (from === "latest") this.toNewest();
    else this.toOldest();
    if (typeof from === "number") this.toSequence(call, from);
  }

  /** Returns the bytes of the next message, a copy; `null` if there is none yet. */
  next(method: string): Bytes | null {
    const { words } = this.log;
    const isQuiet = Atomics.load(words, TAIL) === this.position &&
      words[EPOCH] === this.seenEpoch;
    return isQuiet ? null : this.read(method);
  }

  /** The sequence number of the next message, 0 if it is unknown because bytes were overwritten. */
  get following(): number {
    return this.expected;
  }

  /** Whether there is a message that this cursor has not read. */
  get hasNext(): boolean {
    const { words } = this.log;
    return Atomics.load(words, TAIL) !== this.position || words[EPOCH] !== this.seenEpoch;
  }

  private read(method: string): Bytes | null {
    let skipped = ANY;
    for (let attempt = 0;;) {
      this.look();
      if (this.tail === this.position) {
        if (skipped !== ANY && skipped + 1 < this.expected) this.expected = skipped + 1; // numbers have begun anew
        return null;
      }
      const size = this.examine(method);
      if (size === OVERTAKEN) {
        this.overtaken(method, attempt++);
        continue;
      }
      const { log, position } = this;
      if (size < 0) {
        this.position = position - size | 0;
        continue;
      }
      const at = log.wordOf(position);
      const sequence = log.sequenceAt(at);
      const isSkipped = this.expected !== ANY && sequence < this.expected;
      const message = isSkipped ? null : this.copy(at, size);
      if (!this.isIntact(position)) {
        this.overtaken(method, attempt++);
        continue;
      }
      this.position = position + size | 0;
      if (message === null) {
        skipped = sequence;
        continue;
      }
      this.lost = this.expected === ANY ? 0 : sequence - this.expected;
      this.sequence = sequence;
      this.expected = sequence + 1;
      return message;
    }
  }

  private copy(at: number, size: number): Bytes {
    const { bytes, data } = this.log;
    const length = data[at + LENGTH]!;
    // It was examined, but bytes may change at any time.
    const most = Math.min(length >>> 0, (size << 3) - (RECORD_WORDS << 2));
    return this.pool.copy(bytes, data, at + RECORD_WORDS, most);
  }

  /** Looks at the tail. If the epoch has changed, the position may no longer be that of a record. */
  private look(): void {
    const { words } = this.log;
    const epoch = Atomics.load(words, EPOCH);
    if (epoch !== this.seenEpoch) this.enterEpoch(epoch);
    this.tail = Atomics.load(words, TAIL);
  }

  /** Goes on in another epoch, at the same position if it is the next epoch and the record is still there. */
  private enterEpoch(epoch: number): void {
    const { words } = this.log;
    const head = this.loadHead();
    const tail = Atomics.load(words, TAIL);
    const { position, seenHead } = this;
    // Seen from the old head: from the new one, a position of almost 2^32 units ago may look like one of now.
    const isThere = (epoch - this.seenEpoch | 0) === 1 &&
      head - seenHead >>> 0 <= position - seenHead >>> 0 &&
      position - head >>> 0 <= tail - head >>> 0;
    this.seenEpoch = epoch;
    this.seenHead = head;
    if (!isThere) this.position = head;
  }

  /** Goes on at the oldest record. */
  private toHead(): void {
    this.seenEpoch = Atomics.load(this.log.words, EPOCH);
    this.position = this.seenHead = this.loadHead();
  }

  /**
   * Returns the number of units of the record at the position, negative if it is padding, or `OVERTAKEN` if it is not
   * intact. What is then read of the record counts only if it is intact after that.
   *
   * @throws {SyncError} `Damaged` if the words are not those of a record. The cursor goes on with the next message
   */
  private examine(method: string): number {
    const { log, position, tail } = this;
    const { data, units, unitMask } = log;
    const at = log.wordOf(position);
    const word = data[at + SIZE]!;
    const size = word & ~PAD;
    const isInLog = size >= 1 && size <= tail - position >>> 0 && tail - position >>> 0 <= units &&
      (position & unitMask) + size <= units;
    const isPad = (word & PAD) !== 0;
    if (isInLog && (isPad || unitsFor(data[at + LENGTH]!) === size)) {
      if (!isPad) return size;
      return this.isIntact(position) ? -size : OVERTAKEN;
    }
    if (!this.isIntact(position)) return OVERTAKEN;
    if (Atomics.load(log.words, TAIL) !== tail) return OVERTAKEN; // it may have been far behind
    this.skipDamage();
    throw new SyncError(
      "Damaged",
      `${this.slot.name}.${method}: the bytes of a message were overwritten; this reader goes on with the messages ` +
        "that are published from now on",
    );
  }

  /** Goes to the end, with whatever number comes next. */
  private skipDamage(): void {
    this.toHead();
    this.position = Atomics.load(this.log.words, TAIL);
    this.expected = ANY;
  }

  private loadHead(): number {
    const { words, isOrdered } = this.log;
    return isOrdered ? Atomics.load(words, HEAD) : Atomics.add(words, HEAD, 0);
  }

  /** Whether the bytes at a position have not been overwritten yet. */
  private isIntact(position: number): boolean {
    const head = this.loadHead();
    return head - this.seenHead >>> 0 <= position - this.seenHead >>> 0 &&
      this.log.words[EPOCH] === this.seenEpoch;
  }

  /**
   * Goes on at the oldest record, after publishers have overwritten the one at the position. If that happens again, at
   * the newest one, which they do not reach so soon.
   */
  private overtaken(method: string, attempt: number): void {
    this.toHead();
    if (attempt === 0) return;
    const { log } = this;
    const tail = Atomics.load(log.words, TAIL);
    const { newest } = log;
    if (newest - this.seenHead >>> 0 < tail - this.seenHead >>> 0) this.position = newest;
    this.wait(method, attempt);
  }

  /** Notes that an attempt has failed. @throws {SyncError} `Busy` if there were too many */
  private wait(method: string, attempt: number): void {
    if (attempt % ATTEMPTS !== 0) return;
    const now = performance.now();
    if (attempt === ATTEMPTS) this.deadline = now + OVERTAKEN_MS;
    if (now <= this.deadline) return;
    throw new SyncError(
      "Busy",
      `${this.slot.name}.${method}: publishers have overwritten messages again and again for ${OVERTAKEN_MS} ms while ` +
        "they were read; give the topic more bytes",
    );
  }

  /** Begins with the oldest message. */
  private toOldest(): void {
    this.toHead();
    this.expected = this.numberFrom("oldest");
  }

  /** Begins with the message after the newest one. */
  private toNewest(): void {
    this.expected = this.numberFrom("newest");
  }

  /**
   * Returns the number of the record at the head; or goes to the tail and returns the number that the next message will
   * have. It is `ANY` if the bytes make no sense.
   */
  private numberFrom(which: "oldest" | "newest"): number {
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      this.toHead();
      const { log, seenHead: head } = this;
      const { newest } = log;
      const tail = this.tail = Atomics.load(log.words, TAIL);
      if (tail === head) {
        const { base } = log;
        if (this.isIntact(head) && Atomics.load(log.words, TAIL) === tail) return base + 1;
        continue;
      }
      // The newest record is known from before the tail, so the tail is beyond it.
      const isKnown = newest - head >>> 0 < tail - head >>> 0;
      const begin = which === "newest" && isKnown ? newest : head;
      const number = this.walk(begin, which === "newest");
      if (number !== OVERTAKEN) return number;
    }
    this.skipDamage();
    return ANY;
  }

  /**
   * Walks from a record to the next one, or to the tail and counts one more; returns its number, `OVERTAKEN` if a record
   * on the way is not intact or its words make no sense.
   */
  private walk(begin: number, isToTail: boolean): number {
    let number = OVERTAKEN;
    const { log, tail } = this;
    try {
      for (this.position = begin; this.position !== tail;) {
        const size = this.examine("subscribe");
        if (size === OVERTAKEN) return OVERTAKEN;
        if (size > 0) {
          number = log.sequenceAt(log.wordOf(this.position)) + 1;
          if (!isToTail) break;
        }
        this.position = this.position + Math.abs(size) | 0;
      }
    } catch (error) {
      if (!(error instanceof SyncError)) throw error;
      return OVERTAKEN;
    }
    if (number === OVERTAKEN || !this.isIntact(begin)) return OVERTAKEN;
    return isToTail ? number : number - 1;
  }

  /** Goes on from the oldest message to the one with a number. */
  private toSequence(call: string, from: number): void {
    if (this.expected !== ANY && from < this.expected) {
      this.expected = from; // the first one says how many were lost
      return;
    }
    const { position, seenHead, seenEpoch } = this;
    this.toNewest();
    if (this.expected === ANY || from === this.expected) return;
    if (from > this.expected) {
      throw new RangeError(
        `${call}: from is ${from}, but the topic has had ${
          this.expected - 1
        } messages; it was created anew since, or ` +
          'the number is that of another topic. Use "oldest"',
      );
    }
    Object.assign(this, { position, seenHead, seenEpoch, expected: from });
  }
}
