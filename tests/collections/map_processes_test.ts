/** Processes of all runtimes change a shared map at the same time, or are stopped in the middle of a change. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import vm from "node:vm";
import { json, SharedMap } from "../../collections/mod.ts";
import { hangingIn, hangs, untilHanging } from "../support/hanging.ts";
import { joining, openMap } from "../support/maps.ts";
import {
  type Agent,
  crewOnly,
  endAll,
  leaveNothingBehind,
  LOCK_MS,
  ownRuntime,
  runtimes,
  slow,
  startAgent,
  startMany,
  stop,
  until,
} from "../support/support.ts";
import { Thread } from "../support/threads.ts";

const OPTIONS = { bytes: 2 ** 17, stripes: 2, evict: "none", lockTimeout: LOCK_MS } as const;
const SHOWN = JSON.stringify(OPTIONS);

/** An agent in a call that hangs in the middle of a change. */
async function startHanging(
  key: string,
  count: number,
  isBefore: boolean,
  code: string,
): Promise<Agent> {
  const agent = startAgent(runtimes[count % runtimes.length]!);
  await agent.run(joining(key, SHOWN));
  await agent.run(`setTimeout(() => { ${hangingIn("store", count, isBefore)} ${code} })`);
  return agent;
}

describe("a shared map that several processes change", () => {
  leaveNothingBehind();

  test(
    "counts each incr once, and returns each number once",
    { ...slow, ...crewOnly },
    async () => {
      using place = openMap<number>(OPTIONS);
      const agents = startMany(3);
      await Promise.all(agents.map((agent) => agent.run(joining(place.key, SHOWN))));
      const count = 20_000;
      const results: number[][] = await Promise.all(
        agents.map((agent) =>
          agent.run(`return Array.from({ length: ${count} }, () => objects.map.incr("n"));`)
        ),
      );
      for (const numbers of results) {
        assert.ok(numbers.every((number, i) => i === 0 || number > numbers[i - 1]!));
      }
      assert.equal(new Set(results.flat()).size, 3 * count);
      assert.equal(place.map.get("n"), 3 * count);
      await endAll(agents);
    },
  );

  test(
    "loses no update, and lets one set with a version win",
    { ...slow, ...crewOnly },
    async () => {
      using place = openMap<unknown>({ ...OPTIONS, codec: json });
      const agents = startMany(3);
      const options = `{ ...${SHOWN}, codec: collections.json }`;
      await Promise.all(agents.map((agent) => agent.run(joining(place.key, options))));
      const count = 500;
      const sums: number[] = await Promise.all(agents.map((agent, me) =>
        agent.run(`
        const { map } = objects;
        let won = 0;
        for (let i = 0; i < ${count}; i++) {
          map.update("list", (old = []) => [...old, ${me} * ${count} + i]);
          map.update("number", (old = 0) => old + 1);
          for (;;) {
            const found = map.getWithVersion("versioned");
            const { stored } = found === undefined
              ? map.set("versioned", { count: 1 }, { ifAbsent: true })
              : map.set("versioned", { count: found.value.count + 1 }, { ifVersion: found.version });
            if (stored) break;
          }
          if (map.set("slot " + i, ${me}, { ifAbsent: true }).stored) won++;
        }
        return won;`)
      ));
      const { map } = place;
      const list = map.get("list") as number[];
      assert.equal(new Set(list).size, 3 * count);
      for (let me = 0; me < 3; me++) {
        const own = list.filter((one) => Math.floor(one / count) === me);
        assert.ok(own.every((one, i) => one === me * count + i), "in their order");
      }
      assert.equal(map.get("number"), 3 * count);
      assert.deepEqual(map.get("versioned"), { count: 3 * count });
      assert.equal(sums.reduce((sum, won) => sum + won, 0), count);
      assert.equal(map.size, [...map.keys()].length);
      await endAll(agents);
    },
  );

  test("is read while a writer is stopped in the middle; the next writer learns by whom", {
    ...slow,
    ...crewOnly,
  }, async () => {
    using place = openMap<Uint8Array | number>(OPTIONS);
    const { map } = place;
    for (let i = 0; i < 100; i++) map.set(`${i}`, new Uint8Array(50).fill(i));
    const brief = SharedMap.at<number>(place.memory.bytes, 0, { lockTimeout: 100 });
    const agent = await startHanging(
      place.key,
      1,
      false,
      `objects.map.set("0", new Uint8Array(3));`,
    );
    await untilHanging(agent);
    assert.equal(map.getInto("0", new Uint8Array(50)), 3);
    if (process.platform !== "win32") {
      await stop(agent.child.pid!);
    }
    for (let i = 1; i < 100; i++) {
      assert.deepEqual(map.get(`${i}`), new Uint8Array(50).fill(i));
      assert.ok(map.has(`${i}`));
    }
    assert.equal([...map.keys()].length, 100);
    const state = process.platform === "win32" ? "" : " \\(.*agent\\.ts\\), stopped,";
    const begun = performance.now();
    for (
      const change of [() => brief.set("0", 1), () => brief.incr("0"), () => brief.delete("0")]
    ) {
      assert.throws(change, {
        name: "SyncError",
        code: "Busy",
        message: new RegExp(`: process ${agent.child.pid}${state} has been changing .* for 100 ms`),
      });
    }
    assert.ok(performance.now() - begun < LOCK_MS);
    await agent.kill();
    map.set("0", new Uint8Array(4));
    assert.deepEqual([map.stats().recovered, map.size], [1, 100]);
    for (let i = 0; i < 100; i++) map.set(`${i}`, i);
    for (let i = 0; i < 100; i++) assert.equal(map.get(`${i}`), i);
  });

  test("tell the same numbers all the time while one of them replaces a value", slow, async () => {
    using place = openMap(OPTIONS);
    const { map } = place;
    for (const key of ["a", "b"]) map.set(key, new Uint8Array(8));
    const { entries, bytes } = map.stats();
    const agent = startAgent(ownRuntime);
    await agent.run(joining(place.key, SHOWN));
    const busy = agent.run(`
      const value = new Uint8Array(8);
      for (const end = Date.now() + 1000; Date.now() < end;) {
        for (let i = 0; i < 1000; i++) objects.map.set("a", value);
      }`);
    let isOver = false;
    void busy.finally(() => isOver = true);
    while (!isOver) {
      for (const end = performance.now() + 10; performance.now() < end;) {
        const now = map.stats();
        if (now.entries !== entries || now.bytes !== bytes) {
          assert.deepEqual([now.entries, now.bytes], [entries, bytes]);
        }
      }
      await new Promise((resolve) => setTimeout(resolve));
    }
    await busy;
    await agent.end();
  });

  for (const isBefore of [true, false]) {
    const when = isBefore ? "before" : "after";
    test(`is whole if a writer is killed ${when} each atomic store of a change`, {
      ...slow,
      ...crewOnly,
    }, async () => {
      // In one bucket, so that links are stored too: the first key is at the end of the chain.
      const options = {
        bytes: 16_384,
        stripes: 1,
        evict: "none",
        entryBytes: 2 ** 20,
        lockTimeout: LOCK_MS,
      } as const;
      using place = openMap<number>(options);
      const { map } = place;
      const shown = JSON.stringify(options);
      const keys = Array.from({ length: 150 }, (_, i) => `${i}`);
      let recovered = 0;
      for (const [count, job] of [[1, "set"], [2, "set"], [1, "delete"], [2, "incr"]] as const) {
        map.clear();
        for (const [i, key] of keys.entries()) map.set(key, i);
        const agent = startAgent(runtimes[count % runtimes.length]!);
        await agent.run(joining(place.key, shown));
        const call = {
          set: `map.set("7", 1000)`,
          delete: `map.delete("7")`,
          incr: `map.incr("7")`,
        };
        await agent.run(`setTimeout(() => {
          const { map } = objects;
          map.set("hanging", 1);
          ${hangingIn("store", count, isBefore)}
          ${call[job]};
          Atomics.store = real;
          map.set("hanging", 2);
        })`);
        await until(() => hangs(agent) || map.get("hanging") === 2, "the change");
        const brief = SharedMap.at<number>(place.memory.bytes, 0, { lockTimeout: 50 });
        let isHeld = false;
        try {
          if (hangs(agent)) brief.set("other", 1);
        } catch (error) {
          isHeld = (error as { code: string }).code === "Busy";
          if (!isHeld) throw error;
        }
        await agent.kill();
        const found = map.get("7");
        const possible = { set: [7, 1000], delete: [7, undefined], incr: [7, 8] };
        assert.ok(possible[job].includes(found as never), `${job}: ${found}`);
        map.set("other", 1);
        if (isHeld) recovered++;
        for (const [i, key] of keys.entries()) if (i !== 7) assert.equal(map.get(key), i, job);
        assert.equal(map.get("7"), found, `${job}: after the recovery`);
        assert.equal(map.size, [...map.keys()].length);
        map.delete("7");
        assert.equal(map.get("7"), undefined, "the old value does not come back");
        assert.equal(map.stats().recovered, recovered);
      }
      assert.ok(recovered > 0);
    });
  }

  test("is shared by threads", slow, async () => {
    using place = openMap<number>(OPTIONS);
    const { map } = place;
    const count = 3000;
    const threads = [0, 1].map(() =>
      new Thread(
        place.key,
        `const map = collections.SharedMap.at(memory.bytes, 0, { lockTimeout: ${LOCK_MS} });
        for (let i = 0; i < ${count}; i++) {
          map.incr("n");
          map.set("key " + i % 50, i);
        }
        tell("counted");`,
      )
    );
    for (const thread of threads) assert.equal(await thread.next(), "counted");
    for (const thread of threads) assert.equal(await thread.end(), 0);
    for (let i = 0; i < 50; i++) assert.ok(map.get(`key ${i}`)! % 50 === i);
    assert.equal(map.incr("n"), 2 * count + 1);
    assert.equal(map.size, [...map.keys()].length);
  });

  test("goes on if code was stopped in the middle of a change in this thread", {
    skip: ownRuntime.name === "node" ? false : "only Node ends code in the middle of a loop",
  }, () => {
    using place = openMap<number>(OPTIONS);
    const { map } = place;
    const other = place.join();
    map.set("a", 1);
    const { store } = Atomics;
    Object.assign(globalThis, { mapOfTest: map });
    try {
      const code = `${hangingIn("store", 1, false)} mapOfTest.set("a", 2);`;
      assert.throws(() => vm.runInThisContext(`{ ${code} }`, { timeout: 4000 }), /timed out/);
    } finally {
      Atomics.store = store;
      Reflect.deleteProperty(globalThis, "mapOfTest");
    }
    assert.equal(map.get("a"), 2);
    assert.equal(other.incr("a"), 3); // through another object of the thread
    assert.equal(map.incr("a"), 4);
    assert.equal(map.stats().recovered, 1);
  });
});
