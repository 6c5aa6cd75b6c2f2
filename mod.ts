/**
 * This module shares named memory and semaphores between processes of Deno, Bun and Node. It has the semantics and the
 * wire protocol of Qt's `QSharedMemory` and `QSystemSemaphore`.
 *
 * @example
 * ```ts
 * import { SharedMemory } from "./mod.ts";
 *
 * using memory = SharedMemory.open("greeting", { size: 100 });
 * memory.withLock(() => new TextEncoder().encodeInto("hello", memory.bytes));
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
export type { Bytes, ReadonlyUint8Array, ViewConstructor } from "./core/view_types.ts";
export { type Parent, SharedMemory } from "./shared_memory.ts";
export { NativeIpcKey, NativeIpcKeyType } from "./native_ipc_key.ts";
export { type SemaphoreOptions, SystemSemaphore } from "./system_semaphore.ts";
