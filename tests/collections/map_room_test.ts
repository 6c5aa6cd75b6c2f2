/** A map that does not evict is full only if there is no room, however its entries lie. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { MapCore } from "../../collections/map_core.ts";
import { PART, RECORD_UNITS } from "../../collections/map_record.ts";
import { RESERVE, SPARE } from "../../collections/map_room.ts";
import { UNIT_BYTES } from "../../collections/ring_log.ts";
import { SyncError } from "../../sync/errors.ts";
import { Random } from "../../scripts/random.ts";
import { openMap, withClock } from "../support/maps.ts";
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

  test("does not look at all its entries for each change while one after the other expires", () => {
    /** A clock by which each look at an entry takes a microsecond. */
    const clock = {
      scope: 1,
      time: 1e6,
      looks: 0,
      now() {
        this.looks++;
        return this.time += 0.001;
      },
    };
    withClock(clock, () => {
      using place = openMap({ bytes: 2 ** 17, stripes: 1, evict: "none" });
      const { map } = place;
      let key = 0;
      let [stored, full] = [0, 0];
      const add = (ttl: number) => {
        try {
          map.incr(`${key++}`, 1, { ttl });
          stored++;
        } catch (error) {
          assert.equal((error as SyncError).code, "Full");
          full++;
        }
      };
      while (full === 0) add(100 + 2 * key); // so that one expires in each 2 ms
      const entries = stored;
      assert.ok(entries > 1000);
      [stored, full, clock.looks] = [0, 0, 0];
      for (const end = clock.time + 1000; clock.time < end; clock.time++) add(2 * entries);
      assert.ok(stored > 300, `only ${stored} of the 450 that expired made room for others`);
      const mean = clock.looks / (stored + full);
      assert.ok(mean < entries / 10, `a change looks at ${mean} of ${entries} entries`);
    });
  });

  test("finds what has expired, although a process was stopped for an hour while it looked", () => {
    const HOUR = 3_600_000;
    const clock = {
      scope: 1,
      time: 1e6,
      looks: 0,
      now() {
        if (this.looks > 0 && new Error().stack!.includes("recount") && --this.looks === 0) {
          this.time += HOUR;
        }
        return this.time;
      },
    };
    withClock(clock, () => {
      using place = openMap({ bytes: 2 ** 14, stripes: 1, evict: "none" });
      const { map } = place;
      let key = 0;
      const fill = (ttlOf: (key: number) => number) =>
        assert.throws(() => {
          for (;;) map.incr(`${key}`, 1, { ttl: ttlOf(key++) });
        }, { code: "Full" });
      fill((key) => (key % 2 === 0 ? 1 : 3) * HOUR);
      clock.time += HOUR + 1; // every second one has expired
      clock.looks = 10;
      fill(() => Infinity);
      assert.equal(clock.looks, 0);
      clock.time += 3 * HOUR; // all of the first ones have expired
      map.incr("one more", 1);
    });
  });
});
