/** No sequence of calls, and nothing that is written over the primitives, ends the process or hangs. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import { AccessMode, SharedMemory } from "../../mod.ts";
import { Random } from "../../scripts/random.ts";
import {
  Counter,
  CounterBlock,
  Event,
  Gauge,
  Mutex,
  RecordSnapshot,
  Snapshot,
  SyncError,
} from "../../sync/mod.ts";
import { leaveNothingBehind, slow, uniqueKey, withDeadline } from "../support/support.ts";

/** The same numbers again with `SEED=…`; the message of every assertion has it. */
const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 32);
const CALLS = 6000;
const BYTES = 1024;
/** The most primitives at a time. */
const COUNT = 16;

const layout = { a: "u32", b: "text:5" } as const;

type Primitive =
  | Counter
  | CounterBlock
  | Event
  | Gauge
  | Mutex
  | RecordSnapshot<typeof layout>
  | Snapshot;

type Maker = (view: ArrayBufferView, byteOffset: number) => Primitive;

const makers: readonly Maker[] = [
  Counter.create,
  Counter.at,
  Gauge.create,
  Gauge.at,
  Event.create,
  Event.at,
  (view, offset) => CounterBlock.create(view, offset, 3),
  CounterBlock.at,
  (view, offset) => Snapshot.create(view, offset, 20),
  Snapshot.at,
  (view, offset) => RecordSnapshot.create(view, offset, layout),
  (view, offset) => RecordSnapshot.at(view, offset, layout),
  // Mutexes are what can do harm.
  ...[1, 2, 3].flatMap((): Maker[] => [Mutex.create, Mutex.at]),
];

describe("any sequence of calls on primitives", () => {
  leaveNothingBehind();

  test("fails with a clear error, or succeeds", slow, async () => {
    const random = new Random(seed);
    const keys = [uniqueKey("sync"), uniqueKey("sync")];
    const memories = [0, 1, 2, 3].map((i) => new SharedMemory(keys[i % 2]!));
    const reader = new SharedMemory(keys[0]!);
    const primitives: Primitive[] = [];
    const waits: Promise<unknown>[] = [];
    const copies: Uint8Array[] = [];
    const counts = { succeeded: 0, failed: 0 };
    const randomBytes = (length: number) =>
      Uint8Array.from({ length }, () => random.oneOf([0, 0, 1, 255, random.below(256)]));

    function overwrite(memory: SharedMemory): void {
      const data = memory.data();
      if (data === null || data.length === 0) return;
      const begin = 64 * random.below(BYTES / 64);
      const length = random.oneOf([4, 16, 40, 64]);
      const part = data.subarray(begin + random.oneOf([0, 0, 4, 16, 24, 32, 40]));
      const target = part.subarray(0, length);
      random.oneOf([
        () => target.fill(0),
        () => target.fill(random.below(256)),
        () => target.set(randomBytes(target.length)),
        () => copies.push(data.slice(begin, begin + 64)),
        () => data.set(copies[random.below(copies.length)] ?? new Uint8Array(64), begin),
        () => data.subarray(0, BYTES).fill(0),
      ])();
    }

    function useMutex(mutex: Mutex): unknown {
      const options = { timeout: random.below(4), signal: AbortSignal.timeout(random.below(6)) };
      return random.oneOf<() => unknown>([
        () => mutex.tryLock(),
        () => mutex.tryLock(),
        () => mutex.tryLock(1),
        () => mutex.unlock(),
        () => mutex.unlock(),
        () => mutex.lockAsync(options).then((isTaken) => isTaken && mutex.unlock()),
        () => mutex.withLockAsync(() => random.oneOf(memories).detach(), options),
        () => mutex.tryLock() && random.oneOf(memories).detach(),
        () => [mutex.isHeld, mutex.wasAbandoned],
      ])();
    }

    function use(primitive: Primitive): unknown {
      if (primitive instanceof Mutex) return useMutex(primitive);
      if (primitive instanceof Counter) {
        return random.oneOf([
          () => primitive.add(random.below(9)),
          () => primitive.get(),
          () => primitive.exchange(3),
          () => primitive.compareExchange(3, 4),
        ])();
      }
      if (primitive instanceof Gauge) return random.oneOf([primitive.get(), primitive.add(1)]);
      if (primitive instanceof Event) {
        return random.oneOf<() => unknown>([
          () => primitive.wait(1),
          () => primitive.waitAsync({ timeout: random.below(5) }),
          () => primitive.waitUntilAsync(() => false, { timeout: random.below(5) }),
          () => primitive.notify(),
          () => primitive.notifyAll(),
        ])();
      }
      if (primitive instanceof CounterBlock) {
        return random.oneOf<() => unknown>([
          () => primitive.values(),
          () => primitive.counter(random.oneOf(["a", "b", "c", "d"])).add(),
          () => primitive.gauge(random.oneOf(["b", "e"])).add(0.5),
        ])();
      }
      if (primitive instanceof Snapshot) {
        return random.oneOf<() => unknown>([
          () => primitive.read(),
          () => primitive.publish(new Uint8Array(primitive.recordBytes)),
        ])();
      }
      return random.oneOf<() => unknown>([
        () => primitive.read(),
        () => primitive.publish({ a: 1, b: "x" }),
      ])();
    }

    const calls = [
      [30, () => use(random.oneOf(primitives))],
      [14, () => {
        const memory = random.oneOf(memories);
        const offset = 64 * random.below(BYTES / 64 + 1);
        const view = (random.chance(0.02) ? reader : memory).data() ?? new Uint8Array(8);
        const made = random.oneOf(makers)(view, offset);
        if (primitives.length < COUNT) primitives.push(made);
        else primitives[random.below(COUNT)] = made;
      }],
      [8, () => overwrite(random.oneOf(memories))],
      [2, () => void random.oneOf(memories).detach()],
      [0.3, () => {
        const data = random.oneOf(memories).data();
        if (data !== null && data.length > 0) (data.buffer as ArrayBuffer).transfer();
      }],
      [0.5, () => reader.attach(AccessMode.ReadOnly) || reader.detach()],
      [1, () => new Promise((resolve) => setTimeout(resolve, 1))],
    ] as const;

    for (let n = 0; n < CALLS; n++) {
      for (const memory of memories) {
        if (!memory.isAttached() && random.chance(0.2)) memory.createOrAttach(BYTES);
      }
      if (primitives.length === 0) primitives.push(...firstOf(memories));
      if (primitives.length === 0) continue;
      try {
        const result: unknown = random.weighted<() => unknown>(calls)();
        if (result instanceof Promise) waits.push(result.catch((error) => check(error, n)));
        counts.succeeded++;
      } catch (error) {
        check(error, n);
        counts.failed++;
      }
      if (n % 50 === 0) await withDeadline(Promise.all(waits.splice(0)), `SEED=${seed}: the waits`);
    }
    await withDeadline(Promise.all(waits), `SEED=${seed}: the waits`);
    for (const memory of [...memories, reader]) memory[Symbol.dispose]();
    assert.ok(counts.succeeded > CALLS / 20, `SEED=${seed}: ${JSON.stringify(counts)}`);
    assert.ok(counts.failed > CALLS / 100, `SEED=${seed}: ${JSON.stringify(counts)}`);
    // The list of what this thread holds is in order, and empty.
    using memory = new SharedMemory(uniqueKey("sync"));
    assert.equal(memory.create(BYTES), true, memory.errorString());
    const mutexes = [0, 64, 128].map((offset) => Mutex.create(memory.view(Uint8Array), offset));
    for (const mutex of mutexes) mutex.lock();
    for (const mutex of mutexes) mutex.unlock();
  });
});

/** Something to begin with. */
function firstOf(memories: readonly SharedMemory[]): Primitive[] {
  for (const memory of memories) {
    const data = memory.data();
    if (data === null || data.length < BYTES) continue;
    data.fill(0);
    return [Mutex.create(data), Event.create(data, 64)];
  }
  return [];
}

/** What may be thrown. */
function check(error: unknown, n: number): void {
  const isClear = error instanceof SyncError ||
    error instanceof RangeError ||
    (error as Error)?.name === "SharedMemoryException" ||
    (error as Error)?.name === "TimeoutError";
  if (!isClear) throw new Error(`SEED=${seed}, call ${n}: ${error}`, { cause: error });
}
