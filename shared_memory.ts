import process from "node:process";
import { isClosed } from "./at_exit.ts";
import { Attachment } from "./attachment.ts";
import { Failure } from "./backends/errno.ts";
import { defaultBackend } from "./backends/mod.ts";
import type { Backend, Lock, Segment } from "./backends/types.ts";
import { AccessMode, SharedMemoryError } from "./errors.ts";
import { checkKey, ENDING, ErrorState, nativeKeyOf } from "./keyed_object.ts";
import { SHARED_MEMORY_PREFIX, SYSTEM_SEMAPHORE_PREFIX } from "./native_ipc_key.ts";

/** A `Uint8Array` without the methods that change it. */
export interface ReadonlyUint8Array
  extends
    Omit<Uint8Array, "buffer" | "copyWithin" | "fill" | "reverse" | "set" | "sort" | "subarray"> {
  /** A part of the bytes, from `begin` to before `end`; negative numbers count from the end. */
  subarray(begin?: number, end?: number): ReadonlyUint8Array;
  /** A byte. */
  readonly [index: number]: number;
}

/** The constructor of a typed array or of `DataView`. */
export interface ViewConstructor<View> {
  /** The size of an element in bytes; a `DataView` has none. */
  readonly BYTES_PER_ELEMENT?: number;
  /** Makes a view of a part of `buffer`. */
  new (buffer: ArrayBuffer, byteOffset?: number, length?: number): View;
}

/** What disposes the objects given to it: a `DisposableStack` or an `AsyncDisposableStack`. */
export interface Parent {
  /** Takes over the disposal of `value`. */
  use(value: Disposable): unknown;
}

/** What the operating system knows a segment and its lock by. */
interface Names {
  readonly segment: string | null;
  readonly lock: string | null;
}

const NO_NAMES: Names = { segment: null, lock: null };

/**
 * A named segment of memory that processes share, with a lock, and with the semantics and the wire
 * protocol of Qt's `QSharedMemory`.
 *
 * The segment of a key exists from `create()` until the last process that attached to it has
 * detached; ending a program normally detaches. Methods that can fail return `false` and say why in
 * {@linkcode SharedMemory.error} and {@linkcode SharedMemory.errorString}; a wrong type of argument is
 * a `TypeError`, a number that is no size a `RangeError`.
 *
 * Keep the object, or a view, as long as you want to be attached: what nothing refers to any more is
 * collected, and that detaches, unless the object holds the lock. A variable that the rest of the
 * program does not mention refers to nothing.
 *
 * In Deno it needs `--allow-ffi` and nothing else.
 *
 * @example
 * ```ts
 * import { SharedMemory } from "./mod.ts";
 *
 * using memory = new SharedMemory("visits");
 * if (!memory.create(4) && !memory.attach()) throw new Error(memory.errorString());
 * const count = memory.view(Uint32Array);
 * memory.lock();
 * count[0]! += 1;
 * memory.unlock();
 * ```
 */
export class SharedMemory implements Disposable {
  #key: string | null = null;
  #names: Names | null = NO_NAMES;
  #attachment: Attachment | null = null;
  #buffer: ArrayBuffer | null = null;
  #data: Uint8Array | null = null;
  readonly #errors = new ErrorState("SharedMemory");

  /**
   * Nothing is asked of the system before the first operation.
   *
   * @param key which segment; the same text is the same segment as in Qt
   * @param parent disposes this object when it is disposed
   * @throws {TypeError} if `key` is not a string, `null` or left out
   */
  constructor(key?: string | null, parent?: Parent | null) {
    this.setKey(key ?? null);
    parent?.use(this);
  }

  /** The key, or `null` if there is none or a native key was set. */
  key(): string | null {
    return this.#key;
  }

  /**
   * Sets the key, after detaching from the segment of the old one. The same key again does nothing.
   *
   * @throws {TypeError} if `key` is neither a string nor `null`
   */
  setKey(key: string | null): void {
    checkKey("SharedMemory.setKey", key);
    const native = this.#key === null && this.#names?.segment;
    // Qt: the empty key after none changes nothing.
    if (!native && (key === this.#key || (!key && this.#key === null))) return;
    this.#reset(key, key === null ? NO_NAMES : null);
  }

  /**
   * What the operating system knows the segment by, or `null` without a key. On Linux it is the path
   * of the key file, in the folder `TMPDIR` or else `/tmp`.
   *
   * @throws {SharedMemoryException} `KeyError` if there can be no native key: the key contains a
   * lone surrogate, or the folder does not exist
   */
  nativeKey(): string | null {
    try {
      return this.#resolve().segment;
    } catch (error) {
      throw this.#errors.exception("nativeKey", this.#shownKey(), error);
    }
  }

  /**
   * Sets what the operating system knows the segment by, after detaching; `key()` is `null` then.
   * Such a segment has no lock: `lock()` fails, and nothing guards its creation and removal. On Linux
   * it is the path of a file, which is deleted only if this object's `create()` made it and it is the last one out.
   *
   * @throws {TypeError} if `nativeKey` is neither a string nor `null`
   */
  setNativeKey(nativeKey: string | null): void {
    checkKey("SharedMemory.setNativeKey", nativeKey);
    if (this.#key === null && nativeKey === this.#names?.segment) return;
    this.#reset(null, { segment: nativeKey, lock: null });
  }

  /**
   * Makes a segment filled with zeros and attaches to it.
   *
   * @param size in bytes, at least 1
   * @param mode with `ReadOnly`, this object's views may only be read
   * @returns `false` with `AlreadyExists` if the key has a segment, even one that a crashed program
   * left: `attach()` and `detach()` remove such a one. Other errors: `InvalidSize`, `KeyError`,
   * `PermissionDenied`, `OutOfResources`, `LockError`, `UnknownError`
   * @throws {TypeError} if `size` is not a number or `mode` is not an access mode
   * @throws {RangeError} if `size` is not an integer or beyond 2^53 - 1
   */
  create(size: number, mode: AccessMode = AccessMode.ReadWrite): boolean {
    if (typeof size !== "number") {
      throw new TypeError(`SharedMemory.create: size must be a number, not ${typeof size}`);
    }
    if (!Number.isSafeInteger(size)) {
      throw new RangeError(
        `SharedMemory.create: size must be a whole number of bytes below 2^53, not ${size}`,
      );
    }
    return this.#attach("create", mode, ({ segments }, nativeKey, lock) => {
      if (size < 1) {
        throw new Failure("InvalidSize", `the size must be at least 1 byte, not ${size}`);
      }
      return segments.create(nativeKey, size, mode, lock);
    });
  }

  /**
   * Attaches to the segment of the key. It never waits for somebody who holds the lock.
   *
   * @param mode with `ReadOnly`, this object's views may only be read
   * @returns `false` with `NotFound` if there is no such segment, `AlreadyExists` if this object is
   * attached. Other errors: `KeyError`, `PermissionDenied`, `InvalidSize` (Bun: above 4 GiB),
   * `OutOfResources`, `LockError`, `UnknownError`
   * @throws {TypeError} if `mode` is not an access mode
   */
  attach(mode: AccessMode = AccessMode.ReadWrite): boolean {
    return this.#attach(
      "attach",
      mode,
      ({ segments }, nativeKey, lock) => segments.attach(nativeKey, mode, lock),
    );
  }

  /**
   * Detaches: every view of the segment has length 0 from now on, and the lock is released if this
   * object holds it. The last one to detach removes the segment.
   *
   * A buffer that cannot be emptied, because it was transferred or because Bun is using it in an
   * unfinished native call, becomes private zero-filled memory instead, whose address range stays
   * reserved.
   *
   * @returns `false` with `NotFound` if this object is not attached
   */
  detach(): boolean {
    const attachment = this.#current;
    if (attachment === null) return this.#notAttached("detach");
    this.#attachment = null;
    this.#buffer = null;
    this.#data = null;
    try {
      attachment.end(true);
    } catch (error) {
      return this.#errors.fail("detach", this.#shownKey(), error);
    }
    return this.#errors.clear();
  }

  /** Whether this object is attached to a segment. */
  isAttached(): boolean {
    return this.#current !== null;
  }

  /** The size of the segment in bytes, 0 if this object is not attached. */
  size(): number {
    return this.#current?.size ?? 0;
  }

  /**
   * The bytes of the segment: the same array each time, or `null` if this object is not attached.
   * After `ReadOnly` a store into it kills the process. To use a view after `detach()` is harmless:
   * it has no elements.
   */
  data(): Uint8Array | null {
    return this.#current && this.#data;
  }

  /** What {@linkcode SharedMemory.data} returns, typed as read-only. */
  constData(): ReadonlyUint8Array | null {
    return this.#current && this.#data;
  }

  /**
   * A typed array or a `DataView` on a part of the segment.
   *
   * @param Type `Int32Array`, `Float64Array`, `DataView`, …
   * @param byteOffset where it starts, in bytes; a multiple of the element's size
   * @param length its length in elements (in bytes for a `DataView`); as many as fit if left out
   * @throws {SharedMemoryException} `NotFound` if this object is not attached
   * @throws {RangeError} if it would not lie within the segment
   *
   * @example
   * ```ts
   * import { SharedMemory } from "./mod.ts";
   *
   * using memory = new SharedMemory("view example");
   * memory.create(64);
   * const header = memory.view(DataView, 0, 16);
   * const samples = memory.view(Float64Array, 16);
   * console.log(header.byteLength, samples.length); // 16 6
   * ```
   */
  view<View>(Type: ViewConstructor<View>, byteOffset = 0, length?: number): View {
    const buffer = this.#buffer;
    if (this.#current === null || buffer === null) {
      throw this.#errors.exception(
        "view",
        this.#shownKey(),
        new Failure("NotFound", "this object is not attached; create() or attach() first"),
      );
    }
    const element = Type.BYTES_PER_ELEMENT ?? 1;
    const count = length ?? Math.max(0, Math.floor((this.size() - byteOffset) / element));
    const end = byteOffset + count * element;
    if (
      !Number.isSafeInteger(byteOffset) || !Number.isSafeInteger(count) || byteOffset < 0 ||
      count < 0 || end > this.size() || byteOffset % element !== 0
    ) {
      throw new RangeError(
        `SharedMemory.view (${
          JSON.stringify(this.#shownKey())
        }): ${count} elements of ${element} ` +
          `bytes at byte ${byteOffset} do not fit a segment of ${this.size()} bytes; the offset must ` +
          `be a multiple of ${element}`,
      );
    }
    return new Type(buffer, byteOffset, count);
  }

  /**
   * Locks the segment for this object; other processes, Qt's too, wait until it is unlocked. It blocks
   * the thread, and so the event loop, as long as that takes. If the holder dies, the kernel unlocks.
   * To lock again what this object has locked warns and returns `true`; there is no count.
   *
   * @returns `false` with `LockError` if this object is not attached, if the segment has a native key
   * and so no lock, or if another object of the same thread holds the lock, for whom to wait would be
   * for ever
   */
  lock(): boolean {
    const attachment = this.#current;
    if (attachment === null) return this.#notAttached("lock", "LockError");
    if (attachment.isLocked) {
      process.emitWarning("SharedMemory.lock: already locked");
      return this.#errors.clear();
    }
    try {
      attachment.lock(this.#buffer!);
    } catch (error) {
      return this.#errors.fail("lock", this.#shownKey(), error, "LockError");
    }
    return this.#errors.clear();
  }

  /**
   * Unlocks the segment.
   *
   * @returns `false` with `LockError` if this object does not hold the lock
   */
  unlock(): boolean {
    const attachment = this.#current;
    if (attachment === null) return this.#notAttached("unlock", "LockError");
    try {
      if (!attachment.isLocked) {
        throw new Failure("LockError", "this object does not hold the lock; lock() first");
      }
      attachment.unlock();
    } catch (error) {
      return this.#errors.fail("unlock", this.#shownKey(), error, "LockError");
    }
    return this.#errors.clear();
  }

  /** The number of the last operation's error, `NoError` if it succeeded. */
  error(): SharedMemoryError {
    return SharedMemoryError[this.#errors.code];
  }

  /** The last operation's error as text: operation, key, system call and advice. `""` if it succeeded. */
  errorString(): string {
    return this.#errors.text;
  }

  /** Detaches if attached. It may be called any number of times, and never throws. */
  [Symbol.dispose](): void {
    if (this.#current !== null) this.detach();
  }

  #attach(
    operation: string,
    mode: AccessMode,
    open: (backend: Backend, nativeKey: string, lock: Lock | null) => Segment,
  ): boolean {
    if (mode !== AccessMode.ReadOnly && mode !== AccessMode.ReadWrite) {
      throw new TypeError(
        `SharedMemory.${operation}: mode must be an AccessMode, not ${String(mode)}`,
      );
    }
    try {
      if (isClosed()) throw new Failure("UnknownError", ENDING);
      if (this.#current !== null) {
        throw new Failure("AlreadyExists", "this object is attached already; detach() first");
      }
      const names = this.#resolve();
      if (!names.segment) throw new Failure("KeyError", "the key is empty; set one");
      const backend = defaultBackend();
      const lock = names.lock === null ? null : backend.semaphores.lock(names.lock);
      let segment: Segment;
      try {
        segment = open(backend, names.segment, lock);
      } catch (error) {
        lock?.close();
        throw error;
      }
      try {
        const buffer = backend.arrayBuffer(segment.address, segment.size);
        this.#data = new Uint8Array(buffer);
        this.#buffer = buffer;
      } catch (error) {
        segment.unmap();
        segment.free();
        segment.leave(false, true);
        if (!(error instanceof RangeError)) throw error;
        throw new Failure(
          "InvalidSize",
          `this runtime cannot make a view of ${segment.size} bytes: ${error.message}`,
        );
      }
      this.#attachment = new Attachment(segment, lock, names.segment, this.#buffer);
    } catch (error) {
      return this.#errors.fail(operation, this.#shownKey(), error);
    }
    return this.#errors.clear();
  }

  /** The names that belong to the key, found when they are first needed. */
  #resolve(): Names {
    if (this.#names !== null) return this.#names;
    const backend = this.#key === "" ? null : defaultBackend();
    return this.#names = backend === null ? NO_NAMES : {
      segment: nativeKeyOf(this.#key, SHARED_MEMORY_PREFIX, backend),
      lock: nativeKeyOf(this.#key, SYSTEM_SEMAPHORE_PREFIX, backend),
    };
  }

  #reset(key: string | null, names: Names | null): void {
    this[Symbol.dispose]();
    this.#key = key;
    this.#names = names;
    this.#errors.clear();
  }

  /** `null` also once the end of the program has ended it. */
  get #current(): Attachment | null {
    return this.#attachment?.isEnded === false ? this.#attachment : null;
  }

  #notAttached(operation: string, code: "NotFound" | "LockError" = "NotFound"): false {
    const failure = new Failure(code, "this object is not attached; create() or attach() first");
    return this.#errors.fail(operation, this.#shownKey(), failure);
  }

  #shownKey(): string | null {
    return this.#key ?? this.#names?.segment ?? null;
  }
}
