/** Options and functions of a wrong type, in every public call that takes some. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  json,
  layout,
  RateLimiter,
  SharedBroadcastChannel,
  SharedMap,
  SharedQueue,
  SharedTopic,
  SharedValue,
} from "../../collections/mod.ts";
import { sharedSessionStore } from "../../adapters/express_session.ts";
import { sharedMemoryDriver } from "../../adapters/unstorage.ts";
import { cleanup, inspect } from "../../inspect.ts";
import { metrics } from "../../metrics.ts";
import { SharedMemory, SystemSemaphore } from "../../mod.ts";
import { Counter, Event, Mutex } from "../../sync/mod.ts";
import { leaveNothingBehind, uniqueKey } from "../support/support.ts";

/** What JavaScript programs may pass instead of options. */
const WRONG = [null, 1000, "1000", true, ["key"]] as unknown[] as never[];

/** Asserts that a call refuses what is no object, by its name, and makes nothing. */
async function refuses(name: string, call: (options: never) => unknown): Promise<void> {
  for (const wrong of WRONG) {
    const found = Array.isArray(wrong) ? "an array" : String(wrong);
    await assert.rejects(
      async () => void await call(wrong), // an error that is thrown at once is one of the promise here
      (error: unknown) => {
        assert.ok(error instanceof TypeError, `${name}(${found}): ${String(error)}`);
        assert.ok(
          error.message.startsWith(`${name}: the options must be an object`),
          error.message,
        );
        assert.ok(error.message.endsWith(` not ${found}`), error.message);
        return true;
      },
    );
  }
}

describe("options that are no object", () => {
  leaveNothingBehind();

  test("are refused when a collection is opened, created, joined or measured", async () => {
    using memory = SharedMemory.open(uniqueKey(), { size: 64 });
    const view = memory.bytes;
    for (const type of [SharedMap, RateLimiter, SharedQueue, SharedTopic, SharedValue] as const) {
      const { name } = type;
      await refuses(`${name}.open`, (options) => type.open(uniqueKey(), options));
      await refuses(`${name}.create`, (options) => type.create(view, 0, options));
      await refuses(`${name}.at`, (options) => type.at(view, 0, options));
      await refuses(`${name}.of`, (options) => type.of(options));
      await refuses(`${name}.bytesFor`, (options) => type.bytesFor(options));
      const left = new RegExp(`^TypeError: ${name}\\.open: the options .* not undefined$`);
      assert.throws(() => (type.open as (key: string) => unknown)(uniqueKey()), left);
    }
    assert.deepEqual(view, new Uint8Array(64));
  });

  test("are refused when a segment, a semaphore, a layout or a channel is opened", async () => {
    await refuses("SharedMemory.open", (options) => SharedMemory.open(uniqueKey(), options));
    await refuses("SystemSemaphore.open", (options) => SystemSemaphore.open(uniqueKey(), options));
    const shape = layout({ hits: Counter });
    await refuses("layout.open", (options) => shape.open(uniqueKey(), options));
    await refuses(
      "new SharedBroadcastChannel",
      (options) => new SharedBroadcastChannel(uniqueKey(), options),
    );
  });

  test("are refused when a map is used", async () => {
    using map = SharedMap.open<string>(uniqueKey(), { bytes: 40_000, codec: json });
    await refuses("SharedMap.set", (options) => map.set("a", "1", options));
    await refuses("SharedMap.update", (options) => map.update("a", () => "1", options));
    await refuses("SharedMap.incr", (options) => map.incr("n", 1, options));
    await refuses("SharedMap.getOrSet", (options) => map.getOrSet("b", () => "1", options));
    assert.equal(map.size, 0);
  });

  test("are refused when a topic, a value or a queue is used", async () => {
    using topic = SharedTopic.open<string>(uniqueKey(), { bytes: 4096, codec: json });
    await refuses("SharedTopic.publishAsync", (options) => topic.publishAsync("a", options));
    await refuses("SharedTopic.reader", (options) => topic.reader(options));
    await refuses("SharedTopic.subscribe", (options) => topic.subscribe(() => {}, options));
    assert.equal(topic.stats().last, 0);
    using value = SharedValue.open<string>(uniqueKey(), { maxBytes: 100, codec: json });
    await refuses("SharedValue.changes", (options) => value.changes(options));
    await refuses("SharedValue.subscribe", (options) => value.subscribe(() => {}, options));
    using queue = SharedQueue.open<string>(uniqueKey(), { bytes: 65_536, codec: json });
    await refuses("SharedQueue.send", (options) => queue.send("a", options));
    await refuses("SharedQueue.trySend", (options) => queue.trySend("a", options));
    await refuses("SharedQueue.sendAsync", (options) => queue.sendAsync("a", options));
    await refuses("SharedQueue.receive", (options) => queue.receive(options));
    await refuses("SharedQueue.receiveAsync", (options) => queue.receiveAsync(options));
    await refuses("SharedQueue.tryTake", (options) => queue.tryTake(options));
    await refuses("SharedQueue.take", (options) => queue.take(options));
    await refuses("SharedQueue.work", (options) => queue.work(options, () => {}));
    assert.equal(queue.stats().sent, 0);
  });

  test("are refused by cleanup(), which would remove more than what the program has named", async () => {
    await refuses("cleanup", (options) => cleanup(options));
    await refuses("inspect", (options) => inspect(options));
    await refuses("metrics", (options) => metrics(options));
  });

  test("are refused by the adapters", async () => {
    const Store = sharedSessionStore({ Store: class {} });
    await refuses("SharedSessionStore", (options) => new Store(uniqueKey(), options));
    await refuses("sharedMemoryDriver", (options) => sharedMemoryDriver(options));
  });

  test("are null instead of a function for a session store, which then calls nobody", async () => {
    const Store = sharedSessionStore({ Store: class {} });
    using store = new Store(uniqueKey(), { bytes: 40_000 });
    store.set("a", { cookie: {} }, null as never); // an error of nobody would end the program
    store.destroy("b", null as never);
    const session = await new Promise((resolve) => store.get("a", (_, found) => resolve(found)));
    assert.deepEqual(session, { cookie: {} });
  });
});

describe("what is no function", () => {
  leaveNothingBehind();

  /** Asserts that a call refuses what is no function, by its name and that of the argument. */
  async function refusesNoFunction(name: string, call: (fn: never) => unknown): Promise<void> {
    for (const wrong of [null, undefined, 1, "fn", {}] as unknown[] as never[]) {
      const message = new RegExp(`^${name} must be a function, not ${typeof wrong}$`);
      await assert.rejects(async () => void await call(wrong), { name: "TypeError", message });
    }
  }

  test("is refused before a lock or a permit is taken for it", async () => {
    const key = uniqueKey();
    using memory = SharedMemory.open(key, { size: Mutex.BYTES + Event.BYTES });
    const mutex = Mutex.create(memory.bytes);
    const event = Event.create(memory.bytes, Mutex.BYTES);
    using permits = SystemSemaphore.open(uniqueKey(), { initialValue: 1 });
    using other = SharedMemory.open(key);
    assert.equal(other.lock(), true); // a call that waited for it would time out
    mutex.lock();
    permits.acquire();
    const brief = { timeout: 0 };
    await refusesNoFunction("SharedMemory.withLock: fn", (fn) => memory.withLock(fn, brief));
    await refusesNoFunction(
      "SharedMemory.withLockAsync: fn",
      (fn) => memory.withLockAsync(fn, brief),
    );
    await refusesNoFunction(
      "SystemSemaphore.withPermit: fn",
      (fn) => permits.withPermit(fn, brief),
    );
    await refusesNoFunction(
      "SystemSemaphore.withPermitAsync: fn",
      (fn) => permits.withPermitAsync(fn, brief),
    );
    await refusesNoFunction("Mutex.withLock: fn", (fn) => mutex.withLock(fn, brief));
    await refusesNoFunction("Mutex.withLockAsync: fn", (fn) => mutex.withLockAsync(fn, brief));
    await refusesNoFunction("Event.waitUntil: condition", (fn) => event.waitUntil(fn, 0));
    await refusesNoFunction(
      "Event.waitUntilAsync: condition",
      (fn) => event.waitUntilAsync(fn, brief),
    );
    permits.release();
    mutex.unlock();
    await refusesNoFunction("SharedMemory.view: Type", (type) => memory.view(type));
  });

  test("is refused by a map, also if the key has a value", async () => {
    using map = SharedMap.open<string>(uniqueKey(), { bytes: 40_000, codec: json });
    await refusesNoFunction("SharedMap.update: fn", (fn) => map.update("a", fn));
    map.set("a", "1");
    await refusesNoFunction("SharedMap.getOrSet: compute", (fn) => map.getOrSet("a", fn));
    assert.equal(map.get("a"), "1");
  });
});
