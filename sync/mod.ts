/**
 * Primitives that live inside a shared segment, for processes and threads of Deno, Bun and Node at once.
 *
 * Each lies at a byte offset of its choice in a segment. It is made once, best in `initialize` of
 * `SharedMemory.open`, before anybody else gets the segment; everyone joins it with `at()`.
 *
 * @example
 * ```ts
 * import { SharedMemory } from "../mod.ts";
 * import { Counter } from "./mod.ts";
 *
 * using memory = SharedMemory.open("visits", {
 *   size: Counter.BYTES,
 *   initialize: (bytes) => void Counter.create(bytes),
 * });
 * console.log(Counter.at(memory.view(Uint8Array)).add());
 * ```
 *
 * @module
 */
export { type ErrorReason, IpcError } from "../errors.ts";
export { SyncError } from "./errors.ts";
export { Counter, Gauge } from "./counter.ts";
export { CounterBlock } from "./counter_block.ts";
export { Snapshot } from "./snapshot.ts";
export type { FieldType, FieldValue, RecordLayout, RecordOf } from "./record_layout.ts";
export { RecordSnapshot } from "./record_snapshot.ts";
export { Mutex } from "./mutex.ts";
export type { AbortSignalLike, WaitOptions } from "../core/waiter.ts";
export { Event, type EventWaitOptions } from "./event.ts";
