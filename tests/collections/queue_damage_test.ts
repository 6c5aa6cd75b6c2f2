/** Overwritten bytes of a queue lead to typed errors or lost jobs, never to a crash, a hang or a read outside of it. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import { type QueueJob, SyncError } from "../../collections/mod.ts";
import { LOG_BYTE, mutexesByte, tableByte } from "../../collections/queue_shape.ts";
import { Random } from "../../scripts/random.ts";
import { Mutex } from "../../sync/mod.ts";
import { logOf, openQueue } from "../support/queues.ts";
import { inTime, leaveNothingBehind } from "../support/support.ts";

const SEED = Number(process.env["MODEL_SEED"] ?? Date.now() % 2 ** 31);
const ROUNDS = 60;
const CALLS = 60;
/** How much CPU time one call may take, in ms. */
const CALL_MS = 5000;
const CODES = ["Damaged", "Full", "OutOfResources", "Closed", "Busy"];

/** The kinds of words that are written: small ones, large ones, those that look like positions and states. */
function forged(random: Random): number {
  const below = (limit: number) => Math.floor(random.number() * limit);
  const kinds = [
    () => below(16),
    () => -below(16),
    () => below(2 ** 12),
    () => below(2 ** 32) | 0,
    () => 1 << below(32),
  ];
  return kinds[below(kinds.length)]!();
}

describe("a shared queue whose bytes are overwritten", () => {
  leaveNothingBehind();

  test("answers each call with a value or a typed error, and can be used again", {
    timeout: 240_000,
  }, () => {
    const random = new Random(SEED);
    const below = (limit: number) => Math.floor(random.number() * limit);
    for (let round = 0; round < ROUNDS; round++) {
      using place = openQueue({ bytes: 12_000, members: 8, jobBytes: 64, lockTimeout: 50 });
      const { queue, memory } = place;
      const shape = logOf(queue).shape;
      const words = memory.view(Int32Array);
      const held: QueueJob<Uint8Array>[] = [];
      const calls = [
        () => queue.trySend(new Uint8Array(below(300))),
        () => queue.trySend(new Uint8Array(8), { delay: 1 + below(3), maxAttempts: 1 }),
        () => queue.receive(),
        () => {
          const job = queue.tryTake({ maxRun: below(2) === 0 ? 1 : Infinity });
          if (job !== undefined) held.push(job);
        },
        () => held.shift()?.ack(),
        () => held.shift()?.retry(below(3)),
        () => queue.failed(),
        () => queue.retryFailed(),
        () => queue.takeFailed(),
        () => queue.stats(),
      ];
      const call = () => {
        try {
          inTime(CALL_MS, `seed ${SEED}, round ${round}`, calls[below(calls.length)]!);
        } catch (error) {
          const isTyped = error instanceof SyncError && CODES.includes(error.code);
          assert.ok(isTyped, `seed ${SEED}, round ${round}: ${(error as Error).stack}`);
        }
      };
      for (let i = 0; i < CALLS; i++) call();
      // Everything but the header, the mutexes and the events, which the primitives check themselves.
      const places = [
        [LOG_BYTE, LOG_BYTE + mutexesByte(shape)],
        [LOG_BYTE + tableByte(shape), memory.byteLength],
      ] as const;
      for (let i = 0; i < CALLS; i++) {
        const [begin, end] = places[below(4) === 0 ? 1 : 0]!;
        words[(begin >> 2) + below((end - begin) >> 2)] = forged(random);
        call();
        call();
      }
      // The bytes are no longer overwritten: after a repair, or after the last error, all is as it should be.
      words[LOG_BYTE / 4 + 29] = 1;
      for (let i = 0; i < 3; i++) {
        try {
          queue.stats();
        } catch {
          // It was emptied.
        }
      }
      if (queue.isClosed) continue;
      for (const job of held) {
        try {
          job.ack();
        } catch {
          // It is not there any more.
        }
      }
      while (queue.receive() !== undefined);
      queue.clearFailed();
      assert.equal(queue.trySend(Uint8Array.of(7)), true, `seed ${SEED}, round ${round}`);
      const { ready, sent, acked, received, cleared, dropped, running, delayed } = queue.stats();
      assert.equal(ready, 1);
      assert.equal(
        sent,
        acked + received + cleared + dropped + ready + running + delayed,
        `seed ${SEED}, round ${round}`,
      );
      assert.deepEqual(queue.receive(), Uint8Array.of(7));
    }
  });

  test("lets nobody wait for a member whose mutex was overwritten", async () => {
    using place = openQueue({ bytes: 12_000, members: 8 });
    const { queue, memory } = place;
    queue.send(Uint8Array.of(7));
    const begin = LOG_BYTE + mutexesByte(logOf(queue).shape);
    const mutexes = memory.bytes.subarray(begin, begin + 8 * Mutex.BYTES);
    mutexes.subarray(Mutex.BYTES).fill(0xff);
    const [first, ...others] = [queue, place.join(), place.join()];
    using job = first.tryTake(); // the one mutex that is left
    assert.ok(job !== undefined);
    for (const other of others) {
      other.send(Uint8Array.of(8));
      assert.throws(() => other.tryTake(), { code: "OutOfResources" });
    }
    mutexes.fill(0xff);
    for (const other of others) {
      assert.throws(() => other.tryTake(), { code: "Damaged" });
      await assert.rejects(other.take(), { code: "Damaged" });
      await assert.rejects(other.work({}, () => {}), { code: "Damaged" });
    }
    queue.receive(); // it needs no member
  });
});
