/** What each member of a shared value does, refuses and promises, in one process. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  type Codec,
  json,
  layout,
  SharedValue,
  type SharedValueOptions,
  utf8,
} from "../../collections/mod.ts";
import { AccessMode, SharedMemory } from "../../mod.ts";
import { Random } from "../../scripts/random.ts";
import { Counter } from "../../sync/mod.ts";
import {
  ipcObjects,
  ipcObjectsSince,
  leaveNothingBehind,
  slow,
  staleOnly,
  uniqueKey,
  withDeadline,
} from "../support/support.ts";
import { beginAfter, openValue } from "../support/values.ts";

const TEXT = { maxBytes: 100, codec: utf8 } as const;

/** A codec of texts that counts its calls. */
class CountingCodec implements Codec<string> {
  decoded = 0;
  encode(value: string): Uint8Array {
    return utf8.encode(value);
  }
  decode(bytes: Uint8Array): string {
    this.decoded++;
    return utf8.decode(bytes);
  }
}

describe("a shared value", () => {
  leaveNothingBehind();

  test("is opened by its key, is the same for all, and goes with its last user", () => {
    const key = uniqueKey("value");
    {
      using value = SharedValue.open(key, TEXT);
      using other = SharedValue.open(key, TEXT);
      assert.deepEqual([value.value, value.version], [undefined, 0]);
      assert.equal(value.set("é"), 1);
      assert.deepEqual([other.value, other.version], ["é", 1]);
      assert.equal(other.set(""), 2);
      assert.deepEqual([value.value, value.version], ["", 2]);
      assert.deepEqual(value.stats(), { bytes: 0, maxBytes: 100, recovered: 0 });
    }
    using again = SharedValue.open(key, TEXT);
    assert.equal(again.value, undefined);
  });

  test("begins with `initial` where it is created, and nowhere else", () => {
    const key = uniqueKey("value");
    using value = SharedValue.open(key, { ...TEXT, initial: "first" });
    assert.deepEqual([value.value, value.version], ["first", 1]);
    using other = SharedValue.open(key, { ...TEXT, initial: "second" });
    assert.deepEqual([other.value, other.version], ["first", 1]);
    const large = { ...TEXT, initial: "x".repeat(101) };
    const before = ipcObjects();
    assert.throws(() => SharedValue.open(uniqueKey(), large), { code: "InvalidSize" });
    assert.deepEqual(ipcObjectsSince(before), []);
  });

  test("takes the bytes that it says", () => {
    const { ALIGNMENT } = SharedValue;
    for (const maxBytes of [1, 63, 64, 65, 1000, 2 ** 20 + 1]) {
      const size = SharedValue.bytesFor({ maxBytes });
      assert.ok(size >= 256 + 2 * maxBytes && size < 256 + 2 * (maxBytes + 64) && size % 64 === 0);
      using memory = SharedMemory.open(uniqueKey(), { size: size + ALIGNMENT });
      const value = SharedValue.create(memory.bytes, ALIGNMENT, { maxBytes });
      for (let i = 0; i < 3; i++) value.set(new Uint8Array(maxBytes).fill(255));
      assert.ok(memory.bytes.subarray(0, ALIGNMENT).every((byte) => byte === 0));
      const short = memory.bytes.subarray(0, size + ALIGNMENT - 1);
      assert.throws(() => SharedValue.at(short, ALIGNMENT), RangeError);
    }
    assert.throws(() => SharedValue.bytesFor({}), TypeError);
  });

  test("refuses options that are none", () => {
    const bad = (options: object, type: typeof TypeError | typeof RangeError) => {
      assert.throws(() => SharedValue.open(uniqueKey(), { ...TEXT, ...options }), type);
      assert.throws(() => SharedValue.of({ ...TEXT, ...options }), type);
    };
    for (const maxBytes of ["1", null, 1n, undefined]) bad({ maxBytes }, TypeError);
    for (const maxBytes of [0, -1, 0.5, NaN, Infinity, 2 ** 30 + 1]) bad({ maxBytes }, RangeError);
    for (const codec of [{}, null, 1, { encode() {} }]) bad({ codec }, TypeError);
    bad({ lockTimeout: -1 }, RangeError);
    using value = SharedValue.open(uniqueKey(), TEXT);
    assert.throws(() => value.set(1 as never), TypeError);
    assert.throws(() => value.subscribe(1 as never), TypeError);
    for (const from of ["1", null, 1n]) {
      assert.throws(() => value.changes({ from: from as never }), TypeError);
    }
    for (const from of [-1, 0.5, NaN, 2 ** 53]) {
      assert.throws(() => value.changes({ from }), RangeError);
    }
    assert.throws(() => value.changes({ ref: 1 as never }), TypeError);
    assert.throws(() => value.changes({ signal: 1 as never }), {
      name: "TypeError",
      message: "SharedValue.changes: signal must be an AbortSignal, not number",
    });
    assert.throws(() => value.update("next" as never), {
      name: "TypeError",
      message: "SharedValue.update: fn must be a function, not string",
    });
    const broken = SharedValue.open(uniqueKey(), {
      maxBytes: 10,
      codec: { encode: () => [1] as never, decode: (bytes) => bytes },
    });
    using _broken = broken;
    assert.throws(() => broken.set(new Uint8Array(1)), TypeError);
    assert.equal(broken.version, 0);
  });

  test("is refused where it is not, or is another one", () => {
    using place = openValue(TEXT);
    const { memory } = place;
    assert.throws(() => SharedValue.create(memory.bytes, 0, TEXT), { code: "AlreadyExists" });
    assert.throws(() => SharedValue.at(memory.bytes, 64), { code: "NotFound" });
    assert.throws(() => SharedValue.at(memory.bytes, 32), RangeError);
    assert.throws(() => SharedValue.at(memory.bytes, 0, { maxBytes: 101 }), {
      code: "WrongKind",
      message: /maxBytes 100, not 101/,
    });
    assert.throws(() => SharedValue.at(memory.bytes, 0, { codec: json }), {
      code: "WrongKind",
      message: /codec: "utf8", not "json"/,
    });
    SharedValue.at(memory.bytes, 0, { codec: { encode: utf8.encode, decode: utf8.decode } });
    assert.throws(() => Counter.at(memory.bytes), { code: "WrongKind" });
    using counter = SharedMemory.open(uniqueKey(), { size: 1000 });
    Counter.create(counter.bytes);
    assert.throws(() => SharedValue.at(counter.bytes), { code: "WrongKind" });
    using readOnly = SharedMemory.open(place.key, { mode: AccessMode.ReadOnly });
    assert.throws(() => SharedValue.at(readOnly.bytes), { code: "ReadOnly" });
    assert.throws(() => SharedValue.at(new Uint8Array(1000)), { code: "NotAttached" });
  });

  test("cannot be used once its segment is detached", async () => {
    const place = openValue({ ...TEXT, initial: "a" });
    const { value } = place;
    const changes = value.changes();
    assert.equal(value.value, "a");
    place[Symbol.dispose]();
    const gone = { name: "SyncError", code: "NotAttached" };
    assert.throws(() => value.value, gone);
    assert.throws(() => value.version, gone);
    assert.throws(() => value.set("b"), gone);
    assert.throws(() => value.update(() => "b"), gone);
    assert.throws(() => value.stats(), gone);
    assert.throws(() => value.changes(), gone);
    assert.throws(() => value.subscribe(() => {}), gone);
    assert.deepEqual(await changes.next(), { done: true, value: undefined });
  });

  test("is decoded once for each version, and is the same object until it changes", () => {
    const codec = new CountingCodec();
    using place = openValue({ maxBytes: 100, codec });
    const { value } = place;
    value.set("a");
    for (let i = 0; i < 10; i++) assert.equal(value.value, "a");
    assert.equal(codec.decoded, 1);
    value.set("a");
    for (let i = 0; i < 10; i++) assert.equal(value.value, "a");
    assert.equal(codec.decoded, 2);
    const table = SharedValue.open<{ a: number }>(uniqueKey(), { maxBytes: 100, codec: json });
    using _table = table;
    table.set({ a: 1 });
    const first = table.value;
    assert.equal(table.value, first);
    table.set({ a: 1 });
    assert.notEqual(table.value, first);
    assert.deepEqual(table.value, first);
  });

  test("stays what it was for who keeps it, and for who changes what was set", () => {
    using place = openValue({ maxBytes: 100 });
    const { value } = place;
    const given = Uint8Array.of(1, 2);
    value.set(given);
    given.fill(9);
    const kept = value.value;
    assert.deepEqual(kept, Uint8Array.of(1, 2));
    for (let i = 0; i < 4; i++) value.set(new Uint8Array(100).fill(7));
    assert.deepEqual(kept, Uint8Array.of(1, 2));
  });

  test("that is too large is refused with its size, and changes nothing", () => {
    using place = openValue(TEXT);
    const { value } = place;
    value.set("x".repeat(100));
    const refusal = {
      name: "SyncError",
      code: "InvalidSize",
      message: /takes 102 bytes, and at most 100 are possible; create it with a larger maxBytes/,
    };
    assert.throws(() => value.set("é".repeat(51)), refusal);
    assert.throws(() => value.update((old) => old + "yy"), refusal);
    assert.deepEqual([value.value, value.version], ["x".repeat(100), 1]);
  });

  test("is not changed if the codec throws, and throws what it throws", () => {
    let isBroken = false;
    const codec: Codec<string> = {
      encode: (value) => utf8.encode(value),
      decode(bytes) {
        if (isBroken) throw new Error("broken");
        return utf8.decode(bytes);
      },
    };
    using place = openValue({ maxBytes: 100, codec });
    const { value } = place;
    value.set("a");
    isBroken = true;
    assert.throws(() => value.value, /broken/);
    isBroken = false;
    assert.equal(value.value, "a");
    assert.throws(() => value.set(Symbol() as never), TypeError);
    assert.equal(value.version, 1);
  });

  test("is updated from what it is, again if it was set meanwhile", () => {
    using place = openValue<number[]>({ maxBytes: 100, codec: json });
    const { value } = place;
    const other = place.join();
    assert.deepEqual(value.update((old = []) => [...old, 1]), [1]);
    let calls = 0;
    const result = value.update((old = []) => {
      if (calls++ < 3) other.set([...old, 0]);
      return [...old, 2];
    });
    assert.deepEqual([calls, result], [4, [1, 0, 0, 0, 2]]);
    assert.deepEqual(other.value, [1, 0, 0, 0, 2]);
    const before = value.version;
    assert.equal(value.update(() => undefined), undefined);
    assert.throws(() => value.update(() => assert.fail("mine")), /mine/);
    assert.throws(() => value.update((() => Promise.resolve([1])) as never), TypeError);
    assert.equal(value.version, before);
  });

  test("gives up an update that others are always faster than", () => {
    using place = openValue<number>({ maxBytes: 100, codec: json, lockTimeout: 30 });
    const other = place.join();
    const update = () => place.value.update((old = 0) => other.set(old + 1));
    assert.throws(update, { code: "Busy", message: /again and again for 30 ms/ });
  });

  test("has versions that go past 2^31 and 2^32", () => {
    for (const begin of [2 ** 31 - 3, 2 ** 32 - 3, 5 * 2 ** 32 - 2, 2 ** 51]) {
      using place = openValue(TEXT);
      beginAfter(place as never, begin);
      const { value } = place;
      const other = place.join();
      assert.equal(value.version, begin);
      for (let i = 1; i <= 6; i++) {
        assert.equal(value.set(`${i}`), begin + i);
        assert.deepEqual([value.value, other.value, other.version], [`${i}`, `${i}`, begin + i]);
      }
    }
  });

  test("is read anew after exactly 2^32 changes", () => {
    using place = openValue(TEXT);
    const { value, versions, memory } = place;
    value.set("a");
    assert.equal(value.value, "a");
    memory.bytes.set(utf8.encode("b"), 256 + 128); // half 1
    versions[1]! += 2 ** 32;
    assert.deepEqual([value.version, value.value], [2 ** 32 + 1, "b"]);
  });

  test("is a model's variable, over random calls of two objects", () => {
    const seed = Date.now() | 0;
    const random = new Random(seed);
    using place = openValue<string>({ maxBytes: 50, codec: utf8 });
    const objects = [place.value, place.join()];
    let [value, version]: [string | undefined, number] = [undefined, 0];
    for (let i = 0; i < 20_000; i++) {
      const object = random.oneOf(objects);
      const text = "ü".repeat(random.below(random.chance(0.1) ? 40 : 25));
      const fits = 2 * text.length <= 50;
      switch (random.below(5)) {
        case 0:
          if (fits) {
            assert.equal(object.set(text), ++version);
            value = text;
          } else assert.throws(() => object.set(text), { code: "InvalidSize" });
          break;
        case 1: {
          const update = () =>
            object.update((old) => {
              assert.equal(old, value);
              return text;
            });
          if (fits) {
            assert.equal(update(), text);
            value = text;
            version++;
          } else assert.throws(update, { code: "InvalidSize" });
          break;
        }
        case 2:
          assert.equal(object.version, version, `seed ${seed}`);
          break;
        case 3:
          assert.deepEqual(object.stats(), {
            bytes: 2 * (value ?? "").length,
            maxBytes: 50,
            recovered: 0,
          });
          break;
        default:
          assert.equal(object.value, value, `seed ${seed}`);
      }
    }
  });
});

describe("the changes of a shared value", () => {
  leaveNothingBehind();

  /** The next value, in time. */
  async function next<Value>(changes: AsyncIterator<Value>): Promise<Value | "done"> {
    const { value, done } = await withDeadline(changes.next(), "the next value");
    return done ? "done" : value;
  }

  test("begin now, or with a version, and leave out what was replaced", slow, async () => {
    using place = openValue(TEXT);
    const { value } = place;
    const other = place.join();
    value.set("a");
    const changes = value.changes();
    const all = value.changes({ from: 0 });
    assert.equal(await next(all), "a");
    other.set("b");
    other.set("c");
    assert.equal(await next(changes), "c");
    assert.equal(await next(all), "c");
    assert.equal(await next(value.changes({ from: value.version - 1 })), "c");
    const waiting = [changes.next(), all.next(), value.changes().next(), other.changes().next()];
    other.set("d");
    const found = await withDeadline(Promise.all(waiting), "all");
    assert.deepEqual(found, waiting.map(() => ({ done: false, value: "d" })));
    // The second call waits for the change after that of the first one.
    const both = [changes.next(), changes.next()];
    other.set("e");
    assert.deepEqual(await withDeadline(both[0]!, "e"), { done: false, value: "e" });
    other.set("f");
    assert.deepEqual(await withDeadline(both[1]!, "f"), { done: false, value: "f" });
  });

  test("end by break, by return(), by a signal, and with the segment", slow, async () => {
    using place = openValue(TEXT);
    const { value } = place;
    value.set("a");
    for await (const text of value.changes({ from: 0 })) {
      assert.equal(text, "a");
      break;
    }
    const returned = value.changes();
    const pending = returned.next();
    await returned.return!();
    assert.deepEqual(await withDeadline(pending, "the end"), { done: true, value: undefined });
    assert.equal(await next(returned), "done");

    const reason = new Error("enough");
    assert.throws(() => value.changes({ signal: AbortSignal.abort(reason) }), reason);
    const controller = new AbortController();
    const aborted = value.changes({ signal: controller.signal });
    const rejected = assert.rejects(withDeadline(aborted.next(), "the abort"), reason);
    controller.abort(reason);
    await rejected;
    assert.equal(await next(aborted), "done");

    const detached = value.changes({ ref: true });
    const last = detached.next();
    place[Symbol.dispose]();
    assert.deepEqual(await withDeadline(last, "the end"), { done: true, value: undefined });
    assert.equal(await next(detached), "done");
  });

  test("are told to a function, with their versions, until it is enough", slow, async () => {
    using place = openValue(TEXT);
    const { value } = place;
    value.set("a");
    const told: [string, number][] = [];
    const { promise, resolve } = Promise.withResolvers<void>();
    const subscription = value.subscribe((text, version) => {
      told.push([text, version]);
      if (text === "b") resolve();
    }, { from: 0 });
    const controller = new AbortController();
    const signalled: string[] = [];
    value.subscribe((text) => signalled.push(text), { signal: controller.signal });
    while (told.length === 0) await new Promise((done) => setTimeout(done));
    value.set("b");
    await withDeadline(promise, "the second value");
    subscription.close();
    while (signalled.length === 0) await new Promise((done) => setTimeout(done));
    controller.abort();
    value.set("c");
    const watcher = value.changes({ from: 2 });
    assert.equal(await next(watcher), "c");
    assert.deepEqual(told, [["a", 1], ["b", 2]]);
    assert.deepEqual(signalled, ["b"]);
  });

  test(
    "are not told to a function any more once another one has detached the value",
    slow,
    async () => {
      const value = SharedValue.open(uniqueKey(), TEXT);
      const told: string[] = [];
      const { promise, resolve } = Promise.withResolvers<void>();
      for (const name of ["first", "second"]) {
        value.subscribe((text) => {
          told.push(`${name} ${text}`);
          value[Symbol.dispose]();
          setTimeout(resolve);
        });
      }
      value.set("a");
      await withDeadline(promise, "the value");
      assert.deepEqual(told, ["first a"]);
    },
  );

  test("fail where the bytes of the value were overwritten", slow, async () => {
    using place = openValue(TEXT);
    const { value, words } = place;
    value.set("a");
    const changes = value.changes();
    const failed = assert.rejects(withDeadline(changes.next(), "the failure"), { code: "Damaged" });
    words[16] = 77;
    await failed;
    assert.equal(await next(changes), "done");
  });
});

describe("a shared value that stays or is a part", () => {
  leaveNothingBehind();

  test("keeps its value when its only process ends, until remove()", staleOnly, () => {
    const before = ipcObjects();
    const key = uniqueKey();
    const options = { ...TEXT, lifetime: "until-removed" } as const;
    {
      using value = SharedValue.open(key, options);
      value.set("a");
    }
    {
      using value = SharedValue.open(key, { ...options, initial: "other" });
      assert.deepEqual([value.value, value.version, value.stats().recovered], ["a", 1, 0]);
      assert.equal(value.set("b"), 2);
      value.remove();
    }
    assert.throws(() => SharedMemory.open(key), { code: "NotFound" });
    assert.deepEqual(ipcObjectsSince(before), []);
  });

  test("that was not opened by open() is removed through its segment", () => {
    using place = openValue(TEXT);
    assert.throws(() => place.value.remove(), { code: "NotOwner" });
  });

  test("is a member of a layout", staleOnly, () => {
    const of = (options: SharedValueOptions<string>) => SharedValue.of(options);
    const Shape = layout({ visits: Counter, motto: of({ ...TEXT, initial: "hello" }) });
    const key = uniqueKey();
    {
      using site = Shape.open(key, { lifetime: "until-removed" });
      assert.equal(site.motto.value, "hello");
      site.motto.set("bye");
      site.visits.add(2);
    }
    using site = Shape.open(key, { lifetime: "until-removed" });
    assert.deepEqual([site.motto.value, site.visits.get()], ["bye", 2n]);
    const Other = layout({ visits: Counter, motto: of({ ...TEXT, maxBytes: 101 }) });
    assert.throws(() => Other.open(key, { lifetime: "until-removed" }), {
      name: "WrongLayout",
      members: ["motto"],
    });
    site.memory.remove();
  });
});
