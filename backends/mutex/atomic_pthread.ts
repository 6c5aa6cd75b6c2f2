import {
  PTHREAD_MUTEX,
  PTHREAD_MUTEX_NOTRECOVERABLE,
  PTHREAD_MUTEX_OF,
  PTHREAD_MUTEX_ROBUST_ERRORCHECK_PSHARED,
} from "../unix/linux_constants.ts";
import { NEXT, PREV, type RobustNode } from "./robust_list.ts";
import type { LockOutcome } from "./types.ts";

const { holder: LOCK, owner: OWNER, nusers: NUSERS, kind: KIND } = PTHREAD_MUTEX_OF.glibc;
/** `owner` and `nusers`, as one float. */
const USER = OWNER / 2;
/** Pointers of the head of the list, and their words, of which the lower half is the first. */
const [LIST, OFFSET, PENDING] = [NEXT, NEXT + 1, NEXT + 2];
const [LIST_LOW, LIST_HIGH] = [2 * LIST, 2 * LIST + 1];

/** Locks and unlocks mutexes, as a {@linkcode MutexBackend} does. */
export interface LocksAndUnlocks {
  lock(this: void, mutex: RobustNode, ms: number): LockOutcome;
  unlock(this: void, mutex: RobustNode): boolean;
}

/**
 * Locks and unlocks free mutexes of glibc by the stores that glibc itself makes, in its order
 * (`nptl/pthread_mutex_trylock.c`, `nptl/pthread_mutex_unlock.c`). So threads that call glibc can share such a mutex.
 *
 * A thread may end after each of these stores. The kernel then looks at the mutexes in the list of the thread, and at the
 * one that is *pending*, and marks those whose word contains the thread as abandoned. So a mutex must be pending or in
 * the list from before its word is set until after its word is cleared:
 *
 * - to lock it: `pending` points to it, its word changes from 0 to the thread, it is put into the list, `pending` is
 *   cleared, and `owner` and `nusers` are set, which are only for glibc (`count` means nothing for mutexes of this kind);
 * - to unlock it: `pending` points to it, it is removed from the list, `owner` and `nusers` are cleared, its word changes
 *   from the thread to 0, and `pending` is cleared. If a thread waits for the mutex, its word says so and does not change.
 *   It is then put into the list again, and glibc unlocks it and wakes that thread.
 *
 * Between the first store to `pending` and the last there is no call and no loop, since a stack overflow and the end of a
 * worker by `terminate()` can only come there. The exceptions are `isLeft`, where the mutex is another thread's or pending,
 * and `wakeAll`, when the mutex is free again: if the thread ends there, the kernel wakes a thread that waits for the
 * pending mutex. A timeout of `node:vm`, after which the thread goes on, can also come at an operation of `Atomics`. The
 * next call for the mutex then finishes what was begun: `isLeft` tells `lock` that the word was changed and nothing else,
 * and `Pthreads` puts the mutex into the list again before it unlocks it, unless it is free by then, or another thread's.
 *
 * Engines may merge or move plain stores and loads, but not across an operation of `Atomics`. V8 takes 8 ns for one, half
 * of what glibc takes for both functions, so each function has the one that it cannot do without. `pending` is cleared
 * only if the words of the list, loaded after the pointer was stored, show the mutex.
 *
 * These are functions with constants instead of methods with fields, because engines compile that into less code.
 *
 * @param locked a mutex that glibc has locked, while this thread holds no other one
 * @param head the head of the list of this thread
 * @param thread the number of this thread
 * @param glibc what calls glibc, for everything but the plain case
 * @param wakeAll wakes the threads that wait for a mutex
 * @returns `null` if glibc has not left in `locked` and in the list what these functions would
 */
export function atomicPthreads(
  locked: RobustNode,
  head: RobustNode,
  thread: number,
  glibc: LocksAndUnlocks,
  wakeAll: (mutex: RobustNode) => void,
): LocksAndUnlocks | null {
  if (!isAsExpected(locked, head, thread)) return null;
  const list = head.pointers;
  const listWords = head.words;
  const used = locked.pointers[USER]!;

  /** Whether code of this thread was stopped just after it had changed the word of a mutex from 0 to `found`. */
  function isLeft(mutex: RobustNode, found: number): boolean {
    if (found !== thread || mutex.words[OWNER] !== 0) return false;
    for (let node = head.before; node !== head; node = node.before) {
      if (node === mutex) return false;
    }
    return true;
  }

  return {
    lock(mutex, ms) {
      const { words, pointers, link } = mutex;
      const { before } = head;
      if (
        // Other code of this thread may hold a mutex that it has locked later: then the list begins with that one.
        listWords[LIST_LOW] !== before.low || listWords[LIST_HIGH] !== before.high ||
        words[KIND] !== MUTEX_KIND
      ) return glibc.lock(mutex, ms);
      list[PENDING] = link;
      const found = Atomics.compareExchange(words, LOCK, 0, thread);
      if (found !== 0 && !isLeft(mutex, found)) {
        list[PENDING] = 0;
        return glibc.lock(mutex, ms);
      }
      const owner = words[OWNER];
      if (owner !== 0) { // no thread can lock it any more, or it was overwritten
        if (Atomics.exchange(words, LOCK, 0) !== thread) wakeAll(mutex);
        list[PENDING] = 0;
        return owner === PTHREAD_MUTEX_NOTRECOVERABLE ? "unrecoverable" : glibc.lock(mutex, ms);
      }
      before.pointers[PREV] = link;
      pointers[NEXT] = before.link;
      pointers[PREV] = head.link;
      list[LIST] = link;
      if (listWords[LIST_LOW] === mutex.low) list[PENDING] = 0;
      pointers[USER] = used;
      mutex.before = before;
      head.before = mutex;
      return "taken";
    },

    unlock(mutex) {
      const { words, pointers, before, link } = mutex;
      if (
        // Only the mutex that was locked last, of all that this thread holds, lies between two nodes that are known.
        head.before !== mutex || !mutex.isLinked ||
        listWords[LIST_LOW] !== mutex.low || listWords[LIST_HIGH] !== mutex.high ||
        words[OWNER] !== thread || words[KIND] !== MUTEX_KIND
      ) return glibc.unlock(mutex);
      list[PENDING] = link;
      before.pointers[PREV] = head.link;
      list[LIST] = before.link;
      pointers[PREV] = 0;
      pointers[NEXT] = 0;
      pointers[USER] = 0;
      if (Atomics.compareExchange(words, LOCK, thread, 0) !== thread) {
        before.pointers[PREV] = link;
        pointers[NEXT] = before.link;
        pointers[PREV] = head.link;
        list[LIST] = link;
        if (listWords[LIST_LOW] === mutex.low) list[PENDING] = 0;
        pointers[USER] = used;
        return glibc.unlock(mutex);
      }
      list[PENDING] = 0;
      head.before = before;
      return true;
    },
  };
}

const MUTEX_KIND = PTHREAD_MUTEX_ROBUST_ERRORCHECK_PSHARED;

function isAsExpected(locked: RobustNode, head: RobustNode, thread: number): boolean {
  const { words } = locked;
  const expected: readonly (readonly [Int32Array, index: number, value: number])[] = [
    [words, LOCK, thread],
    [words, OWNER, thread],
    [words, NUSERS, 1],
    [words, KIND, MUTEX_KIND],
    ...pointerWords(locked, PREV, head),
    ...pointerWords(locked, NEXT, head),
    ...pointerWords(head, PREV, locked),
    ...pointerWords(head, LIST, locked),
    [head.words, 2 * OFFSET, -PTHREAD_MUTEX.next],
    [head.words, 2 * OFFSET + 1, -1],
    [head.words, 2 * PENDING, 0],
    [head.words, 2 * PENDING + 1, 0],
  ];
  return expected.every(([words, index, value]) => words[index] === value);
}

/** Returns what two words contain if they are a pointer to a node. */
function pointerWords({ words }: RobustNode, index: number, { low, high }: RobustNode) {
  return [[words, 2 * index, low], [words, 2 * index + 1, high]] as const;
}
