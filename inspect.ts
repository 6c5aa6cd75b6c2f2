/**
 * What segments, semaphores and key files there are, of this module and of Qt, and the removal of what
 * crashed programs left. The command `shared-memory` of `cli.ts` is made of it.
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
import { BackendError } from "./backends/failure.ts";
import { defaultInspection } from "./backends/inspection.ts";
import type { Inventory, KeyFileInfo, SegmentInfo, SemaphoreInfo } from "./backends/inventory.ts";
import { SharedMemoryException } from "./errors.ts";
import { NativeIpcKey, platformSafeName } from "./native_ipc_key.ts";
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

/** Something that was removed, or that could not be. */
export interface Removal {
  /** What it is. */
  readonly kind: "segment" | "semaphore" | "key file";
  /** Its number, `null` for a key file. */
  readonly id: number | null;
  /** The file that leads to it, or led, `null` if there was none. */
  readonly keyFile: string | null;
  /** Why it was removed, or why it could not be. */
  readonly reason: string;
}

/** What {@linkcode cleanup} did. */
export interface CleanupResult {
  /** What was removed, with `dryRun` what would be. A segment's lock and key files go with it. */
  readonly removed: readonly Removal[];
  /** What was stale but is still there. */
  readonly failed: readonly Removal[];
}

/** What {@linkcode inspect} is to look at. */
export interface InspectOptions {
  /** Also list what belongs to other users. */
  readonly allUsers?: boolean | undefined;
}

/** How {@linkcode cleanup} is to go about it. */
export interface CleanupOptions {
  /** Only say what would be removed. */
  readonly dryRun?: boolean | undefined;
  /** Only what belongs to one of these keys or key files, as {@linkcode belongsTo} says; all if left out. */
  readonly keys?: readonly string[] | undefined;
  /**
   * Also remove stale segments that no key file leads to: its file was deleted, and the memory is lost;
   * or it lies in another folder, where programs with another `TMPDIR` may yet look for the segment. And
   * stale POSIX objects that other programs made, as Qt or Python.
   */
  readonly orphans?: boolean | undefined;
}

/**
 * Lists what there is of this user's: the segments and semaphores with a key file in `TMPDIR` or else `/tmp`, those
 * that have none but may be Qt's, what is left of others, and POSIX objects in `/dev/shm`. It changes nothing, and
 * takes no lock, but for a moment `flock` of files that seem to be stale, to know whether a process that cannot be
 * seen uses them.
 *
 * What is being made or removed at this moment may be listed incompletely. On Linux, to be called as
 * often as you like: it reads `/proc` and the folder.
 *
 * @param options with `allUsers`, what belongs to other users is listed too
 * @throws {SharedMemoryException} `KeyError` if there is no such folder, `PermissionDenied` or another
 * error if the folder or `/proc` cannot be read
 * @throws {UnsupportedError} on other systems than Linux
 *
 * @example
 * ```ts
 * import { inspect } from "./inspect.ts";
 *
 * const stale = inspect().segments.filter((segment) => segment.stale);
 * console.log(stale.map(({ size, creator }) => `${size} bytes of process ${creator?.pid}`));
 * ```
 */
export function inspect({ allUsers = false }: InspectOptions = {}): Inventory {
  requireStack(); // for what it opens, and what cleanup() takes
  try {
    return defaultInspection().inventory(allUsers);
  } catch (error) {
    throw exception("inspect", error);
  }
}

/**
 * Removes what is stale and this user's, and nothing else:
 *
 * - a segment that nobody is attached to, under its lock and with it, as the last one to detach would;
 * - a semaphore that no process has open through this module or waits for, and that a process changed
 *   last which has ended. A Qt program that has it open all the same makes it again, as Qt does;
 * - a key file that leads to nothing, after a few seconds.
 *
 * It may wait some seconds for the lock of a segment.
 *
 * @param options with `dryRun`, nothing is changed; with `orphans`, segments without a key file and POSIX objects of other programs are removed too
 * @returns what was removed and what could not be, for instance because a process came to use it
 * @throws {TypeError} if `keys` is no array of keys, or one of them is empty
 * @throws {SharedMemoryException} as {@linkcode inspect} does
 * @throws {UnsupportedError} on other systems than Linux
 *
 * @example
 * ```ts
 * import { cleanup } from "./inspect.ts";
 *
 * const { removed, failed } = cleanup({ dryRun: true });
 * console.log(removed.length, failed.length);
 * ```
 */
export function cleanup(
  { dryRun = false, orphans = false, keys }: CleanupOptions = {},
): CleanupResult {
  if (keys !== undefined) checkKeys(keys);
  const { segments, semaphores, keyFiles } = inspect();
  const removed: Removal[] = [];
  const failed: Removal[] = [];
  // In this order: a key file may be that of a segment whose lock is a stale semaphore here.
  for (const thing of [...segments, ...semaphores, ...keyFiles]) {
    if (!thing.stale || !thing.isOwn || thing.orphan && !orphans) continue;
    if (keys !== undefined && !keys.some((key) => belongsTo(thing, key))) continue;
    const problem = dryRun ? null : remove(thing);
    if (problem === null) removed.push(removal(thing, thing.reason));
    else failed.push(removal(thing, problem));
  }
  return { removed, failed };
}

/**
 * Whether something belongs to a key.
 *
 * @param thing a segment, a semaphore or a key file that {@linkcode inspect} has listed
 * @param key as a program gives it to `SharedMemory` or `SystemSemaphore`, the text of a `NativeIpcKey` or what the
 * system knows it by, or the key file, with or without its folder. Nothing belongs to the empty key
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
  if (key === "") return false;
  const hash = platformSafeName(key, "").slice(-40);
  const isIts = (file: string | null) =>
    file !== null && (file.endsWith(hash) || file === key || file.endsWith(`/${key}`));
  if (isIts(thing.keyFile) || thing.kind === "segment" && isIts(thing.lock?.keyFile ?? null)) {
    return true;
  }
  const native = NativeIpcKey.fromString(key)?.nativeKey;
  const isPosix = thing.type === "posix";
  const names = [
    key,
    ...isPosix ? [`/${key}`] : [],
    ...key.startsWith(`${thing.type}:`) ? [native] : [],
  ];
  return names.includes(thing.nativeKey ?? undefined);
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

/** Returns what prevented it. */
function remove(thing: SegmentInfo | SemaphoreInfo | KeyFileInfo): string | null {
  try {
    return defaultInspection().remove(thing);
  } catch (error) {
    if (error instanceof BackendError) return error.message;
    throw error;
  }
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
