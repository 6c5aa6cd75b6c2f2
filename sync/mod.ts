/**
 * This module has primitives that live inside a shared segment: processes and threads of Deno, Bun and Node can use
 * them together.
 *
 * A primitive lies at a byte offset in a segment that the program chooses. It is created once, best in `initialize` of
 * `SharedMemory.open`, before any other process gets the segment. All processes and threads then join it with `at()`.
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
export { Counter } from "./counter.ts";
export { Gauge } from "./gauge.ts";
export { CounterBlock } from "./counter_block.ts";
export { Snapshot } from "./snapshot.ts";
export type { FieldType, FieldValue, RecordLayout, RecordOf } from "./record_layout.ts";
export type { LayoutMember } from "./layout_member.ts";
export { RecordSnapshot } from "./record_snapshot.ts";
export { Mutex } from "./mutex.ts";
export type { AbortSignalLike, WaitOptions } from "../core/waiter.ts";
export { Event, type EventWaitOptions } from "./event.ts";
