/**
 * Mutexes of glibc that processes lock and unlock by `Atomics`. The lists of their threads are in the shared bytes too, so
 * that another process can run, or this one be killed, before each store to them, and what the kernel would find is seen.
 */
import { atomicPthreads } from "../../backends/mutex/atomic_pthread.ts";
import { NEXT, PREV, RobustNode } from "../../backends/mutex/robust_list.ts";
import {
  PTHREAD_MUTEX,
  PTHREAD_MUTEX_OF,
  PTHREAD_MUTEX_ROBUST_ERRORCHECK_PSHARED,
  ROBUST_LIST_HEAD,
} from "../../backends/unix/linux_constants.ts";
import type { Ffi } from "../../ffi/types.ts";
import type { Ending } from "./scenario.ts";
import { ADDRESS, type Place, type SharedBytes } from "./shared_bytes.ts";

const { holder: LOCK, owner: OWNER, nusers: NUSERS, kind: KIND } = PTHREAD_MUTEX_OF.glibc;
const FUTEX_WAITERS = 1 << 31;
const PENDING = NEXT + 2;
const TURNS = 2;

/**
 * Where what lies in the bytes: the mutex, the heads of the lists, and data: two numbers that are equal while the mutex is
 * free, and whether a process waits.
 */
const HEADS = [64, 128] as const;
const DATA = 192;
const WAITING = 2;
const HEAD_BYTES = PTHREAD_MUTEX.next + ROBUST_LIST_HEAD.bytes;
/** The mutex that each process has locked before, outside of the shared bytes. */
const FIRST = { address: 0x5000n, link: 0x5020 } as const;

const threadOf = (process: number) => 100 + process;

function linkOf(byteOffset: number): number {
  return ADDRESS + byteOffset + PTHREAD_MUTEX.next;
}

/** Writes what glibc has left in the list of a thread that has locked its first mutex. */
function prepareHead(words: Int32Array): void {
  words[2 * PREV] = words[2 * NEXT] = FIRST.link;
  words.set([-PTHREAD_MUTEX.next, -1], 2 * NEXT + 2);
}

function firstMutex(thread: number, { low, high }: RobustNode): RobustNode {
  const ownMemory = { arrayBuffer: (_, bytes) => new ArrayBuffer(bytes) } as Partial<Ffi> as Ffi;
  const locked = new RobustNode(ownMemory, FIRST.address, PTHREAD_MUTEX.bytes);
  const { words } = locked;
  words[LOCK] = words[OWNER] = thread;
  words[NUSERS] = 1;
  words[KIND] = PTHREAD_MUTEX_ROBUST_ERRORCHECK_PSHARED;
  for (const index of [PREV, NEXT]) words.set([low, high], 2 * index);
  return locked;
}

/** What glibc does with a mutex that is not free, and with one that another thread waits for. */
function glibc(head: RobustNode, data: Int32Array) {
  return {
    lock({ words }: RobustNode) {
      const holder = Atomics.load(words, LOCK);
      if (holder === 0) return "held" as const;
      Atomics.store(data, WAITING, 1);
      const found = Atomics.compareExchange(words, LOCK, holder, holder | FUTEX_WAITERS);
      if (found !== holder) Atomics.store(data, WAITING, 0);
      return "held" as const;
    },
    unlock(mutex: RobustNode) {
      head.pointers[PENDING] = mutex.link;
      head.pointers[PREV] = head.pointers[NEXT] = head.link;
      mutex.words[OWNER] = 0;
      Atomics.exchange(mutex.words, LOCK, 0);
      Atomics.store(data, WAITING, 0); // it is woken
      head.pointers[PENDING] = 0;
      head.before = head;
      return true;
    },
  };
}

function lockAndCount(process: number) {
  return ({ view, ffi, address, note }: Place) => {
    const head = new RobustNode(ffi, address + BigInt(HEADS[process]!), HEAD_BYTES);
    const mutex = new RobustNode(ffi, address, PTHREAD_MUTEX.bytes);
    const thread = threadOf(process);
    const first = firstMutex(thread, head);
    const data = new Int32Array(view.buffer, DATA, 3);
    const functions = atomicPthreads(first, head, thread, glibc(head, data), () => {});
    if (functions === null) throw new Error("glibc is not as expected");
    head.pointers[PREV] = head.pointers[NEXT] = head.link; // the first mutex is unlocked
    for (let i = 0; i < TURNS; i++) {
      if (functions.lock(mutex, 0) !== "taken") continue;
      note("locked");
      if (data[0] !== data[1]) throw new Error("two processes hold the mutex");
      data[0] = data[0]! + 1;
      data[1] = data[1]! + 1;
      note("unlocked");
      if (!functions.unlock(mutex)) throw new Error("the mutex was not unlocked");
    }
  };
}

/** Says whether the kernel would not find the mutex that a killed process holds; `null` if it would. */
function problem({ buffer }: Uint8Array, { outcomes, hasKill }: Ending): string | null {
  const mutex = new Int32Array(buffer, 0, PTHREAD_MUTEX.bytes / 4);
  for (const [process, outcome] of outcomes.entries()) {
    const head = new Int32Array(buffer, HEADS[process]!, HEAD_BYTES / 4);
    const isHolder = (mutex[LOCK]! & ~FUTEX_WAITERS) === threadOf(process);
    const isPending = head[2 * PENDING] === linkOf(0);
    const isInList = head[2 * NEXT] === linkOf(0);
    const isListWhole = !isInList || mutex[2 * NEXT] === linkOf(HEADS[process]!);
    if (isHolder && !isPending && !isInList) return "the kernel does not find the mutex";
    if (isHolder && !isListWhole) return "the kernel does not find what the process holds besides";
    if (outcome === "ok" && (isHolder || isPending || isInList)) return "it is not unlocked";
  }
  const isWaiting = new Int32Array(buffer, DATA, 3)[WAITING] !== 0;
  return isWaiting && !hasKill ? "a process that waits was not woken" : null;
}

export const robustMutexes: SharedBytes = {
  name: "robust mutex",
  // A kill loses no store here: the processor performs them in order for the kernel of its own thread.
  isInOrder: true,
  bytes: DATA + 16,
  prepare({ buffer }) {
    const { bytes } = PTHREAD_MUTEX;
    new Int32Array(buffer, 0, bytes / 4)[KIND] = PTHREAD_MUTEX_ROBUST_ERRORCHECK_PSHARED;
    for (const offset of HEADS) prepareHead(new Int32Array(buffer, offset, HEAD_BYTES / 4));
  },
  programs: [lockAndCount(0), lockAndCount(1)],
  check: problem,
};
