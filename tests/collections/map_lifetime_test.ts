/** Maps of the lifetime "until-removed", and maps in a layout. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { json, layout, RateLimiter, SharedMap, u32, utf8 } from "../../collections/mod.ts";
import { belongsTo, inspect } from "../../inspect.ts";
import { SharedMemory } from "../../mod.ts";
import { Counter } from "../../sync/mod.ts";
import {
  ipcObjects,
  ipcObjectsSince,
  leaveNothingBehind,
  runtimes,
  slow,
  staleOnly,
  startAgent,
  uniqueKey,
} from "../support/support.ts";

const OPTIONS = { bytes: 2 ** 20, codec: utf8, lifetime: "until-removed" } as const;

describe("a map that stays until it is removed", staleOnly, () => {
  leaveNothingBehind();

  test("keeps its entries when its only process ends, until remove()", () => {
    const before = ipcObjects();
    const key = uniqueKey();
    {
      using map = SharedMap.open(key, OPTIONS);
      map.set("a", "1");
      map.incr("n", 5);
    }
    {
      using map = SharedMap.open(key, OPTIONS);
      assert.deepEqual([map.get("a"), map.get("n"), map.size], ["1", 5, 2]);
      assert.equal(map.stats().recovered, 0);
      map.set("b", "2");
      map.remove();
    }
    assert.throws(() => SharedMemory.open(key), { code: "NotFound" });
    assert.deepEqual(ipcObjectsSince(before), []);
  });

  for (const runtime of runtimes) {
    test(
      `is usable after ${runtime.name} was killed while it held a lock of it`,
      slow,
      async () => {
        const key = uniqueKey();
        const agent = startAgent(runtime);
        await agent.run(`
        objects.map = collections.SharedMap.open(${JSON.stringify(key)}, {
          bytes: 2 ** 20, codec: collections.utf8, lifetime: "until-removed", stripes: 1 });
        objects.map.set("a", "1");
        const memory = library.SharedMemory.open(${
          JSON.stringify(key)
        }, { lifetime: "until-removed" });
        objects.memory = memory;
        // Every place that is a mutex is locked, as by a thread that was killed in the middle.
        let locked = 0;
        for (let at = 0; at + 64 <= memory.byteLength && locked < 17; at += 8) {
          try {
            sync.Mutex.at(memory.bytes, at).lock();
            locked++;
          } catch (error) {
            if (!["NotFound", "WrongKind"].includes(error.code)) throw error;
          }
        }
        if (locked < 1) throw new Error("there is no mutex");
      `);
        await agent.kill();
        using map = SharedMap.open(key, { ...OPTIONS, stripes: 1 });
        assert.equal(map.get("a"), "1");
        assert.equal(map.set("a", "2").stored, true);
        assert.equal(map.stats().recovered, 1);
        map.remove();
      },
    );
  }

  test("does not change the lifetime of a map or layout of others that it refuses", () => {
    const Kept = layout({ hits: Counter, load: u32(7) });
    for (
      const [create, refused] of [
        [
          (key: string) => SharedMap.open(key, { bytes: 2 ** 20, codec: utf8 }),
          (key: string) => SharedMap.open(key, { ...OPTIONS, evict: "none" }),
        ],
        [
          (key: string) => layout({ hits: Counter, load: u32(8) }).open(key),
          (key: string) => Kept.open(key, { lifetime: "until-removed" }),
        ],
        [
          (key: string) => layout({ hits: Counter }).open(key), // too small
          (key: string) => Kept.open(key, { lifetime: "until-removed" }),
        ],
      ] as const
    ) {
      const key = uniqueKey();
      using _others = create(key);
      assert.throws(() => refused(key), { reason: /WrongKind|WrongLayout|InvalidSize/ });
      const found = inspect().segments.filter((segment) => belongsTo(segment, key));
      assert.deepEqual(found.map(({ persistent }) => persistent), [false]);
    }
  });

  test("that was not opened by open() is removed through its segment", () => {
    using memory = SharedMemory.open(uniqueKey(), {
      size: 2 ** 20,
      initialize: (view) => void SharedMap.create(view, 0, { bytes: 2 ** 20 }),
    });
    assert.throws(() => SharedMap.at(memory.bytes).remove(), { code: "NotOwner" });
  });
});

describe("a map in a layout", () => {
  leaveNothingBehind();

  const Shape = layout({
    visits: Counter,
    sessions: SharedMap.of<{ user: string }>({ bytes: 2 ** 18, codec: json }),
    names: SharedMap.of({ bytes: 65_536, codec: utf8, evict: "none" }),
    table: u32(10),
  });

  test("is used beside the others, and stays with them", staleOnly, () => {
    const key = uniqueKey();
    {
      using site = Shape.open(key, { lifetime: "until-removed" });
      site.sessions.set("x", { user: "ann" });
      site.names.set("y", "bob");
      site.table.fill(9);
      site.visits.add(2);
    }
    using site = Shape.open(key, { lifetime: "until-removed" });
    assert.deepEqual(site.sessions.get("x"), { user: "ann" });
    assert.equal(site.names.get("y"), "bob");
    assert.deepEqual([site.visits.get(), site.table[9]], [2n, 9]);
    site.memory.remove();
  });

  test("with another codec is a WrongLayout that says which one there is", () => {
    const key = uniqueKey();
    using _site = layout({ names: SharedMap.of({ bytes: 65_536, codec: utf8 }) }).open(key);
    const Other = layout({ names: SharedMap.of<unknown>({ bytes: 65_536, codec: json }) });
    assert.throws(() => Other.open(key), {
      name: "WrongLayout",
      message: /declares SharedMap\(.*"json"\) v1, .*there is SharedMap\(.*"utf8"\) v1/,
    });
    const named = (name?: string) => SharedMap.of({ bytes: 65_536, codec: { ...utf8, name } }).KIND;
    assert.equal(named(), named());
    assert.equal(new Set([named(), named("a"), named("b"), named("bytes")]).size, 4);
  });

  test("of another shape is a WrongLayout that names the map", () => {
    const key = uniqueKey();
    using _site = Shape.open(key);
    const Other = layout({
      visits: Counter,
      sessions: SharedMap.of({ bytes: 2 ** 18, codec: json, evict: "none" }),
      names: SharedMap.of({ bytes: 65_536, codec: utf8, evict: "none" }),
      table: u32(10),
    });
    assert.throws(() => Other.open(key), { name: "WrongLayout", members: ["sessions"] });
  });
});

describe("a rate limiter that stays until it is removed", staleOnly, () => {
  leaveNothingBehind();

  test("knows what was used after a restart of its only process, and in a layout", () => {
    const limits = { limit: 10, window: 1e9, keys: 100 };
    const key = uniqueKey();
    for (const left of [9, 8]) {
      using limiter = RateLimiter.open(key, { ...limits, lifetime: "until-removed" });
      assert.equal(limiter.take("ann").remaining, left);
      if (left === 8) limiter.remove();
    }
    const Shape = layout({ limiter: RateLimiter.of(limits), visits: Counter });
    for (const left of [9, 8]) {
      using shared = Shape.open(key, { lifetime: "until-removed" });
      assert.equal(shared.limiter.take("ann").remaining, left);
      if (left === 8) shared.memory.remove();
      assert.throws(() => shared.limiter.remove(), { code: "NotOwner" });
    }
  });
});
