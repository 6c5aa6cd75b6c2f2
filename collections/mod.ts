/**
 * This module has what several processes keep in one segment. Collections such as {@linkcode SharedMap} are left whole by a
 * process that is killed at any moment. A {@linkcode layout} places several of them, the primitives of `./sync` and typed
 * arrays in one segment by one declaration.
 *
 * @example
 * ```ts
 * import { SharedMap } from "./mod.ts";
 *
 * using hits = SharedMap.open<number>("hits by page", { bytes: 2 ** 20 });
 * console.log(hits.incr("/index.html"));
 * ```
 *
 * @example
 * ```ts
 * import { f64, layout } from "./mod.ts";
 * import { Counter, Mutex } from "../sync/mod.ts";
 *
 * const Site = layout({ hits: Counter, state: Mutex, table: f64(1000) });
 * using site = Site.open("site");
 * site.hits.add();
 * site.state.withLock(() => site.table[3]! += 1);
 * ```
 *
 * @module
 */
export { AccessMode, type ErrorReason, IpcError } from "../errors.ts";
export type { OpenOptions } from "../core/open_options.ts";
export type { Bytes } from "../core/view_types.ts";
export { SyncError } from "../sync/errors.ts";
export { bytes, type Codec, json, type JsonCodec, utf8 } from "./codecs.ts";
export {
  Layout,
  layout,
  type LayoutMembers,
  type LayoutOf,
  type LayoutOptions,
  type LayoutValue,
  type OpenLayout,
} from "./layout.ts";
export type { LayoutMember } from "../sync/layout_member.ts";
export type {
  RateLimiterOpenOptions,
  RateLimiterOptions,
  RateLimiterSize,
} from "./limiter_options.ts";
export type { TakeResult } from "./limiter_rule.ts";
export type {
  GetOrSetOptions,
  SetOptions,
  SharedMapOpenOptions,
  SharedMapOptions,
} from "./map_options.ts";
export type { AbortSignalLike } from "../core/waiter.ts";
export type { ShapeOptions } from "./map_shape.ts";
export { type FailedJob, SharedQueue, type SharedQueueStats } from "./shared_queue.ts";
export { QueueJob } from "./queue_job.ts";
export type {
  ReceiveOptions,
  SendAsyncOptions,
  SendOptions,
  SharedQueueOpenOptions,
  SharedQueueOptions,
  TakeOptions,
  TrySendOptions,
  WorkOptions,
} from "./queue_options.ts";
export type { QueueSize } from "./queue_shape.ts";
export { RateLimiter, type RateLimiterStats } from "./rate_limiter.ts";
export { type SetResult, SharedMap, type SharedMapStats } from "./shared_map.ts";
export { SharedValue, type SharedValueStats, type ValueSubscription } from "./shared_value.ts";
export {
  SharedBroadcastChannel,
  type SharedBroadcastChannelOptions,
} from "./shared_broadcast_channel.ts";
export type {
  BroadcastListener,
  BroadcastListenerOptions,
  BroadcastMessage,
  BroadcastTarget,
} from "./broadcast_event.ts";
export { structured, type StructuredCodec } from "./structured.ts";
export { SharedTopic, type SharedTopicStats } from "./shared_topic.ts";
export type {
  CallbackOptions,
  PublishOptions,
  SharedTopicOpenOptions,
  SharedTopicOptions,
  SubscribeOptions,
  TopicMessage,
  TopicStart,
} from "./topic_options.ts";
export type { TopicReader } from "./topic_reader.ts";
export type { TopicSubscription } from "./topic_subscription.ts";
export { f32, f64, i16, i32, i64, i8, u16, u32, u64, u8 } from "./typed_arrays.ts";
export type {
  ChangesOptions,
  SharedValueOpenOptions,
  SharedValueOptions,
} from "./value_options.ts";
export { WrongLayout } from "./wrong_layout.ts";
