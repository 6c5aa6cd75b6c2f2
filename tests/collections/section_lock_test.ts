/** The lock of a section does not outlive a call, wherever code is stopped. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import vm from "node:vm";
import { type MapCore, sectionOf } from "../../collections/map_core.ts";
import type { MapStripe } from "../../collections/map_stripe.ts";
import { SectionLock, type SectionMutex } from "../../collections/section_lock.ts";
import { openMap } from "../support/maps.ts";
import { leaveNothingBehind, ownRuntime } from "../support/support.ts";

/** A mutex in which code is stopped, once, as by a timeout of `node:vm`. */
class StoppedMutex implements SectionMutex {
  isHeld = false;
  readonly wasAbandoned = false;
  stopAt: "after locking" | "before unlocking" | "after unlocking" | null = null;

  tryLock(): boolean {
    if (this.isHeld) return false;
    this.isHeld = true;
    this.#stop("after locking");
    return true;
  }

  unlock(): void {
    this.#stop("before unlocking");
    if (!this.isHeld) throw new Error("it is not held");
    this.isHeld = false;
    this.#stop("after unlocking");
  }

  #stop(at: StoppedMutex["stopAt"]): void {
    if (this.stopAt !== at) return;
    this.stopAt = null;
    throw new Error("stopped");
  }
}

function stripeOf(map: unknown): MapStripe {
  return (map as { core: MapCore }).core.stripes[0]!;
}

describe("the lock of a section", () => {
  leaveNothingBehind();

  for (const at of ["after locking", "before unlocking", "after unlocking"] as const) {
    test(`is free again for the next call if code is stopped ${at}`, () => {
      using place = openMap({ bytes: 2 ** 15, stripes: 1 });
      const mutex = new StoppedMutex();
      const lock = new SectionLock(sectionOf(stripeOf(place.map), "SharedMap"), mutex);
      mutex.stopAt = at;
      assert.throws(() => lock.change("test", 10, () => 1), /stopped/);
      assert.equal(lock.change("test", 10, () => 2), 2);
      assert.equal(mutex.isHeld, false);
    });
  }

  test("is free again wherever a timeout of node:vm stops a change", {
    skip: ownRuntime.name === "node" ? false : "only Node ends code in the middle of a loop",
  }, () => {
    using place = openMap({ bytes: 2 ** 15, stripes: 1, lockTimeout: 50 });
    const { map } = place;
    Object.assign(globalThis, { mapOfTest: map });
    try {
      const endless = new vm.Script('for (;;) mapOfTest.incr("n");');
      for (let i = 0; i < 300; i++) {
        assert.throws(() => endless.runInThisContext({ timeout: 1 }), /timed out/);
        map.incr("n");
      }
    } finally {
      Reflect.deleteProperty(globalThis, "mapOfTest");
    }
    // In Windows nearly all of the time of a change goes into two calls of the kernel.
    assert.ok(map.stats().recovered > 0 || process.platform === "win32");
  });
});
