/** What each member of a shared map does, refuses and promises, in one process. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, test } from "node:test";
import {
  type Codec,
  json,
  RateLimiter,
  SharedMap,
  SharedQueue,
  SharedTopic,
  SharedValue,
  utf8,
} from "../../collections/mod.ts";
import type { MapCore } from "../../collections/map_core.ts";
import { shapeOf } from "../../collections/map_shape.ts";
import type { MapWriter } from "../../collections/map_writer.ts";
import { SharedMemory } from "../../mod.ts";
import { logsOf, ManualClock, openMap, withClock } from "../support/maps.ts";
import { leaveNothingBehind, uniqueKey } from "../support/support.ts";
import { attached } from "../support/sync_places.ts";

const SMALL = { bytes: 16_384, stripes: 1 } as const;

function messageOf(call: () => unknown): string {
  try {
    call();
  } catch (error) {
    return (error as Error).message;
  }
  return "";
}

function bytes(length: number, value = 1): Uint8Array {
  return new Uint8Array(length).fill(value);
}

describe("a shared map", () => {
  leaveNothingBehind();

  test("is opened by its key, with the same entries for all, and goes with its last user", () => {
    const key = uniqueKey("map");
    {
      using map = SharedMap.open<string>(key, { ...SMALL, codec: utf8 });
      using other = SharedMap.open<string>(key, { ...SMALL, codec: utf8 });
      map.set("a", "é");
      assert.equal(other.get("a"), "é");
      other.set("a", "");
      assert.equal(map.get("a"), "");
    }
    using again = SharedMap.open<string>(key, { ...SMALL, codec: utf8 });
    assert.equal(again.get("a"), undefined);
  });

  test("takes at most the bytes that it is given, and says how many", () => {
    for (const size of [6400, 16_384, 100_000, 2 ** 20, 2 ** 26, 2 ** 30 + 12_345]) {
      const taken = SharedMap.bytesFor({ bytes: size });
      assert.ok(taken <= size && taken > size / 2, `${taken} of ${size}`);
      if (size >= 2 ** 20) assert.ok(taken > 0.87 * size, `${taken} of ${size}`);
    }
    assert.throws(() => SharedMap.bytesFor({ bytes: 1000 }), /takes at least \d+ bytes, not 1000/);
    assert.throws(() => SharedMap.bytesFor({}), TypeError);
  });

  test("refuses options that are none", () => {
    const bad = (options: object, type: typeof TypeError | typeof RangeError) =>
      assert.throws(() => SharedMap.open(uniqueKey(), { ...SMALL, ...options }), type);
    for (const bytes of ["1", null, 1n]) bad({ bytes }, TypeError);
    for (const bytes of [0, -1, 0.5, NaN, Infinity]) bad({ bytes }, RangeError);
    for (const stripes of [0, 5000, 1.5]) bad({ stripes }, RangeError);
    bad({ entryBytes: 0 }, RangeError);
    bad({ evict: "lru" }, TypeError);
    for (const codec of [{}, null, 1, { encode() {} }]) bad({ codec }, TypeError);
    bad({ ttl: "1" }, TypeError);
    for (const ttl of [0, -1, NaN]) bad({ ttl }, RangeError);
    bad({ lockTimeout: -1 }, RangeError);
    using map = SharedMap.open(uniqueKey(), SMALL);
    assert.throws(() => map.set("a", bytes(1), { ttl: 0 }), RangeError);
    assert.throws(() => map.set("a", bytes(1), { ifAbsent: true, ifPresent: true }), TypeError);
    for (const name of ["ifAbsent", "ifPresent", "ifVersion"]) {
      for (const wrong of [null, "1", {}]) { // such a version would be that of no value, so nothing would be stored
        const set = () => map.set("a", bytes(1), { [name]: wrong });
        const message = new RegExp(`^SharedMap\\.set: ${name} must be .*, not ${typeof wrong}$`);
        assert.throws(set, { name: "TypeError", message });
      }
    }
    assert.throws(() => map.set("a", "text" as never), TypeError);
    for (const key of [1, null, undefined, {}, ["a"], new ArrayBuffer(1)] as never[]) {
      for (
        const call of [
          () => map.get(key),
          () => map.set(key, bytes(1)),
          () => map.incr(key),
          () => map.delete(key),
          () => map.has(key),
        ]
      ) assert.throws(call, TypeError, String(key));
    }
    assert.throws(() => map.getInto("a", [] as never), TypeError);
    assert.throws(() => map.expire("a", 0), RangeError);
    assert.throws(() => map.flushExpired(-1), RangeError);
    for (const max of [null, "1", true]) {
      assert.throws(() => map.flushExpired(max as never), TypeError);
    }
    assert.equal(map.size, 0);
  });

  test("is, like the other collections, opened by open() and not by a constructor, and says so", () => {
    for (const type of [SharedMap, RateLimiter, SharedQueue, SharedTopic, SharedValue]) {
      const construct = () => Reflect.construct(type, ["pages", SMALL]);
      const message =
        `new ${type.name}(): use ${type.name}.open(key, options) instead of a constructor`;
      assert.throws(construct, { name: "TypeError", message });
    }
  });

  test("shows the other entries by keys() and get() if the codec cannot read one", () => {
    const key = uniqueKey();
    const picky = {
      encode: (text: string) => new TextEncoder().encode(text),
      decode(bytes: Uint8Array) {
        if (bytes.length === 3) throw new Error("bad");
        return new TextDecoder().decode(bytes);
      },
    };
    using map = SharedMap.open<string>(key, { bytes: 40_000, codec: picky });
    for (const text of ["1", "22", "bad", "4444"]) map.set(text, text);
    assert.throws(() => [...map.entries()], /^Error: bad$/);
    const found: string[] = [];
    for (const key of map.keys()) {
      if (key === "bad") assert.throws(() => map.get(key), /^Error: bad$/);
      else found.push(map.get(key)!);
    }
    assert.deepEqual(found.sort(), ["1", "22", "4444"]);
  });

  test("names the call in which an option is wrong", () => {
    assert.throws(
      () => SharedMap.open(5 as never, { bytes: 40_000 }),
      /^TypeError: SharedMemory\.open: the key must be a string, a NativeIpcKey or null, not number$/,
    );
    assert.throws(
      () => SharedMap.open(uniqueKey(), {} as never),
      /^TypeError: SharedMap\.open: bytes must be/,
    );
    assert.throws(
      () => SharedQueue.open(uniqueKey(), {} as never),
      /^TypeError: SharedQueue\.open: bytes must/,
    );
  });

  test("refuses a map that was created with other options, and what is no map", () => {
    using place = openMap(SMALL);
    const view = place.memory.bytes;
    const at = (options: object) => () => SharedMap.at(view, 0, options);
    at({})();
    at(SMALL)();
    at({ evict: "clock" })();
    for (const bytes of [20_000, 40_000]) {
      assert.throws(at({ bytes, stripes: 1 }), { name: "SyncError", code: "WrongKind" });
    }
    assert.throws(at({ ...SMALL, entryBytes: 16 }), { code: "WrongKind" });
    assert.throws(at({ evict: "none" }), /created with other options: evict: "clock", not "none"/);
    const key = place.key;
    assert.throws(() => SharedMap.open(key, { ...SMALL, evict: "none" }), { code: "WrongKind" });
    assert.throws(() => SharedMap.open(key, { bytes: 2 ** 20 }), { reason: "InvalidSize" });
    assert.throws(() => SharedMap.create(view, 0, SMALL), { code: "AlreadyExists" });
    assert.throws(() => SharedMap.at(view, 64), { code: "NotFound" });
    assert.throws(() => SharedMap.at(view, 8), RangeError);
    assert.throws(() => SharedMap.at(view.subarray(0, 1000)), RangeError);
    assert.throws(() => SharedMap.at(new Uint8Array(20_000)), { code: "NotAttached" });
    using reader = attached(place.memory, 0);
    assert.throws(() => SharedMap.at(reader.bytes), { code: "ReadOnly" });
    new Int32Array(view.buffer, 0, 8)[2]! ^= 1; // the shape
    assert.throws(at({}), { code: "Damaged" });
  });

  test("refuses a codec of another name, and says which one it was created with", () => {
    using place = openMap({ ...SMALL, codec: utf8 });
    const view = place.memory.bytes;
    const refused = (codec: Codec<never> | undefined, name: string) =>
      assert.throws(() => SharedMap.at(view, 0, { codec }), {
        code: "WrongKind",
        message: new RegExp(`created with other options: codec: "utf8", not "${name}"`),
      });
    refused(json, "json");
    refused(undefined, "bytes");
    refused({ ...utf8, name: "utf8 2" } as never, "utf8 2");
    assert.throws(() => SharedMap.open(place.key, { ...SMALL, codec: json }), {
      code: "WrongKind",
      message: /codec: "utf8", not "json"/,
    });
    SharedMap.at(view, 0, { codec: { ...utf8 } });
    SharedMap.at(view, 0, { codec: { encode: utf8.encode, decode: utf8.decode } });
    using unnamed = openMap({ ...SMALL, codec: { ...utf8, name: undefined } });
    SharedMap.at(unnamed.memory.bytes, 0, { codec: json });
    const longest = "ä".repeat(16);
    using named = openMap({ ...SMALL, codec: { ...utf8, name: longest } });
    assert.throws(() => SharedMap.at(named.memory.bytes), new RegExp(`codec: "${longest}", not`));
    for (const name of ["", "x".repeat(33), "a\n", "\ud800", 1, null]) {
      const options = { ...SMALL, codec: { ...utf8, name: name as string } };
      assert.throws(() => SharedMap.open(uniqueKey(), options), /the name of a codec must be/);
    }
    view[40]! ^= 1; // in the name
    assert.throws(() => SharedMap.at(view, 0, { codec: utf8 }), { code: "Damaged" });
  });

  test("compares the options of the shape also without the size", () => {
    using place = openMap({ bytes: 2 ** 18, stripes: 4, entryBytes: 64 });
    const at = (options: object) => () => SharedMap.at(place.memory.bytes, 0, options);
    at({ stripes: 2 })();
    at({ stripes: 4, entryBytes: 64 })();
    const { stripes } = shapeOf("test", { bytes: 2 ** 18, stripes: 4, entryBytes: 64 });
    assert.throws(at({ stripes: stripes + 1 }), /stripes, not \d+ or more/);
    assert.throws(at({ entryBytes: 1000 }), /not 1000/);
    assert.throws(at({ entryBytes: "64" }), TypeError);
    assert.throws(at({ stripes: 0 }), RangeError);
  });

  test("stores no array whose buffer was transferred away, and says so", () => {
    using place = openMap(SMALL);
    const { map } = place;
    const gone = bytes(10);
    structuredClone(gone.buffer, { transfer: [gone.buffer as ArrayBuffer] });
    const shrunk = new ArrayBuffer(8, { maxByteLength: 16 });
    const outside = new Uint8Array(shrunk, 4, 4);
    shrunk.resize(2);
    for (const array of [gone, outside]) {
      const refused = { name: "TypeError", message: /has no bytes any more/ };
      assert.throws(() => map.set("a", array), refused);
      assert.throws(() => map.set(array, bytes(1)), refused);
      assert.throws(() => map.get(array), refused);
    }
    assert.deepEqual([map.size, map.stats().recovered], [0, 0]);
    map.set("a", new Uint8Array(0));
    assert.equal(map.get("a")!.length, 0);
    assert.equal(map.set(new Uint8Array(0), bytes(1)).stored, true);
  });

  test("stores as many bytes of a value as it had at first if another thread makes it longer", () => {
    using place = openMap(SMALL);
    const { map } = place;
    for (const key of ["before", "after"]) map.set(key, bytes(40, 7));
    const { core, writer } = map as unknown as { core: MapCore; writer: MapWriter };
    const shared = new SharedArrayBuffer(64, { maxByteLength: 8192 });
    const value = new Uint8Array(shared).fill(5);
    const { change } = core.locks[0]!;
    core.locks[0]!.change = (...args) => {
      shared.grow(8192);
      return change.apply(core.locks[0], args) as never;
    };
    try {
      assert.equal(writer.set("set", "grown", value, 0), true);
    } finally {
      core.locks[0]!.change = change;
    }
    assert.equal(value.length, 8192);
    assert.deepEqual(map.get("grown"), bytes(64, 5));
    map.set("more", bytes(40, 7));
    for (const key of ["before", "after", "more"]) assert.deepEqual(map.get(key), bytes(40, 7));
    assert.deepEqual([map.size, map.stats().recovered], [4, 0]);
  });

  test("says what is too large: the value, or the key alone", () => {
    using place = openMap(SMALL);
    const { map } = place;
    assert.throws(() => map.set("a", bytes(10_000)), {
      code: "InvalidSize",
      message: /the value has 10000 bytes, and with this key .* more than \d+, a quarter/,
    });
    const key = "k".repeat(10_000);
    for (const call of [() => map.set(key, bytes(1)), () => map.incr(key)]) {
      assert.throws(call, {
        code: "InvalidSize",
        message: /the key has 10000 bytes, and a key of this map must not have more than \d+ even/,
      });
    }
    const most = Number(/than (\d+) even/.exec(messageOf(() => map.set(key, bytes(0))))![1]);
    assert.equal(map.set("k".repeat(most), bytes(0)).stored, true);
    assert.throws(() => map.set("k".repeat(most + 1), bytes(0)), { code: "InvalidSize" });
  });

  test("counts a full map that evicts nothing anew only if that can make room", () => {
    using place = openMap({ bytes: 2 ** 18, stripes: 1, evict: "none" });
    const { map } = place;
    let last = 0;
    assert.throws(() => {
      for (;; last++) map.set(`${last}`, bytes(100));
    }, { code: "Full" });
    const { stripes: [stripe] } = (map as unknown as { core: MapCore }).core;
    let counted = 0;
    const visitChain = stripe!.visitChain.bind(stripe);
    Object.assign(stripe!, {
      visitChain(...args: Parameters<typeof visitChain>) {
        counted++;
        visitChain(...args);
      },
    });
    for (let i = 0; i < 100; i++) {
      map.set(`${i}`, bytes(100)); // an entry as large as the largest one has gone
      assert.throws(() => map.set("new", bytes(100)), { code: "Full" });
    }
    assert.ok(counted < 1000, `${counted} of ${100 * stripe!.buckets} chains were counted`);
    for (let i = 0; i < 50; i++) map.delete(`${i}`);
    assert.equal(map.set("new", bytes(100)).stored, true);
  });

  test("refuses a header that says more than the segment has", () => {
    using place = openMap({ bytes: 2 ** 17 });
    using memory = SharedMemory.open(uniqueKey("map"), { size: 16_384 });
    memory.bytes.set(place.memory.bytes.subarray(0, 16_384));
    assert.throws(() => SharedMap.at(memory.bytes), /takes \d+ bytes, and the view has 16384/);
  });

  test("is refused after a new start of the system, or in another time namespace", () => {
    const clock = new ManualClock();
    withClock(clock, () => {
      using place = openMap(SMALL);
      const elsewhere = { now: () => 1, scope: 2 };
      withClock(elsewhere, () => {
        assert.throws(() => SharedMap.at(place.memory.bytes), {
          code: "WrongKind",
          message: /before this system was started, or in another time namespace/,
        });
      });
    });
  });

  test("has a random key for its hashes, so nobody can choose keys that have the same one", () => {
    const orders = Array.from({ length: 4 }, () => {
      using place = openMap<number>({ bytes: 2 ** 16 });
      for (let i = 0; i < 50; i++) place.map.set(`${i}`, i);
      return [...place.map.keys()].join();
    });
    assert.equal(new Set(orders).size, 4);
  });

  test("can lie anywhere in a segment, beside others", () => {
    const size = SharedMap.bytesFor(SMALL);
    const begin = Math.ceil(size / 64) * 64 + 128;
    using memory = SharedMemory.open(uniqueKey("map"), { size: begin + size });
    memory.bytes.fill(0);
    const one = SharedMap.create(memory.bytes, 64, SMALL);
    const other = SharedMap.create(memory.view(DataView, begin - 64), 64, SMALL);
    for (let i = 0; i < 1000; i++) {
      one.set(`${i}`, bytes(50, 1));
      other.set(`${i}`, bytes(50, 2));
    }
    for (const [map, value] of [[one, 1], [other, 2]] as const) {
      for (const [, found] of map) assert.ok(found.every((byte) => byte === value));
      assert.ok(map.size > 50);
    }
    assert.equal(memory.bytes.subarray(0, 64).every((byte) => byte === 0), true);
  });

  test("fails clearly once its segment has gone", () => {
    const calls: ((map: SharedMap) => unknown)[] = [
      (map) => map.get("a"),
      (map) => map.getInto("a", bytes(1)),
      (map) => map.getStale("a"),
      (map) => map.getWithVersion("a"),
      (map) => map.has("a"),
      (map) => map.ttl("a"),
      (map) => map.set("a", bytes(1)),
      (map) => map.update("a", () => bytes(1)),
      (map) => map.incr("a"),
      (map) => map.delete("a"),
      (map) => map.expire("a", 1),
      (map) => map.clear(),
      (map) => map.flushExpired(),
      (map) => map.size,
      (map) => map.stats(),
      (map) => [...map.keys()],
      (map) => [...map.entries()],
    ];
    const endings: readonly ((memory: SharedMemory) => void)[] = [
      (memory) => assert.equal(memory.detach(), true),
      (memory) => memory[Symbol.dispose](),
      (memory) => void memory.bytes.buffer.transfer(), // the last
    ];
    for (const end of endings) {
      using place = openMap(SMALL);
      place.map.set("a", bytes(1));
      end(place.memory);
      const code = end === endings.at(-1) ? "Transferred" : "NotAttached";
      for (const call of calls) {
        assert.throws(() => call(place.map), { name: "SyncError", code }, String(call));
      }
    }
  });

  test("fails clearly if the program detaches it in the middle of a call", () => {
    const detaching = (memory: SharedMemory): Codec<string> => ({
      encode(text) {
        memory.detach();
        return utf8.encode(text);
      },
      decode(bytes) {
        memory.detach();
        return utf8.decode(bytes);
      },
    });
    const calls: ((map: SharedMap<string>) => unknown)[] = [
      (map) => map.set("a", "b"),
      (map) => map.update("a", () => "b"),
      (map) => [...map.entries()],
    ];
    for (const call of calls) {
      using place = openMap<string>({ ...SMALL, codec: utf8 });
      place.map.set("a", "1");
      place.map.set("b", "2");
      const map = SharedMap.at<string>(place.memory.bytes, 0, { codec: detaching(place.memory) });
      assert.throws(() => call(map), { code: "NotAttached" });
    }
  });

  test("fails clearly if its header was overwritten", () => {
    for (const word of [0, 1]) {
      using place = openMap(SMALL);
      place.map.set("a", bytes(1));
      const words = place.memory.view(Int32Array);
      words[word]! ^= 1 << 20;
      assert.throws(() => place.map.get("a"), { name: "SyncError", code: "Damaged" });
      assert.throws(() => place.map.set("a", bytes(2)), { code: "Damaged" });
      words[word]! ^= 1 << 20;
      assert.deepEqual(place.map.get("a"), bytes(1));
    }
  });

  test("has each key of strings and bytes apart from all others", () => {
    using place = openMap<number>({ bytes: 2 ** 20, stripes: 1 });
    const { map } = place;
    const keys = [
      ...["", "\0", "a", "a\0", "\ufeff", "a".repeat(32), "a".repeat(33), "ä", "\ud83d\ude00"],
      ...["\ud83d", "\ude00", "\ufffd", "\ud83da", "x".repeat(65_536), "ä".repeat(32_768)],
      ...[[], [0], [97], [97, 0], [195, 164], [239, 187, 191]].map((one) => Uint8Array.from(one)),
      new Uint8Array(65_536),
    ];
    for (const [i, key] of keys.entries()) map.set(key, i);
    for (const [i, key] of keys.entries()) assert.equal(map.get(key), i);
    const found = [...map.entries()].sort(([, one], [, other]) => one - other);
    assert.deepEqual(found.map(([key]) => key), keys);
    for (const key of ["x".repeat(65_537), "ä".repeat(32_769), new Uint8Array(65_537)]) {
      assert.throws(() => map.set(key, 1), { code: "InvalidSize" });
      assert.throws(() => map.get(key), /must not have more than 65536/);
    }
  });

  test("stores all bytes of a value, whatever length a subclass claims", () => {
    let claimed = 0;
    class Liar extends Uint8Array {
      override get length(): number {
        return claimed;
      }
    }
    using place = openMap(SMALL);
    const { map } = place;
    for (let i = 0; i < 20; i++) map.set(`other ${i}`, bytes(8, i));
    for (claimed of [NaN, -100, 0, 2, 3.5, 1e9, Infinity]) {
      map.set("liar", new Liar(300).fill(7));
      assert.deepEqual(map.get("liar"), bytes(300, 7), `${claimed}`);
    }
    for (let i = 0; i < 20; i++) assert.deepEqual(map.get(`other ${i}`), bytes(8, i));
    assert.equal(map.stats().recovered, 0);
  });

  test("calls no code of a key: it might use or detach the map", () => {
    class Meddler extends Uint8Array {
      override get length(): number {
        return assert.fail("is not called");
      }
      override [Symbol.iterator](): never {
        return assert.fail("is not called");
      }
    }
    using place = openMap(SMALL);
    const { map } = place;
    map.set(bytes(3, 1), bytes(4, 2));
    assert.deepEqual(map.get(new Meddler(3).fill(1)), bytes(4, 2));
  });

  test("returns copies of values, which nobody changes any more", () => {
    using place = openMap(SMALL);
    const { map } = place;
    const values = [0, 1, 7, 8, 100, 1023, 1024, 1025, 2000].map((length) => bytes(length, length));
    const found = values.map((value, i) => {
      map.set(`${i}`, value);
      return map.get(`${i}`)!;
    });
    for (let i = 0; i < 2000; i++) {
      map.set(`${i % 9}`, bytes(50, 200));
      map.get(`${i % 9}`)!.fill(201);
    }
    assert.deepEqual(found, values);
    assert.deepEqual(map.get("3"), bytes(50, 200));
    const into = new Uint8Array(60).fill(3);
    assert.equal(map.getInto("3", into), 50);
    assert.deepEqual(into.subarray(50), bytes(10, 3));
    assert.equal(map.getInto("none", into), -1);
    assert.throws(
      () => map.getInto("3", new Uint8Array(49)),
      /has 50 bytes, and the array only 49/,
    );
  });

  test("copies values to any part of any array, and no byte more", () => {
    using place = openMap(SMALL);
    const { map } = place;
    const shared = new Uint8Array(new SharedArrayBuffer(400));
    // Of whole pages: Bun for arm64 ends at any other resizable buffer if QEMU emulates it.
    const resizable = new Uint8Array(new ArrayBuffer(65536, { maxByteLength: 131072 }), 0, 400);
    for (const array of [new Uint8Array(400), shared, resizable, Buffer.alloc(400)]) {
      for (const length of [0, 1, 3, 4, 7, 40, 41, 63, 199, 200, 201, 333]) {
        const value = bytes(length, length).map((byte, i) => byte + i);
        map.set("a", value);
        for (const offset of [0, 1, 4, 6]) {
          const into = array.subarray(offset, offset + 340);
          for (let again = 0; again < 2; again++) {
            array.fill(9);
            assert.equal(map.getInto("a", into), length);
            assert.deepEqual([...into.subarray(0, length)], [...value]);
            assert.ok(array.every((byte, i) => byte === 9 || i >= offset && i < offset + length));
          }
        }
      }
    }
    const into = new Uint8Array(50);
    map.set("a", bytes(50));
    assert.equal(map.getInto("a", into), 50);
    into.buffer.transfer();
    assert.throws(() => map.getInto("a", into), RangeError);
  });

  test("stores numbers as they are, whatever the codec is", () => {
    using place = openMap<unknown>({ ...SMALL, codec: json });
    const { map } = place;
    for (const number of [0, -0, 1.5, NaN, Infinity, -Infinity, 2 ** 53, 5e-324]) {
      map.set("n", number);
      assert.ok(Object.is(map.get("n"), number), `${number}`);
    }
    const into = new Uint8Array(8);
    map.set("n", 2.5);
    assert.equal(map.getInto("n", into), 8);
    assert.equal(new DataView(into.buffer).getFloat64(0, true), 2.5);
    assert.equal(map.incr("n", 0.25), 2.75);
    assert.equal(map.incr("new", 2, { initial: 40 }), 42);
    map.set("text", "1");
    assert.throws(() => map.incr("text"), { name: "SyncError", code: "WrongKind" });
    assert.equal(map.get("text"), "1");
    for (const by of [NaN, Infinity]) assert.throws(() => map.incr("n", by), RangeError);
    for (const by of ["1", 1n, null]) assert.throws(() => map.incr("n", by as never), TypeError);
    assert.throws(() => map.incr("n", 1, { initial: NaN }), RangeError);
    assert.equal(map.get("n"), 2.75);
  });

  test("changes nothing if a codec throws or returns something else", () => {
    using place = openMap<unknown>(SMALL);
    const broken = (encode: () => unknown) =>
      SharedMap.at<unknown>(place.memory.bytes, 0, { codec: { encode, decode() {} } as never });
    place.map.set("a", bytes(3));
    const throwing = broken(() => {
      throw new Error("broken");
    });
    assert.throws(() => throwing.set("a", {}), /broken/);
    for (const result of [undefined, "text", [1], new ArrayBuffer(1)]) {
      assert.throws(() => broken(() => result).set("a", {}), /must return a Uint8Array/);
    }
    using other = openMap<unknown>({ ...SMALL, codec: json });
    assert.throws(() => other.map.set("a", undefined), {
      message: /JSON has no undefined/,
    });
    assert.deepEqual(place.map.get("a"), bytes(3));
  });

  test("refuses what is too large, says the sizes, and changes nothing", () => {
    using place = openMap({ ...SMALL, evict: "clock" });
    const { map } = place;
    const { capacity } = map.stats();
    map.set("a", bytes(5));
    const most = capacity / 4 - 32 - 8;
    map.set("b", bytes(most, 2));
    assert.throws(() => map.set("a", bytes(most + 1)), {
      code: "InvalidSize",
      message:
        `SharedMap.set: the value has ${
          most + 1
        } bytes, and with this key a value of this map must not have ` +
        `more than ${most}, a quarter of a stripe; create the map with more bytes or fewer stripes`,
    });
    assert.deepEqual(map.get("a"), bytes(5));
    assert.deepEqual(map.get("b"), bytes(most, 2));
    for (let i = 0; i < 100; i++) map.set(`${i}`, bytes(most, i));
    assert.deepEqual(map.get("99"), bytes(most, 99));
  });

  test("that evicts nothing says that it is full, and has room again after a delete", () => {
    using place = openMap({ ...SMALL, evict: "none" });
    const { map } = place;
    const { capacity } = map.stats();
    let count = 0;
    const add = () => map.set(`${count}`, bytes(100, count));
    assert.throws(() => {
      for (;; count++) add();
    }, {
      name: "SyncError",
      code: "Full",
      message: /takes 144 bytes, .* of which entries use \d+/,
    });
    assert.ok(count * 144 > 0.85 * capacity, `${count} entries in ${capacity} bytes`);
    const checkAll = () => {
      assert.equal(map.size, count);
      for (let i = 0; i < count; i++) assert.deepEqual(map.get(`${i}`), bytes(100, i));
    };
    checkAll();
    for (let i = 0; i < 1000; i++) {
      map.set(`${i % count}`, bytes(100, i % count)); // the same entries fit again and again
      assert.throws(add, { code: "Full" });
    }
    checkAll();
    count--;
    map.delete(`${count}`);
    add();
    count++;
    checkAll();
    assert.equal(map.stats().evicted, 0);
  });

  test("that evicts nothing takes values of a quarter of a stripe, one after the other", () => {
    using place = openMap({ ...SMALL, evict: "none" });
    const { map } = place;
    const most = map.stats().capacity / 4 - 40;
    map.set("a", bytes(10));
    for (let i = 0; i < 50; i++) {
      map.set("b", bytes(most, i));
      map.set("a", bytes(10, i));
      assert.deepEqual([map.get("a"), map.get("b")], [bytes(10, i), bytes(most, i)]);
    }
  });

  test("evicts nothing as long as entries take less than five eighths of it", () => {
    using place = openMap({ bytes: 2 ** 17, stripes: 1 });
    const { map } = place;
    const count = Math.floor(0.6 * map.stats().capacity / 144);
    for (let i = 0; i < count; i++) map.set(`cold ${i}`, bytes(90, i));
    for (let i = 0; i < 50_000; i++) map.set("hot", bytes(90, i));
    assert.equal(map.stats().evicted, 0);
    for (let i = 0; i < count; i++) assert.deepEqual(map.get(`cold ${i}`), bytes(90, i));
  });

  test("does not evict what is used, a counter included", () => {
    using place = openMap<Uint8Array | number>({ bytes: 2 ** 16, stripes: 1 });
    const { map } = place;
    map.set("read", bytes(90));
    map.set("updated", 0);
    for (let i = 1; i <= 20_000; i++) {
      map.set(`flood ${i}`, bytes(90));
      if (i % 50 !== 0) continue;
      map.incr("counter");
      map.update("updated", (old) => (old as number) + 1);
      map.get("read");
    }
    assert.equal(map.get("counter"), 400);
    assert.equal(map.get("updated"), 400);
    assert.deepEqual(map.get("read"), bytes(90));
    const { evicted, entries } = map.stats();
    assert.ok(evicted + entries >= 20_003);
  });

  test("leaves no link to what was evicted", () => {
    using place = openMap({ ...SMALL });
    const { map, memory } = place;
    for (let i = 0; i < 3000; i++) map.set(`${i}`, bytes(i % 50));
    const [words] = logsOf(memory, SMALL) as [Int32Array];
    const [head, tail] = [words[0]!, words[16]!];
    assert.ok(tail - head > 500 && head > 1000);
    for (const position of words.subarray(32)) {
      assert.ok(position === 0 || position >= head && position < tail, `${position}`);
    }
  });

  test("conditions of set: absent, present, version", () => {
    using place = openMap<number>(SMALL);
    const { map } = place;
    assert.deepEqual(map.set("a", 1, { ifPresent: true }), {
      stored: false,
      evicted: 0,
      version: 0,
    });
    const first = map.set("a", 1, { ifAbsent: true });
    assert.equal(first.stored, true);
    assert.deepEqual(map.set("a", 2, { ifAbsent: true }), {
      stored: false,
      evicted: 0,
      version: first.version,
    });
    assert.equal(map.get("a"), 1);
    const second = map.set("a", 2, { ifVersion: first.version });
    assert.equal(second.stored, true);
    assert.equal(map.set("a", 3, { ifVersion: first.version }).stored, false);
    map.incr("a");
    assert.equal(map.set("a", 3, { ifVersion: second.version }).stored, false);
    const { value, version } = map.getWithVersion("a")!;
    assert.equal(value, 3);
    assert.equal(map.set("a", 4, { ifVersion: version }).stored, true);
    map.delete("a");
    assert.equal(map.set("a", 5, { ifVersion: version }).stored, false);
    assert.equal(map.getWithVersion("a"), undefined);
  });

  test("update holds no lock while its function runs, and runs it again if the value has changed", () => {
    using place = openMap<number>({ ...SMALL, lockTimeout: 50 });
    const { map } = place;
    const other = place.join();
    let runs = 0;
    const result = map.update("a", (old = 0) => {
      runs++;
      if (runs <= 3) other.incr("a", 10); // would be Busy under a lock
      return old + 1;
    });
    assert.deepEqual([result, runs, map.get("a")], [31, 4, 31]);
    assert.throws(() =>
      map.update("a", () => {
        throw new Error("mine");
      }), /mine/);
    assert.throws(() => map.update("a", (async () => {}) as never), TypeError);
    assert.equal(map.get("a"), 31);
    assert.equal(map.update("a", (old) => map.update("b", () => old! + 1)), 32);
    assert.equal(map.update("a", () => undefined), undefined);
    assert.equal(map.has("a"), false);
    assert.equal(map.update("a", () => undefined), undefined);
    assert.throws(() =>
      map.update("b", (old) => {
        map.set("b", old! + 1);
        return old;
      }), { name: "SyncError", code: "Busy" });
  });

  test("update sees a change that another update has hidden in the same value", () => {
    using place = openMap<number>(SMALL);
    const { map } = place;
    map.set("a", 1);
    let runs = 0;
    map.update("a", (old) => {
      if (runs++ === 0) {
        map.set("a", 2);
        map.set("a", 1);
      }
      return old! + 1;
    });
    assert.equal(runs, 2);
  });

  test("times to live", () => {
    const clock = new ManualClock();
    withClock(clock, () => {
      using place = openMap<number>({ ...SMALL, ttl: 100 });
      const { map } = place;
      map.set("default", 1);
      map.set("own", 2, { ttl: 10 });
      map.set("ever", 3, { ttl: Infinity });
      map.incr("counter", 1, { ttl: 50 });
      assert.deepEqual(["default", "own", "ever", "counter", "none"].map((key) => map.ttl(key)), [
        ...[100, 10, Infinity, 50, undefined],
      ]);
      clock.time += 10;
      assert.deepEqual([map.get("own"), map.has("own"), map.ttl("own")], [
        ...[undefined, false, undefined],
      ]);
      assert.equal(map.getStale("own"), 2);
      assert.equal(map.set("own", 2, { ifPresent: true }).stored, false);
      assert.equal(map.expire("own", 5), false);
      assert.equal(map.delete("own"), false);
      assert.equal(map.incr("counter", 1, { ttl: 500 }), 2);
      assert.equal(map.ttl("counter"), 40);
      map.update("counter", (old) => old! + 1);
      assert.equal(map.ttl("counter"), 40);
      map.update("counter", (old) => old! + 1, { ttl: 60 });
      assert.equal(map.ttl("counter"), 60);
      map.update("counter", (old) => {
        map.expire("counter", 70);
        return old! + 1;
      });
      assert.equal(map.ttl("counter"), 70);
      assert.equal(map.expire("default", Infinity), true);
      clock.time += 1000;
      assert.deepEqual([...map.keys()].sort(), ["default", "ever"]);
      assert.equal(map.size, 3);
      assert.equal(map.incr("counter"), 1);
      clock.time += 1000;
      assert.equal(map.flushExpired(0), 0);
      assert.equal(map.flushExpired(1), 1);
      assert.equal(map.flushExpired(), 0);
      assert.deepEqual([map.size, map.stats().expired], [2, 1]);
    });
  });

  test("removes as many expired entries as it is told, and goes on there the next time", () => {
    const clock = new ManualClock();
    withClock(clock, () => {
      using place = openMap<number>({ bytes: 2 ** 17 });
      const { map } = place;
      for (let i = 0; i < 300; i++) map.set(`${i}`, i, i % 3 === 0 ? {} : { ttl: 5 });
      clock.time += 5;
      const removed = Array.from({ length: 5 }, () => map.flushExpired(60));
      assert.deepEqual(removed, [60, 60, 60, 20, 0]);
      assert.deepEqual([map.size, map.stats().expired], [100, 200]);
      for (let i = 0; i < 300; i += 3) assert.equal(map.get(`${i}`), i);
    });
  });

  test("makes room of expired entries before it is full", () => {
    const clock = new ManualClock();
    withClock(clock, () => {
      using place = openMap({ ...SMALL, evict: "none" });
      const { map } = place;
      for (let round = 0; round < 50; round++, clock.time += 10) {
        for (let i = 0; i < 40; i++) map.set(`${round} ${i}`, bytes(100, i), { ttl: 10 });
      }
      assert.ok(map.stats().expired > 1900);
    });
  });

  test("iterates over each entry once, whatever is changed meanwhile", () => {
    using place = openMap<number>({ bytes: 2 ** 18, evict: "none" });
    const { map } = place;
    for (let i = 0; i < 500; i++) map.set(`stable ${i}`, i);
    const found: string[] = [];
    let i = 0;
    for (const [key, value] of map) {
      if (String(key).startsWith("stable")) {
        found.push(String(key));
        assert.equal(key, `stable ${value % 1000}`);
      }
      map.set(`stable ${i % 500}`, i % 500 + 1000); // a new record
      map.set(`new ${i}`, i);
      map.delete(`new ${i - 10}`);
      i++;
    }
    assert.equal(found.length, 500);
    assert.equal(new Set(found).size, 500);
    map.clear();
    assert.deepEqual([...map.keys()], []);
    assert.deepEqual([map.size, map.stats().bytes], [0, 0]);
    map.set("a", 1);
    assert.deepEqual([...map], [["a", 1]]);
  });

  test("counts what it has found", () => {
    using place = openMap<number>(SMALL);
    const { map } = place;
    map.set("a", 1);
    map.get("a");
    map.get("b");
    map.get("b");
    const { hits, misses, entries, bytes, evicted, recovered } = map.stats();
    assert.deepEqual([hits, misses, entries, bytes, evicted, recovered], [1, 2, 1, 48, 0, 0]);
    assert.deepEqual([place.join().stats().hits, place.join().stats().entries], [0, 1]);
  });

  test("goes on if the stack is too short", () => {
    using place = openMap<number>(SMALL);
    const { map } = place;
    map.set("a", 0);
    let done = 0;
    const descend = (): void => {
      try {
        descend();
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
      }
      try {
        map.set("b", 1);
        map.incr("a");
        done++;
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
      }
    };
    descend();
    assert.ok(done > 10);
    const count = map.get("a")!;
    assert.ok(count >= done && count <= done + 50, `${count} ${done}`);
    assert.equal(map.incr("a"), count + 1);
  });
});
