/** Records that are published, read, and cut off in the middle. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import process from "node:process";
import { describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { SharedMemory } from "../../mod.ts";
import { type FieldType, RecordSnapshot, Snapshot } from "../../sync/mod.ts";
import { Random } from "../../scripts/random.ts";
import {
  crewOnly,
  DEADLINE_MS,
  endAll,
  leaveNothingBehind,
  runtimes,
  slow,
  startAgent,
  uniqueKey,
  until,
} from "../support/support.ts";
import {
  assertChecksPlace,
  assertEndsWithSegment,
  attach,
  attached,
  created,
  startCrew,
} from "../support/sync_places.ts";

const fixture = fileURLToPath(new URL("../fixtures/no_compiled_text.ts", import.meta.url));
const crew = { ...slow, ...crewOnly };

/** By then engines have compiled a loop that runs all the time as best they can. */
const COMPILED_MS = 1500;
/** A read that others are always faster than fails after 100 ms. */
const STILL_MS = 150;
/** In one run, of writers of all runtimes. */
const KILLS = 15;
/** In 32-bit integers: so many that to copy them takes a while. */
const LENGTH = 400;
const BYTES = 4 * LENGTH;

/** JavaScript of a writer that publishes until it is killed: records of one number, which only grows. */
const PUBLISH = `
  const view = objects.m.view(Uint8Array);
  const snapshot = sync.Snapshot.at(view);
  const bytes = new Uint8Array(${BYTES});
  const numbers = new Int32Array(bytes.buffer);
  const last = snapshot.read();
  let number = last === null ? 0 : new Int32Array(last.buffer)[0];
  setTimeout(function publishMany() {
    for (let i = 0; i < 2000; i++) {
      numbers.fill(++number);
      snapshot.publish(bytes);
    }
    setTimeout(publishMany);
  });`;

/** JavaScript of a reader that waits for the first record, and returns what is in it. */
const POLL = `
  const snapshot = sync.Snapshot.at(objects.m.view(Uint8Array));
  const into = new Uint8Array(1);
  const poll = () => {
    while (snapshot.read(into) === null);
  };
  poll();
  return into[0];`;

/** JavaScript of a reader that looks whether records are whole and grow, until it is told to stop. */
const READ = `
  const snapshot = sync.Snapshot.at(objects.m.view(Uint8Array));
  const numbers = new Int32Array(${LENGTH});
  const bytes = new Uint8Array(numbers.buffer);
  let last = 0;
  objects.reads = 0;
  objects.problem = null;
  setTimeout(function readMany() {
    for (let i = 0; i < 500; i++) {
      if (snapshot.read(bytes) === null) break;
      const [first] = numbers;
      if (numbers.some((number) => number !== first)) objects.problem = "torn: " + numbers;
      if (first < last) objects.problem = first + " after " + last;
      last = first;
      objects.reads++;
    }
    if (!objects.stop) setTimeout(readMany, 2);
  });`;

describe("a snapshot in a segment", () => {
  leaveNothingBehind();

  test("is what was published last, or nothing", () => {
    using memory = created();
    using other = attached(memory);
    const writer = Snapshot.create(memory.view(Uint8Array), 8, 5);
    const reader = Snapshot.at(other.view(Uint8Array), 8);
    assert.deepEqual([reader.recordBytes, reader.read()], [5, null]);
    for (let i = 1; i < 6; i++) {
      writer.publish(new Uint8Array(5).fill(i));
      assert.deepEqual(reader.read(), new Uint8Array(5).fill(i));
      assert.deepEqual(writer.read(), new Uint8Array(5).fill(i));
    }
    const into = new Uint8Array(5);
    assert.equal(reader.read(into), into);
    assert.deepEqual([...into], [5, 5, 5, 5, 5]);
    for (const bad of [new Uint8Array(4), new Uint8Array(6)]) {
      assert.throws(() => writer.publish(bad), RangeError);
      assert.throws(() => reader.read(bad), RangeError);
    }
    for (const bad of [null, "12345", [1, 2, 3, 4, 5], new Int8Array(5)]) {
      assert.throws(() => writer.publish(bad as unknown as Uint8Array), TypeError);
    }
    assert.deepEqual([...reader.read()!], [5, 5, 5, 5, 5]);
  });

  // JavaScriptCore takes a mere load out of such a loop, once it takes all that is called for a part of it.
  for (const runtime of runtimes) {
    test(
      `is found by ${runtime.name} that polls for the first record and does nothing else`,
      crew,
      async () => {
        using memory = created();
        const snapshot = Snapshot.create(memory.view(Uint8Array), 0, 1);
        const agent = startAgent(runtime, { BUN_JSC_maximumInliningDepth: "20" });
        await attach(agent, memory);
        const found = agent.request("run", POLL);
        await delay(COMPILED_MS);
        snapshot.publish(Uint8Array.of(7));
        assert.equal(await found, 7);
        await endAll([agent]);
      },
    );
  }

  test("goes on when the numbers of the records begin anew", () => {
    using memory = created();
    const snapshot = Snapshot.create(memory.view(Uint8Array), 0, 1);
    memory.view(Int32Array)[3] = -4;
    for (let i = 1; i < 9; i++) {
      snapshot.publish(Uint8Array.of(i));
      assert.deepEqual([...snapshot.read()!], [i]);
    }
  });

  test("keeps the last whole record when its writer is cut off at any point", () => {
    using memory = created();
    const snapshot = Snapshot.create(memory.view(Uint8Array), 0, 8);
    const filling = memory.view(Int32Array, 16, 2);
    const halves = [32, 40].map((offset) => memory.view(Uint8Array, offset, 8));
    for (let number = 1; number < 6; number++) {
      snapshot.publish(new Uint8Array(8).fill(number));
      const whole = new Uint8Array(8).fill(number);
      const half = number + 1 & 1;
      filling[half] = number + 1;
      assert.deepEqual(snapshot.read(), whole);
      for (let byte = 0; byte < 8; byte++) {
        halves[half]![byte] = 99;
        assert.deepEqual(snapshot.read(), whole);
      }
    }
  });

  test("says so when a record is never whole", () => {
    using memory = created();
    const snapshot = Snapshot.create(memory.view(Uint8Array), 0, 8);
    snapshot.publish(new Uint8Array(8));
    memory.view(Int32Array, 16, 2).fill(77);
    assert.throws(() => snapshot.read(), { name: "SyncError", code: "Busy" });
    assert.throws(() => snapshot.read(), { name: "SyncError", code: "Busy" });
    snapshot.publish(new Uint8Array(8).fill(1));
    assert.deepEqual(snapshot.read(), new Uint8Array(8).fill(1));
  });

  test("says so at once, however large the record is", () => {
    const bytes = 8 * 2 ** 20;
    using memory = new SharedMemory(uniqueKey());
    assert.equal(memory.create(Snapshot.bytesFor(bytes)), true, memory.errorString());
    const snapshot = Snapshot.create(memory.view(Uint8Array), 0, bytes);
    const record = new Uint8Array(bytes);
    let copies = 0;
    record.set = (from) => {
      copies++;
      Uint8Array.prototype.set.call(record, from);
    };
    snapshot.publish(record);
    // A stray store into either number, or into both.
    const latest = memory.view(Int32Array, 12, 1);
    const filling = memory.view(Int32Array, 16, 2);
    const strays = [() => filling.fill(77), () => latest[0] = 6];
    for (const stray of strays) {
      stray();
      copies = 0;
      assert.throws(() => snapshot.read(record), { name: "SyncError", code: "Busy" });
      assert.ok(copies <= 2, `${copies} copies`);
      snapshot.publish(record);
      assert.notEqual(snapshot.read(record), null);
    }
  });

  test("is read within a bounded time, whoever writes without end", () => {
    using memory = created();
    const snapshot = Snapshot.create(memory.view(Uint8Array), 0, 8);
    snapshot.publish(new Uint8Array(8));
    const writer = Snapshot.at(memory.view(Uint8Array));
    // What a writer does that is always faster: it publishes twice while the bytes are copied.
    const into = new Uint8Array(8);
    let copies = 0;
    into.set = () => {
      copies++;
      writer.publish(new Uint8Array(8));
      writer.publish(new Uint8Array(8));
    };
    const began = performance.now();
    assert.throws(() => snapshot.read(into), { name: "SyncError", code: "Busy" });
    assert.ok(copies > 1);
    assert.ok(performance.now() - began < DEADLINE_MS);
    assert.deepEqual(snapshot.read(), new Uint8Array(8));
  });

  test("is read although the process stood still while it read", () => {
    using memory = created();
    const snapshot = Snapshot.create(memory.view(Uint8Array), 0, 8);
    const writer = Snapshot.at(memory.view(Uint8Array));
    writer.publish(new Uint8Array(8));
    const into = new Uint8Array(8);
    let copies = 0;
    into.set = (from) => {
      Uint8Array.prototype.set.call(into, from);
      copies++;
      if (copies > 2) return;
      for (const end = performance.now() + STILL_MS; performance.now() < end;);
      for (const byte of [1, 2]) writer.publish(new Uint8Array(8).fill(byte));
    };
    assert.deepEqual([...snapshot.read(into)!], Array(8).fill(2));
    assert.equal(copies, 3);
  });

  test("checks its place and its size", () => {
    assertChecksPlace(
      Snapshot,
      Snapshot.bytesFor(5),
      (view, offset = 0) => Snapshot.create(view, offset, 5),
      Snapshot.at,
    );
    using memory = created();
    const view = memory.view(Uint8Array);
    for (const bad of [0, -1, 0.5, NaN, 2 ** 31]) {
      assert.throws(() => Snapshot.create(view, 0, bad), RangeError);
      assert.throws(() => Snapshot.bytesFor(bad), RangeError);
    }
    assert.throws(() => Snapshot.bytesFor("1" as unknown as number), TypeError);
    Snapshot.create(view, 0, 8);
    for (const [bytes, code] of [[-1, "Damaged"], [0, "Damaged"], [2 ** 20, undefined]] as const) {
      memory.view(Int32Array)[2] = bytes;
      assert.throws(() => Snapshot.at(view), code === undefined ? RangeError : { code });
    }
  });

  test("ends with the segment", () => {
    assertEndsWithSegment((view) => Snapshot.create(view, 0, 8), [
      (snapshot) => snapshot.read(),
      (snapshot) => snapshot.publish(new Uint8Array(8)),
    ]);
  });

  test("is whole for readers of all runtimes while its writers are killed", {
    ...crew,
    timeout: 2 * slow.timeout, // many processes, of which each is slow to start in Wine
  }, async () => {
    const seed = Date.now() | 0;
    const random = new Random(seed);
    using memory = created();
    const snapshot = Snapshot.create(memory.view(Uint8Array), 0, BYTES);
    const readers = await startCrew(memory);
    await Promise.all(readers.map((reader) => reader.run(READ)));
    let last = 0;
    for (let kill = 0; kill < KILLS; kill++) {
      const writer = startAgent(runtimes[kill % runtimes.length]!);
      await attach(writer, memory);
      await writer.run(PUBLISH);
      const before = last;
      await until(
        () => new Int32Array((snapshot.read() ?? new Uint8Array(4)).buffer)[0]! > before,
        `a record of ${writer.name}`,
      );
      await new Promise((resolve) => setTimeout(resolve, random.number() * 10));
      await writer.kill();
      const numbers = new Int32Array(snapshot.read()!.buffer);
      assert.ok(numbers.every((number) => number === numbers[0]), `seed ${seed}: ${numbers}`);
      assert.ok(numbers[0]! > last, `seed ${seed}: ${numbers[0]} after ${last}`);
      last = numbers[0]!;
    }
    for (const reader of readers) {
      const { reads, problem } = await reader.run(
        "objects.stop = true; return { reads: objects.reads, problem: objects.problem };",
      );
      assert.equal(problem, null, `seed ${seed}`);
      assert.ok(reads > 1000, `${reads} reads`);
    }
    await endAll(readers);
  });
});

const layout = {
  state: "text:16",
  count: "u8",
  small: "i8",
  port: "u16",
  change: "i16",
  users: "u32",
  delta: "i32",
  total: "u64",
  balance: "i64",
  ratio: "f32",
  load: "f64",
  isOpen: "bool",
} as const;

const record = {
  state: "läuft",
  count: 255,
  small: -128,
  port: 65535,
  change: -32768,
  users: 2 ** 32 - 1,
  delta: -(2 ** 31),
  total: 2n ** 64n - 1n,
  balance: -(2n ** 63n),
  ratio: 0.5,
  load: Math.PI,
  isOpen: true,
};

describe("a snapshot of a record", () => {
  leaveNothingBehind();

  test("has every field as it was published, and C's layout", () => {
    using memory = created();
    using other = attached(memory);
    const writer = RecordSnapshot.create(memory.view(Uint8Array), 64, layout);
    const reader = RecordSnapshot.at(other.view(Uint8Array), 64, layout);
    assert.equal(reader.read(), null);
    writer.publish(record);
    assert.deepEqual(reader.read(), record);
    const [first, second] = [reader.read(), reader.read()];
    assert.notEqual(first, second);
    writer.publish({ ...record, state: "", isOpen: false });
    assert.deepEqual(reader.read(), { ...record, state: "", isOpen: false });
    assert.equal(RecordSnapshot.bytesFor({ a: "u8", b: "f64", c: "u8" }), 32 + 2 * 24);
    const bytes = Snapshot.at(other.view(Uint8Array), 64).read()!;
    assert.equal(new DataView(bytes.buffer).getUint16(18, true), 65535);
  });

  test("is what was published last, whatever its fields were before", () => {
    const seed = Number(process.env["MODEL_SEED"] ?? Date.now() % 2 ** 31);
    const random = new Random(seed);
    const about = `MODEL_SEED=${seed}`;
    const values: Record<string, readonly unknown[]> = {
      u8: [0, 1, 255],
      i16: [0, -1, 300],
      f32: [0, -0, 0.5, NaN, Infinity],
      f64: [0, -0, 0.1, NaN, -Infinity, 2 ** 53],
      u64: [0n, 2n ** 64n - 1n, 2n ** 32n],
      bool: [false, true],
      "text:3": ["", "a", "abc", "ö"],
      "text:21": ["", "only the end differs.", "only the end differs!", "only the END differs."],
    };
    const types = Object.keys(values) as FieldType[];
    const valueOf = (type: FieldType) => random.oneOf(values[type]!);
    for (let round = 0; round < 30; round++) {
      using memory = created();
      const layout: Record<string, FieldType> = {};
      for (let i = random.below(12); i >= 0; i--) layout[`f${i}`] = random.oneOf(types);
      const view = memory.view(Uint8Array);
      const writer = RecordSnapshot.create(view, 0, layout);
      const reader = RecordSnapshot.at(view, 0, layout);
      const record = Object.fromEntries(
        Object.entries(layout).map(([name, type]) => [name, valueOf(type)]),
      );
      for (let i = 0; i < 40; i++) {
        for (const [name, type] of Object.entries(layout)) {
          if (random.chance(0.3)) record[name] = valueOf(type);
        }
        writer.publish(record as never);
        const read = reader.read()!;
        assert.deepEqual(read, record, about);
        assert.deepEqual(Object.keys(read), Object.keys(layout), about);
        for (const name of Object.keys(read)) (read as Record<string, unknown>)[name] = null;
        assert.deepEqual(reader.read(), record, `${about}: a record is the caller's own`);
      }
    }
  });

  const names = [
    "__proto__",
    "constructor",
    'a"b',
    "a'b",
    "`${x}`",
    "\n",
    "\u2028",
    "\\",
    "7",
    "",
    "ö",
  ];
  const NAMED = Object.fromEntries(names.map((name, i) => [name, i]));
  const NAMED_LAYOUT = Object.fromEntries(names.map((name) => [name, "u8" as const]));

  test("has fields of any name", () => {
    using memory = created();
    const snapshot = RecordSnapshot.create(memory.view(Uint8Array), 0, NAMED_LAYOUT);
    snapshot.publish(NAMED);
    const read = snapshot.read()!;
    assert.deepEqual(Object.entries(read), Object.entries(NAMED));
    assert.equal(Object.getPrototypeOf(read), Object.prototype);
    assert.deepEqual(Object.entries({ ...snapshot.refresh()! }), Object.entries(NAMED));
  });

  const forbids = "--disallow-code-generation-from-strings";
  for (const runtime of runtimes.filter(({ name }) => name !== "bun")) {
    test(`is read in ${runtime.name} where text may not be compiled`, slow, () => {
      const flag = runtime.name === "deno" ? `--v8-flags=${forbids}` : forbids;
      const args = [...runtime.args, flag, fixture, uniqueKey("snapshot"), JSON.stringify(NAMED)];
      const { stdout, stderr } = spawnSync(runtime.command, args, { encoding: "utf8" });
      assert.notEqual(stdout, "", stderr);
      assert.deepEqual(JSON.parse(stdout), [true, Object.entries(NAMED)]);
    });
  }

  test("is shown by the same object after each refresh", () => {
    using memory = created();
    const snapshot = RecordSnapshot.create(memory.view(Uint8Array), 0, layout);
    assert.equal(snapshot.refresh(), null);
    snapshot.publish(record);
    const shown = snapshot.refresh()!;
    assert.deepEqual({ ...shown }, record);
    assert.deepEqual(Object.keys(shown), Object.keys(record));
    const other = { ...record, state: "", total: 1n, load: -1, isOpen: false };
    snapshot.publish(other);
    assert.deepEqual({ ...shown }, record, "not before the next refresh");
    assert.deepEqual(snapshot.read(), other);
    assert.deepEqual({ ...shown }, record, "nor by read()");
    assert.equal(snapshot.refresh(), shown);
    assert.deepEqual({ ...shown }, other);
    assert.throws(() => (shown as { load: number }).load = 2, TypeError);

    memory.view(Int32Array, 16, 2).fill(77); // two records at once
    assert.throws(() => snapshot.refresh(), { name: "SyncError", code: "Busy" });
    assert.equal(shown.load, 0);
    assert.equal(shown.total, 0n);
    snapshot.publish(record);
    memory.detach();
    assert.throws(() => snapshot.refresh(), { name: "SyncError", code: "NotAttached" });
  });

  test("refuses what does not fit, and keeps what it has", () => {
    using memory = created();
    const snapshot = RecordSnapshot.create(memory.view(Uint8Array), 0, layout);
    snapshot.publish(record);
    const bad: readonly [string, unknown, typeof TypeError | typeof RangeError][] = [
      ["state", "seventeen letters", RangeError],
      ["state", "a\0b", RangeError],
      ["state", "\ud800", RangeError],
      ["state", 1, TypeError],
      ["count", 256, RangeError],
      ["count", -1, RangeError],
      ["count", 0.5, RangeError],
      ["count", 1n, TypeError],
      ["small", 128, RangeError],
      ["delta", 2 ** 31, RangeError],
      ["total", -1n, RangeError],
      ["total", 1, TypeError],
      ["balance", 2n ** 63n, RangeError],
      ["load", "1", TypeError],
      ["isOpen", 1, TypeError],
      ["isOpen", undefined, TypeError],
    ];
    for (const [name, value, error] of bad) {
      const other = { ...record, count: 1, [name]: value } as typeof record;
      assert.throws(() => snapshot.publish(other), error, `${name} ${String(value)}`);
      assert.deepEqual(snapshot.read(), record);
    }
    assert.throws(() => snapshot.publish(null as unknown as typeof record), TypeError);
  });

  test("is not joined with another layout", () => {
    using memory = created();
    const view = memory.view(Uint8Array);
    RecordSnapshot.create(view, 0, { a: "u32", b: "u32" });
    RecordSnapshot.at(view, 0, { a: "u32", b: "u32" });
    for (
      const other of [
        { a: "u32", b: "i32" },
        { b: "u32", a: "u32" },
        { a: "u32" },
        { a: "u32", c: "u32" },
      ] as const
    ) {
      assert.throws(() => RecordSnapshot.at(view, 0, other as never), { code: "WrongKind" });
    }
    for (const bad of [null, {}, { a: "u33" }, { a: "text:0" }, { a: "text:" }, { a: 1 }, "u32"]) {
      const layout = bad as unknown as Record<string, FieldType>;
      assert.throws(() => RecordSnapshot.at(view, 0, layout), TypeError, JSON.stringify(bad));
      assert.throws(() => RecordSnapshot.create(view, 64, layout), TypeError);
    }
  });

  test("checks its slot, and ends with the segment", () => {
    const small = { a: "u32", b: "text:3" } as const;
    assertChecksPlace(
      RecordSnapshot,
      RecordSnapshot.bytesFor(small),
      (view, offset = 0) => RecordSnapshot.create(view, offset, small),
      (view, offset = 0) => RecordSnapshot.at(view, offset, small),
    );
    assertEndsWithSegment((view) => RecordSnapshot.create(view, 0, small), [
      (snapshot) => snapshot.read(),
      (snapshot) => snapshot.publish({ a: 1, b: "x" }),
    ]);
  });
});
