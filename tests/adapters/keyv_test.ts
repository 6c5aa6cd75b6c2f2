/** The store for Keyv: its own suite with Keyv 5, on our store, and on that of Redis as a control; and Keyv 6. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { KeyvStore } from "../../adapters/keyv.ts";
import { describeKeyvSuite } from "../support/keyv_suite.ts";
import { library, needsLibraries, startImporting } from "../support/libraries.ts";
import { leaveNothingBehind, runtimes, slow, uniqueKey } from "../support/support.ts";

const BYTES = 2 ** 18;
const key = uniqueKey("keyv suite");

describeKeyvSuite("@keyv/test-suite on a shared map", {
  open: () => new KeyvStore(key, { bytes: BYTES }),
  close: (store) => store.disconnect(),
});

const adapter = new URL("../../adapters/keyv.ts", import.meta.url).href;

describe("a Keyv store", () => {
  leaveNothingBehind();

  for (const runtime of runtimes) {
    test(`is the same for a process of ${runtime.name}`, slow, async () => {
      const key = uniqueKey();
      using store = new KeyvStore(key, { bytes: BYTES });
      await store.set("a:1", "text", 60_000);
      const agent = startImporting(runtime);
      const seen = await agent.run(`
        const { KeyvStore } = await import(${JSON.stringify(adapter)});
        using store = new KeyvStore(${JSON.stringify(key)}, { bytes: ${BYTES} });
        await store.set("a:2", new Uint8Array([1, 2, 255]));
        return await store.getMany(["a:1", "a:2", "a:3"])
          .then((values) => values.map((value) => value && typeof value));`);
      assert.deepEqual(seen, ["string", "object", null]);
      assert.deepEqual(await store.get("a:2"), new Uint8Array([1, 2, 255]));
      assert.equal(await agent.end(), 0, agent.stderr);
    });
  }

  test("deletes what has no time left, and forgets what had some", slow, async () => {
    using store = new KeyvStore(uniqueKey(), { bytes: BYTES });
    await store.set("gone", "x", 1);
    await store.set("stays", "x");
    await store.set("stays", "x", 0);
    await store.set("kept", "x", 60_000);
    await store.set("null", "x", null as never); // Keyv passes what its caller has passed
    assert.equal(await store.get("null"), "x");
    while (await store.has("gone")) await new Promise((resolve) => setTimeout(resolve, 1));
    assert.deepEqual(await store.hasMany(["gone", "stays", "kept"]), [false, false, true]);
  });

  test("takes text and bytes, and rejects what Keyv has not serialized", slow, async () => {
    using store = new KeyvStore(uniqueKey(), { bytes: BYTES });
    const texts = ["", "\uFEFFa", "ä€😀", "\0"];
    const entries = texts.map((value, i) => ({ key: `${i}`, value }));
    assert.deepEqual(await store.setMany(entries), [true, true, true, true]);
    assert.deepEqual(await store.getMany(["0", "1", "2", "3"]), texts);
    const empty = new Uint8Array();
    await store.set("empty", empty);
    assert.deepEqual(await store.get("empty"), empty);
    await assert.rejects(store.set("object", { value: 1 } as never), /a string or a Uint8Array/);
    assert.equal(await store.has("object"), false);
  });

  test("says whether all keys were deleted", slow, async () => {
    using store = new KeyvStore(uniqueKey(), { bytes: BYTES });
    await store.setMany([{ key: "a", value: "1" }, { key: "b", value: "2" }]);
    assert.equal(await store.deleteMany(["a", "c"]), false);
    assert.deepEqual(await store.hasMany(["a", "b"]), [false, true]);
    assert.equal(await store.deleteMany(["b"]), true);
  });

  test("rejects when it is full and may evict nothing, and Keyv then says false", {
    ...slow,
    ...needsLibraries,
  }, async () => {
    const { default: Keyv } = library("keyv");
    using store = new KeyvStore(uniqueKey(), { bytes: 2 ** 14, evict: "none" });
    const keyv = new Keyv({ store });
    const errors: { code?: string }[] = [];
    keyv.on("error", (error: { code?: string }) => errors.push(error));
    let count = 0;
    while (await keyv.set(`key ${count}`, "x".repeat(100))) count++;
    assert.ok(count > 10, `${count} entries`);
    assert.deepEqual(errors.map(({ code }) => code), ["Full"]);
    assert.equal(await keyv.get("key 0"), "x".repeat(100));
  });

  for (const [version, name] of [["5", "keyv"], ["6", "keyv-6"]] as const) {
    test(`keeps namespaces of Keyv ${version} apart`, { ...slow, ...needsLibraries }, async () => {
      const { default: Keyv } = library(name);
      const key = uniqueKey();
      const open = () => new KeyvStore(key, { bytes: BYTES });
      using a = open();
      using b = open();
      using all = open();
      const [first, second] = [
        new Keyv({ store: a, namespace: "a" }),
        new Keyv({ store: b, namespace: "a2" }),
      ];
      for (const [i, keyv] of [first, second].entries()) {
        await keyv.set("object", { i });
        await keyv.set("short", i, 1);
        assert.equal(await keyv.set("long", `${i}`, 60_000), true);
      }
      assert.deepEqual(await first.get("object"), { i: 0 });
      assert.deepEqual(await second.get("object"), { i: 1 });
      while (await first.has("short")) await new Promise((resolve) => setTimeout(resolve, 1));
      assert.equal(await first.get("short"), undefined);
      assert.deepEqual(await first.get(["long", "short", "none"]), ["0", undefined, undefined]);
      const entries: [string, unknown][] = [];
      for await (const entry of first.iterator()) entries.push(entry);
      assert.deepEqual(entries.sort(), [["long", "0"], ["object", { i: 0 }]]);
      assert.equal(await first.delete("long"), true);
      assert.equal(await first.delete("long"), false);
      await first.clear();
      assert.equal(await first.has("object"), false);
      assert.deepEqual(await second.get("object"), { i: 1 });
      const keys: string[] = [];
      for await (const [key] of all.iterator()) keys.push(key);
      assert.ok(keys.length >= 2 && keys.every((key) => key.startsWith("a2:")), keys.join());
    });
  }
});
