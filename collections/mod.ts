/**
 * This module has collections that live inside a shared segment: processes of Deno, Bun and Node use them together, and a
 * process that is killed at any moment leaves them whole.
 *
 * @example
 * ```ts
 * import { SharedMap } from "./mod.ts";
 *
 * using hits = SharedMap.open<number>("hits by page", { bytes: 2 ** 20 });
 * console.log(hits.incr("/index.html"));
 * ```
 *
 * @module
 */
export { AccessMode, type ErrorReason, IpcError } from "../errors.ts";
export type { OpenOptions } from "../core/open_options.ts";
export type { Bytes } from "../core/view_types.ts";
export { SyncError } from "../sync/errors.ts";
export { bytes, type Codec, json, type JsonCodec, utf8 } from "./codecs.ts";
export type {
  RateLimiterOpenOptions,
  RateLimiterOptions,
  RateLimiterSize,
} from "./limiter_options.ts";
export type { TakeResult } from "./limiter_rule.ts";
export type { SetOptions, SharedMapOpenOptions, SharedMapOptions } from "./map_options.ts";
export type { GetOrSetOptions } from "./map_computer.ts";
export type { AbortSignalLike } from "../core/waiter.ts";
export type { ShapeOptions } from "./map_shape.ts";
export { RateLimiter, type RateLimiterStats } from "./rate_limiter.ts";
export { type SetResult, SharedMap, type SharedMapStats } from "./shared_map.ts";
