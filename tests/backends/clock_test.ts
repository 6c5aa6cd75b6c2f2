/** All processes read the same monotonic clock, whatever their engine measures. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { MonotonicClock, sharedClock } from "../../backends/clock.ts";
import { joining, openMap } from "../support/maps.ts";
import { crewOnly, endAll, leaveNothingBehind, slow, startMany } from "../support/support.ts";

const AHEAD_MS = 5000;
const INTERRUPTED_MS = 30;

function spin(ms: number): void {
  const until = performance.now() + ms;
  while (performance.now() < until);
}

/** A system clock whose reads are interrupted, before or after the moment that they return. */
function interrupted(isBefore: boolean, isInterrupted: () => boolean) {
  return new MonotonicClock({
    scope: 0,
    read() {
      const isLong = isInterrupted();
      if (isLong && isBefore) spin(INTERRUPTED_MS);
      const time = performance.now() + AHEAD_MS;
      if (isLong && !isBefore) spin(INTERRUPTED_MS);
      return time;
    },
  });
}

describe("the monotonic clock", () => {
  leaveNothingBehind();

  test("is read from the system once a second, and is right in between", () => {
    const { now } = performance;
    let [engine, system, reads] = [100, 5_000_000, 0];
    try {
      performance.now = () => engine;
      const clock = new MonotonicClock({
        scope: 7,
        read() {
          reads++;
          return system;
        },
      });
      const pass = (ms: number, systemMs = ms) => {
        engine += ms;
        system += systemMs;
      };
      assert.deepEqual([clock.now(), clock.scope, reads], [5_000_000, 7, 1]);
      pass(999);
      assert.deepEqual([clock.now(), reads], [5_000_999, 1]);
      pass(1, 501); // the clocks differ, as after a sleep
      assert.deepEqual([clock.now(), reads], [5_001_500, 2]);
      pass(-2000, 10); // a test has replaced the clock of the engine
      assert.deepEqual([clock.now(), reads], [5_001_510, 3]);
    } finally {
      performance.now = now;
    }
  });

  test("goes as the clock of the engine goes", async () => {
    const clock = sharedClock();
    // The difference of the clocks lies between these two numbers, however long the process stands still between its reads.
    const difference = (
      before: number,
      time: number,
      after: number,
    ) => [time - after, time - before];
    const [least, most] = difference(performance.now(), clock.now(), performance.now());
    const end = performance.now() + 1200;
    for (let last = clock.now(); performance.now() < end;) {
      const before = performance.now();
      const time = clock.now();
      assert.ok(time >= last - 1, "it does not go back");
      const [low, high] = difference(before, time, performance.now());
      assert.ok(low! < most! + 50 && high! > least! - 50, `${[low, high]}, and ${[least, most]}`);
      last = time;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  });

  test("is the same in processes of all runtimes", { ...slow, ...crewOnly }, async () => {
    using place = openMap<number>({ bytes: 16_384 });
    const { map } = place;
    const agents = startMany();
    for (const agent of agents) {
      await agent.run(joining(place.key, "{ bytes: 16_384 }"));
      map.set("mine", 1, { ttl: 100_000 });
      const theirs: number = await agent.run(`
        objects.map.set("theirs", 1, { ttl: 100_000 });
        return objects.map.ttl("mine");`);
      const left = map.ttl("theirs")!;
      const mine = map.ttl("mine")!; // it is older than the other one, and read last
      assert.ok(theirs <= 100_001 && theirs >= mine - 1, `${theirs} and later ${mine}`);
      assert.ok(left <= 100_001 && left >= mine - 1, `${left} and ${mine}`);
    }
    await endAll(agents);
  });

  test("is right even if the process is interrupted while it reads the system's", () => {
    for (const isBefore of [true, false]) {
      let reads = 0;
      const clock = interrupted(isBefore, () => reads++ === 0);
      const before = performance.now() + AHEAD_MS;
      const time = clock.now();
      const after = performance.now() + AHEAD_MS;
      assert.ok(time > before - 1 && time < after + 1, `${time} is not in ${before} to ${after}`);
      assert.ok(reads > 1);
    }
  });

  test("ends its reads if all of them are interrupted", () => {
    let reads = 0;
    const clock = interrupted(true, () => ++reads > 0);
    clock.now();
    assert.ok(reads <= 20);
    const before = performance.now() + AHEAD_MS - 2 * INTERRUPTED_MS;
    const time = clock.now();
    const after = performance.now() + AHEAD_MS + 2 * INTERRUPTED_MS;
    assert.ok(time > before && time < after, `${time} is not in ${before} to ${after}`);
  });
});
