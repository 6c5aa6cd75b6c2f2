/** A map that does not evict is full only if there is no room, however its entries lie. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { MapCore } from "../../collections/map_core.ts";
import { PART, RECORD_UNITS } from "../../collections/map_record.ts";
import { RESERVE, SPARE } from "../../collections/map_room.ts";
import { UNIT_BYTES } from "../../collections/ring_log.ts";
import { SyncError } from "../../sync/errors.ts";
import { Random } from "../../scripts/random.ts";
import { openMap } from "../support/maps.ts";
import { leaveNothingBehind } from "../support/support.ts";

const SEED = Number(process.env["MODEL_SEED"] ?? Date.now() % 2 ** 31);
/** The size of a record without its value. */
const OTHER = RECORD_UNITS + 1;

describe("a shared map that does not evict", () => {
  leaveNothingBehind();

  test("is full only if its entries and three times the largest one leave no room", () => {
    const random = new Random(SEED);
    let full = 0;
    for (let round = 0; round < 100; round++) {
      using place = openMap({ bytes: 20_000, stripes: 1, entryBytes: 512, evict: "none" });
      const { map } = place;
      const { units } = (map as unknown as { core: MapCore }).core.stripes[0]!;
      const sizes = new Map<string, number>();
      const keys = 3 + random.below(12);
      const most = 1 + random.below(units / PART - OTHER);
      let largest = 0; // of all that were there: the map may look anew, or not
      for (let step = 0; step < 300; step++) {
        const key = `k${random.below(keys)}`;
        if (random.chance(0.15)) {
          map.delete(key);
          sizes.delete(key);
          continue;
        }
        const length = random.chance(0.5) ? most : random.below(most + 1);
        const size = OTHER + length;
        try {
          map.set(key, new Uint8Array(length * UNIT_BYTES));
          sizes.set(key, size);
          largest = Math.max(largest, size);
        } catch (error) {
          assert.ok(error instanceof SyncError && error.code === "Full", `MODEL_SEED=${SEED}`);
          full++;
          const others = [...sizes].reduce(
            (sum, [other, one]) => other === key ? sum : sum + one,
            0,
          );
          const spare = Math.max(
            SPARE * Math.max(largest, size),
            sizes.has(key) ? 0 : RESERVE * units,
          );
          const text =
            `MODEL_SEED=${SEED}, round ${round}, step ${step}: ${others} + ${size}, ${spare}`;
          assert.ok(others + size + spare > units, text);
        }
      }
    }
    assert.ok(full > 100, `${full}`);
  });
});
