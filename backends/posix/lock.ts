import type { ProcessInfo } from "../inventory.ts";
import type { Libc } from "../unix/libc.ts";
import { once } from "../unix/once.ts";
import { isRunning, pidNamespace, startTime } from "../unix/processes.ts";
import type { PosixName } from "./object_file.ts";
import type { ThreadCode, Usize } from "../../ffi/types.ts";
import { FUTEX_WAIT, FUTEX_WAKE } from "../unix/linux_constants.ts";
import { deadline, LEFT } from "../unix/deadline.ts";
import { type PosixLibrary, TAKE_UNTIL } from "./library.ts";
import { MappedSemaphore, SEM_BYTES } from "./mapped_semaphore.ts";
import { isHeldByThread } from "../../registry.ts";
import { type BackgroundWait, type Lock, waitOf } from "../types.ts";
import { BACKGROUND_SLICE_MS, SLICE_MS } from "../timing.ts";

/**
 * The offset of the owner record in a `sem_t`. The owner record says which process holds the lock. Both glibc and musl leave the last
 * 16 of the 32 bytes unused, so it does not disturb other programs, which use only the semaphore.
 */
const OWNER_RECORD_OFFSET = 16;

/** The owner record consists of the process, its phase, and whether threads sleep until the owner record changes. */
const PID_BITS = 22;
const PID = 2 ** PID_BITS - 1;
const PHASE = 7 << PID_BITS;
const SLEEPERS = 1 << 30;

/**
 * The process is about to take or release the semaphore. If it dies in this phase, it held the semaphore if that is
 * taken.
 */
const TRYING = 1 << PID_BITS;
/**
 * The process waits for another program, which holds the semaphore. The process says so from the start if the semaphore
 * is taken: if it dies, no process takes over what the other program holds.
 */
const WAITING = 2 << PID_BITS;
/** The process holds the semaphore. */
const HOLDING = 3 << PID_BITS;

/** Source text for other threads: creates the views of a `sem_t` and the functions that change its note. */
const NOTE = `
  const buffer = memory(semaphore, ${SEM_BYTES});
  const value = new Int32Array(buffer, 0, 1);
  const note = new Int32Array(buffer, ${OWNER_RECORD_OFFSET}, 1);
  const entries = new BigInt64Array(buffer, ${OWNER_RECORD_OFFSET}, 1);
  const nothing = new Uint8Array(16);
  const isTaken = () => value[0] === -1 || (Atomics.load(value, 0) & 0x7fffffff) === 0;
  const setPhase = (from, to) => Atomics.add(note, 0, to - from);
  const wake = () => c.syscall(number, word, ${FUTEX_WAKE}, 1, nothing);
  const drop = () => {
    if ((Atomics.exchange(note, 0, 0) & ${SLEEPERS}) !== 0) wake();
  };`;

/**
 * Source text for other threads: does what `acquire` and `release` do, except for the owner record of a dead process, which is
 * left to the calling thread.
 */
const BACKGROUND: ThreadCode = {
  take: `(c, memory, semaphore, word, number, own, until) => {${NOTE}
  let sleepers = 0;
  let begun = 0;
  for (;;) {
    const entry = Atomics.load(entries, 0);
    const found = Number(BigInt.asIntN(32, entry));
    if ((found & ${PID}) === 0) {
      begun = isTaken() ? ${WAITING} : ${TRYING};
      const taken = own | BigInt(found & ${SLEEPERS} | sleepers | begun);
      if (Atomics.compareExchange(entries, 0, entry, taken) === entry) break;
      continue;
    }
    const left = (${LEFT})(c.clock_gettime, until);
    if (left === null) {
      if (sleepers !== 0) wake(); // it may have been for this one
      return false;
    }
    const announced = found | ${SLEEPERS};
    if (Atomics.compareExchange(note, 0, found, announced) !== found) continue;
    sleepers = ${SLEEPERS};
    c.syscall(number, word, ${FUTEX_WAIT}, announced, left);
  }
  if (c.sem_trywait(semaphore) === 0) {
    while (!isTaken() && c.sem_trywait(semaphore) === 0); // a peer has raised it
    setPhase(begun, ${HOLDING});
    return true;
  }
  setPhase(begun, ${WAITING});
  if ((${TAKE_UNTIL})(c, semaphore, until)) {
    setPhase(${WAITING}, ${HOLDING});
    return true;
  }
  drop();
  return false;
}`,
  giveBack: `(c, memory, semaphore, word, number) => {${NOTE}
  setPhase(${HOLDING}, ${TRYING});
  if (isTaken()) c.sem_post(semaphore);
  drop();
}`,
};

/** An open semaphore with views of its note: the owner record alone, and the owner record together with the identity of its process. */
interface Opened {
  readonly semaphore: MappedSemaphore;
  readonly note: Int32Array;
  readonly entry: BigInt64Array;
  readonly recordWord: Usize;
}

/**
 * The lock of a POSIX segment is Qt's semaphore of value 1, which other programs take too. Nothing undoes what a killed
 * process did to the semaphore. The processes of this module therefore first take an owner record beside it, which says which
 * process holds the lock. They exclude each other by the owner record, and other programs by the semaphore.
 */
export class PosixLock implements Lock {
  readonly nativeKey: string;
  readonly identity: string;
  readonly #library: PosixLibrary;
  readonly #name: PosixName;
  #open: Opened | null = null;

  constructor(library: PosixLibrary, name: PosixName, nativeKey: string) {
    this.#library = library;
    this.#name = name;
    this.nativeKey = nativeKey;
    this.identity = name.path;
  }

  acquire(timeoutMs = Infinity): boolean {
    let open = this.#opened();
    const deadline = performance.now() + timeoutMs;
    for (let sleepers = 0;; sleepers = SLEEPERS) {
      if (this.#takeRecord(open, sleepers)) {
        if (open.semaphore.isLinked()) {
          return this.#takeSemaphore(open, deadline) || this.#dropRecord(open);
        }
        open = this.#reopened(open);
        continue;
      }
      const left = Math.min(deadline - performance.now(), SLICE_MS);
      if (left <= 0) {
        if (sleepers !== 0) this.#library.futex.wake(open.recordWord); // the wake-up may have been for this thread
        return false;
      }
      const value = announceSleep(open);
      if (value !== 0) this.#library.futex.wait(open.recordWord, value, left);
    }
  }

  /**
   * Waits and takes the lock entirely on the other thread, because that thread must release what it took if the caller
   * has given up.
   */
  acquireSlice(timeoutMs: number): BackgroundWait {
    const open = this.#opened();
    const { semaphore, recordWord } = open;
    const { libc, futex } = this.#library;
    const until = deadline(libc, Math.min(timeoutMs, BACKGROUND_SLICE_MS));
    const wait = this.#library.background(BACKGROUND);
    const call = wait(semaphore.address, recordWord, futex.number, ownEntry(libc), until);
    const giveBack = () => {
      if (call.claim()) this.#giveBack(open);
    };
    return waitOf(call, semaphore.keep(call.over, giveBack), () => {
      if (!call.claim()) return false;
      if (this.#open === open && semaphore.isLinked()) return true;
      this.#giveBack(open);
      if (this.#open === open) this.close(); // Qt has unlinked the semaphore, so the next wait creates it again
      return false;
    });
  }

  /** Takes the owner record for this process if no living process holds it. */
  #takeRecord({ semaphore, entry: entries }: Opened, sleepers: number): boolean {
    const { libc } = this.#library;
    const own = ownEntry(libc);
    for (;;) {
      const entry = Atomics.load(entries, 0);
      const value = Number(BigInt.asIntN(32, entry));
      const isFree = (value & PID) === 0;
      if (!isFree && (isOf(entry, own) || isAlive(libc, entry))) return false;
      // A dead process held the semaphore if that is taken. If it was still waiting, another program holds it.
      const isTaken = semaphore.value === 0;
      const had = !isFree && (value & PHASE) !== WAITING;
      const phase = isTaken ? had ? HOLDING : WAITING : TRYING;
      const taken = own | BigInt(value & SLEEPERS | sleepers | phase);
      if (Atomics.compareExchange(entries, 0, entry, taken) === entry) return true;
    }
  }

  /**
   * Takes the semaphore; the caller has the owner record. Returns `false` after the deadline; the owner record then still says
   * `WAITING`.
   */
  #takeSemaphore(open: Opened, deadline: number): boolean {
    const { semaphore, note } = open;
    const phase = Atomics.load(note, 0) & PHASE;
    if (phase === HOLDING) return true; // taken over from a dead process
    if (semaphore.take(0)) {
      semaphore.takeAll(); // a peer may have raised the value
      setPhase(open, phase, HOLDING);
      return true;
    }
    setPhase(open, phase, WAITING);
    for (;;) {
      const left = Math.min(deadline - performance.now(), SLICE_MS);
      if (left <= 0) return false;
      if (!semaphore.take(left)) continue;
      setPhase(open, WAITING, HOLDING);
      return true;
    }
  }

  /** Clears the owner record, and wakes one thread that sleeps until it changes. */
  #dropRecord({ note, recordWord }: Opened): false {
    if ((Atomics.exchange(note, 0, 0) & SLEEPERS) !== 0) this.#library.futex.wake(recordWord);
    return false;
  }

  release(): void {
    if (this.#open !== null && this.isHeldHere()) this.#giveBack(this.#open);
  }

  #giveBack(open: Opened): void {
    setPhase(open, HOLDING, TRYING);
    if (open.semaphore.value === 0) open.semaphore.give(); // unless a peer has released it already
    this.#dropRecord(open);
  }

  /** Drops the owner record of a semaphore that Qt has unlinked, and opens or creates the one that has the name now. */
  #reopened(open: Opened): Opened {
    this.#dropRecord(open);
    this.close();
    return this.#opened();
  }

  #opened(): Opened {
    if (this.#open !== null) return this.#open;
    const semaphore = MappedSemaphore.open(this.#library, this.#name, 1);
    const { buffer } = semaphore;
    return this.#open = {
      semaphore,
      note: new Int32Array(buffer, OWNER_RECORD_OFFSET, 1),
      entry: new BigInt64Array(buffer, OWNER_RECORD_OFFSET, 1),
      recordWord: this.#library.futex.address(semaphore.address + BigInt(OWNER_RECORD_OFFSET)),
    };
  }

  holder(): number | null {
    const entry = this.#holdingEntry();
    const { libc } = this.#library;
    const isKnown = entry !== null && isHere(libc, entry) && isAlive(libc, entry);
    return isKnown ? Number(entry & BigInt(PID)) : null;
  }

  isHeldHere(): boolean {
    const entry = this.#holdingEntry();
    return entry !== null && isOf(entry, ownEntry(this.#library.libc));
  }

  /** Compares with the objects of this thread, because the owner record does not tell which program runs in the process. */
  mayBeOfReplaced(): boolean {
    return this.isHeldHere() && !isHeldByThread(this.identity);
  }

  /** Returns the entry of the process that holds the lock, or `null` if no process holds it. */
  #holdingEntry(): bigint | null {
    if (this.#open === null) return null;
    const entry = Atomics.load(this.#open.entry, 0);
    return (Number(BigInt.asIntN(32, entry)) & PHASE) === HOLDING ? entry : null;
  }

  close(): void {
    this.#open?.semaphore.close();
    this.#open = null;
  }
}

function setPhase({ note }: Opened, from: number, to: number): void {
  Atomics.add(note, 0, to - from);
}

/** Marks in the owner record that a thread sleeps, and returns the owner record; 0 if the owner record has become free. */
function announceSleep({ note }: Opened): number {
  for (;;) {
    const value = Atomics.load(note, 0);
    if ((value & PID) === 0) return 0;
    const announced = value | SLEEPERS;
    if (Atomics.compareExchange(note, 0, value, announced) === value) return announced;
  }
}

/** Returns which process holds the lock with this `sem_t`, and whether threads sleep until it is released. */
export function ownerOfRecord(
  libc: Libc,
  semaphore: DataView,
): { holder: ProcessInfo | null; areAsleep: boolean } {
  const entry = semaphore.getBigInt64(OWNER_RECORD_OFFSET, true);
  const note = Number(BigInt.asIntN(32, entry));
  const isHeld = (note & PHASE) === HOLDING;
  const holder = isHeld ? { pid: note & PID, alive: isAlive(libc, entry) } : null;
  return { holder, areAsleep: (note & SLEEPERS) !== 0 };
}

/**
 * Returns the entry of this process: its pid, and in the upper half a value that distinguishes it from other processes with
 * the same pid.
 */
const ownEntry = once((libc: Libc): bigint => {
  const pid = libc.c.getpid();
  return BigInt.asIntN(64, identityOf(libc, pid) << 32n | BigInt(pid));
});

/** Whether two entries belong to the same process. Processes that start in the same clock tick have different pids. */
function isOf(entry: bigint, own: bigint): boolean {
  const isSamePid = ((entry ^ own) & BigInt(PID)) === 0n;
  return isSamePid && BigInt.asUintN(64, entry) >> 32n === BigInt.asUintN(64, own) >> 32n;
}

/** Returns 16 bits of this process's pid namespace and 16 bits of the start time of the process. */
function identityOf(libc: Libc, pid: number): bigint {
  return BigInt(pidNamespace(libc) & 0xffff) << 16n | BigInt((startTime(libc, pid) ?? 0) & 0xffff);
}

/** Whether the pid of an entry belongs to the pid namespace of this process. */
function isHere(libc: Libc, entry: bigint): boolean {
  return BigInt.asUintN(64, entry) >> 48n === BigInt(pidNamespace(libc) & 0xffff);
}

/** Whether the process of an entry is alive. A process in another namespace cannot be checked and counts as alive. */
function isAlive(libc: Libc, entry: bigint): boolean {
  if (!isHere(libc, entry)) return true;
  return isRunning(libc, Number(entry & BigInt(PID)), Number(entry >> 32n & 0xffffn));
}
