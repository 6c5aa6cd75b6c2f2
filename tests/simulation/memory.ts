/**
 * The memory of the simulated Linux: mappings, their bytes, and what glibc and the futex do with words in them. Loads
 * and stores are calls, so that a process can be interrupted between them.
 */
import { EACCES, EAGAIN, EINVAL, EOVERFLOW, ETIMEDOUT } from "../../backends/unix/errno.ts";
import {
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_SHARED,
  PROT_WRITE,
} from "../../backends/unix/linux_constants.ts";
import { accessOf, ARRAYS, ELEMENT_CALLS } from "./atomics.ts";
import { fileOf, mayWrite, release } from "./files.ts";
import { leaveQueue, unmap } from "./ipc.ts";
import type { Call } from "./kernel.ts";
import { type Alternative, inOrder, type Memory, OrderedAccesses } from "./ordering.ts";
import {
  type Answer,
  block,
  type Caller,
  EBADF,
  ENODEV,
  NO_BYTES,
  PAGE,
  type Process,
  type State,
  UPTIME_MS,
  wake,
} from "./state.ts";

const SEM_VALUE_MAX = 2 ** 31 - 1;
const FIRST_ADDRESS = 0x1000_0000;

function pagesOf(length: number): number {
  return Math.ceil(length / PAGE) * PAGE;
}

/** Whether a range overlaps no mapping. */
function isFree({ maps }: Process, address: number, length: number): boolean {
  for (const [start, mapping] of maps) {
    if (address < start + mapping.length && start < address + length) return false;
  }
  return true;
}

/** The lowest free range, so that the address of a mapping that has ended is soon used again. */
export function freeAddress(process: Process, length: number): number {
  const ends = [...process.maps].map(([start, mapping]) => start + mapping.length);
  const candidates = [FIRST_ADDRESS, ...ends.sort((a, b) => a - b)];
  return candidates.find((address) => isFree(process, address, length))!;
}

/** The memory that threads of a process share begins here, in parts of so many bytes. */
export const FIRST_WORD = 0x5000_0000;
export const WORDS_BYTES = 16;

function wordsAt({ state, process: { leader } }: Caller, address: number) {
  const start = address - address % WORDS_BYTES;
  let object = state.words.get(start);
  if (object === undefined) state.words.set(start, object = { leader, bytes: NO_BYTES });
  return { object, offset: address - start, word: `word ${address}` };
}

/** The object that an address belongs to, with the offset in it. */
function locate(caller: Caller, address: number) {
  if (address >= FIRST_WORD) return wordsAt(caller, address);
  const { state, process } = caller;
  for (const [start, { kind, id, length }] of process.maps) {
    if (address < start || address >= start + length || kind === "zeros") continue;
    const object = kind === "segment"
      ? state.ipc[process.ipc]!.shm.objects.get(id)!
      : state.inodes.get(state.opens.get(id)!.inode)!;
    const owner = kind === "segment" ? `${process.ipc} ${id}` : state.opens.get(id)!.inode;
    return {
      object,
      offset: address - start,
      word: `${kind} ${owner} ${address - start}`,
    };
  }
  throw new Error(`SIGSEGV or private memory at ${address.toString(16)}`);
}

function load(caller: Caller, address: number, length: number): Uint8Array {
  const { object, offset } = locate(caller, address);
  const result = new Uint8Array(length);
  result.set(object.bytes.subarray(offset, offset + length));
  return result;
}

function store(caller: Caller, address: number, values: ArrayLike<number>): void {
  const { object, offset } = locate(caller, address);
  const bytes = new Uint8Array(Math.max(object.bytes.length, offset + values.length));
  bytes.set(object.bytes);
  bytes.set(values, offset);
  object.bytes = bytes; // states share the array, so it is never changed
}

function loadWord(caller: Caller, address: number): number {
  return new DataView(load(caller, address, 4).buffer).getInt32(0, true);
}

function storeWord(caller: Caller, address: number, value: number): void {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, value, true);
  store(caller, address, bytes);
}

/** What a waiter adds to the first 8 bytes of glibc's `sem_t`, whose lower half is the value. */
const WAITER = 1n << 32n;

function loadSemaphore(caller: Caller, address: number) {
  const data = new DataView(load(caller, address, 8).buffer).getBigUint64(0, true);
  return { data, value: Number(data % WAITER), waiters: data / WAITER };
}

function addToSemaphore(caller: Caller, address: number, step: bigint): void {
  const bytes = new Uint8Array(8);
  const { data } = loadSemaphore(caller, address);
  new DataView(bytes.buffer).setBigUint64(0, data + step, true);
  store(caller, address, bytes);
}

function takeOne(caller: Caller, address: number): boolean {
  const { value } = loadSemaphore(caller, address);
  if (value > 0) addToSemaphore(caller, address, -1n);
  return value > 0;
}

/** Loads or stores an element of shared memory. The numbers are texts, as they may be bigints. */
function element(name: string) {
  return (
    caller: Caller,
    address: number,
    array: keyof typeof ARRAYS,
    ...values: readonly string[]
  ): Answer => {
    const { what, isAtomic, length } = accessOf([name, address, array])!;
    const isBig = array.startsWith("Big");
    const operate = (bytes: Uint8Array) => {
      const view = new ARRAYS[array](bytes.buffer as ArrayBuffer);
      const numbers = values.map((text) => isBig ? BigInt(text) : Number(text));
      return ELEMENT_CALLS[name]!(view, 0, ...numbers);
    };
    const accesses = orderedAccesses(caller) ?? inOrder(memoryOf(caller));
    if (what === "update") {
      return { ret: 0, out: String(accesses.update(address, length, operate)) };
    }
    if (what === "load") {
      return { ret: 0, out: String(operate(accesses.load(address, length, isAtomic))) };
    }
    const bytes = new Uint8Array(length);
    const result = operate(bytes);
    accesses.store(address, bytes, isAtomic);
    return { ret: 0, out: String(result) };
  };
}

function memoryOf(caller: Caller): Memory {
  return {
    load: (address, length) => load(caller, address, length),
    store: (address, bytes) => store(caller, address, bytes),
  };
}

/** The loads and stores of a process if they do not take effect at once; otherwise `null`. */
function orderedAccesses(caller: Caller): OrderedAccesses | null {
  const { state: { ordering }, index } = caller;
  return ordering && new OrderedAccesses(memoryOf(caller), ordering, index);
}

/** Returns the alternatives to what usually happens if a process makes this call. */
export function alternativesTo(state: State, index: number, call: Call): readonly Alternative[] {
  const access = state.ordering === null ? null : accessOf(call);
  return access === null ? [] : orderedAccesses(callerOf(state, index))!.alternatives(access);
}

/** Orders all loads and stores of a process. */
export function fence(state: State, index: number): void {
  orderedAccesses(callerOf(state, index))?.fence();
}

/** Ends the loads and stores of a process that is killed or has ended. */
export function endAccesses(state: State, index: number): void {
  orderedAccesses(callerOf(state, index))?.end();
}

function callerOf(state: State, index: number): Caller {
  return { state, index, process: state.processes[index]!, mode: 0 };
}

export const memoryCalls = {
  ...Object.fromEntries(Object.keys(ELEMENT_CALLS).map((name) => [name, element(name)])),

  mmap(
    caller: Caller,
    hint: number,
    bytes: number,
    access: number,
    flags: number,
    fd: number,
  ): Answer {
    const { state, process, index } = caller;
    const length = pagesOf(bytes);
    if (length === 0) return -EINVAL;
    const isZeros = (flags & MAP_ANONYMOUS) !== 0;
    if (!isZeros) {
      const file = fileOf(caller, fd);
      const inode = state.inodes.get(file?.inode ?? -1);
      if (file === null || inode === undefined) return -EBADF;
      if ((flags & MAP_SHARED) === 0) {
        throw new Error("private mappings of files are not simulated");
      }
      if ((access & PROT_WRITE) !== 0 && !mayWrite(file)) return -EACCES;
      if (inode.entries !== null) return -ENODEV;
    }
    const isFixed = (flags & MAP_FIXED) !== 0;
    let address = hint;
    if (isFixed) {
      // What was mapped there is replaced in the same moment.
      if (process.maps.get(hint)?.length === length) end(caller, hint);
      if (!isFree(process, hint, length)) throw new Error("parts of mappings are not simulated");
    } else if (hint === 0 || !isFree(process, hint, length)) {
      address = freeAddress(process, length);
    }
    const id = isZeros ? -1 : process.fds.get(fd)!;
    state.processes[index]!.maps.set(address, { kind: isZeros ? "zeros" : "file", id, length });
    return address;
  },

  munmap(caller: Caller, address: number, bytes: number): Answer {
    const mapping = caller.process.maps.get(address);
    if (mapping?.length === pagesOf(bytes)) end(caller, address);
    else if (!isFree(caller.process, address, bytes)) {
      throw new Error("parts of mappings are not simulated");
    }
    return 0;
  },

  /** Makes the pages present, which they always are here. */
  madvise: (): Answer => 0,

  load(caller: Caller, address: number, length: number): Answer {
    return { ret: 0, out: load(caller, address, length) };
  },

  store(caller: Caller, address: number, bytes: readonly number[]): Answer {
    store(caller, address, bytes);
    return 0;
  },

  sem_init(caller: Caller, address: number, value: number): Answer {
    storeWord(caller, address, value);
    storeWord(caller, address + 4, 0);
    storeWord(caller, address + 8, 128); // glibc notes that the semaphore is shared
    return 0;
  },

  sem_trywait(caller: Caller, address: number): Answer {
    return takeOne(caller, address) ? 0 : -EAGAIN;
  },

  sem_post(caller: Caller, address: number): Answer {
    const { value, waiters } = loadSemaphore(caller, address);
    if (value === SEM_VALUE_MAX) return -EOVERFLOW;
    addToSemaphore(caller, address, 1n);
    if (waiters > 0n) wakeSleepers(caller, address, 1);
    return 0;
  },

  /**
   * Waits until `end` on the monotonic clock, in ms. Unlike in System V, the process that is woken competes with those
   * that come later: if one of them has taken what was posted, it waits again. A wait that times out does not look.
   */
  sem_clockwait(caller: Caller, address: number, end: number): Answer {
    const { state, process, index, mode } = caller;
    if (process.wait === null) {
      if (takeOne(caller, address)) return 0;
      const until = end - UPTIME_MS;
      if (until <= state.now) return -ETIMEDOUT;
      addToSemaphore(caller, address, WAITER); // it stays so if the process is killed
      return sleep(caller, address, until);
    }
    const { until, result } = process.wait;
    if (result === null && mode !== 2) return block(process, state, 0);
    leaveQueue(state, index);
    const isTaken = result !== null && takeOne(caller, address);
    if (!isTaken && result !== null && until > state.now) return sleep(caller, address, until);
    addToSemaphore(caller, address, -WAITER);
    return isTaken ? 0 : -ETIMEDOUT;
  },

  futex_wait(caller: Caller, address: number, value: number, ms: number): Answer {
    const { state, process, index, mode } = caller;
    fence(state, index);
    if (process.wait !== null) {
      const { result } = process.wait;
      if (result === null && mode !== 2) return block(process, state, 0);
      leaveQueue(state, index);
      return result === null ? -ETIMEDOUT : 0;
    }
    if (loadWord(caller, address) !== value) return -EAGAIN;
    return ms > 0 ? sleep(caller, address, state.now + ms) : -ETIMEDOUT;
  },

  futex_wake(caller: Caller, address: number, count: number): Answer {
    fence(caller.state, caller.index);
    return wakeSleepers(caller, address, count);
  },
};

/** Puts a process at the end of the queue of those that wait for a word. */
function sleep(caller: Caller, address: number, until: number): Answer {
  const { state, process, index } = caller;
  state.sleepers.push(index);
  return block(process, state, until, { word: locate(caller, address).word });
}

/** Wakes the first processes that wait for a word, also one if `count` is 0, and returns their number. */
function wakeSleepers(caller: Caller, address: number, count: number): number {
  const { state } = caller;
  const { word } = locate(caller, address);
  const woken = state.sleepers.filter((index) => state.processes[index]!.wait!.word === word)
    .slice(0, Math.max(1, count));
  for (const index of woken) wake(state.processes[index]!, 0);
  state.sleepers = state.sleepers.filter((index) => !woken.includes(index));
  return woken.length;
}

function end({ state, process, index }: Caller, address: number): void {
  const { kind, id } = process.maps.get(address)!;
  unmap(state, index, address);
  if (kind === "file") release(state, id);
}
