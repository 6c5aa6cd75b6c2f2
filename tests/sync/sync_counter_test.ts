/** Counters, gauges and blocks of them. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SharedMemory } from "../../mod.ts";
import { Counter, CounterBlock, Gauge } from "../../sync/mod.ts";
import { crewOnly, endAll, leaveNothingBehind, slow, uniqueKey } from "../support/support.ts";
import {
  assertChecksPlace,
  assertEndsWithSegment,
  attached,
  created,
  startCrew,
} from "../support/sync_places.ts";
import { Thread } from "../support/threads.ts";

const crew = { ...slow, ...crewOnly };

describe("a counter in a segment", () => {
  leaveNothingBehind();

  test("is read and changed in every way", () => {
    using memory = created();
    const counter = Counter.create(memory.view(Uint8Array));
    using other = attached(memory);
    const same = Counter.at(other.view(Uint8Array));
    assert.equal(counter.get(), 0n);
    assert.equal(counter.add(), 0n);
    assert.equal(same.add(41), 1n);
    assert.equal(same.add(-2n), 42n);
    assert.equal(counter.exchange(7), 40n);
    assert.equal(same.compareExchange(8, 9), 7n);
    assert.equal(same.compareExchange(7, 9n), 7n);
    assert.equal(counter.get(), 9n);
    counter.set(-(2n ** 63n));
    assert.equal(same.add(-1), -(2n ** 63n));
    assert.equal(same.get(), 2n ** 63n - 1n);
  });

  test("takes integers of 64 bits only", () => {
    using memory = created();
    const counter = Counter.create(memory.view(Uint8Array));
    const calls: readonly ((value: never) => unknown)[] = [
      (value) => counter.add(value),
      (value) => counter.set(value),
      (value) => counter.exchange(value),
      (value) => counter.compareExchange(value, 1),
      (value) => counter.compareExchange(1, value),
    ];
    for (const call of calls) {
      for (const bad of [0.5, NaN, Infinity, 2 ** 53, 2n ** 63n, -(2n ** 63n) - 1n]) {
        assert.throws(() => call(bad as never), RangeError, String(bad));
      }
      for (const bad of ["1", null, {}]) assert.throws(() => call(bad as never), TypeError);
    }
    assert.equal(counter.get(), 0n);
  });

  test("checks its place", () => {
    assertChecksPlace(Counter, Counter.BYTES, Counter.create, Counter.at);
    assertChecksPlace(Gauge, Gauge.BYTES, Gauge.create, Gauge.at);
    using memory = created();
    Counter.create(memory.view(Uint8Array));
    assert.throws(() => Gauge.at(memory.view(Uint8Array)), {
      code: "WrongKind",
      message: "Gauge.at: there is a Counter of version 1 here; use another place, or another key",
    });
  });

  test("ends with the segment", () => {
    assertEndsWithSegment((view) => Counter.create(view), [
      (counter) => counter.add(),
      (counter) => counter.get(),
      (counter) => counter.set(1),
      (counter) => counter.exchange(1),
      (counter) => counter.compareExchange(0, 1),
    ]);
    assertEndsWithSegment((view) => Gauge.create(view), [
      (gauge) => gauge.add(1),
      (gauge) => gauge.get(),
      (gauge) => gauge.set(1),
      (gauge) => gauge.exchange(1),
    ]);
  });

  test("loses nothing that processes of all runtimes and threads add at once", crew, async () => {
    using memory = created();
    const view = memory.view(Uint8Array);
    const counter = Counter.create(view);
    const gauge = Gauge.create(view, 64);
    // Long enough for the optimizing compilers of all of them; and each sees every number once.
    const add = (view: string) => `
      const counter = sync.Counter.at(${view});
      const gauge = sync.Gauge.at(${view}, 64);
      let last = -1n;
      for (let i = 0; i < 100_000; i++) {
        const before = counter.add();
        if (before <= last) throw new Error(before + " after " + last);
        last = before;
        if (i % 10 === 0) gauge.add(0.5);
      }`;
    const agents = await startCrew(memory, 4);
    const threads = [1, 2].map(() =>
      new Thread(memory.key()!, `${add("memory.view(Uint8Array)")} tell("done");`)
    );
    await Promise.all(agents.map((agent) => agent.run(add("objects.m.view(Uint8Array)"))));
    for (const thread of threads) {
      assert.equal(await thread.next(), "done");
      assert.equal(await thread.end(), 0);
    }
    assert.equal(counter.get(), 600_000n);
    assert.equal(gauge.get(), 30_000);
    await endAll(agents);
  });
});

describe("a gauge in a segment", () => {
  leaveNothingBehind();

  test("is read and changed in every way", () => {
    using memory = created();
    const gauge = Gauge.create(memory.view(Uint8Array));
    using other = attached(memory);
    const same = Gauge.at(other.view(Uint8Array));
    assert.equal(gauge.get(), 0);
    for (const value of [1.5, -0, NaN, Infinity, Number.MIN_VALUE]) {
      gauge.set(value);
      assert.ok(Object.is(same.get(), value), String(value));
    }
    assert.equal(same.exchange(2), Number.MIN_VALUE);
    assert.equal(gauge.add(0.25), 2);
    assert.equal(same.get(), 2.25);
    for (const bad of ["1", null, 1n]) {
      assert.throws(() => gauge.set(bad as unknown as number), TypeError);
      assert.throws(() => gauge.add(bad as unknown as number), TypeError);
      assert.throws(() => gauge.exchange(bad as unknown as number), TypeError);
    }
  });

  test("is added to also while it is NaN", () => {
    using memory = created();
    const gauge = Gauge.create(memory.view(Uint8Array));
    gauge.set(NaN);
    assert.ok(Number.isNaN(gauge.add(1)));
  });
});

describe("a block of counters", () => {
  leaveNothingBehind();

  test("finds each by its name, whoever asks first and in whatever order", () => {
    using memory = created();
    using other = attached(memory);
    const block = CounterBlock.create(memory.view(Uint8Array), 64, 8);
    const later = CounterBlock.at(other.view(Uint8Array), 64);
    assert.equal(later.capacity, 8);
    block.counter("requests").add(3);
    later.gauge("load").set(0.5);
    later.counter("errors").add(1);
    later.counter("requests").add(1);
    block.counter("größe").add(-1);
    block.counter("\uFEFFa").add(7); // a byte order mark is part of the name
    assert.deepEqual([...block.values()], [
      ["requests", 4n],
      ["load", 0.5],
      ["errors", 1n],
      ["größe", -1n],
      ["\uFEFFa", 7n],
    ]);
    assert.deepEqual(later.values(), block.values());
  });

  test("refuses a name of the other kind, one too many, and what is no name", () => {
    using memory = created();
    const block = CounterBlock.create(memory.view(Uint8Array), 0, 2);
    block.counter("a");
    assert.throws(() => block.gauge("a"), { name: "SyncError", code: "WrongKind" });
    block.gauge("x".repeat(CounterBlock.NAME_BYTES));
    assert.throws(() => block.counter("c"), { code: "Full" });
    assert.throws(() => block.counter("x".repeat(CounterBlock.NAME_BYTES)), { code: "WrongKind" });
    block.counter("a");
    for (const bad of ["", "x".repeat(CounterBlock.NAME_BYTES + 1), "a\0b", "\ud800"]) {
      assert.throws(() => block.counter(bad), RangeError);
    }
    for (const bad of [null, 1, {}]) {
      assert.throws(() => block.counter(bad as unknown as string), TypeError);
    }
  });

  test("finishes the name of somebody who was killed before it was written", () => {
    using memory = created();
    const block = CounterBlock.create(memory.view(Uint8Array), 0, 4);
    block.counter("first").add(5);
    block.counter("second");
    memory.view(Uint8Array, 64 + 16 + 2, 3).fill(0); // "fi"
    assert.deepEqual([...block.values().keys()], ["second"]);
    assert.equal(block.counter("first").get(), 5n);
    assert.deepEqual([...block.values().keys()], ["first", "second"]);
    memory.view(Uint8Array, 64 + 16, 1)[0] = 7;
    assert.throws(() => block.counter("first"), { code: "Damaged" });
  });

  test("checks its place and its capacity", () => {
    assertChecksPlace(
      CounterBlock,
      CounterBlock.bytesFor(3),
      (view, offset = 0) => CounterBlock.create(view, offset, 3),
      CounterBlock.at,
    );
    using memory = created();
    const view = memory.view(Uint8Array);
    for (const bad of [0, -1, 0.5, NaN, 2 ** 21]) {
      assert.throws(() => CounterBlock.create(view, 0, bad), RangeError);
      assert.throws(() => CounterBlock.bytesFor(bad), RangeError);
    }
    assert.throws(() => CounterBlock.bytesFor("1" as unknown as number), TypeError);
    CounterBlock.create(view, 0, 3);
    memory.view(Int32Array)[2] = -1;
    assert.throws(() => CounterBlock.at(view), { code: "Damaged" });
    memory.view(Int32Array)[2] = 1000;
    assert.throws(() => CounterBlock.at(view), RangeError);
  });

  test("ends with the segment", () => {
    assertEndsWithSegment((view) => CounterBlock.create(view, 0, 3), [
      (block) => block.counter("a"),
      (block) => block.gauge("a"),
      (block) => block.values(),
    ]);
  });

  test(
    "takes no name for another one because a thread writes it at the same moment",
    slow,
    async () => {
      const ROUNDS = 1000;
      using memory = new SharedMemory(uniqueKey("sync"));
      assert.equal(memory.create(64 + CounterBlock.bytesFor(ROUNDS)), true, memory.errorString());
      const view = memory.view(Uint8Array);
      const words = memory.view(Int32Array, 0, 1);
      const block = CounterBlock.create(view, 64, ROUNDS);
      const MEET = `
      const meet = (words, round) => {
        const deadline = performance.now() + 30_000;
        Atomics.add(words, 0, 1);
        while (Atomics.load(words, 0) < 2 * (round + 1)) {
          if (performance.now() > deadline) throw new Error("the other thread has gone");
        }
      };`;
      const name = "x".repeat(40);
      const thread = new Thread(
        memory.key()!,
        `${MEET}
      const words = memory.view(Int32Array, 0, 1);
      const block = sync.CounterBlock.at(memory.view(Uint8Array), 64);
      tell("ready");
      for (let i = 0; i < ${ROUNDS}; i++) {
        meet(words, i);
        block.counter("${name}" + i).add();
      }
      tell("done");`,
      );
      const meet = new Function(`${MEET} return meet;`)();
      assert.equal(await thread.next(), "ready");
      for (let i = 0; i < ROUNDS; i++) {
        meet(words, i);
        block.counter(name + i).add();
      }
      assert.equal(await thread.next(), "done");
      assert.equal(await thread.end(), 0);
      assert.ok([...block.values().values()].every((value) => value === 2n));
    },
  );

  test("gives processes that ask at once the same place for a name", crew, async () => {
    using memory = created();
    const block = CounterBlock.create(memory.view(Uint8Array), 0, 60);
    const agents = await startCrew(memory, 6);
    await Promise.all(agents.map((agent, i) =>
      agent.run(`
        const block = sync.CounterBlock.at(objects.m.view(Uint8Array));
        for (let i = 0; i < 40; i++) block.counter("name " + (i * 7 + ${i}) % 60).add();`)
    ));
    const values = [...block.values()];
    assert.ok(values.length <= 60, `${values.length} names`);
    assert.equal(new Set(values.map(([name]) => name)).size, values.length);
    assert.equal(values.reduce((sum, [, value]) => sum + Number(value), 0), 240);
    await endAll(agents);
  });
});
