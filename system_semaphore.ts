import { acquireAsync, acquireBlocking, acquireWithin, failWaits } from "./core/acquire_queue.ts";
import { type Collected, collection } from "./core/collection.ts";
import { forgetAtExit, isClosed, rememberAtExit } from "./core/exit_hook.ts";
import { BackendError, replacedText } from "./backends/failure.ts";
import { backendOf } from "./backends/mod.ts";
import type { Semaphore } from "./backends/types.ts";
import { CUSTOM_INSPECT, type InspectArguments, shown } from "./custom_inspect.ts";
import {
  type ErrorReason,
  semaphoreErrorOf,
  type SystemSemaphoreError,
  SystemSemaphoreMode,
} from "./errors.ts";
import { legacyType } from "./core/key_name.ts";
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
import { registry, type Resource, type SharedSemaphore } from "./registry.ts";
import { requireStack, requireStackToUndo } from "./core/stack.ts";
import { checkCount, checkFunction, checkOptions, refuseThenable } from "./core/arguments.ts";
import { timeoutOf, waitOf, type WaitOptions } from "./core/waiter.ts";

/** An open semaphore. It must be closed when its object is garbage-collected or the program ends. */
class OpenSemaphore implements Collected, Resource, SharedSemaphore {
  readonly semaphore: Semaphore;
  /** The number of permits that were acquired and not released. */
  balance = 0;

  constructor(semaphore: Semaphore) {
    this.semaphore = semaphore;
    registry.semaphores.add(this);
    rememberAtExit(this);
  }

  get identity(): string {
    return this.semaphore.identity;
  }

  close(): void {
    registry.semaphores.delete(this);
    forgetAtExit(this);
    failWaits(this.semaphore, new BackendError("Closed", "disposed while it waited"));
    this.semaphore.close();
  }

  closeAtExit(): void {
    this.close();
  }

  /** A semaphore whose permits are not balanced stays open until the program ends. */
  collected(): void {
    if (this.balance === 0) this.close();
  }
}

/** How {@linkcode SystemSemaphore.open} opens a semaphore. */
export interface SemaphoreOptions {
  /** The value of a semaphore that is created, from 0 to 32767; 0 if left out. */
  readonly initialValue?: number | undefined;
  /** With `Create`, a semaphore that exists is set to `initialValue` too, and belongs to this object; `Open` if left out. */
  readonly mode?: SystemSemaphoreMode | undefined;
}

const PROMISE_TO_WITH_PERMIT =
  "SystemSemaphore.withPermit: fn returned a promise, for which the permit does not wait; use withPermitAsync()";

/**
 * A `SystemSemaphore` is a named counting semaphore that processes share. It has the semantics and the wire protocol of
 * Qt's `QSystemSemaphore`.
 *
 * ### Modern surface
 *
 * A member that can fail throws a {@linkcode SharedMemoryException}:
 *
 * - opening: {@linkcode SystemSemaphore.open}, and `[Symbol.dispose]()`, which `using` calls
 * - permits: {@linkcode SystemSemaphore.withPermit}, {@linkcode SystemSemaphore.withPermitAsync}
 *
 * ### Qt's methods
 *
 * These methods have Qt's names, or are additions in the same style. Those that return a boolean return `false` if they
 * fail, and `error()`, `errorString()` and `errorReason()` say why:
 *
 * - keys: the constructor, `key()`, `setKey()`, `nativeKey()`, `nativeIpcKey()`, `setNativeKey()`, and the static
 *   `isKeyTypeSupported()`, `platformSafeKey()`, `legacyNativeKey()`
 * - permits: `acquire()`, `tryAcquire()`, `acquireAsync()`, `release()`
 *
 * ### Lifetime
 *
 * When a process ends, however it ends, the kernel releases the permits that the process has acquired and not released,
 * and takes back those that it has released and not acquired. This is true of System V keys, which string keys are on
 * Unix. For POSIX and Windows keys nothing is undone.
 *
 * The semaphore is removed by the object that created it (or opened it with `Create`). If other objects still use it
 * through this module, the last of them removes it. As in Qt, an object that uses a removed semaphore creates it again,
 * with its own initial value.
 *
 * Keep the object as long as you want to use it. When it is garbage-collected the semaphore is closed, but permits that
 * the object has acquired or released on balance stay so as long as the process lives.
 *
 * On Windows, where the system removes a semaphore with its last user, `Create` is as `Open`.
 *
 * In Deno the class needs the permission `--allow-ffi` and no other. Where the runtime has no FFI, or the system has no
 * semaphores that this module knows, the constructor with a key throws an {@linkcode UnsupportedError}.
 *
 * @example
 * ```ts
 * import { SystemSemaphore } from "./mod.ts";
 *
 * using slots = SystemSemaphore.open("download slots", { initialValue: 3 });
 * slots.withPermit(() => {
 *   // at most three processes are here at a time
 * });
 * ```
 *
 * @example As in Qt
 * ```ts
 * import { SystemSemaphore } from "./mod.ts";
 *
 * using slots = new SystemSemaphore("download slots", 3);
 * if (!slots.acquire()) throw new Error(slots.errorString());
 * // at most three processes are here at a time
 * slots.release();
 * ```
 */
export class SystemSemaphore implements Disposable {
  readonly #keyed = new Keyed("SystemSemaphore");
  #initialValue = 0;
  #open: OpenSemaphore | null = null;
  readonly #errors = this.#keyed.errors;

  // The modern surface. A member that can fail throws a SharedMemoryException.

  /**
   * Opens the semaphore of `key`, or creates it, and throws if that fails.
   *
   * @param key the key of the semaphore; the same text is the same semaphore as in Qt
   * @throws {SharedMemoryException} with the errors of the constructor
   * @throws {TypeError | RangeError} if an argument or option is not what it should be
   *
   * @example
   * ```ts
   * import { SystemSemaphore } from "./mod.ts";
   *
   * using slots = SystemSemaphore.open("upload slots", { initialValue: 3 });
   * const result = slots.withPermit(() => "at most three processes are here at a time");
   * console.log(result);
   * ```
   */
  static open(key: string | NativeIpcKey, options: SemaphoreOptions = {}): SystemSemaphore {
    checkOptions("SystemSemaphore.open", options, "{ initialValue: 1 }");
    const { initialValue = 0, mode = SystemSemaphoreMode.Open } = options;
    const semaphore = new SystemSemaphore();
    const [text, explicit] = key instanceof NativeIpcKey ? [null, key] : [key, null];
    semaphore.#set("open", text, explicit, initialValue, mode);
    // An empty key is an error only when it is used.
    if (semaphore.#errors.reason === null) semaphore.#use("open", () => {});
    if (semaphore.#open === null) throw semaphore.#errors.lastException();
    return semaphore;
  }

  /**
   * Calls `fn` with a permit: it subtracts one from the semaphore's value, and adds it again whatever happens. The call
   * waits, and blocks the thread, as {@linkcode SystemSemaphore.acquire} does.
   *
   * @param fn must be done when it returns; use {@linkcode SystemSemaphore.withPermitAsync} otherwise
   * @param options `timeout` in ms, without limit if left out. A signal that is aborted already throws its reason
   * @returns what `fn` returns
   * @throws {SharedMemoryException} if the permit cannot be acquired (the reason is `Timeout` after the timeout) or released
   * @throws {TypeError} if `fn` returns a promise
   */
  withPermit<Result>(fn: () => Result, options: WaitOptions = {}): Result {
    checkFunction("SystemSemaphore.withPermit", "fn", fn);
    const timeout = timeoutOf("SystemSemaphore.withPermit", options, Infinity);
    if (!this.#tryAcquire("withPermit", timeout)) throw this.#errors.lastException();
    let result: Result;
    try {
      result = fn();
      refuseThenable(result, PROMISE_TO_WITH_PERMIT);
    } catch (error) {
      this.release(); // if it fails, the error of fn is thrown nevertheless
      throw error;
    }
    this.#releasePermit();
    return result;
  }

  /**
   * Calls `fn` with a permit, waits for its promise, and releases the permit whatever happens. The call never blocks the
   * event loop.
   *
   * @returns what `fn` returns
   * @throws {SharedMemoryException} (rejects) if the permit cannot be acquired, as after `timeout`, or released
   * @throws (rejects) the reason of `signal` if that is aborted before `fn` is called
   * @throws {RangeError} if too little stack is left, as a rule at once instead of returning a promise; nothing is done then
   *
   * @example
   * ```ts
   * import { SystemSemaphore } from "./mod.ts";
   *
   * using slots = SystemSemaphore.open("download slots", { initialValue: 3 });
   * await slots.withPermitAsync(async () => {
   *   await Promise.resolve(); // at most three processes are here at a time
   * }, { timeout: 1000 });
   * ```
   */
  withPermitAsync<Result>(
    fn: () => Result | PromiseLike<Result>,
    options: WaitOptions = {},
  ): Promise<Result> {
    requireStack(); // before there is a promise
    return this.#withPermitAsync(fn, options);
  }

  /**
   * Closes the semaphore. It may be called any number of times, and never throws. Using the object again opens the
   * semaphore again.
   */
  [Symbol.dispose](): void {
    this.#close();
  }

  // Qt's methods, and additions in the same style. If they fail, they return `false`, and error() says why.

  /**
   * Opens the semaphore, or creates it; {@linkcode SystemSemaphore.error} says whether that succeeded.
   *
   * @category Qt
   * @param key the key of the semaphore; the same text is the same semaphore as in Qt
   * @param initialValue the value of a semaphore that is created, from 0 to 32767
   * @param mode with `Create`, a semaphore that exists is set to `initialValue` too, and belongs to this object
   * @throws {TypeError} if an argument has a wrong type
   * @throws {RangeError} if `initialValue` is not a whole number from 0 to 32767
   */
  constructor(
    key?: string | NativeIpcKey | null,
    initialValue = 0,
    mode: SystemSemaphoreMode = SystemSemaphoreMode.Open,
  ) {
    this.setKey(key ?? null, initialValue, mode);
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
   * Closes the semaphore and opens that of another key, as the constructor does. With the present key and `Open` it does
   * nothing.
   *
   * @category Qt
   * @throws {TypeError} if an argument has a wrong type
   * @throws {RangeError} if `initialValue` is not a whole number from 0 to 32767
   */
  setKey(
    key: string | NativeIpcKey | null,
    initialValue = 0,
    mode: SystemSemaphoreMode = SystemSemaphoreMode.Open,
  ): void {
    if (key instanceof NativeIpcKey) this.#set("setKey", null, key, initialValue, mode);
    else this.#set("setKey", key, null, initialValue, mode);
  }

  /**
   * The name by which the operating system knows the semaphore, or `null` without a key. On Unix it is the path
   * of the key file, in the folder `TMPDIR` or else `/tmp`, unless a native key was set.
   *
   * @category Qt
   * @throws {SharedMemoryException} `KeyError` if there can be no native key: the key contains a
   * lone surrogate, or the folder does not exist
   */
  nativeKey(): string | null {
    return this.#keyed.nativeKey();
  }

  /**
   * The native key with its type, which can be sent to another process, or `null` without a key.
   *
   * @category Qt
   * @throws {SharedMemoryException} as {@linkcode SystemSemaphore.nativeKey} does
   * @throws {TypeError} if the native key contains a lone surrogate
   */
  nativeIpcKey(): NativeIpcKey | null {
    return this.#keyed.nativeIpcKey();
  }

  /**
   * Closes the semaphore and opens the one that the operating system knows by `nativeKey`. A string has the type of keys
   * that are strings: on Unix it is the path of a System V key file.
   *
   * @category Qt
   * @throws {TypeError} if an argument has a wrong type
   * @throws {RangeError} if `initialValue` is not a whole number from 0 to 32767
   */
  setNativeKey(
    nativeKey: string | NativeIpcKey | null,
    initialValue = 0,
    mode: SystemSemaphoreMode = SystemSemaphoreMode.Open,
  ): void {
    this.#set("setNativeKey", null, nativeKey, initialValue, mode);
  }

  /**
   * Whether this system has semaphores of a key type.
   *
   * @category Qt
   */
  static isKeyTypeSupported(type: NativeIpcKeyType): boolean {
    return isKeyTypeSupported(type);
  }

  /**
   * A native key that shows `key`: `/key` for POSIX, `sem_key` for Windows, and for System V the path
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
    return safeKeyOf("SystemSemaphore", key, type);
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
    return legacyKeyOf("SystemSemaphore", key, type);
  }

  /**
   * Subtracts one from the semaphore's value, and waits as long as the value is 0. The call blocks the thread, and so the
   * event loop, until it succeeds.
   *
   * @category Qt
   * @returns `false` with `KeyError`, `PermissionDenied`, `OutOfResources` or `UnknownError`
   */
  acquire(): boolean {
    requireStack();
    return this.#use("acquire", (open) => {
      acquireBlocking(open.semaphore);
      open.balance++;
    });
  }

  /**
   * Subtracts one from the semaphore's value if that is possible within a timeout. The call blocks the thread, and so the event loop,
   * for at most that long. Without an argument it tries once.
   *
   * @category Qt
   * @param wait the timeout in ms, or options with it; 0 if left out. A signal that is aborted already throws its reason; a
   * blocked thread cannot see that a signal is aborted
   * @returns `false` also if the value was 0 all that time, with `UnknownError` and the reason `"Timeout"`
   * @throws {TypeError | RangeError} if the timeout is not a number of ms
   */
  tryAcquire(wait: number | WaitOptions = 0): boolean {
    return this.#tryAcquire("tryAcquire", timeoutOf("SystemSemaphore.tryAcquire", wait, 0));
  }

  /**
   * Subtracts one from the semaphore's value without blocking the event loop. The calls that wait in one thread succeed in
   * their order.
   *
   * @category Qt
   * @returns `false` also if the value was 0 for all of `timeout`, or if this object was disposed
   * meanwhile. Rejects with the reason of `signal` if that is aborted first; then the value stays
   * @throws {TypeError | RangeError} (rejects) if `timeout` is not a number of ms
   * @throws {RangeError} if too little stack is left, as a rule at once instead of returning a promise; nothing is done then
   *
   * @example
   * ```ts
   * import { SystemSemaphore } from "./mod.ts";
   *
   * using slots = new SystemSemaphore("upload slots", 3);
   * if (await slots.acquireAsync({ timeout: 1000 })) {
   *   slots.release();
   * }
   * ```
   */
  acquireAsync(options: WaitOptions = {}): Promise<boolean> {
    requireStack(); // before there is a promise
    return this.#acquireAsync(options);
  }

  /**
   * Adds `n` to the semaphore's value at once, which lets up to `n` waiting processes go on.
   *
   * @category Qt
   * @param n from 0 to 32767
   * @returns `false` with `OutOfResources` if the value would pass 32767 (2147483647 for POSIX and Windows
   * keys), else as
   * {@linkcode SystemSemaphore.acquire}
   * @throws {TypeError} if `n` is not a number
   * @throws {RangeError} if `n` is not a whole number from 0 to 32767
   */
  release(n = 1): boolean {
    checkCount("SystemSemaphore.release", "n", n);
    requireStackToUndo();
    return this.#use("release", (open) => {
      if (n > 0) open.semaphore.release(n);
      open.balance -= n;
    });
  }

  /**
   * The number of the last operation's error, `NoError` if it succeeded.
   *
   * @category Qt
   */
  error(): SystemSemaphoreError {
    return semaphoreErrorOf(this.#errors.code);
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
   * Why the last operation failed, `null` if it succeeded. {@linkcode SystemSemaphore.error} has one number for many
   * reasons: without a free permit within the time it is `UnknownError`, and the reason is `"Timeout"`.
   *
   * @category Qt
   */
  errorReason(): ErrorReason | null {
    return this.#errors.reason;
  }

  // Helpers.

  #set(
    operation: string,
    key: string | null,
    explicit: string | NativeIpcKey | null,
    initialValue: number,
    mode: SystemSemaphoreMode,
  ): void {
    const call = `SystemSemaphore.${operation}`;
    checkKey(call, key);
    checkKey(call, explicit);
    checkCount(call, "initialValue", initialValue);
    if (mode !== SystemSemaphoreMode.Open && mode !== SystemSemaphoreMode.Create) {
      throw new TypeError(`${call}: mode must be a SystemSemaphoreMode, not ${String(mode)}`);
    }
    const legacyKey = explicit instanceof NativeIpcKey ? explicit.legacyKey || null : key;
    const isSame = this.#keyed.has(legacyKey, explicit);
    if (isSame && mode === SystemSemaphoreMode.Open) return;
    this.#close();
    this.#keyed.set(legacyKey, explicit);
    this.#initialValue = initialValue;
    try {
      if (this.#keyed.isSet) this.#opened(mode); // Qt: none is an error only when it is used
    } catch (error) {
      this.#errors.fail(operation, error);
    }
  }

  #tryAcquire(operation: string, timeoutMs: number): boolean {
    requireStack();
    return this.#use(operation, (open) => {
      if (timeoutMs === Infinity) acquireBlocking(open.semaphore);
      else if (!acquireWithin(open.semaphore, timeoutMs)) throw timedOut(timeoutMs, open.semaphore);
      open.balance++;
    });
  }

  async #acquireAsync(options: WaitOptions, operation = "acquireAsync"): Promise<boolean> {
    const wait = waitOf(`SystemSemaphore.${operation}`, options);
    try {
      const open = this.#opened(SystemSemaphoreMode.Open);
      if (await acquireAsync(open.semaphore, wait, () => open.balance++)) {
        return this.#errors.clear();
      }
      throw timedOut(wait.timeout, open.semaphore);
    } catch (error) {
      return this.#errors.fail(operation, error);
    }
  }

  async #withPermitAsync<Result>(
    fn: () => Result | PromiseLike<Result>,
    options: WaitOptions,
  ): Promise<Result> {
    checkFunction("SystemSemaphore.withPermitAsync", "fn", fn);
    if (!await this.#acquireAsync(options, "withPermitAsync")) throw this.#errors.lastException();
    let result: Result;
    try {
      result = await fn();
    } catch (error) {
      this.release(); // as in withPermit()
      throw error;
    }
    this.#releasePermit();
    return result;
  }

  #releasePermit(): void {
    if (!this.release()) throw this.#errors.lastException();
  }

  #use(operation: string, action: (open: OpenSemaphore) => void): boolean {
    try {
      action(this.#opened(SystemSemaphoreMode.Open));
    } catch (error) {
      return this.#errors.fail(operation, error);
    }
    return this.#errors.clear();
  }

  #opened(mode: SystemSemaphoreMode): OpenSemaphore {
    if (isClosed()) throw new BackendError("Closed", ENDING);
    if (this.#open !== null) return this.#open;
    requireStack();
    const name = this.#keyed.name();
    if (name === null) throw new BackendError("KeyError", "the key is empty; set one");
    const { nativeKey, isExplicit } = name;
    const backend = backendOf(name.type);
    this.#open = new OpenSemaphore(
      backend.semaphores.open(nativeKey, this.#initialValue, mode, isExplicit),
    );
    this.#errors.noteUser(backend);
    collection().register(this, this.#open, this.#open);
    return this.#open;
  }

  #close(): void {
    if (this.#open === null) return;
    requireStackToUndo();
    collection().unregister(this.#open);
    this.#open.close();
    this.#open = null;
    this.#errors.noteUser(null);
  }

  /** @internal What `console.log` shows of it. */
  [CUSTOM_INSPECT](...args: InspectArguments): string {
    return shown(this, args, () => ({
      key: this.#keyed.shown,
      open: this.#open !== null,
      acquired: this.#open?.balance ?? 0,
    }));
  }
}

function timedOut(timeoutMs: number, semaphore: Semaphore): BackendError {
  const replaced = replacedText(semaphore);
  const who = replaced === "" ? "" : ", and this process acquired the last unit";
  return new BackendError(
    "Timeout",
    `timed out after ${timeoutMs} ms: the value is 0${who}${replaced}`,
  );
}
