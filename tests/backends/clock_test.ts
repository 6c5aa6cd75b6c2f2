/** The clock that all processes read alike. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { MonotonicClock } from "../../backends/clock.ts";

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
    const error = clock.now() - performance.now() - AHEAD_MS;
    assert.ok(Math.abs(error) < 2 * INTERRUPTED_MS, `${error}`);
    assert.ok(reads <= 20);
  });
});
