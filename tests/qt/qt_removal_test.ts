/** The last one out removes a segment, whoever that is: real Qt or one of ours. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { describe, test } from "node:test";
import { pairs, startAttached } from "../support/qt_pairs.ts";
import {
  leaveNothingBehind,
  segmentFile,
  semaphoreFile,
  systemVOnly,
  uniqueKey,
} from "../support/support.ts";
import { segmentRow, watchObjects } from "../support/systemv_tables.ts";

describe("the last one out of Qt and ours", systemVOnly, () => {
  leaveNothingBehind();

  for (const pair of pairs) {
    const { first, second, options } = pair;

    for (const last of first.isQt ? [first, second] : [second, first]) {
      const leaver = last === first ? second : first;
      const name =
        `${last.name} leaves a segment of ${first.name} after ${leaver.name} and removes it`;
      test(name, options, async () => {
        const key = uniqueKey();
        const [creator, joiner] = await startAttached(pair, key);
        const [early, late] = last === first ? [joiner, creator] : [creator, joiner];
        const left = watchObjects(key);
        await creator.request("write", "m", 0, [5]);
        assert.equal(await early.end(), 0);
        assert.equal(segmentRow(key)["nattch"], "1");
        assert.deepEqual(await late.request("read", "m", 0, 1), [5]);
        assert.equal(await late.end(), 0);
        assert.equal(existsSync(segmentFile(key)), false);
        assert.equal(existsSync(semaphoreFile(key)), false);
        assert.deepEqual(left(), []);
      });
    }
  }
});
