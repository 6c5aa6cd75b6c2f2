/** Processes of all runtimes set and read one shared value, or are stopped, killed or ended in the middle of that. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { describe, test } from "node:test";
import vm from "node:vm";
import { json, SharedValue, utf8 } from "../../collections/mod.ts";
import { hangingIn, untilHanging } from "../support/hanging.ts";
import {
  type Agent,
  crewOnly,
  endAll,
  ftok,
  leaveNothingBehind,
  linuxOnly,
  LOCK_MS,
  ownRuntime,
  runtimes,
  slow,
  startAgent,
  startMany,
  systemLibrary,
  uniqueKey,
  until,
  withDeadline,
} from "../support/support.ts";
import { compileC, cOnly } from "../support/sync_peer.ts";
import { Thread } from "../support/threads.ts";
import { joining, openValue } from "../support/values.ts";

const TEXT = { maxBytes: 1000, codec: utf8, lockTimeout: LOCK_MS } as const;
const SHOWN = `{ maxBytes: 1000, codec: collections.utf8, lockTimeout: ${LOCK_MS} }`;
const crew = { ...slow, ...crewOnly };

/**
 * An agent that hangs in a `set()` at an operation of Atomics. In this test, agents lock mutexes by calls of C, so the
 * operations are those of the value and of its event.
 */
async function startHanging(key: string, hanging: string, runtime = 0): Promise<Agent> {
  const agent = startAgent(runtimes[runtime % runtimes.length]!);
  await agent.request("fastCalls", true);
  await agent.run(joining(key, SHOWN));
  await agent.run(`setTimeout(() => { ${hanging} objects.value.set("hanging"); })`);
  await untilHanging(agent);
  return agent;
}

describe("a shared value of several processes", () => {
  leaveNothingBehind();

  test("loses no update", crew, async () => {
    using place = openValue<number[]>({ maxBytes: 100_000, codec: json });
    const agents = startMany(3);
    const options = `{ maxBytes: 100_000, codec: collections.json, lockTimeout: ${LOCK_MS} }`;
    await Promise.all(agents.map((agent) => agent.run(joining(place.key, options))));
    const count = 300;
    await Promise.all(agents.map((agent, me) =>
      agent.run(`
        for (let i = 0; i < ${count}; i++) {
          objects.value.update((old = []) => [...old, ${me} * ${count} + i]);
        }`)
    ));
    const { value, version } = place.value;
    assert.equal(version, 3 * count);
    assert.equal(new Set(value).size, 3 * count);
    for (let me = 0; me < 3; me++) {
      const own = value!.filter((one) => Math.floor(one / count) === me);
      assert.ok(own.every((one, i) => one === me * count + i), "in their order");
    }
    await endAll(agents);
  });

  test("is parsed once by each process, however large it is", crew, async () => {
    const maxBytes = 16 * 2 ** 20;
    using place = openValue<Record<string, unknown>>({ maxBytes, codec: json });
    const agents = startMany(3);
    const options = `{ maxBytes: ${maxBytes}, codec: {
      encode: collections.json.encode,
      decode(bytes) {
        objects.decoded = (objects.decoded ?? 0) + 1;
        return collections.json.decode(bytes);
      },
    } }`;
    await Promise.all(agents.map((agent) => agent.run(joining(place.key, options))));
    const table = Object.fromEntries(
      Array.from({ length: 70_000 }, (_, i) => [`route ${i}`, { to: "x".repeat(100), weight: i }]),
    );
    place.value.set(table);
    assert.ok(place.value.stats().bytes > 9e6);
    for (const round of [1, 2]) {
      const found = await Promise.all(agents.map((agent) =>
        agent.run(`
          let sum = 0;
          for (let i = 0; i < 70_000; i++) sum += objects.value.value["route " + i].weight;
          return [sum, objects.decoded, objects.value.value["route 69999"].to.length];`)
      ));
      const sum = 69_999 * 70_000 / 2 + (round - 1);
      assert.deepEqual(found, agents.map(() => [sum, round, 100]));
      table["route 0"] = { to: "", weight: 1 };
      if (round === 1) place.value.set(table);
    }
    await endAll(agents);
  });

  test("is whole for readers while texts of other encodings are set all the time", {
    ...slow,
  }, async () => {
    const maxBytes = 3 * 2 ** 20;
    using place = openValue<string>({ maxBytes, codec: utf8 });
    const agent = startAgent(ownRuntime);
    await agent.run(
      joining(
        place.key,
        `{ maxBytes: ${maxBytes}, codec: { ...collections.bytes, name: undefined } }`,
      ),
    );
    await agent.run(`
      const texts = ["€".repeat(2 ** 20), "a".repeat(3 * 2 ** 20)].map(collections.utf8.encode);
      setTimeout(function set() {
        for (const text of texts) objects.value.set(text);
        setTimeout(set);
      });`);
    const { value } = place;
    await until(() => value.version > 0, "the first value");
    const seen = new Set<string>();
    const end = performance.now() + 1500;
    for (let reads = 0; performance.now() < end || (seen.size < 2 && reads < 10_000); reads++) {
      const text = value.value!;
      seen.add(`${text.length} ${text[0]} ${text.at(-1)}`);
      assert.ok(text === (text[0] === "a" ? "a".repeat(3 * 2 ** 20) : "€".repeat(2 ** 20)));
      await new Promise((resolve) => setTimeout(resolve));
    }
    assert.deepEqual([...seen].sort(), [`${2 ** 20} € €`, `${3 * 2 ** 20} a a`]);
    await agent.kill();
  });

  test("is read while a writer is stopped in the middle; the next writer learns by whom", {
    ...crew,
  }, async () => {
    using place = openValue<string>({ ...TEXT, lockTimeout: 100 });
    const { value } = place;
    value.set("before");
    const agent = await startHanging(place.key, hangingIn("exchange", 1, false));
    const { version } = value;
    if (process.platform !== "win32") process.kill(agent.child.pid!, "SIGSTOP");
    const other = place.join();
    for (const reader of [value, other]) {
      assert.equal(reader.value, "before");
      assert.equal(reader.version, version);
    }
    const begun = performance.now();
    for (const change of [() => value.set("a"), () => value.update(() => "a")]) {
      assert.throws(change, {
        name: "SyncError",
        code: "Busy",
        message: new RegExp(
          `: process ${agent.child.pid} .*has been changing the value for 100 ms`,
        ),
      });
    }
    assert.ok(performance.now() - begun < LOCK_MS);
    await agent.kill();
    assert.equal(value.set("after"), version + 1);
    assert.deepEqual([other.value, value.stats().recovered], ["after", 1]);
  });

  for (const isBefore of [true, false]) {
    const when = isBefore ? "before" : "after";
    test(`is the old or the new one if a writer is killed ${when} each atomic step`, {
      ...crew,
    }, async () => {
      using place = openValue<string>(TEXT);
      const { value } = place;
      const other = place.join();
      value.set("old");
      for (const step of [1, 2]) {
        const hanging = hangingIn("exchange", step, isBefore);
        const agent = await startHanging(place.key, hanging, step);
        const { version } = value;
        const found = value.value!;
        const isNew = step === 2 && !isBefore;
        assert.equal(found === "hanging", isNew, found);
        await agent.kill();
        assert.deepEqual([value.value, value.version], [found, version]);
        assert.equal(value.set("next"), version + 1);
        assert.deepEqual([value.value, other.value], ["next", "next"]);
        assert.equal(value.stats().recovered, step);
      }
    });
  }

  test("tells of a value whose writer was killed before it could tell anybody", crew, async () => {
    using place = openValue<string>(TEXT);
    const changes = place.value.changes();
    const next = changes.next();
    const agent = await startHanging(place.key, hangingIn("add", 1, true));
    assert.equal(place.value.version, 1);
    await agent.kill();
    assert.deepEqual(await withDeadline(next, "the news"), { done: false, value: "hanging" });
  });

  for (const runtime of runtimes) {
    test(`is told to ${runtime.name}, which ends although it waits, unless it is to stay`, {
      ...crew,
    }, async () => {
      using place = openValue<string>(TEXT);
      const agents = [startAgent(runtime), startAgent(runtime)];
      for (const [i, agent] of agents.entries()) {
        await agent.run(joining(place.key, SHOWN));
        await agent.run(`
          objects.told = [];
          objects.subscription = objects.value.subscribe((text, version) => {
            objects.told.push([text, version]);
            if (text === "end") objects.subscription.close();
          }, { ref: ${i === 1} });`);
      }
      place.value.set("a");
      for (const agent of agents) {
        await withDeadline(
          agent.run(`
            while (objects.told.length === 0) await new Promise((done) => setTimeout(done, 5));
            return objects.told;`),
          "the first value",
        ).then((told) => assert.deepEqual(told, [["a", 1]]));
      }
      const [free, staying] = agents as [Agent, Agent];
      const end = staying.end();
      assert.equal(await free.end(), 0);
      const isOver = await Promise.race([
        end.then(() => true),
        new Promise((resolve) => setTimeout(() => resolve(false), 500)),
      ]);
      assert.equal(isOver, false, "it waits");
      place.value.set("end");
      assert.equal(await end, 0);
    });
  }

  test("is shared by threads", slow, async () => {
    using place = openValue<number>({ maxBytes: 100, codec: json });
    const count = 1000;
    const threads = [0, 1].map(() =>
      new Thread(
        place.key,
        `const value = collections.SharedValue.at(memory.bytes, 0, {
          codec: collections.json, lockTimeout: ${LOCK_MS} });
        for (let i = 0; i < ${count}; i++) value.update((old = 0) => old + 1);
        tell("counted");
        for await (const found of value.changes({ from: 0, ref: true })) if (found < 0) break;
        tell("told");`,
      )
    );
    for (const thread of threads) assert.equal(await thread.next(), "counted");
    assert.deepEqual([place.value.value, place.value.version], [2 * count, 2 * count]);
    place.value.set(-1);
    for (const thread of threads) assert.equal(await thread.next(), "told");
    for (const thread of threads) assert.equal(await thread.end(), 0);
  });

  test("goes on if code was stopped in the middle of a change in this thread", {
    skip: ownRuntime.name === "node" ? false : "only Node ends code in the middle of a loop",
  }, () => {
    using place = openValue<string>(TEXT);
    const { value } = place;
    value.set("a");
    const { exchange } = Atomics;
    Object.assign(globalThis, { valueOfTest: value });
    try {
      const code = `${hangingIn("exchange", 1, false)} valueOfTest.set("b");`;
      assert.throws(() => vm.runInThisContext(`{ ${code} }`, { timeout: 4000 }), /timed out/);
    } finally {
      Atomics.exchange = exchange;
      Reflect.deleteProperty(globalThis, "valueOfTest");
    }
    assert.deepEqual([value.value, value.version], ["a", 1]);
    assert.equal(place.join().set("c"), 2); // through another object of the thread
    assert.deepEqual([value.value, value.stats().recovered], ["c", 1]);
  });

  test("is usable after its only process was killed while it held the lock", crew, async () => {
    for (const runtime of runtimes) {
      const key = uniqueKey("value");
      const kept = { ...TEXT, lifetime: "until-removed" } as const;
      const agent = startAgent(runtime);
      await agent.request("fastCalls", true);
      await agent.run(joining(key, `{ ...${SHOWN}, lifetime: "until-removed" }`));
      await agent.run(`objects.value.set("a");`);
      await agent.run(`setTimeout(() => {
        ${hangingIn("exchange", 1, false)}
        objects.value.set("b");
      })`);
      await untilHanging(agent);
      await agent.kill();
      using value = SharedValue.open(key, kept);
      assert.deepEqual([value.value, value.set("c"), value.value], ["a", 2, "c"]);
      value.remove();
    }
  });

  test("is read by a C program", { ...crew, ...cOnly, ...linuxOnly }, async () => {
    const folder = mkdtempSync(path.join(tmpdir(), "value-peer-"));
    try {
      const program = compileC("value_peer", folder);
      using place = openValue({ maxBytes: 6000 });
      const { value, memory } = place;
      const id = systemLibrary().c.shmget(ftok(memory.nativeKey()!), 0n, 0);
      const last = 20_000;
      const peer = spawn(program, [`${id}`, `${last}`], { stdio: ["ignore", "pipe", "pipe"] });
      const lines: string[] = [];
      let errors = "";
      createInterface({ input: peer.stdout! }).on("line", (line) => lines.push(line));
      peer.stderr!.on("data", (data) => errors += data);
      const ended = once(peer, "close");
      const set = (version: number) =>
        assert.equal(value.set(new Uint8Array(1000 + version % 5000).fill(version)), version);
      set(1);
      await until(() => lines.includes("reading"), "the C program");
      for (let version = 2; version <= last; version++) set(version);
      const [code] = await withDeadline(ended, "the end of the C program");
      assert.deepEqual([code, errors], [0, ""]);
      const [whole] = /^(\d+) (\d+)$/.exec(lines[1]!)!.slice(1).map(Number);
      assert.ok(whole! > 1, lines[1]);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
