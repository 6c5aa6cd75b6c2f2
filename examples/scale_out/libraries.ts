/**
 * What the service uses of its libraries, with types, so that it can be checked without them. In a project of yours import
 * them instead, after `npm install keyv @keyv/redis express-session connect-redis rate-limiter-flexible @redis/client`.
 * Here they lie beside the tests: `npm ci --ignore-scripts` in tests/adapters/libraries installs them.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { createRequire } from "node:module";
import type { RateLimiterLibrary } from "../../adapters/rate_limiter_flexible.ts";
import type { SessionLibrary } from "../../adapters/express_session.ts";

const require = createRequire(
  new URL("../../tests/adapters/libraries/package.json", import.meta.url),
);

/** A cache of Keyv. */
export interface Cache {
  get(key: string): Promise<string | undefined>;
  set(key: string, value: string, ttl: number): Promise<boolean>;
  on(event: "error", listener: (error: Error) => void): unknown;
}

export const { Keyv }: {
  readonly Keyv: new (options: { store: object; namespace: string }) => Cache;
} = require("keyv");

/** What rate-limiter-flexible rejects with if there are too few points. */
export interface Refusal {
  readonly msBeforeNext: number;
}

export interface Limiter {
  consume(key: string): Promise<{ readonly remainingPoints: number }>;
}

interface LimiterOptions {
  readonly storeClient: object;
  /** So many are allowed… */
  readonly points: number;
  /** … in so many seconds. */
  readonly duration: number;
  readonly useRedisPackage?: boolean;
}

type LimiterClass = new (options: LimiterOptions) => Limiter;

export const flexible: RateLimiterLibrary<LimiterClass> & {
  readonly RateLimiterRedis: LimiterClass;
} = require("rate-limiter-flexible");

/** What is stored of a session. */
export interface Session {
  user?: string;
  visits?: number;
}

export type RequestWithSession = IncomingMessage & {
  session: Session & { destroy(done: (error?: unknown) => void): void };
};

type Middleware = (
  request: IncomingMessage,
  response: ServerResponse,
  next: (error?: unknown) => void,
) => void;

/** The base class of all stores of sessions. */
export type SessionStore = abstract new () => object;

export const session:
  & ((options: {
    store: object;
    secret: string;
    resave: boolean;
    saveUninitialized: boolean;
    cookie: { maxAge: number };
  }) => Middleware)
  & SessionLibrary<SessionStore> = require("express-session");

/** The commands of Redis that the service sends together. */
interface Multi {
  set(key: string, value: string, options?: { PX: number }): Multi;
  publish(channel: string, message: string): Multi;
  lRem(list: string, count: number, value: string): Multi;
  lPush(list: string, value: string): Multi;
  hDel(hash: string, field: string): Multi;
  sAdd(set: string, value: string): Multi;
  sRem(set: string, value: string): Multi;
  del(key: string): Multi;
  exec(): Promise<unknown>;
}

type Side = "LEFT" | "RIGHT";

/** A connection to Redis or Valkey. */
export interface Redis {
  on(event: "error", listener: (error: Error) => void): unknown;
  on(event: "ready", listener: () => void): unknown;
  connect(): Promise<unknown>;
  duplicate(): Redis;
  destroy(): void;
  multi(): Multi;
  get(key: string): Promise<string | null>;
  exists(key: string): Promise<number>;
  publish(channel: string, message: string): Promise<number>;
  subscribe(channel: string, listener: (message: string) => void): Promise<void>;
  lPush(list: string, value: string): Promise<number>;
  lMove(from: string, to: string, side: Side, toSide: Side): Promise<string | null>;
  /** @param seconds how long it waits for something to move */
  blMove(
    from: string,
    to: string,
    side: Side,
    toSide: Side,
    seconds: number,
  ): Promise<string | null>;
  hIncrBy(hash: string, field: string, by: number): Promise<number>;
  sMembers(set: string): Promise<string[]>;
}

export const { createClient }: { readonly createClient: (options: { url: string }) => Redis } =
  require("@redis/client");

export const { default: KeyvRedis }: { readonly default: new (redis: Redis) => object } = require(
  "@keyv/redis",
);

export const { RedisStore }: {
  readonly RedisStore: new (options: { client: Redis; prefix: string }) => object;
} = require("connect-redis");
