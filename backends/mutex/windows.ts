import process from "node:process";
import { HeldList, HeldNode } from "./held_list.ts";
import { type Kernel32, slice } from "../win32/kernel32.ts";
import { type LockOutcome, MutexAbi, type MutexBackend } from "./types.ts";
import { wideName } from "../win32/names.ts";
import { SLICE_MS } from "../timing.ts";

/** The block contains 128 random bits and a word that says whether the mutex is held. */
const ID_WORDS = 4;
const HELD_WORD = ID_WORDS;
const BLOCK_BYTES = 4 * (HELD_WORD + 1);

/** A named kernel mutex, as one thread uses it. */
export class WindowsMutex extends HeldNode {
  /**
   * The mutex has its own buffer, because the buffer of the segment may be transferred away while the mutex is held.
   */
  readonly words: Int32Array;
  /** The words that the id in the segment must have. */
  readonly id: Int32Array;
  readonly name: string;
  readonly handle: bigint;

  constructor(words: Int32Array, name: string, handle: bigint) {
    super();
    this.words = words;
    this.id = words.slice(0, ID_WORDS);
    this.name = name;
    this.handle = handle;
  }
}

/**
 * Mutexes of the Windows kernel. Each is owned by a thread, and if that thread has ended, the kernel tells the next one
 * that locks it. The segment contains the name of the mutex: 128 random bits. The kernel removes a mutex with its last
 * handle, so it forgets a dead owner if no other process had opened the mutex. The segment outlives the mutex then,
 * which is why the holder also marks the mutex as held in the segment.
 */
export class WindowsMutexes implements MutexBackend<WindowsMutex> {
  readonly abi = MutexAbi.windows;
  readonly scopeName = "session of Windows, which does not see it";
  readonly #kernel: Kernel32;
  readonly held = new HeldList(new HeldNode());
  /**
   * The names of the mutexes that this thread holds. Without them the kernel would let the thread acquire a mutex
   * twice.
   */
  readonly #heldNames = heldByThread();
  /** The handles by name, kept until the segment that they were opened for is closed. */
  readonly #opened = new WeakMap<object, Map<string, bigint>>();

  constructor(kernel: Kernel32) {
    this.#kernel = kernel;
  }

  arrayBuffer(address: bigint, byteLength: number): ArrayBuffer {
    return this.#kernel.ffi.arrayBuffer(address, byteLength);
  }

  scope(): number {
    return this.#kernel.sessionOf(process.pid) | 0;
  }

  init(address: bigint): void {
    crypto.getRandomValues(this.#wordsAt(address).subarray(0, ID_WORDS));
  }

  /** Returns `false`, because the mutex of the kernel has ended with its last user. */
  wasHeld(): boolean {
    return false;
  }

  #wordsAt(address: bigint): Int32Array<ArrayBuffer> {
    return new Int32Array(this.arrayBuffer(address, BLOCK_BYTES));
  }

  join(address: bigint, segment: object): WindowsMutex {
    const words = this.#wordsAt(address);
    const id = Array.from(words.subarray(0, ID_WORDS), (word) => hex(word));
    const name = `Local\\shared-memory-mutex-${id.join("")}`;
    let handles = this.#opened.get(segment);
    if (handles === undefined) this.#opened.set(segment, handles = new Map());
    let handle = handles.get(name);
    if (handle === undefined) {
      handles.set(name, handle = this.#kernel.openMutex(name, wideName(name)));
    }
    return new WindowsMutex(words, name, handle);
  }

  isMutex({ words, id }: WindowsMutex): boolean {
    return id.every((word, i) => words[i] === word);
  }

  lock(mutex: WindowsMutex, ms: number): LockOutcome {
    if (!this.isMutex(mutex)) return "damaged";
    const { name, handle, words } = mutex;
    if (this.#heldNames.has(name)) return "own";
    const result = this.#kernel.wait(handle, slice(ms, SLICE_MS));
    if (result === "timeout") return "held";
    this.#heldNames.add(name);
    this.held.push(mutex);
    const wasHeld = Atomics.exchange(words, HELD_WORD, 1) !== 0;
    return wasHeld ? "abandoned" : result;
  }

  /** Returns `null`, because the kernel does not tell who holds a mutex. */
  holder(): null {
    return null;
  }

  /** Returns `null`, because the kernel releases the mutexes of dead threads. */
  vanishedOwner(): null {
    return null;
  }

  unlock(mutex: WindowsMutex): boolean {
    const { name, handle, words } = mutex;
    const isIntact = this.isMutex(mutex);
    const after = this.held.after(mutex);
    if (isIntact) Atomics.store(words, HELD_WORD, 0); // otherwise the word is another mutex's
    const isReleased = this.#kernel.c.ReleaseMutex(handle) !== 0;
    if (after.before === mutex) after.before = mutex.before; // remove() without the call: the stack may overflow
    this.#heldNames.delete(name);
    return isReleased && isIntact;
  }

  close(segment: object): void {
    for (const handle of this.#opened.get(segment)?.values() ?? []) {
      this.#kernel.c.CloseHandle(handle);
    }
    this.#opened.delete(segment);
  }
}

function hex(word: number): string {
  return (word >>> 0).toString(16).padStart(8, "0");
}

/** Returns the set of held names that all copies of this module in the thread share. */
function heldByThread(): Set<string> {
  const key = Symbol.for("@shared-memory/shared-memory windows mutexes 1");
  const shared = globalThis as typeof globalThis & { [key]?: Set<string> };
  return shared[key] ??= new Set();
}
