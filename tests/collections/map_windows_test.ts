/** What a shared map takes of Windows, whose mutexes are objects of the kernel. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import { COMPUTERS } from "../../collections/map_shape.ts";
import { openMap } from "../support/maps.ts";
import { leaveNothingBehind } from "../support/support.ts";
import { objectNames } from "../support/windows_objects.ts";

/** The number of mutexes that the processes of this session have open; Wine does not count the handles. */
function openMutexes(): number {
  return objectNames().filter((name) => name.startsWith("shared-memory-mutex-")).length;
}

describe("a shared map on Windows", {
  skip: process.platform === "win32" ? false : "about objects of Windows",
}, () => {
  leaveNothingBehind();

  test("takes a mutex of the kernel for each stripe, and 16 for getOrSet(), until it is detached", async () => {
    const before = openMutexes();
    for (const stripes of [1, 200]) {
      {
        using place = openMap({ bytes: 2 ** 21, stripes });
        const opened = openMutexes() - before - COMPUTERS;
        assert.ok(opened >= stripes && opened <= 2 * stripes, `${opened} for ${stripes}`);
        const again = place.join(); // each thread opens them once
        again.set("a", Uint8Array.of(1));
        await again.getOrSet("b", () => Uint8Array.of(2));
        assert.equal(openMutexes() - before - COMPUTERS, opened);
      }
      assert.equal(openMutexes(), before);
    }
  });
});
