/** The codec `structured` stores what `structuredClone()` clones, in bytes that are the same in all runtimes. */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { describe, test } from "node:test";
import vm from "node:vm";
import { Worker } from "node:worker_threads";
import { structured } from "../../collections/mod.ts";
import { Random } from "../../scripts/random.ts";
import {
  crewOnly,
  endAll,
  leaveNothingBehind,
  ownRuntime,
  slow,
  startAgent,
  startMany,
  withDeadline,
} from "../support/support.ts";
import { fixture } from "../support/threads.ts";

const clone = <Value>(value: Value): Value => structured.decode(structured.encode(value).slice());

class Point {
  x = 1;
  #hidden = 2;
  get sum(): number {
    return this.x + this.#hidden;
  }
}

/** JavaScript of values that both can clone. */
const VALUES = `[
  undefined, null, true, false, 0, -0, 1, -1, 63, 64, 2 ** 31 - 1, -(2 ** 31), 2 ** 31, 0.5, NaN, Infinity, -Infinity,
  Number.MAX_SAFE_INTEGER, Number.MIN_VALUE, 0n, 1n, -1n, 2n ** 64n, -(2n ** 200n), "", "text", "ä€😀", "\\ud800",
  "a\\udc00b", "x".repeat(50), "é".repeat(50), "y".repeat(5000), "\\0",
  new Date(0), new Date(NaN), /a+\\/b/giu, [], [1, [2, [3]]], [, 1, , 2], [undefined], Array(5),
  Object.assign([1, 2], { name: "x" }), {}, { a: 1, "": 2, 3: 4 }, JSON.parse('{"__proto__":{"x":1},"y":2}'),
  new Map([["a", 1], [{}, new Map()]]), new Set([1, "1", new Set()]), new ArrayBuffer(0), Uint8Array.of(1, 2).buffer,
  new Uint8Array(0), new Uint8Array([1, 2, 3]), new Int16Array([-1]), new Float32Array([0.5]),
  new Float64Array([NaN, -0]), new BigInt64Array([-1n]), new BigUint64Array([1n]), new Uint8ClampedArray([300]),
  new DataView(Uint8Array.of(5).buffer), new Boolean(false), new Number(-0), new String("s"), Object(1n),
  Object.create(null), Object.create({ inherited: 1 }, { own: { value: 1, enumerable: true }, hidden: { value: 2 } }),
]`;
const values = new Function(`return ${VALUES}`)() as unknown[];

/** JavaScript of an object with the objects that contain another one, by kind. */
const AROUND = `({
  array: (inner) => [inner],
  object: (inner) => ({ a: inner }),
  sparse: (inner) => Object.assign([], { 1: inner }),
  key: (inner) => new Map([[inner, 1]]),
  value: (inner) => new Map([[1, inner]]),
  set: (inner) => new Set([inner]),
  cause: (inner) => Object.assign(new Error("x"), { stack: "", cause: inner }),
})`;
const around: Record<string, (inner: unknown) => unknown> = new Function(`return ${AROUND}`)();

/** The number of objects that may lie in each other. */
const DEPTH = 500;

/** Returns the bytes of `depth` objects in each other, as a codec without the limit would write them. */
function nestedBytes(kind: string, depth: number): Uint8Array {
  const inner = structured.encode(1);
  const one = structured.encode(around[kind]!(1));
  const at = one.findLastIndex((byte, i) => byte === inner[0] && one[i + 1] === inner[1]);
  const [before, after] = kind === "key"
    ? [one.slice(0, 2), inner]
    : [one.slice(0, at), one.slice(at + inner.length)];
  const bytes = [...Array(depth).fill(before), inner, ...Array(depth).fill(after)];
  return Uint8Array.from(bytes.flatMap((part) => [...part]));
}

describe("the codec structured", () => {
  leaveNothingBehind();

  test("clones what structuredClone() clones, in the same way", () => {
    for (const value of [...values, new Point(), { deep: values }]) {
      assert.deepStrictEqual(clone(value), structuredClone(value));
    }
  });

  test("keeps identity and cycles", () => {
    const shared = { name: "shared" };
    const value: Record<string, unknown> = { one: shared, two: [shared], date: new Date(1) };
    value["self"] = value;
    value["map"] = new Map<unknown, unknown>([[shared, value], [value, value["date"]]]);
    value["set"] = new Set([value, shared]);
    value["boxed"] = [Object("a"), Object("a")];
    const copy = clone(value);
    assert.equal(copy["self"], copy);
    assert.equal((copy["two"] as unknown[])[0], copy["one"]);
    const map = copy["map"] as Map<unknown, unknown>;
    assert.equal(map.get(copy["one"]), copy);
    assert.equal(map.get(copy), copy["date"]);
    assert.ok((copy["set"] as Set<unknown>).has(copy["one"]));
    const [one, two] = copy["boxed"] as [object, object];
    assert.ok(one !== two && one instanceof String);
    const error = new Error("round");
    error.cause = error;
    const again = clone(error);
    assert.equal(again.cause, again);
  });

  test("clones errors with their class, message, stack and cause", () => {
    class OwnError extends Error {
      override name = "OwnError";
      extra = 1;
    }
    const cause = new TypeError("inner");
    const error = clone(new RangeError("outer", { cause }));
    assert.ok(error instanceof RangeError && error.cause instanceof TypeError);
    assert.deepEqual([error.message, (error.cause as Error).message], ["outer", "inner"]);
    assert.deepEqual(Object.keys(error), []);
    const own = clone<Error>(new OwnError("own"));
    assert.ok(own instanceof Error && !(own instanceof OwnError));
    assert.deepEqual([own.message, own.name], ["own", "Error"]);
    const original = new Error("with a stack");
    assert.equal(clone(original).stack, original.stack);
    const exception = clone(new DOMException("gone", "AbortError"));
    assert.deepEqual([exception.name, exception.message], ["AbortError", "gone"]);
  });

  test("refuses with DataCloneError what cannot be cloned, and is as before afterwards", () => {
    const detached = new ArrayBuffer(8);
    structuredClone(detached, { transfer: [detached] });
    const refused: unknown[] = [
      () => {},
      Symbol("s"),
      Object(Symbol("s")),
      new WeakMap(),
      Promise.resolve(),
      new SharedArrayBuffer(8),
      new Uint8Array(new SharedArrayBuffer(8)),
      detached,
      new Proxy({}, {}),
      new Blob([]),
      new URL("https://example.org"),
      (function* () {})(),
      class {},
    ];
    for (const value of refused) {
      for (const around of [value, [value], { value }, new Map([[1, value]])]) {
        assert.throws(() => structured.encode(around), { name: "DataCloneError" });
      }
    }
    const thrower = {
      get value() {
        throw new Error("its getter");
      },
    };
    assert.throws(() => structured.encode([thrower]), /its getter/);
    assert.deepEqual(clone({ a: 1 }), { a: 1 });
  });

  test("can be used by a getter of a value, and copies only the bytes of a view", () => {
    const nested = {
      get inner() {
        return structured.decode(structured.encode("x".repeat(3000)));
      },
      after: 1,
    };
    assert.deepEqual(clone(nested), { inner: "x".repeat(3000), after: 1 });
    const view = new Uint8Array(new ArrayBuffer(2 ** 20), 5, 3).fill(7);
    assert.ok(structured.encode(view).length < 10);
    assert.deepEqual(clone(view), new Uint8Array([7, 7, 7]));
    assert.deepEqual(
      clone(vm.runInNewContext("new Map([[1, new Date(5)]])")),
      new Map([[1, new Date(5)]]),
    );
  });

  test("reads any bytes to an end: a value, or the error Damaged", () => {
    const random = new Random(7);
    const below = (limit: number) => Math.floor(random.number() * limit);
    const refuse = (bytes: Uint8Array) => {
      try {
        structured.decode(bytes);
      } catch (error) {
        assert.equal((error as { code: string }).code, "Damaged", String(error));
        return 1;
      }
      return 0;
    };
    const samples = values.map((value) => structured.encode([value, value]).slice());
    let refused = 0;
    for (const sample of samples) {
      for (let length = 0; length < Math.min(sample.length, 100); length++) {
        assert.equal(refuse(sample.subarray(0, length)), 1, "a part is not whole");
      }
      for (let i = 0; i < 100; i++) {
        const changed = sample.slice();
        changed[below(changed.length)] = below(256);
        refused += refuse(changed);
      }
    }
    for (let i = 0; i < 20_000; i++) {
      refused += refuse(
        Uint8Array.from({ length: below(30) }, () => below(i % 2 === 0 ? 256 : 24)),
      );
    }
    assert.ok(refused > 10_000);
    assert.equal(refuse(Uint8Array.of(12, 255, 255, 255, 255, 127)), 1);
  });

  test("refuses more than 500 objects in each other, when it encodes and when it decodes", () => {
    for (const [kind, wrap] of Object.entries(around)) {
      let value = wrap(1);
      for (let depth = 1; depth < DEPTH; depth++) value = wrap(value);
      const bytes = structured.encode(value);
      assert.ok(Buffer.from(nestedBytes(kind, DEPTH)).equals(bytes), kind);
      assert.ok(Buffer.from(structured.encode(structured.decode(bytes))).equals(bytes), kind);
      assert.throws(() => structured.encode(wrap(value)), {
        name: "SyncError",
        code: "InvalidSize",
        message: /deeper than 500.*store them in an array/,
      }, kind);
      for (const depth of [DEPTH + 1, 20_000]) {
        assert.throws(() => structured.decode(nestedBytes(kind, depth)), {
          name: "SyncError",
          code: "Damaged",
          message: /deeper than 500/,
        }, kind);
      }
      assert.deepEqual(clone([[1]]), [[1]]);
    }
    const many = Array.from({ length: 10 * DEPTH }, () => [[]]);
    assert.deepEqual(clone(many), many, "objects beside each other are not deep");
  });

  test("needs no more stack for that than a small worker has", slow, async () => {
    const bytes = Object.keys(around).map((kind) => [...nestedBytes(kind, DEPTH)]);
    const workerData = `
      for (const bytes of ${JSON.stringify(bytes)}) {
        collections.structured.decode(Uint8Array.from(bytes));
      }
      tell("done");`;
    const resourceLimits = { stackSizeMb: 0.5 }; // of Node; the others have more
    const worker = new Worker(fixture, { workerData, resourceLimits });
    const result = new Promise((resolve, reject) => {
      worker.on("message", resolve).on("error", reject);
    });
    assert.equal(await withDeadline(result, "the worker"), "done");
  });

  test("takes no memory for elements that are not there", slow, async () => {
    const agent = startAgent(ownRuntime); // it would end, as the arrays would take terabytes
    const [length, elements] = await agent.run(`
      const sparse = [12, 128, 128, 128, 16, 0]; // a length of 2 ** 25, which an engine may reserve
      const many = Uint8Array.from([11, 144, 78, ...Array(10_000).fill(sparse).flat()]);
      const arrays = collections.structured.decode(many);
      arrays[1][2 ** 24] = "x";
      return [arrays[0].length, Object.keys(arrays[1])];`);
    assert.deepEqual([length, elements], [2 ** 25, ["16777216"]]);
    assert.equal(await agent.end(), 0);
  });

  test("takes no memory for the elements before one of an object", slow, async () => {
    const agent = startAgent(ownRuntime);
    const [keys, perByte] = await agent.run(`
      const { structured } = collections;
      const one = [10, 1, 6, 3, 57, 57, 57, 3]; // { 999: true }
      const bytes = Uint8Array.from([11, 160, 156, 1, ...Array(20_000).fill(one).flat()]);
      const before = process.memoryUsage().rss;
      const objects = structured.decode(bytes);
      return [Object.entries(objects[19_999]), (process.memoryUsage().rss - before) / bytes.length];`);
    assert.deepEqual(keys, [["999", true]]);
    assert.ok(perByte < 500, `${perByte} bytes for each byte`);
    assert.equal(await agent.end(), 0);
  });

  test("has the same bytes in all runtimes", { ...slow, ...crewOnly }, async () => {
    const agents = startMany(3);
    const texts: string[][] = await Promise.all(
      agents.map((agent) =>
        agent.run(
          `return ${VALUES}.map((value) => Array.from(collections.structured.encode(value)).join());`,
        )
      ),
    );
    const own = values.map((value) => Array.from(structured.encode(value)).join());
    for (const text of texts) assert.deepEqual(text, own);
    await endAll(agents);
  });
});
