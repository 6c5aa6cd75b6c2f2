/** The driver for unstorage: what its documentation asks of drivers, through `createStorage()`. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { sharedMemoryDriver } from "../../adapters/unstorage.ts";
import { library, needsLibraries, startImporting } from "../support/libraries.ts";
import { SharedMemory } from "../../mod.ts";
import { leaveNothingBehind, runtimes, slow, uniqueKey, withDeadline } from "../support/support.ts";

const BYTES = 2 ** 18;
const { createStorage, prefixStorage, restoreSnapshot, snapshot } = library("unstorage");
const adapter = new URL("../../adapters/unstorage.ts", import.meta.url).href;
// deno-lint-ignore no-explicit-any -- as a program in JavaScript uses it
type Storage = any;

/** Calls `body` with a storage in a map of its own. */
async function withStorage(body: (storage: Storage, key: string) => Promise<void>): Promise<void> {
  const key = uniqueKey();
  const storage = createStorage({ driver: sharedMemoryDriver({ key, bytes: BYTES }) });
  try {
    await body(storage, key);
  } finally {
    await storage.dispose();
  }
}

const pause = () => new Promise((resolve) => setTimeout(resolve, 1));

describe("unstorage with a driver in shared memory", needsLibraries, () => {
  leaveNothingBehind();

  test("has nothing at first", () =>
    withStorage(async (storage) => {
      assert.equal(await storage.hasItem("a:b"), false);
      assert.equal(await storage.getItem("a:b"), null);
      assert.equal(await storage.getItemRaw("a:b"), null);
      assert.deepEqual(await storage.getKeys(), []);
      await storage.clear();
      await storage.removeItem("a:b");
    }));

  test("stores items under normalized keys", () =>
    withStorage(async (storage) => {
      await storage.setItem("one:a", "first");
      await storage.setItem("/two/a?query=1", "second");
      assert.equal(await storage.hasItem("one:a"), true);
      assert.equal(await storage.getItem("one/a"), "first");
      assert.equal(await storage.getItem("two:a"), "second");
      await storage.setItem("one:a", "third");
      assert.equal(await storage.getItem("one:a"), "third");
    }));

  test("stores what JSON has, and refuses what it has not", () =>
    withStorage(async (storage) => {
      const values = [0, 1.5, true, false, "", "text", { a: [1, null] }, [1, 2], null];
      for (const value of values) {
        await storage.setItem("value", value);
        assert.deepEqual(await storage.getItem("value"), value, JSON.stringify(value));
      }
      await storage.setItem("own", { toJSON: () => ({ is: "own" }) });
      assert.deepEqual(await storage.getItem("own"), { is: "own" });
      class Other {}
      await assert.rejects(storage.setItem("other", new Other()), /Cannot stringify/);
      assert.equal(await storage.hasItem("other"), false);
      await storage.setItem("own", undefined);
      assert.equal(await storage.hasItem("own"), false, "undefined removes");
    }));

  test("stores bytes as bytes, of any view, and text as text", () =>
    withStorage(async (storage) => {
      const bytes = new Uint8Array([0, 1, 254, 255]);
      const words = new Uint16Array([1, 256]);
      for (const value of [bytes, bytes.buffer, new DataView(bytes.buffer)]) {
        await storage.setItemRaw("raw", value);
        assert.deepEqual(await storage.getItemRaw("raw"), bytes);
      }
      await storage.setItemRaw("raw", words.subarray(1));
      assert.deepEqual(await storage.getItemRaw("raw"), new Uint8Array([0, 1]));
      await storage.setItemRaw("raw", "text");
      assert.equal(await storage.getItemRaw("raw"), "text");
      await assert.rejects(storage.setItemRaw("raw", { a: 1 }), /a string or bytes, not object/);
    }));

  test("lists keys, all or those of a base, to a depth", () =>
    withStorage(async (storage) => {
      const keys = ["top", "a:one", "a:two", "a:b:deep", "ab:other"];
      for (const key of keys) await storage.setItem(key, "x");
      assert.deepEqual((await storage.getKeys()).sort(), keys.toSorted());
      assert.deepEqual((await storage.getKeys("a")).sort(), ["a:b:deep", "a:one", "a:two"]);
      assert.deepEqual(await storage.getKeys(undefined, { maxDepth: 0 }), ["top"]);
      assert.deepEqual(
        (await storage.getKeys("", { maxDepth: 1 })).sort(),
        ["a:one", "a:two", "ab:other", "top"],
      );
    }));

  test("removes an item, and all", () =>
    withStorage(async (storage) => {
      for (const key of ["top", "a:one", "a:two", "ab:other"]) await storage.setItem(key, "x");
      await storage.removeItem("a:one");
      assert.equal(await storage.hasItem("a:one"), false);
      assert.equal(await storage.getItem("a:one"), null);
      assert.deepEqual((await storage.getKeys()).sort(), ["a:two", "ab:other", "top"]);
      await storage.clear();
      assert.deepEqual(await storage.getKeys(), []);
    }));

  test("sets and gets several items", () =>
    withStorage(async (storage) => {
      await storage.setItems([
        { key: "a:1", value: "one" },
        { key: "a:2", value: { two: 2 } },
        { key: "b:3", value: "three", options: { ttl: 60 } },
      ]);
      assert.deepEqual(await storage.getItems(["a:1", { key: "a:2" }, "none"]), [
        { key: "a:1", value: "one" },
        { key: "a:2", value: { two: 2 } },
        { key: "none", value: null },
      ]);
      assert.ok((await storage.getMeta("b:3")).ttl > 50);
    }));

  test(
    "lets items expire after the seconds that they are given",
    slow,
    () =>
      withStorage(async (storage) => {
        await storage.setItem("short", "x", { ttl: 0.001 });
        await storage.setItem("long", "x", { ttl: 60 });
        await storage.setItem("ever", "x");
        while (await storage.hasItem("short")) await pause();
        assert.equal(await storage.getItem("short"), null);
        assert.deepEqual((await storage.getKeys()).sort(), ["ever", "long"]);
        const { ttl } = await storage.getMeta("long");
        assert.ok(ttl > 50 && ttl <= 60, `${ttl} s`);
        assert.deepEqual({ ...await storage.getMeta("ever") }, {});
        assert.deepEqual({ ...await storage.getMeta("none") }, {});
      }),
  );

  test("keeps what setMeta() stores, and removes it with its item", () =>
    withStorage(async (storage) => {
      const mtime = new Date("2026-01-31T00:00:00Z");
      await storage.setItem("a", "x");
      await storage.setMeta("a", { mtime, owner: "ann" });
      assert.deepEqual({ ...await storage.getMeta("a") }, { mtime, owner: "ann" });
      await storage.removeItem("a", { removeMeta: true });
      assert.deepEqual({ ...await storage.getMeta("a") }, {});
    }));

  test("is mounted beside others, and given back by snapshots", () =>
    withStorage(async (storage, key) => {
      const mounted = createStorage();
      mounted.mount("shared", sharedMemoryDriver({ key, bytes: BYTES }));
      await mounted.setItem("shared:a", "in the map");
      await mounted.setItem("own:a", "in this process");
      assert.equal(await storage.getItem("a"), "in the map");
      assert.deepEqual(await storage.getKeys(), ["a"]);
      assert.equal(await prefixStorage(mounted, "shared").getItem("a"), "in the map");
      const all = await snapshot(mounted, "shared");
      await mounted.clear();
      assert.deepEqual(await storage.getKeys(), []);
      await restoreSnapshot(mounted, all, "shared");
      assert.equal(await storage.getItem("a"), "in the map");
      await mounted.dispose();
    }));

  test("tells who watches of the changes of its own process", () =>
    withStorage(async (storage) => {
      const events: string[] = [];
      const unwatch = await storage.watch((event: string, key: string) =>
        void events.push(`${event} ${key}`)
      );
      await storage.setItem("a", "x");
      await storage.removeItem("a");
      await unwatch();
      await storage.setItem("a", "x");
      assert.deepEqual(events, ["update a", "remove a"]);
    }));
});

describe("a driver for unstorage", () => {
  leaveNothingBehind();

  for (const runtime of runtimes) {
    test(`tells who watches of the changes of a process of ${runtime.name}`, {
      ...slow,
      ...needsLibraries,
    }, async () => {
      const [key, changes] = [uniqueKey(), uniqueKey()];
      const storage = createStorage({ driver: sharedMemoryDriver({ key, bytes: BYTES, changes }) });
      await storage.setItem("before", "x");
      const events: string[] = [];
      const seen = Promise.withResolvers<void>();
      const unwatch = await storage.watch((event: string, key: string) => {
        events.push(`${event} ${key}`);
        if (key === "last") seen.resolve();
      });
      await storage.setItem("own", "x");
      await storage.removeItem("none");
      const agent = startImporting(runtime);
      await agent.run(`
        const { default: sharedMemoryDriver } = await import(${JSON.stringify(adapter)});
        const options = ${JSON.stringify({ key, bytes: BYTES, changes })};
        const driver = sharedMemoryDriver(options);
        driver.setItem("a:ä", "text");
        driver.setItemRaw("a:raw", new Uint8Array(1));
        driver.removeItem("own");
        driver.clear("a:");
        driver.setItem("last", "text");
        driver.dispose();`);
      await withDeadline(seen.promise, "the last change");
      await unwatch();
      await storage.clear();
      const [cleared, rest] = [events.slice(4, 6), [...events.slice(0, 4), ...events.slice(6)]];
      assert.deepEqual(rest, [
        ...["update own", "update a:ä", "update a:raw", "remove own"],
        "update last",
      ]);
      assert.deepEqual(cleared.sort(), ["remove a:raw", "remove a:ä"]);
      assert.deepEqual(await storage.getKeys(), []);
      assert.equal(await agent.end(), 0, agent.stderr);
      await storage.dispose();
    });
  }

  test("takes null for no options and for no time to live, as other drivers do", () => {
    const driver = sharedMemoryDriver({ key: uniqueKey(), bytes: BYTES, ttl: 60_000 });
    driver.setItem("a", "text", null as never);
    driver.setItem("b", "text", { ttl: null as never });
    for (const key of ["a", "b"]) {
      assert.equal(driver.getItem(key), "text");
      assert.ok(driver.getMeta(key)!.ttl! > 50);
    }
    driver.dispose();
  });

  test("closes the topic of its changes if its map cannot be opened", () => {
    const changes = uniqueKey();
    assert.throws(() => sharedMemoryDriver({ key: uniqueKey(), bytes: -1, changes }), RangeError);
    using memory = new SharedMemory(changes);
    assert.equal(memory.attach(), false);
  });

  for (const runtime of runtimes) {
    test(`has the items of a process of ${runtime.name}`, slow, async () => {
      const key = uniqueKey();
      const driver = sharedMemoryDriver({ key, bytes: BYTES });
      driver.setItem("a:1", "ours");
      const agent = startImporting(runtime);
      const keys = await agent.run(`
        const { sharedMemoryDriver } = await import(${JSON.stringify(adapter)});
        const options = { key: ${JSON.stringify(key)}, bytes: ${BYTES} };
        const driver = objects.driver = sharedMemoryDriver(options);
        driver.setItem("a:2", "theirs");
        driver.setItem("b", "theirs");
        return driver.getKeys().sort();`);
      assert.deepEqual(keys, ["a:1", "a:2", "b"]);
      await agent.kill();
      assert.equal(driver.getItem("a:2"), "theirs");
      driver.clear("a:");
      assert.deepEqual(driver.getKeys(), ["b"]);
      assert.equal(driver.getInstance().size, 1);
      driver.dispose();
    });
  }
});
