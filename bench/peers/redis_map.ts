/** Redis on a Unix socket, by the client that Bun has, and in Node by the npm package `@redis/client`. */
import { Buffer } from "node:buffer";
import { createRequire } from "node:module";
import { basename } from "node:path";
import process from "node:process";
import { limits } from "../map_data.ts";
import { redisDatabases } from "./contenders.ts";
import type { RemoteStore } from "./map_jobs.ts";

/** What both clients have, by the names of Redis. */
interface Client {
  get(key: string): Promise<Uint8Array>;
  set(key: string, value: Uint8Array): Promise<unknown>;
  incr(key: string): Promise<unknown>;
  call(command: string, ...words: string[]): Promise<unknown>;
  close(): void;
}

async function bunClient(socket: string): Promise<Client> {
  const { RedisClient } = await import("bun" as string);
  const client = new RedisClient(`redis+unix://${socket}`);
  await client.connect();
  return {
    get: (key) => client.getBuffer(key),
    set: (key, value) => client.set(key, value),
    incr: (key) => client.incr(key),
    call: (command, ...words) => client.send(command, words),
    close: () => client.close(),
  };
}

async function nodeClient(socket: string): Promise<Client> {
  const require = createRequire(`${process.env["BENCH_REDIS_CLIENT"]}/`);
  const { createClient, RESP_TYPES } = require("@redis/client");
  const client = createClient({ socket: { path: socket } });
  await client.connect();
  const bytes = client.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer });
  return {
    get: (key) => bytes.get(key),
    set: (key, value) => client.set(key, Buffer.from(value.buffer)),
    incr: (key) => client.incr(key),
    call: (command, ...words) => client.sendCommand([command, ...words]),
    close: () => client.destroy(),
  };
}

/** The same rule as RateLimiter's; the value is when the allowance is whole again, in µs. */
const takeScript = `
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local whole = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now) + ARGV[1]
if whole > now + ARGV[2] then return 0 end
redis.call('SET', KEYS[1], string.format('%.0f', whole), 'PX', math.ceil((whole - now) / 1000))
return 1`;

export async function open(folder: string): Promise<{ remote: RemoteStore }> {
  const socket = process.env["BENCH_REDIS"]!;
  const client = await (process.versions["bun"] ? bunClient(socket) : nodeClient(socket));
  // A database of its own, as all contenders use one server.
  const database = Number(basename(folder).split("-").at(-1)) % redisDatabases;
  await client.call("SELECT", String(database));
  await client.call("FLUSHDB");
  const script = String(await client.call("SCRIPT", "LOAD", takeScript));
  const interval = limits.window / limits.limit * 1000;
  const rule = [String(interval), String(limits.burst * interval)];
  const remote: RemoteStore = {
    get: client.get,
    set: client.set,
    incr: client.incr,
    number: async (key) => Number(await client.call("GET", key) ?? 0),
    take: async (key) => await client.call("EVALSHA", script, "1", key, ...rule) === 1,
    async bytes() {
      const text = String(await client.call("INFO", "memory"));
      return Number(/^used_memory:(\d+)/m.exec(text)![1]);
    },
    async close() {
      await client.call("FLUSHDB");
      client.close();
    },
  };
  return { remote };
}
