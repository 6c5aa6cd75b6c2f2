/** Of several processes that want a value, one computes it; whoever fails is replaced. */
import assert from "node:assert/strict";
import process from "node:process";
import { afterEach, beforeEach, describe, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { json, type SharedMap } from "../../collections/mod.ts";
import { shapeOf, stripeByte } from "../../collections/map_shape.ts";
import { SyncError } from "../../sync/mod.ts";
import { joining, openMap } from "../support/maps.ts";
import {
  crewOnly,
  DEADLINE_MS,
  endAll,
  leaveNothingBehind,
  linuxOnly,
  LOCK_MS,
  onceOnly,
  ownRuntime,
  runtimes,
  slow,
  startAgent,
  startMany,
  until,
  withDeadline,
} from "../support/support.ts";

const OPTIONS = { bytes: 2 ** 17, codec: json, lockTimeout: LOCK_MS } as const;
const SHOWN = `{ bytes: 2 ** 17, codec: collections.json, lockTimeout: ${LOCK_MS} }`;
/** For calls of which none is to compute because the time of another one is over. */
const LONG = { timeout: 1e9 } as const;

/** A promise that the test settles. */
function given<Value>() {
  return Promise.withResolvers<Value>();
}

describe("getOrSet of a shared map", () => {
  leaveNothingBehind();

  // A wait does not keep this program alive either.
  let alive: ReturnType<typeof setInterval>;
  beforeEach(() => void (alive = setInterval(() => {}, 60_000)));
  afterEach(() => clearInterval(alive));

  test("computes a value once, and stores it", async () => {
    using place = openMap<unknown>(OPTIONS);
    const { map } = place;
    let calls = 0;
    const compute = () => Promise.resolve({ call: ++calls });
    const results = await Promise.all([1, 2, 3].map(() => map.getOrSet("a", compute)));
    assert.deepEqual(results, [1, 2, 3].map(() => ({ call: 1 })));
    assert.deepEqual(await map.getOrSet("a", compute), { call: 1 });
    assert.deepEqual(map.get("a"), { call: 1 });
    assert.equal(await map.getOrSet("number", () => 5, { ttl: 60_000 }), 5);
    assert.ok(map.ttl("number")! > 30_000);
    assert.equal(await map.getOrSet("none", () => undefined), undefined);
    assert.equal(map.has("none"), false);
    assert.deepEqual([calls, map.size], [1, 2]);
    const bytes = Uint8Array.of(110);
    assert.equal(await map.getOrSet(bytes, () => "n"), "n");
    assert.equal(map.get("n"), undefined);
  });

  test("refuses what is no function and no option", async () => {
    using place = openMap<unknown>(OPTIONS);
    const { map } = place;
    await assert.rejects(map.getOrSet("a", 1 as never), TypeError);
    await assert.rejects(map.getOrSet(1 as never, () => 1), TypeError);
    await assert.rejects(map.getOrSet("a", () => 1, { ttl: 0 }), RangeError);
    await assert.rejects(map.getOrSet("a", () => 1, { timeout: -1 }), RangeError);
    const aborted = AbortSignal.abort(new Error("mine"));
    await assert.rejects(map.getOrSet("a", () => 1, { signal: aborted }), /mine/);
    for (const signal of [1, null, {}, new AbortController()] as unknown[] as AbortSignal[]) {
      await assert.rejects(map.getOrSet("a", () => 1, { signal }), {
        name: "TypeError",
        message: /^SharedMap\.getOrSet: signal must be an AbortSignal, not (number|null|object)$/,
      });
    }
    assert.equal(map.size, 0);
  });

  test("is for all other operations as if there were no value while it is computed", async () => {
    using place = openMap<unknown>({ ...OPTIONS, evict: "none" });
    const { map } = place;
    const { promise, resolve } = given<string>();
    const result = map.getOrSet("a", () => promise);
    assert.deepEqual([map.get("a"), map.has("a"), map.ttl("a"), map.getStale("a"), map.size], [
      ...[undefined, false, undefined, undefined, 0],
    ]);
    assert.equal(map.getInto("a", new Uint8Array(100)), -1);
    assert.deepEqual([...map.keys()], []);
    assert.equal(map.expire("a", 5), false);
    assert.equal(map.set("a", 1, { ifPresent: true }).stored, false);
    resolve("late");
    assert.equal(await result, "late");
    assert.equal(map.get("a"), "late");
  });

  test("does not overwrite what was set meanwhile, and does not bring back what was removed", async () => {
    const changes: ((map: SharedMap<unknown>) => unknown)[] = [
      (map) => map.set("a", "set"),
      (map) => map.set("a", "set", { ifAbsent: true }),
      (map) => map.update("a", () => "set"),
      (map) => map.incr("a"),
      (map) => map.delete("a"),
      (map) => map.clear(),
      (map) => [map.set("a", "set"), map.delete("a")],
    ];
    for (const change of changes) {
      using place = openMap<unknown>(OPTIONS);
      const { map } = place;
      const { promise, resolve } = given<string>();
      const result = map.getOrSet("a", () => promise);
      change(map);
      const expected = map.get("a");
      resolve("computed");
      assert.equal(await result, "computed");
      assert.equal(map.get("a"), expected, String(change));
    }
  });

  test("lets the next one compute if a computer throws, or its value cannot be stored", async () => {
    using place = openMap<unknown>(OPTIONS);
    const { map } = place;
    const other = place.join();
    const { promise, reject } = given<never>();
    const failing = map.getOrSet("a", () => promise);
    const coalesced = map.getOrSet("a", () => assert.fail("is coalesced"));
    const next = other.getOrSet("a", () => "next");
    reject(new Error("mine"));
    await assert.rejects(failing, /mine/);
    await assert.rejects(coalesced, /mine/);
    assert.equal(await next, "next");
    assert.equal(map.get("a"), "next");
    const large = "x".repeat(2 ** 17);
    await assert.rejects(map.getOrSet("b", () => large), { code: "InvalidSize" });
    await assert.rejects(
      map.getOrSet("b", () => {
        throw new Error("at once");
      }),
      /at once/,
    );
    assert.equal(await other.getOrSet("b", () => "small"), "small");
  });

  test("does not wait for ever: not for itself, not crosswise, not for one that hangs", async () => {
    using place = openMap<unknown>(OPTIONS);
    const { map } = place;
    const other = place.join();
    const timeout = 100;
    const own = await map.getOrSet("a", () => map.getOrSet("a", () => 1, { timeout }), { timeout });
    assert.equal(own, 1);
    const cross = await Promise.all([
      map.getOrSet("x", () => other.getOrSet("y", () => "x", { timeout }), { timeout }),
      other.getOrSet("y", () => map.getOrSet("x", () => "y", { timeout }), { timeout }),
    ]);
    assert.equal(cross.length, 2);
    const { promise, resolve } = given<string>();
    const hanging = map.getOrSet("h", () => promise, { timeout });
    assert.equal(await other.getOrSet("h", () => "other"), "other"); // when the first one's time is over
    resolve("late");
    assert.equal(await hanging, "late");
    assert.equal(map.get("h"), "other");
    const nested = await map.getOrSet(
      "1",
      () => map.getOrSet("2", () => map.getOrSet("3", () => 3)),
    );
    assert.equal(nested, 3);
  });

  test("ends a wait when its signal is aborted", async () => {
    using place = openMap<unknown>(OPTIONS);
    const { map } = place;
    const other = place.join();
    const { promise, resolve } = given<string>();
    const first = map.getOrSet("a", () => promise);
    for (const waiting of [map, other]) {
      const { signal, abort } = ((controller) => ({
        signal: controller.signal,
        abort: () => controller.abort(new Error("mine")),
      }))(new AbortController());
      const wait = waiting.getOrSet("a", () => assert.fail("is not called"), { signal });
      abort();
      await assert.rejects(wait, /mine/);
    }
    resolve("value");
    assert.equal(await first, "value");
  });

  test("goes on for the other calls of an object when the signal of the first is aborted", async () => {
    using place = openMap<unknown>(OPTIONS);
    const { map } = place;
    const { promise, resolve } = given<string>();
    const first = map.getOrSet("a", () => promise);
    const other = place.join();
    const controller = new AbortController();
    const { signal } = controller;
    const aborted = other.getOrSet("a", () => assert.fail("is not called"), { signal });
    const waiting = [1, 2].map(() => other.getOrSet("a", () => assert.fail("is not called")));
    controller.abort(new Error("mine"));
    await assert.rejects(aborted, /mine/);
    resolve("value");
    assert.deepEqual(await Promise.all([first, ...waiting]), ["value", "value", "value"]);
  });

  test("stores the value for the key as it was when the call began", async () => {
    using place = openMap<unknown>(OPTIONS);
    const { map } = place;
    const key = Uint8Array.of(1, 2, 3);
    const { promise, resolve } = given<string>();
    const computed = map.getOrSet(key, () => promise);
    key.fill(0);
    resolve("value");
    assert.equal(await computed, "value");
    assert.equal(map.get(Uint8Array.of(1, 2, 3)), "value");
    assert.equal(map.get(key), undefined);
  });

  test("fails clearly if the map is detached while a value is computed", async () => {
    using place = openMap<unknown>(OPTIONS);
    const { map } = place;
    const { promise, resolve } = given<string>();
    const first = map.getOrSet("a", () => promise);
    place.memory.detach();
    resolve("value");
    await assert.rejects(first, { code: "NotAttached" });
    await assert.rejects(map.getOrSet("a", () => 1), { code: "NotAttached" });
  });

  test("computes in more threads than can be known", async () => {
    using place = openMap<unknown>(OPTIONS);
    // Objects of one thread: each takes a slot of its own.
    const maps = Array.from({ length: 20 }, () => place.join());
    const { promise, resolve } = given<void>();
    const results = maps.map((map, i) => map.getOrSet(`${i}`, () => promise.then(() => i)));
    resolve();
    assert.deepEqual(await Promise.all(results), maps.map((_, i) => i));
    assert.equal(place.map.size, 20);
    assert.equal(await place.map.getOrSet("more", () => 1), 1);
  });

  test("keeps the program alive while it waits for another process only if it is asked to", {
    ...slow,
    ...crewOnly,
  }, async () => {
    using place = openMap<unknown>(OPTIONS);
    const { map } = place;
    for (const runtime of runtimes) {
      for (const how of ["alone", "joined"]) {
        const key = `${runtime.name} ${how}`;
        const { promise, resolve } = given<string>();
        const computed = map.getOrSet(key, () => promise, LONG);
        const [free, kept] = [startAgent(runtime), startAgent(runtime)];
        for (const [agent, ref] of [[free, false], [kept, true]] as const) {
          await agent.run(joining(place.key, SHOWN));
          await agent.run(`
            const wait = (ref) =>
              objects.map.getOrSet(${JSON.stringify(key)}, () => "own", { timeout: 1e9, ref });
            ${how === "joined" ? "wait(false);" : ""}
            wait(${ref}).then((value) => console.error(value));
          `);
        }
        assert.equal(await free.end(), 0);
        assert.equal(free.stderr, "");
        const ended = kept.end();
        const isEnded = await Promise.race([
          ended.then(() => true),
          new Promise((resolve) => setTimeout(resolve, 200, false)),
        ]);
        assert.equal(isEnded, false);
        resolve("value");
        assert.equal(await computed, "value");
        assert.equal(await ended, 0);
        assert.equal(kept.stderr, "value\n");
      }
    }
    const refuse = () => map.getOrSet("a", () => 1, { ref: 1 as never });
    await assert.rejects(refuse, /ref must be a boolean, not number/);
  });

  test("does not let others wait for a call that failed while the stripe was held", async () => {
    using place = openMap<unknown>({ ...OPTIONS, stripes: 1 });
    const { map } = place;
    const other = place.join();
    const { locks } = (map as unknown as { core: { locks: { change(): unknown }[] } }).core;
    const lock = locks[0]!;
    const { promise, reject } = given<never>();
    const forever = { timeout: Infinity, ref: true };
    const failing = map.getOrSet("a", () => promise, forever);
    const { promise: last, resolve: end } = given<number>();
    const busy = map.getOrSet("b", () => last, forever); // so this thread goes on computing
    locks[0] = {
      change() {
        throw new SyncError("Busy", "another process holds it");
      },
    };
    reject(new Error("mine"));
    await assert.rejects(failing, /mine/);
    locks[0] = lock;
    assert.equal(await other.getOrSet("a", () => "other", forever), "other");
    end(1);
    assert.equal(await busy, 1);
  });

  test("gets its turn while other processes change the stripe all the time", {
    ...slow,
    ...onceOnly,
  }, async () => {
    const options = { bytes: 2 ** 20, stripes: 1, lockTimeout: LOCK_MS } as const;
    using place = openMap(options);
    const { map } = place;
    const writers = [startAgent(ownRuntime), startAgent(ownRuntime)];
    for (const [i, writer] of writers.entries()) {
      await writer.run(`${joining(place.key, JSON.stringify(options))}
        const value = new Uint8Array(100_000);
        const write = () => {
          for (let i = 0; i < 20_000; i++) objects.map.set("writer ${i}", value);
          setTimeout(write);
        };
        setTimeout(write);`);
    }
    const value = new Uint8Array(100);
    // Who only tried the lock from time to time would take about 100 ms for each.
    const computed = async () => {
      for (let i = 0; i < 1000; i++) await map.getOrSet(`${i}`, () => Promise.resolve(value));
    };
    await withDeadline(computed(), "1,000 values", DEADLINE_MS);
    for (const writer of writers) await writer.kill();
  });

  describe("while a process is stopped in the middle of a change of the stripe", () => {
    const STOPPED = { ...OPTIONS, stripes: 1, lockTimeout: LOCK_MS / 2 } as const;
    /** As long as the process holds the stripe here, in ms. */
    const HELD_MS = 500;
    /** A call that blocks the event loop blocks it for all of lockTimeout. */
    const STOP_MS = 0.6 * STOPPED.lockTimeout;
    const mutexByte = stripeByte(shapeOf("test", STOPPED), 0);
    const lockingIn = async ({ key }: { readonly key: string }) => {
      const agent = startAgent(ownRuntime);
      await agent.run(`
        const memory = objects.memory = library.SharedMemory.open(${JSON.stringify(key)});
        objects.mutex = sync.Mutex.at(memory.bytes, ${mutexByte});`);
      return agent;
    };
    const LOCK = "objects.mutex.lock()";

    /** Notes the longest time in ms for which the event loop stands still. */
    function stops() {
      let longest = 0;
      let last = performance.now();
      const look = () => {
        longest = Math.max(longest, performance.now() - last);
        last = performance.now();
        return longest;
      };
      const timer = setInterval(look, 5);
      return () => (clearInterval(timer), look());
    }

    test("waits until it can compute, and the event loop goes on", {
      ...slow,
      ...linuxOnly,
    }, async () => {
      using place = openMap<unknown>(STOPPED);
      const { map } = place;
      const agent = await lockingIn(place);
      await agent.run(LOCK);
      const longest = stops();
      const computed = map.getOrSet("a", () => "value");
      const signal = AbortSignal.timeout(50);
      await assert.rejects(map.getOrSet("b", () => "value", { signal }), { name: "TimeoutError" });
      await pause(HELD_MS);
      await agent.kill();
      assert.equal(await computed, "value");
      assert.ok(longest() < STOP_MS, `the event loop stood still for ${longest()} ms`);
      assert.deepEqual([map.get("a"), map.get("b")], ["value", undefined]);
    });

    test("waits until it can store the value as it was encoded, and the event loop goes on", {
      ...slow,
      ...linuxOnly,
    }, async () => {
      const array = new Uint8Array(1); // which the codec uses again and again
      const codec = {
        encode: (value: number[]) => (array.set(value), array),
        decode: (bytes: Uint8Array) => [...bytes],
      };
      using place = openMap<number[]>({ ...STOPPED, codec });
      const { map } = place;
      const agent = await lockingIn(place);
      const { promise, resolve } = given<number[]>();
      const computed = map.getOrSet("a", () => promise);
      await agent.run(LOCK);
      const longest = stops();
      resolve([5]);
      await pause(HELD_MS);
      codec.encode([6]);
      await agent.kill();
      assert.deepEqual(await computed, [5]);
      assert.ok(longest() < STOP_MS, `the event loop stood still for ${longest()} ms`);
      assert.deepEqual(map.get("a"), [5]);
    });

    test("is Busy after lockTimeout", { ...slow, ...linuxOnly }, async () => {
      using place = openMap<unknown>({ ...STOPPED, lockTimeout: 50 });
      const { map } = place;
      const agent = await lockingIn(place);
      const { promise, resolve } = given<string>();
      const stored = map.getOrSet("a", () => promise);
      await agent.run(LOCK);
      resolve("value");
      const busy = {
        name: "SyncError",
        code: "Busy",
        message: /^SharedMap\.getOrSet: .* changing the part of the map with this key for 50 ms/,
      };
      await assert.rejects(stored, busy);
      await assert.rejects(map.getOrSet("b", () => assert.fail("is called")), busy);
      await agent.kill();
      assert.equal(await map.getOrSet("a", () => "next"), "next");
    });
  });

  test("computes nothing for a full map that evicts nothing, since it could not be stored", async () => {
    using place = openMap<unknown>({ ...OPTIONS, evict: "none" });
    const { map } = place;
    const full = { code: "Full" };
    assert.throws(() => {
      for (let i = 0;; i++) map.set(`${i}`, "x".repeat(900));
    }, full);
    for (let i = 0; i < 4000; i++) { // no stripe has room now
      try {
        map.set(`small ${i}`, i);
      } catch (error) {
        assert.equal((error as SyncError).code, "Full");
      }
    }
    const key = "new, and longer than the others".repeat(2);
    await assert.rejects(map.getOrSet(key, () => assert.fail("is called")), full);
  });

  test("calls one of several processes, without blocking the loops of the others", {
    ...slow,
    ...crewOnly,
  }, async () => {
    using place = openMap<unknown>(OPTIONS);
    const agents = startMany(3);
    await Promise.all(agents.map((agent) => agent.run(joining(place.key, SHOWN))));
    for (let round = 0; round < 10; round++) {
      const results: { value: unknown; calls: number }[] = await Promise.all(
        agents.map((agent, me) =>
          agent.run(`
            const { map } = objects;
            const turnsOf = (who) => "turns of " + who + " in ${round}";
            let calls = 0;
            const turning = setInterval(() => map.incr(turnsOf(${me})), 1);
            const value = await map.getOrSet("round ${round}", async () => {
              calls++;
              while (![0, 1, 2].every((who) => map.get(turnsOf(who)) >= 3)) {
                await new Promise((resolve) => setTimeout(resolve, 1));
              }
              return ${me};
            }, ${JSON.stringify(LONG)});
            clearInterval(turning);
            return { value, calls };`)
        ),
      );
      assert.equal(results.reduce((sum, { calls }) => sum + calls, 0), 1);
      assert.equal(new Set(results.map(({ value }) => value)).size, 1);
    }
    await endAll(agents);
  });

  test(
    "replaces a process that is killed while it computes",
    { ...slow, ...crewOnly },
    async () => {
      using place = openMap<unknown>(OPTIONS);
      const { map } = place;
      for (const runtime of runtimes) {
        const agent = startAgent(runtime);
        await agent.run(joining(place.key, SHOWN));
        await agent.run(`
        objects.map.getOrSet("${runtime.name}", () => {
          objects.map.set("begun ${runtime.name}", 1);
          return new Promise(() => setTimeout(() => {}, 1e6));
        }, ${JSON.stringify(LONG)});`);
        await until(() => map.has(`begun ${runtime.name}`), "the computation");
        let isMine = false;
        const waiting = map.getOrSet(runtime.name, () => {
          isMine = true;
          return process.pid;
        }, LONG);
        await new Promise((resolve) => setTimeout(resolve, 50));
        assert.equal(isMine, false, "waits for a computer that lives");
        await agent.kill();
        assert.equal(await withDeadline(waiting, "its turn"), process.pid);
        assert.equal(map.get(runtime.name), process.pid);
      }
    },
  );
});
