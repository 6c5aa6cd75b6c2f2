import process from "node:process";
import { isClosed } from "./core/exit_hook.ts";
import {
  Attachment,
  AttachmentSlot,
  noLock,
  refuseNested,
  requirePersistable,
} from "./core/attachment.ts";
import { BackendError } from "./backends/failure.ts";
import { backendOf } from "./backends/mod.ts";
import { type Backend, type Lock, PRIVATE, type Segment } from "./backends/types.ts";
import { CUSTOM_INSPECT, type InspectArguments, shown } from "./custom_inspect.ts";
import { AccessMode, type ErrorReason, SharedMemoryError } from "./errors.ts";
import { legacyType, lockNameOf, type NativeName } from "./core/key_name.ts";
import {
  checkKey,
  isKeyTypeSupported,
  Keyed,
  legacyKeyOf,
  safeKeyOf,
  safeType,
} from "./core/keyed.ts";
import { ENDING } from "./core/last_error.ts";
import { NativeIpcKey, type NativeIpcKeyType } from "./native_ipc_key.ts";
import { requireStack, requireStackToUndo } from "./core/stack.ts";
import { checkFunction, checkSize, refuseThenable } from "./core/arguments.ts";
import { checkedOptions, OPEN_TIMEOUT_MS, type OpenOptions } from "./core/open_options.ts";
import type { Bytes, ReadonlyUint8Array, ViewConstructor } from "./core/view_types.ts";
import { timeoutOf, waitOf, type WaitOptions } from "./core/waiter.ts";

/** An object that disposes the objects given to it, such as a `DisposableStack` or an `AsyncDisposableStack`. */
export interface Parent {
  /** Takes over the disposal of `value`. */
  use(value: Disposable): unknown;
}

/** The names by which the operating system knows a segment and its lock. */
interface Names {
  readonly segment: NativeName | null;
  readonly lock: NativeName | null;
}

const NOT_LOCKED = "this object does not hold the lock; lock() first";
const NOT_ATTACHED = "this object is not attached; create() or attach() first";

const PROMISE_TO_OPEN =
  "SharedMemory.open: initialize or adopt returned a promise, for which the lock does not wait";
const PROMISE_TO_WITH_LOCK =
  "SharedMemory.withLock: fn returned a promise, for which the lock does not wait; use withLockAsync()";

const NO_NAMES: Names = { segment: null, lock: null };

/**
 * A `SharedMemory` is a named segment of memory that processes share, with a lock. It has the semantics and the wire
 * protocol of Qt's `QSharedMemory`. An argument of a wrong type is a `TypeError`, and a number that is no size is a
 * `RangeError`.
 *
 * ### Modern surface
 *
 * A member that can fail throws a {@linkcode SharedMemoryException}:
 *
 * - opening: {@linkcode SharedMemory.open}, {@linkcode SharedMemory.attached}, and `[Symbol.dispose]()`, which `using`
 *   calls
 * - bytes: {@linkcode SharedMemory.byteLength}, {@linkcode SharedMemory.bytes}, {@linkcode SharedMemory.view}
 * - lock: {@linkcode SharedMemory.acquireLock}, {@linkcode SharedMemory.acquireLockAsync},
 *   {@linkcode SharedMemory.withLock}, {@linkcode SharedMemory.withLockAsync}
 *
 * ### Qt's methods
 *
 * These methods have Qt's names, or are additions in the same style. Those that return a boolean return `false` if they
 * fail, and `error()`, `errorString()` and `errorReason()` say why:
 *
 * - keys: the constructor, `key()`, `setKey()`, `nativeKey()`, `nativeIpcKey()`, `setNativeKey()`, and the static
 *   `isKeyTypeSupported()`, `platformSafeKey()`, `legacyNativeKey()`
 * - segment: `create()`, `attach()`, `createOrAttach()`, `detach()`, `isAttached()`, `size()`, `data()`, `constData()`
 * - lock: `lock()`, `tryLock()`, `lockAsync()`, `unlock()`
 *
 * ### Lifetime
 *
 * The segment of a key exists from its creation until the last process that attached to it has detached. A normal end
 * of a program detaches.
 *
 * The segment stays attached as long as this object or any view of it is reachable. Once all of them have been
 * garbage-collected it is detached, unless the object holds the lock. An engine may collect a variable after its last
 * use, even inside its scope, so keep using the object or call `detach()`.
 *
 * In Deno the class needs the permission `--allow-ffi` and no other. Where the runtime has no FFI, or the system has no
 * shared memory that this module knows, the first method that needs it throws an {@linkcode UnsupportedError}.
 *
 * @example
 * ```ts
 * import { SharedMemory } from "./mod.ts";
 *
 * using memory = SharedMemory.open("visits", { size: 4 });
 * const count = memory.view(Uint32Array);
 * memory.withLock(() => count[0]! += 1);
 * ```
 *
 * @example As in Qt
 * ```ts
 * import { SharedMemory } from "./mod.ts";
 *
 * using memory = new SharedMemory("visits");
 * if (!memory.createOrAttach(4)) throw new Error(memory.errorString());
 * const count = memory.view(Uint32Array);
 * memory.lock();
 * count[0]! += 1;
 * memory.unlock();
 * ```
 */
export class SharedMemory implements Disposable {
  readonly #keyed = new Keyed("SharedMemory");
  #names: Names | null = NO_NAMES;
  readonly #access = new AttachmentSlot();
  #data: Bytes | null = null;
  readonly #errors = this.#keyed.errors;

  // The modern surface. A member that can fail throws a SharedMemoryException.

  /**
   * Creates the segment of `key`, or attaches to it, as the options say, and throws if that fails.
   *
   * If several processes do this at once with `size`, exactly one creates the segment, and the others attach when
   * `initialize` has filled it. If that process is killed before, the next one begins anew. A segment that no process is
   * attached to was left by a crash, and is replaced by a new one unless `stale` is `"keep"`. Without `size` the call only
   * attaches.
   *
   * @param key the key of the segment; the same text is the same segment as in Qt
   * @throws {SharedMemoryException} with the errors of {@linkcode SharedMemory.createOrAttach}, or
   * `LockError` after `timeout`
   * @throws {TypeError | RangeError} if an argument or option is not what it should be
   * @throws whatever `initialize` throws; the segment is gone then
   *
   * @example
   * ```ts
   * import { SharedMemory } from "./mod.ts";
   *
   * using memory = SharedMemory.open("settings", {
   *   size: 1024,
   *   initialize: (bytes) => bytes.fill(255),
   * });
   * console.log(memory.data()![0]); // 255, whichever process made it
   * ```
   */
  static open(key: string | NativeIpcKey, options: OpenOptions = {}): SharedMemory {
    return SharedMemory.openAccepted(key, options, (memory) => memory);
  }

  /**
   * @internal Opens as {@linkcode SharedMemory.open} does, and returns what `accept` makes of the segment. If `accept`
   * throws, the segment is detached. Its lifetime is noted only afterwards, so that a segment which is refused stays what
   * it was for its users.
   */
  static openAccepted<Result>(
    key: string | NativeIpcKey,
    options: OpenOptions,
    accept: (memory: SharedMemory) => Result,
  ): Result {
    checkKey("SharedMemory.open", key ?? null);
    const read = checkedOptions(options);
    const memory = new SharedMemory(key);
    const { size, mode = AccessMode.ReadWrite, disposition, permissions = PRIVATE } = read;
    const isToAttach = size === undefined || disposition === "attach" && read.adopt === undefined;
    const opened = isToAttach
      ? memory.#attach(
        "open",
        mode,
        ({ segments }, nativeKey, lock) => {
          if (read.lifetime === "until-removed") requirePersistable(segments, nativeKey, lock);
          return segments.attach(nativeKey, mode, lock, permissions, size);
        },
        permissions,
      )
      : memory.#openOrCreate("open", { ...read, size, mode });
    if (!opened) throw memory.#errors.lastException();
    try {
      if (read.lifetime !== "until-removed") return accept(memory);
      memory.#current?.respectPersistence();
      const accepted = accept(memory);
      memory.#setPersistent("open", true);
      return accepted;
    } catch (error) {
      memory.detach();
      throw error;
    }
  }

  /** Whether this object is attached to a segment. */
  get attached(): boolean {
    return this.#current !== null;
  }

  /**
   * The size of the segment in bytes, 0 if this object is not attached. Windows, and macOS for POSIX keys, round the size
   * that `create()` got up to whole pages.
   */
  get byteLength(): number {
    return this.#current?.size ?? 0;
  }

  /**
   * The bytes of the segment: the same array each time. After `ReadOnly` a store into it kills the process. A view that is
   * used after `detach()` is harmless: it has no elements.
   *
   * @throws {SharedMemoryException} if this object is not attached (the reason is `NotAttached`), or if the buffer was
   * transferred away (`Transferred`)
   *
   * @example
   * ```ts
   * import { SharedMemory } from "./mod.ts";
   *
   * using memory = SharedMemory.open("bytes example", { size: 16 });
   * memory.bytes.fill(1);
   * console.log(memory.byteLength, memory.attached); // 16 true
   * ```
   */
  get bytes(): Bytes {
    return this.#bytes("bytes");
  }

  /**
   * Creates a typed array or a `DataView` on a part of the segment.
   *
   * @param Type `Int32Array`, `Float64Array`, `DataView`, …
   * @param byteOffset where it starts, in bytes; a multiple of the element's size
   * @param length its length in elements (in bytes for a `DataView`); as many as fit if left out
   * @throws {SharedMemoryException} `NotFound` if this object is not attached, or if its buffer was transferred away, with
   * the reason `Transferred`
   * @throws {TypeError} if `Type` has no size of elements
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
    checkFunction("SharedMemory.view", "Type", Type);
    const element = Type.BYTES_PER_ELEMENT ?? 1; // first: it may be a getter, which may do anything
    if (!Number.isInteger(element) || element < 1) {
      throw new TypeError(
        `SharedMemory.view: BYTES_PER_ELEMENT must be a number of bytes, not ${String(element)}`,
      );
    }
    const buffer = this.#buffer("view");
    const count = length ?? Math.max(0, Math.floor((this.size() - byteOffset) / element));
    const end = byteOffset + count * element;
    if (
      !Number.isSafeInteger(byteOffset) || !Number.isSafeInteger(count) || byteOffset < 0 ||
      count < 0 || end > this.size() || byteOffset % element !== 0
    ) {
      throw new RangeError(
        `SharedMemory.view (${
          JSON.stringify(this.#keyed.shown)
        }): ${count} elements of ${element} ` +
          `bytes at byte ${byteOffset} do not fit a segment of ${this.size()} bytes; the offset must ` +
          `be a multiple of ${element}`,
      );
    }
    return new Type(buffer, byteOffset, count);
  }

  /**
   * Acquires the lock, and returns an object whose disposal releases it. It blocks the thread, and so the event loop, until
   * the lock is acquired or the timeout has passed.
   *
   * @param options `timeout` in ms, without limit if left out. A signal that is aborted already throws its reason; a blocked
   * thread cannot see that a signal is aborted
   * @throws {SharedMemoryException} `LockError` if the lock cannot be acquired (the reason is `Timeout` after the timeout),
   * or if this object holds it
   * @throws {TypeError | RangeError} if the timeout is not a number of ms
   *
   * @example
   * ```ts
   * import { SharedMemory } from "./mod.ts";
   *
   * using memory = SharedMemory.open("visits", { size: 4 });
   * const count = memory.view(Uint32Array);
   * {
   *   using _lock = memory.acquireLock({ timeout: 1000 });
   *   count[0]! += 1;
   * } // the lock is released here, also after an error
   * ```
   */
  acquireLock(options: WaitOptions = {}): Disposable {
    return heldLock(this.#hold("acquireLock", options));
  }

  /**
   * Acquires the lock without blocking the event loop, and returns an object whose disposal releases it. The calls that
   * wait in one thread acquire it in their order.
   *
   * @returns the object; disposing it a second time, or after `detach()`, does nothing
   * @throws {SharedMemoryException} (rejects) `LockError` if the lock cannot be acquired, as after `timeout`
   * @throws (rejects) the reason of `signal` if that is aborted first; then the lock is not acquired
   * @throws {TypeError | RangeError} (rejects) if the timeout is not a number of ms
   * @throws {RangeError} if too little stack is left, as a rule at once instead of returning a promise; nothing is done then
   *
   * @example
   * ```ts
   * import { SharedMemory } from "./mod.ts";
   *
   * using memory = SharedMemory.open("visits", { size: 4 });
   * const count = memory.view(Uint32Array);
   * {
   *   using _lock = await memory.acquireLockAsync({ signal: AbortSignal.timeout(1000) });
   *   count[0]! += 1;
   * }
   * ```
   */
  acquireLockAsync(options: WaitOptions = {}): Promise<Disposable> {
    requireStack(); // before there is a promise
    return this.#holdAsync("acquireLockAsync", options).then(heldLock);
  }

  /**
   * Calls `fn` with the lock held, and unlocks whatever happens. The call waits, and blocks the thread, as
   * {@linkcode SharedMemory.lock} does.
   *
   * @param fn must be done when it returns; use {@linkcode SharedMemory.withLockAsync} otherwise
   * @param options as for {@linkcode SharedMemory.acquireLock}
   * @returns what `fn` returns
   * @throws {SharedMemoryException} `LockError` if the lock cannot be acquired, or if this object holds it
   * @throws {TypeError} if `fn` returns a promise
   *
   * @example
   * ```ts
   * import { SharedMemory } from "./mod.ts";
   *
   * using memory = new SharedMemory("visits");
   * if (!memory.createOrAttach(4)) throw new Error(memory.errorString());
   * const count = memory.view(Uint32Array);
   * const visits = memory.withLock(() => count[0]! += 1);
   * console.log(visits);
   * ```
   */
  withLock<Result>(fn: () => Result, options: WaitOptions = {}): Result {
    checkFunction("SharedMemory.withLock", "fn", fn);
    const unlock = this.#hold("withLock", options);
    try {
      const result = fn();
      refuseThenable(result, PROMISE_TO_WITH_LOCK);
      return result;
    } finally {
      unlock();
    }
  }

  /**
   * Calls `fn` with the lock held, waits for its promise, and unlocks whatever happens. The call never blocks the event
   * loop. Several calls on one object run one after the other.
   *
   * @returns what `fn` returns
   * @throws {SharedMemoryException} (rejects) `LockError` if the lock cannot be acquired, as after `timeout`
   * @throws (rejects) the reason of `signal` if that is aborted before `fn` is called
   * @throws {RangeError} if too little stack is left, as a rule at once instead of returning a promise; nothing is done then
   *
   * @example
   * ```ts
   * import { SharedMemory } from "./mod.ts";
   *
   * using memory = new SharedMemory("visits");
   * if (!memory.createOrAttach(4)) throw new Error(memory.errorString());
   * const count = memory.view(Uint32Array);
   * await memory.withLockAsync(async () => {
   *   const before = count[0]!;
   *   await Promise.resolve(); // no other process changes it meanwhile
   *   count[0] = before + 1;
   * });
   * ```
   */
  withLockAsync<Result>(
    fn: () => Result | PromiseLike<Result>,
    options: WaitOptions = {},
  ): Promise<Result> {
    requireStack(); // before there is a promise
    return this.#withLockAsync(fn, options);
  }

  /**
   * Ends the lifetime `"until-removed"` of the segment, whichever object or process has opened it so: from now on the last
   * process to detach removes it. Without a segment of that lifetime it changes nothing.
   *
   * @throws {SharedMemoryException} `NotFound` if this object is not attached, `PermissionDenied` if another user created
   * the segment
   *
   * @example
   * ```ts
   * import { SharedMemory } from "./mod.ts";
   *
   * using memory = SharedMemory.open("sessions of today", { size: 64, lifetime: "until-removed" });
   * memory.bytes[0]! += 1; // counts the runs of the program if the next line is left out
   * memory.remove(); // the segment goes when memory is disposed, as no other process is attached
   * ```
   */
  remove(): void {
    this.#setPersistent("remove", false);
  }

  /** Detaches if this object is attached. It may be called any number of times, and never throws. */
  [Symbol.dispose](): void {
    if (this.#current !== null) this.detach();
  }

  // Qt's methods, and additions in the same style. If they fail, they return `false`, and error() says why.

  /**
   * Creates an object that is not attached. The system is asked nothing before the first operation.
   *
   * @category Qt
   * @param key the key of the segment; the same text is the same segment as in Qt
   * @param parent disposes this object when it is disposed
   * @throws {TypeError} if `key` is not a string, a `NativeIpcKey`, `null` or left out
   */
  constructor(key?: string | NativeIpcKey | null, parent?: Parent | null) {
    this.setKey(key ?? null);
    parent?.use(this);
  }

  /**
   * The key, or `null` if there is none. For a native key it is its legacy key, if it has one.
   *
   * @category Qt
   */
  key(): string | null {
    return this.#keyed.key;
  }

  /**
   * Sets the key, after detaching from the segment of the old key. Setting the present key again does nothing.
   *
   * @category Qt
   * @throws {TypeError} if `key` is neither a string, a `NativeIpcKey` nor `null`
   */
  setKey(key: string | NativeIpcKey | null): void {
    checkKey("SharedMemory.setKey", key);
    if (key instanceof NativeIpcKey) return this.setNativeKey(key);
    // Qt: the empty key after none changes nothing.
    const isSame = key === this.#keyed.key || (!key && this.#keyed.key === null);
    if (isSame && !this.#keyed.explicit) return;
    this.#reset(key, null);
  }

  /**
   * The name by which the operating system knows the segment, or `null` without a key. On Linux it is the path of the key
   * file, in the folder `TMPDIR` or else `/tmp`.
   *
   * @category Qt
   * @throws {SharedMemoryException} `KeyError` if there can be no native key: the key contains a
   * lone surrogate, or the folder does not exist
   */
  nativeKey(): string | null {
    return this.#keyed.nativeKey(() => this.#resolve().segment);
  }

  /**
   * The native key with its type, which can be sent to another process, or `null` without a key.
   *
   * @category Qt
   * @throws {SharedMemoryException} as {@linkcode SharedMemory.nativeKey} does
   * @throws {TypeError} if the native key contains a lone surrogate
   */
  nativeIpcKey(): NativeIpcKey | null {
    return this.#keyed.nativeIpcKey(() => this.#resolve().segment);
  }

  /**
   * Sets the name by which the operating system knows the segment, after detaching. Setting the present one again does
   * nothing.
   *
   * A {@linkcode NativeIpcKey} has a lock, as in Qt 6.6. A string has the type of keys that are strings
   * (on Unix the path of a System V key file), and no lock, as in Qt before 6.6: `lock()` fails, and
   * nothing guards the creation and removal of the segment; the key file is deleted only if this object's
   * `create()` made it and it is the last one out.
   *
   * @category Qt
   * @throws {TypeError} if `nativeKey` is neither a string, a `NativeIpcKey` nor `null`
   */
  setNativeKey(nativeKey: string | NativeIpcKey | null): void {
    checkKey("SharedMemory.setNativeKey", nativeKey);
    const legacyKey = nativeKey instanceof NativeIpcKey ? nativeKey.legacyKey || null : null;
    if (!this.#keyed.has(legacyKey, nativeKey)) this.#reset(legacyKey, nativeKey);
  }

  /**
   * Whether this system has segments of a key type.
   *
   * @category Qt
   */
  static isKeyTypeSupported(type: NativeIpcKeyType): boolean {
    return isKeyTypeSupported(type);
  }

  /**
   * A native key that shows `key`: `/key` for POSIX, `shm_key` for Windows, and for System V the path
   * `key`, in `XDG_RUNTIME_DIR` (or else `runtime-USER` in the folder of the key files, created as in Qt) if it is not
   * absolute. It is not what `setKey()` uses.
   *
   * @category Qt
   * @param key any text
   * @param type the type of Qt where none is said, if left out
   * @returns an empty one if `key` is empty, or this system has no objects of this type
   * @throws {TypeError} if `key` contains a lone surrogate or `type` is no type
   * @throws {SharedMemoryException} `KeyError` if the folder of the key files cannot be used
   * @throws {UnsupportedError} if this runtime has no FFI, or the system no shared memory
   */
  static platformSafeKey(key: string, type: NativeIpcKeyType = safeType()): NativeIpcKey {
    return safeKeyOf("SharedMemory", key, type);
  }

  /**
   * The native key that `setKey(key)` uses, or that it would use if strings had the type `type`.
   *
   * @category Qt
   * @param key any text
   * @param type that of keys that are strings, if left out
   * @returns an empty one if `key` is empty, or this system has no objects of this type
   * @throws {TypeError} if `key` contains a lone surrogate or `type` is no type
   * @throws {SharedMemoryException} `KeyError` if the folder of the key files cannot be used
   * @throws {UnsupportedError} if this runtime has no FFI, or the system no shared memory
   */
  static legacyNativeKey(key: string, type: NativeIpcKeyType = legacyType()): NativeIpcKey {
    return legacyKeyOf("SharedMemory", key, type);
  }

  /**
   * Creates a segment filled with zeros and attaches to it.
   *
   * @category Qt
   * @param size in bytes, at least 1
   * @param mode with `ReadOnly`, this object's views may only be read
   * @returns `false` with `AlreadyExists` if the key has a segment, even one that a crashed program left, which
   * `attach()` and `detach()` remove. Other errors: `InvalidSize`, `KeyError`,
   * `PermissionDenied`, `OutOfResources`, `LockError`, `UnknownError`
   * @throws {TypeError} if `size` is not a number or `mode` is not an access mode
   * @throws {RangeError} if `size` is not an integer or beyond 2^53 - 1
   */
  create(size: number, mode: AccessMode = AccessMode.ReadWrite): boolean {
    checkSize("create", size);
    return this.#attach("create", mode, ({ segments }, nativeKey, lock) => {
      requirePositive(size);
      if (lock !== null) refuseNested(lock);
      return segments.create(nativeKey, size, mode, lock);
    });
  }

  /**
   * Attaches to the segment of the key. It never waits for a process that holds the lock.
   *
   * @category Qt
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
   * Creates the segment, or attaches to the one that exists. If several processes do this at once, exactly one creates
   * it. A segment that no process is attached to was left by a crash, and is replaced by a new one.
   * {@linkcode SharedMemory.open} does the same with more options.
   *
   * The call waits up to 5000 ms for a process that is creating the segment. It does not wait for an attached process
   * that holds the lock, except with a POSIX key on macOS.
   *
   * @category Qt
   * @param size in bytes, at least 1; a segment that exists must have at least as many
   * @param mode with `ReadOnly`, this object's views may only be read
   * @returns `false` with `InvalidSize` if the segment that exists is smaller; other errors as
   * {@linkcode SharedMemory.create} and {@linkcode SharedMemory.attach}
   * @throws {TypeError} if `size` is not a number or `mode` is not an access mode
   * @throws {RangeError} if `size` is not an integer or beyond 2^53 - 1
   */
  createOrAttach(size: number, mode: AccessMode = AccessMode.ReadWrite): boolean {
    checkSize("createOrAttach", size);
    return this.#openOrCreate("createOrAttach", { size, mode });
  }

  /**
   * Detaches from the segment: every view of it has length 0 from now on, and the lock is released if this object holds
   * it. The last process to detach removes the segment.
   *
   * A buffer that cannot be emptied, because it was transferred or because Bun is using it in an
   * unfinished native call, becomes private zero-filled memory instead, whose address range stays
   * reserved; on Windows it goes on showing the segment.
   *
   * @category Qt
   * @returns `false` with `NotFound` if this object is not attached
   */
  detach(): boolean {
    const attachment = this.#current;
    if (attachment === null) return this.#notAttached("detach");
    requireStackToUndo();
    this.#access.buffer = null;
    this.#data = null;
    try {
      attachment.end();
    } catch (error) {
      return this.#errors.fail("detach", error);
    }
    return this.#errors.clear();
  }

  /**
   * Whether this object is attached to a segment, as in Qt.
   *
   * @category Qt
   */
  isAttached(): boolean {
    return this.#current !== null;
  }

  /**
   * The size of the segment in bytes as in Qt: {@linkcode SharedMemory.byteLength}.
   *
   * @category Qt
   */
  size(): number {
    return this.#current?.size ?? 0;
  }

  /**
   * The bytes of the segment, which are the same array each time, or `null` if this object is not attached. After
   * `ReadOnly` a store into them kills the process. A view that is used after `detach()` is harmless: it has no elements.
   *
   * @category Qt
   * @throws {SharedMemoryException} with the reason `Transferred` once its buffer was transferred away
   */
  data(): Bytes | null {
    return this.#current === null ? null : this.#bytes("data");
  }

  /**
   * The bytes of the segment as {@linkcode SharedMemory.data} returns them, typed as read-only.
   *
   * @category Qt
   */
  constData(): ReadonlyUint8Array | null {
    return this.data();
  }

  /**
   * Locks the segment for this object; other processes, Qt's too, wait until it is unlocked. The call blocks the thread,
   * and so the event loop, until the lock is acquired. If the holder is killed, the kernel releases the lock; with a POSIX
   * or Windows key the next process of this module that waits takes it over, but not with a POSIX key on macOS.
   * The lock is not recursive: calling `lock()` again on the object that holds it emits a warning and returns `true`,
   * and one `unlock()` releases it.
   *
   * @category Qt
   * @returns `false` with `LockError` if this object is not attached, if its native key is a
   * string, which has no lock, or if this thread would wait for itself: another object of it holds the lock, or
   * `lockAsync()` waits for it, or has got it for this object
   */
  lock(): boolean {
    const { attachment } = this.#access;
    if (!attachment || attachment.isEnded || attachment.isLocked) return this.#lock("lock");
    try {
      attachment.lock(this.#access);
    } catch (error) {
      return this.#errors.fail("lock", error, "LockError");
    }
    return this.#errors.clear();
  }

  /**
   * Locks the segment for this object if that is possible within a timeout. It blocks the thread, and so the event loop,
   * for at most that long. Without an argument it tries once.
   *
   * @category Qt
   * @param wait the timeout in ms, or options with it; 0 if left out. A signal that is aborted already throws its reason; a
   * blocked thread cannot see that a signal is aborted
   * @returns `false` with `LockError` also if the lock was not free in that time, or if this object holds it already
   * @throws {TypeError | RangeError} if the timeout is not a number of ms
   */
  tryLock(wait: number | WaitOptions = 0): boolean {
    return this.#lock("tryLock", timeoutOf("SharedMemory.tryLock", wait, 0));
  }

  /**
   * Locks the segment for this object without blocking the event loop. The calls that wait in one thread acquire the lock
   * in their order. If they share one object, each acquires it after the call before it was followed by
   * {@linkcode SharedMemory.unlock}.
   *
   * @category Qt
   * @returns `false` with `LockError` if the lock was not free within `timeout`, if this object is
   * not attached or is detached meanwhile, or if its native key is a string, which has no lock. Rejects
   * with the reason of `signal` if that is aborted first; then the lock is not taken
   * @throws {TypeError | RangeError} (rejects) if `timeout` is not a number of ms
   * @throws {RangeError} if too little stack is left, as a rule at once instead of returning a promise; nothing is done then
   *
   * @example
   * ```ts
   * import { SharedMemory } from "./mod.ts";
   *
   * using memory = new SharedMemory("jobs");
   * if (!memory.createOrAttach(64)) throw new Error(memory.errorString());
   * if (await memory.lockAsync({ timeout: 500, signal: AbortSignal.timeout(10_000) })) {
   *   memory.unlock();
   * }
   * ```
   */
  lockAsync(options: WaitOptions = {}): Promise<boolean> {
    requireStack(); // before there is a promise
    return this.#tryLockAsync(options);
  }

  /**
   * Unlocks the segment.
   *
   * @category Qt
   * @returns `false` with `LockError` if this object does not hold the lock
   */
  unlock(): boolean {
    const { attachment } = this.#access;
    if (!attachment || attachment.isEnded) return this.#notAttached("unlock", "LockError");
    if (!attachment.isLocked) {
      return this.#errors.fail("unlock", new BackendError("NotOwner", NOT_LOCKED), "LockError");
    }
    try {
      attachment.unlock();
    } catch (error) {
      return this.#errors.fail("unlock", error, "LockError");
    }
    return this.#errors.clear();
  }

  /**
   * The number of the last operation's error, `NoError` if it succeeded.
   *
   * @category Qt
   */
  error(): SharedMemoryError {
    return SharedMemoryError[this.#errors.code];
  }

  /**
   * The last operation's error as text: operation, key, system call and advice. `""` if it succeeded.
   *
   * @category Qt
   */
  errorString(): string {
    return this.#errors.text;
  }

  /**
   * Why the last operation failed, `null` if it succeeded. {@linkcode SharedMemory.error} has one number for many
   * reasons: a `LockError` may be a `"Timeout"`, after which a server answers 503, or a `"Deadlock"`, a mistake in the
   * program.
   *
   * @category Qt
   */
  errorReason(): ErrorReason | null {
    return this.#errors.reason;
  }

  // Helpers.

  /** Locks, and returns a function that unlocks it again unless it was unlocked since. */
  #hold(operation: string, options: WaitOptions): () => void {
    const timeout = timeoutOf(`SharedMemory.${operation}`, options, Infinity);
    if (this.#current?.isLocked) {
      const text = "this object holds the lock already, and it is not recursive";
      throw this.#errors.exception(operation, new BackendError("AlreadyHeld", text));
    }
    const limit = timeout === Infinity ? undefined : timeout;
    if (!this.#lock(operation, limit)) throw this.#errors.lastException();
    const attachment = this.#access.attachment!;
    const hold = attachment.lastHold;
    return () => attachment.endHold(hold);
  }

  /** `#hold` without blocking the event loop. */
  async #holdAsync(operation: string, options: WaitOptions): Promise<() => void> {
    try {
      const unlock = await this.#lockAsync(operation, options);
      this.#errors.clear();
      return unlock;
    } catch (error) {
      throw this.#errors.exception(operation, error, "LockError");
    }
  }

  async #withLockAsync<Result>(
    fn: () => Result | PromiseLike<Result>,
    options: WaitOptions,
  ): Promise<Result> {
    checkFunction("SharedMemory.withLockAsync", "fn", fn);
    const unlock = await this.#holdAsync("withLockAsync", options);
    try {
      return await fn();
    } finally {
      unlock();
    }
  }

  async #tryLockAsync(options: WaitOptions): Promise<boolean> {
    try {
      await this.#lockAsync("lockAsync", options);
    } catch (error) {
      return this.#errors.fail("lockAsync", error, "LockError");
    }
    return this.#errors.clear();
  }

  #lock(operation: string, timeoutMs?: number): boolean {
    const attachment = this.#current;
    if (attachment === null) return this.#notAttached(operation, "LockError");
    if (attachment.isLocked && timeoutMs === undefined && !attachment.isLockedAsync) {
      process.emitWarning(`SharedMemory.${operation}: already locked`);
      return this.#errors.clear();
    }
    try {
      if (attachment.isLocked) {
        throw new BackendError("AlreadyHeld", "this object holds the lock already");
      }
      const limit = timeoutMs === Infinity ? undefined : timeoutMs;
      if (attachment.lock(this.#access, limit)) return this.#errors.clear();
      throw timedOut(timeoutMs, attachment);
    } catch (error) {
      return this.#errors.fail(operation, error, "LockError");
    }
  }

  /** Locks, and returns a function that unlocks it again unless it was unlocked since. */
  async #lockAsync(operation: string, options: WaitOptions): Promise<() => void> {
    const wait = waitOf(`SharedMemory.${operation}`, options);
    const attachment = this.#current;
    if (attachment === null) throw new BackendError("NotAttached", NOT_ATTACHED);
    let hold = 0;
    if (!await attachment.lockAsync(this.#access, wait, (taken) => hold = taken)) {
      throw timedOut(wait.timeout, attachment);
    }
    try {
      wait.signal?.throwIfAborted();
    } catch (reason) {
      attachment.endHold(hold);
      throw reason;
    }
    if (attachment.isEnded || !attachment.isHeld(hold)) {
      throw new BackendError("NotOwner", "it was released again before this call could return");
    }
    return () => attachment.endHold(hold);
  }

  #openOrCreate(operation: string, options: OpenOptions & { size: number }): boolean {
    const { size, mode = AccessMode.ReadWrite, permissions = PRIVATE } = options;
    const { disposition, adopt, lifetime } = options;
    // A segment that is to be adopted is attached to under its lock, which is what this function does.
    const initialize = disposition === "attach" ? refuseToCreate : options.initialize;
    return this.#attach(
      operation,
      mode,
      ({ segments }, nativeKey, lock, own) => {
        /** Calls `act` with the bytes while this object holds the lock. */
        const withBytes = (segment: Segment, act: (bytes: Bytes) => void) =>
          own(segment).initialize(this.#access, () => {
            refuseThenable(act(this.data()!), PROMISE_TO_OPEN);
          });
        requirePositive(size);
        if (lock === null) throw noLock();
        refuseNested(lock);
        if (lifetime === "until-removed") requirePersistable(segments, nativeKey, lock);
        const request = {
          size,
          mode,
          existing: disposition === "create" ? "refuse" : "attach",
          stale: options.stale ?? "replace",
          timeoutMs: options.timeout ?? OPEN_TIMEOUT_MS,
          initialize: initialize === undefined
            ? null
            : (segment: Segment) => withBytes(segment, initialize),
          adopt: adopt && ((segment: Segment) =>
            withBytes(segment, (bytes) => {
              if (lifetime === "until-removed") {
                segment.requirePersistable?.(); // here, so that the segment and the lock are released if it throws
                segment.respectPersistence?.();
              }
              return adopt(bytes);
            })),
          discard: () => this.#access.attachment?.end(),
          isPersistent: lifetime === "until-removed",
        } as const;
        return segments.open(nativeKey, request, lock, permissions);
      },
      permissions,
    );
  }

  #setPersistent(operation: string, isPersistent: boolean): void {
    try {
      if (this.#current === null) throw new BackendError("NotAttached", NOT_ATTACHED);
      this.#current.setPersistent(isPersistent);
    } catch (error) {
      throw this.#errors.exception(operation, error);
    }
  }

  #attach(
    operation: string,
    mode: AccessMode,
    open: (
      backend: Backend,
      nativeKey: string,
      lock: Lock | null,
      own: (segment: Segment) => Attachment,
    ) => Segment,
    permissions: number = PRIVATE,
  ): boolean {
    if (mode !== AccessMode.ReadOnly && mode !== AccessMode.ReadWrite) {
      throw new TypeError(
        `SharedMemory.${operation}: mode must be an AccessMode, not ${String(mode)}`,
      );
    }
    try {
      requireStack();
      if (isClosed()) throw new BackendError("Closed", ENDING);
      if (this.#current !== null) {
        throw new BackendError(
          "AlreadyAttached",
          "this object is attached already; detach() first",
        );
      }
      const { segment: name, lock: lockName } = this.#resolve();
      if (name === null) throw new BackendError("KeyError", "the key is empty; set one");
      const backend = backendOf(name.type);
      const lock = lockName &&
        backend.semaphores.lock(lockName.nativeKey, permissions, lockName.isExplicit);
      const { nativeKey } = name;
      const own = (segment: Segment) => this.#own(segment, backend, lock, mode);
      let segment: Segment;
      try {
        segment = open(backend, nativeKey, lock, own);
      } catch (error) {
        this.#access.attachment?.end(); // it may have come as far as that
        lock?.close();
        throw error;
      }
      if (this.#current === null) own(segment);
    } catch (error) {
      return this.#errors.fail(operation, error);
    }
    return this.#errors.clear();
  }

  /** Makes the attached segment this object's. */
  #own(segment: Segment, backend: Backend, lock: Lock | null, mode: AccessMode): Attachment {
    this.#data = null;
    this.#errors.noteUser(backend);
    const isWritable = mode === AccessMode.ReadWrite;
    return new Attachment(backend, segment, lock, this.#access, isWritable);
  }

  /** The bytes of the segment that this object is attached to, the same array each time. */
  #bytes(operation: string): Bytes {
    if (this.#data === null || this.#data.length === 0) this.#buffer(operation);
    return this.#data!;
  }

  /** The buffer of the segment that this object is attached to. */
  #buffer(operation: string): ArrayBuffer {
    try {
      if (this.#current === null) throw new BackendError("NotAttached", NOT_ATTACHED);
      const buffer = this.#current.expose(this.#access);
      this.#data ??= new Uint8Array(buffer); // now: it may be transferred away
      return buffer;
    } catch (error) {
      throw this.#errors.exception(operation, error);
    }
  }

  /** The names that belong to the key. They are found when they are first needed. */
  #resolve(): Names {
    if (this.#names !== null) return this.#names;
    const segment = this.#keyed.name();
    if (segment === null) return this.#names = NO_NAMES;
    const lock = typeof this.#keyed.explicit === "string" ? null : lockNameOf(segment);
    return this.#names = { segment, lock };
  }

  #reset(key: string | null, explicit: NativeIpcKey | string | null): void {
    this[Symbol.dispose]();
    this.#keyed.set(key, explicit);
    this.#names = null;
  }

  /** The attachment; `null` if there is none, also after the end of the program has ended it. */
  get #current(): Attachment | null {
    const { attachment } = this.#access;
    return attachment?.isEnded === false ? attachment : null;
  }

  #notAttached(operation: string, code: "NotFound" | "LockError" = "NotFound"): false {
    const failure = new BackendError("NotAttached", NOT_ATTACHED);
    return this.#errors.fail(operation, failure, code);
  }

  /** @internal What `console.log` shows of it. */
  [CUSTOM_INSPECT](...args: InspectArguments): string {
    return shown(this, args, () => ({
      key: this.#keyed.shown,
      size: this.size(),
      attached: this.isAttached(),
      locked: this.#current?.isLocked ?? false,
    }));
  }
}

/** An object whose disposal calls `release`. */
function heldLock(release: () => void): Disposable {
  return { [Symbol.dispose]: release };
}

function refuseToCreate(): never {
  throw new BackendError("NotFound", "doesn't exist: some process must create() it first");
}

function requirePositive(size: number): void {
  if (size >= 1) return;
  throw new BackendError("InvalidSize", `the size must be at least 1 byte, not ${size}`);
}

function timedOut(timeoutMs: number | undefined, attachment: Attachment): BackendError {
  const holder = attachment.holder();
  const holding = holder === process.pid ? "this process" : `process ${holder}`;
  const who = holder === null
    ? "the lock is held by another process or thread"
    : `${holding} holds the lock`;
  return new BackendError(
    "Timeout",
    `timed out after ${timeoutMs} ms: ${who}${attachment.holderText()}`,
  );
}
