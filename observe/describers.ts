import { PrimitiveKind } from "../sync/slot.ts";
import { SHARED_QUEUE, SHARED_TOPIC, SHARED_VALUE } from "./logs.ts";
import { RATE_LIMITER, SHARED_MAP } from "./maps.ts";
import { COUNTER, COUNTER_BLOCK, EVENT, GAUGE_DESCRIBER, MUTEX, SNAPSHOT } from "./primitives.ts";
import type { Describer } from "./types.ts";

/** Describes each kind of primitive and collection but the layout, which has parts of its own. */
export const DESCRIBERS: ReadonlyMap<number, Describer> = new Map([
  [PrimitiveKind.Mutex, MUTEX],
  [PrimitiveKind.Event, EVENT],
  [PrimitiveKind.Counter, COUNTER],
  [PrimitiveKind.Gauge, GAUGE_DESCRIBER],
  [PrimitiveKind.CounterBlock, COUNTER_BLOCK],
  [PrimitiveKind.Snapshot, SNAPSHOT],
  [PrimitiveKind.SharedMap, SHARED_MAP],
  [PrimitiveKind.RateLimiter, RATE_LIMITER],
  [PrimitiveKind.SharedTopic, SHARED_TOPIC],
  [PrimitiveKind.SharedQueue, SHARED_QUEUE],
  [PrimitiveKind.SharedValue, SHARED_VALUE],
]);
