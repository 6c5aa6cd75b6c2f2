/** Calls that wait for a change, and find another process at work in the meantime. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { WaitLine } from "../../collections/wait_line.ts";
import { SharedMemory } from "../../mod.ts";
import { SyncError } from "../../sync/errors.ts";
import { Event } from "../../sync/mod.ts";
import { DEADLINE_MS, leaveNothingBehind, uniqueKey } from "../support/support.ts";
import { Slot } from "../../sync/slot.ts";

describe("a line of calls that wait", () => {
  leaveNothingBehind();

  /** A line whose calls look again after so long that the test fails, unless there is a reason. */
  function lineIn(memory: SharedMemory): WaitLine {
    return new WaitLine({
      event: Event.create(memory.bytes),
      attachment: new Slot("test", memory.bytes, 0, Event.ALIGNMENT).attachment,
      pause: () => 10 * DEADLINE_MS,
      detached: () => new Error("detached"),
    });
  }

  /** An attempt that finds the lock held a few times, and then succeeds. */
  function busyAttempt(): () => boolean {
    let left = 3;
    return () => {
      if (left-- > 0) throw new SyncError("Busy", "another process has the lock");
      return true;
    };
  }

  test("looks again soon if another process held the lock, not after the usual pause", async () => {
    using memory = SharedMemory.open(uniqueKey(), { size: Event.BYTES });
    const line = lineIn(memory);
    const begin = performance.now();
    assert.equal(line.block(5 * DEADLINE_MS, busyAttempt()), true);
    const wait = { timeout: 5 * DEADLINE_MS, signal: undefined, ref: true };
    assert.equal(await line.wait(busyAttempt(), wait), true);
    assert.ok(performance.now() - begin < DEADLINE_MS);
  });

  test("throws Busy only when the time is over, and what else is thrown at once", () => {
    using memory = SharedMemory.open(uniqueKey(), { size: Event.BYTES });
    const line = lineIn(memory);
    const busy = new SyncError("Busy", "another process has the lock");
    let attempts = 0;
    const isBusy = () => {
      attempts++;
      throw busy;
    };
    const begin = performance.now();
    assert.throws(() => line.block(250, isBusy), busy);
    assert.ok(performance.now() - begin >= 249 && attempts < 10, `${attempts} attempts`);
    const wrong = new RangeError("wrong");
    assert.throws(() => {
      line.block(DEADLINE_MS, () => {
        throw wrong;
      });
    }, wrong);
    assert.equal(line.block(1, () => false), false);
  });
});
