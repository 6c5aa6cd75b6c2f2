/**
 * This module lists the segments, semaphores and key files of this package and of Qt, and removes those that crashed
 * programs have left. The command `shared-memory` of `cli.ts` uses it.
 *
 * @example
 * ```ts
 * import { cleanup, inspect } from "./inspect.ts";
 *
 * for (const { keyFile, size, attached, lock } of inspect().segments) {
 *   console.log(keyFile, size, attached, lock?.holder?.pid);
 * }
 * for (const { keyFile, reason } of cleanup({ dryRun: true }).removed) {
 *   console.log(keyFile, reason);
 * }
 * ```
 *
 * @module
 */
import { BackendError, orElse } from "./backends/failure.ts";
import { defaultInspection } from "./backends/inspection.ts";
import type {
  Inventory,
  IpcObjectInfo,
  KeyFileInfo,
  SegmentInfo,
  SemaphoreInfo,
} from "./backends/inventory.ts";
import { SharedMemoryException } from "./errors.ts";
import { platformSafeName } from "./backends/native_key.ts";
import { NativeIpcKey } from "./native_ipc_key.ts";
import { checkOptions } from "./core/arguments.ts";
import { requireStack } from "./core/stack.ts";

export type {
  Inventory,
  IpcObjectInfo,
  KeyFileInfo,
  LockInfo,
  ProcessInfo,
  SegmentInfo,
  SemaphoreInfo,
  UserInfo,
} from "./backends/inventory.ts";

/** A removal describes an object that was removed, or that could not be removed. */
export interface Removal {
  /** The kind of the object. */
  readonly kind: "segment" | "semaphore" | "key file";
  /** The id of the segment or semaphore; `null` for a key file. */
  readonly id: number | null;
  /** The key file that leads or led to the object; `null` if there was none. */
  readonly keyFile: string | null;
  /** This text says why the object was removed, or why it could not be removed. */
  readonly reason: string;
}

/** This is the result of {@linkcode cleanup}. */
export interface CleanupResult {
  /**
   * The objects that were removed, or would be with `dryRun`. The lock and key files of a segment are removed with it.
   */
  readonly removed: readonly Removal[];
  /** The stale objects that could not be removed. */
  readonly failed: readonly Removal[];
}

/** These options say what {@linkcode inspect} lists. */
export interface InspectOptions {
  /** If `true`, objects of other users are listed too. */
  readonly allUsers?: boolean | undefined;
}

/** These options say what {@linkcode cleanup} removes. */
export interface CleanupOptions {
  /** If `true`, nothing is removed, and the result says what would be. */
  readonly dryRun?: boolean | undefined;
  /**
   * Only objects that belong to one of these keys or key files, as {@linkcode belongsTo} says, are removed. If it is
   * left out, the cleanup is not limited to keys.
   */
  readonly keys?: readonly string[] | undefined;
  /**
   * If `true`, stale segments without a key file are removed too, and stale POSIX objects that other programs, such as
   * Qt or Python, have created. The key file of such a segment was deleted, so that the memory is lost; or it lies in
   * another folder, where programs with another `TMPDIR` may yet look for the segment.
   */
  readonly orphans?: boolean | undefined;
  /**
   * If `true`, segments of the lifetime `"until-removed"` are removed too, if no process is attached to them. It is best
   * used with `keys`.
   */
  readonly persistent?: boolean | undefined;
}

/**
 * Lists the objects of this user: segments and semaphores with a key file in `TMPDIR` or else `/tmp`, those without a
 * key file that may be Qt's, key files that lead to no object, and POSIX objects in `/dev/shm`. It changes nothing and
 * takes no lock of a segment. It only takes a `flock` of files that seem to be stale, for a moment, to find out whether
 * a process that it cannot see uses them.
 *
 * Objects that are being created or removed at this moment may be listed incompletely. On Linux a program can call this
 * function as often as it likes: it reads `/proc` and the folder.
 *
 * @param options with `allUsers`, the objects of other users are listed too
 * @throws {SharedMemoryException} `KeyError` if the folder does not exist, `PermissionDenied` or another
 * error if the folder or `/proc` cannot be read
 * @throws {UnsupportedError} on systems other than Linux
 *
 * @example
 * ```ts
 * import { inspect } from "./inspect.ts";
 *
 * const stale = inspect().segments.filter((segment) => segment.stale);
 * console.log(stale.map(({ size, creator }) => `${size} bytes of process ${creator?.pid}`));
 * ```
 */
export function inspect(options: InspectOptions = {}): Inventory {
  checkOptions("inspect", options, "{ allUsers: true }");
  const { allUsers = false } = options;
  requireStack(); // for the files that it opens and the locks that cleanup() acquires
  try {
    return defaultInspection().inventory(allUsers);
  } catch (error) {
    throw exception("inspect", error);
  }
}

/**
 * Removes the stale objects of this user, and nothing else:
 *
 * - a segment to which no process is attached. It is removed under its lock and together with the lock, as the last
 *   process to detach would do;
 * - a semaphore that no process has open through this package or waits for, if the process that changed it last has
 *   ended. A Qt program that still has it open creates it again, as Qt does;
 * - a key file that leads to no object, after a few seconds.
 *
 * It may wait some seconds for the lock of a segment.
 *
 * @param options with `dryRun`, nothing is changed; with `orphans`, segments without a key file and POSIX objects of
 * other programs are removed too; with `persistent`, unused segments of the lifetime `"until-removed"`; with `keys`, only
 * their objects are removed
 * @returns what was removed, and what could not be removed, for instance because a process has begun to use it
 * @throws {TypeError} if `keys` is not an array of strings, or one of them is empty
 * @throws {SharedMemoryException} as {@linkcode inspect} does
 * @throws {UnsupportedError} on systems other than Linux
 *
 * @example
 * ```ts
 * import { cleanup } from "./inspect.ts";
 *
 * const { removed, failed } = cleanup({ dryRun: true });
 * console.log(removed.length, failed.length);
 * ```
 */
export function cleanup(options: CleanupOptions = {}): CleanupResult {
  checkOptions("cleanup", options, '{ keys: ["orders"] }'); // without keys, all that is stale would be removed
  const { dryRun = false, orphans = false, persistent = false, keys } = options;
  if (keys !== undefined) checkKeys(keys);
  const matchers = keys?.map(matcherOf);
  const { segments, semaphores, keyFiles } = inspect();
  const removed: Removal[] = [];
  const failed: Removal[] = [];
  // Key files come last: one may belong to a segment whose lock is listed as a stale semaphore here.
  for (const thing of [...segments, ...semaphores, ...keyFiles]) {
    const isUnused = thing.stale || persistent && isUnusedPersistent(thing);
    if (!isUnused || !thing.isOwn || thing.orphan && !orphans) continue;
    if (matchers?.some((isIts) => isIts(thing, lockFileOf(thing))) === false) continue;
    const problem = dryRun ? null : remove(thing);
    const reason = thing.stale ? thing.reason : "no process uses it";
    if (problem === null) removed.push(removal(thing, reason));
    else failed.push(removal(thing, problem));
  }
  return { removed, failed };
}

/**
 * Returns whether an object belongs to a key.
 *
 * @param thing a segment, a semaphore or a key file that {@linkcode inspect} has listed
 * @param key the key that a program gives to `SharedMemory` or `SystemSemaphore`, the text of a `NativeIpcKey`, the
 * native key alone, or the key file with or without its folder. No object belongs to the empty key
 *
 * @example
 * ```ts
 * import { belongsTo, inspect } from "./inspect.ts";
 *
 * console.log(inspect().segments.filter((segment) => belongsTo(segment, "orders")));
 * ```
 */
export function belongsTo(
  thing: SegmentInfo | SemaphoreInfo | KeyFileInfo,
  key: string,
): boolean {
  return matcherOf(key)(thing, lockFileOf(thing));
}

/** Returns the key file of the lock of a segment. */
function lockFileOf(thing: SegmentInfo | SemaphoreInfo | KeyFileInfo): string | null {
  return thing.kind === "segment" ? thing.lock?.keyFile ?? null : null;
}

/** @internal Whether an object belongs to a key. @param lockFile the key file of the lock of a segment */
export type KeyMatcher = (
  thing: Pick<IpcObjectInfo, "type" | "keyFile" | "nativeKey">,
  lockFile: string | null,
) => boolean;

/** @internal Returns a function that does what {@linkcode belongsTo} does, for many objects. */
export function matcherOf(key: string): KeyMatcher {
  if (key === "") return () => false;
  const hash = platformSafeName(key, "").slice(-40);
  const isIts = (file: string | null) =>
    file !== null && (file.endsWith(hash) || file === key || file.endsWith(`/${key}`));
  const native = NativeIpcKey.fromString(key)?.nativeKey;
  return ({ type, keyFile, nativeKey }, lockFile) => {
    if (isIts(keyFile) || isIts(lockFile)) return true;
    const names = [
      key,
      ...type === "posix" ? [`/${key}`] : [],
      ...key.startsWith(`${type}:`) ? [native] : [],
    ];
    return names.includes(nativeKey ?? undefined);
  };
}

function isUnusedPersistent(thing: SegmentInfo | SemaphoreInfo | KeyFileInfo): boolean {
  return thing.kind === "segment" && thing.persistent && thing.attached === 0;
}

function checkKeys(keys: unknown): void {
  if (!Array.isArray(keys)) {
    throw new TypeError(`cleanup: keys must be an array, not ${typeof keys}`);
  }
  for (const key of keys) {
    if (typeof key !== "string") {
      throw new TypeError(`cleanup: a key must be a string, not ${typeof key}`);
    }
    if (key === "") throw new TypeError("cleanup: a key is empty; leave keys out to clean up all");
  }
}

/** Removes an object; returns `null`, or a text that says why it could not be removed. */
function remove(thing: SegmentInfo | SemaphoreInfo | KeyFileInfo): string | null {
  return orElse(() => defaultInspection().remove(thing), (error) => error.message);
}

function removal(thing: SegmentInfo | SemaphoreInfo | KeyFileInfo, reason: string): Removal {
  const { kind, keyFile } = thing;
  return { kind, id: kind === "key file" ? null : thing.id, keyFile, reason };
}

function exception(operation: string, error: unknown): unknown {
  if (!(error instanceof BackendError)) return error;
  const { reason, message, syscall, errno } = error;
  return new SharedMemoryException(reason, `${operation}: ${message}`, { syscall, errno });
}
