/**
 * Named shared memory and semaphores between processes, with the semantics and on the wire protocol of
 * Qt's `QSharedMemory` and `QSystemSemaphore`, for Deno, Bun and Node.
 *
 * @example
 * ```ts
 * import { SharedMemory } from "./mod.ts";
 *
 * using memory = new SharedMemory("greeting");
 * if (!memory.create(100) && !memory.attach()) throw new Error(memory.errorString());
 * memory.lock();
 * new TextEncoder().encodeInto("hello", memory.data()!);
 * memory.unlock();
 * ```
 *
 * @module
 */
export {
  AccessMode,
  type ErrorCode,
  type ErrorReason,
  IpcError,
  SharedMemoryError,
  SharedMemoryException,
  type SharedMemoryExceptionOptions,
  SystemSemaphoreError,
  SystemSemaphoreMode,
  UnsupportedError,
} from "./errors.ts";
export type { AbortSignalLike, WaitOptions } from "./core/waiter.ts";
export type { OpenOptions } from "./core/open_options.ts";
export type { Bytes, ReadonlyUint8Array, ViewConstructor } from "./core/views.ts";
export { type Parent, SharedMemory } from "./shared_memory.ts";
export { NativeIpcKey, NativeIpcKeyType } from "./native_ipc_key.ts";
export { type SemaphoreOptions, SystemSemaphore } from "./system_semaphore.ts";
