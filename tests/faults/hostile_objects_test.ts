/** Objects that lie: views whose properties say something else than the engine knows, options that change. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type OpenOptions, SharedMemory, type ViewConstructor } from "../../mod.ts";
import {
  Counter,
  CounterBlock,
  Event,
  Gauge,
  Mutex,
  RecordSnapshot,
  Snapshot,
} from "../../sync/mod.ts";
import { created, SEGMENT_BYTES } from "../support/sync_places.ts";
import { leaveNothingBehind, uniqueKey } from "../support/support.ts";

const layout = { n: "u32" } as const;
const makers: Readonly<Record<string, (view: ArrayBufferView, offset: number) => unknown>> = {
  "Mutex.create": Mutex.create,
  "Mutex.at": Mutex.at,
  "Event.create": Event.create,
  "Event.at": Event.at,
  "Counter.create": Counter.create,
  "Gauge.create": Gauge.create,
  "CounterBlock.create": (view, offset) => CounterBlock.create(view, offset, 4),
  "Snapshot.create": (view, offset) => Snapshot.create(view, offset, 8),
  "Snapshot.at": Snapshot.at,
  "RecordSnapshot.create": (view, offset) => RecordSnapshot.create(view, offset, layout),
};

const FAR = 2 ** 25;

/** Own properties of a view that say something else. */
function lying<View extends ArrayBufferView>(
  view: View,
  lies: Readonly<Record<string, unknown>>,
): View {
  for (const [name, value] of Object.entries(lies)) {
    Object.defineProperty(view, name, { get: () => value });
  }
  return view;
}

/** A view of the segment whose class has the lie. */
class Liar extends Uint8Array<ArrayBuffer> {
  override get byteLength(): number {
    return FAR * 4;
  }
  override get length(): number {
    return FAR * 4;
  }
  override subarray(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(FAR * 2);
  }
}

describe("a view that lies", () => {
  leaveNothingBehind();

  for (const [call, make] of Object.entries(makers)) {
    test(`does not lead ${call} out of the segment`, () => {
      using memory = created();
      const segment = memory.data()!.buffer as ArrayBuffer;
      const ends = { byteLength: FAR * 4, length: FAR * 4 };
      const views: ArrayBufferView[] = [
        lying(new Uint8Array(segment), ends),
        lying(new Uint8Array(segment), { ...ends, byteOffset: -FAR + 64 }),
        lying(new DataView(segment), ends),
        lying(new Float64Array(segment, 64), ends),
        new Liar(segment),
      ];
      for (const view of views) {
        for (const offset of [FAR, SEGMENT_BYTES, SEGMENT_BYTES - 8]) {
          assert.throws(() => make(view, offset), RangeError);
        }
      }
      const outside = [
        lying(new Uint8Array(64), { ...ends, buffer: segment }),
        lying(new Uint8Array(64), { buffer: segment, byteOffset: 8, byteLength: 4096 }),
        lying(new DataView(new ArrayBuffer(64)), { ...ends, buffer: segment }),
      ];
      for (const view of outside) {
        for (const offset of [0, FAR]) {
          assert.throws(() => make(view, offset), { name: "SyncError", code: "NotAttached" });
        }
      }
      const proxy = new Proxy(new Uint8Array(segment), {
        get: (target, name) => name === "buffer" ? segment : Reflect.get(target, name),
      });
      assert.throws(() => make(proxy, FAR), TypeError);
      assert.equal(memory.data()!.every((byte) => byte === 0), true);
    });
  }

  test("that tells the truth about its end is used as any other", () => {
    using memory = created();
    const view = lying(memory.view(Uint8Array), { byteOffset: 8, byteLength: 1, buffer: null });
    assert.equal(Counter.create(view, 64).add(2), 0n);
    assert.equal(memory.view(BigInt64Array, 64 + 16, 1)[0], 2n);
  });

  test("gets no byte from outside of a record, and no torn one to others", () => {
    using memory = created();
    const snapshot = Snapshot.create(memory.view(Uint8Array), 0, 8);
    snapshot.publish(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
    const short = lying(new Uint8Array(4), { length: 8 });
    const long = lying(new Uint8Array(100), { length: 8 });
    for (const bad of [short, long]) {
      for (const act of [() => snapshot.read(bad), () => snapshot.publish(bad)]) {
        try {
          act();
        } catch (error) {
          assert.ok(error instanceof RangeError, String(error));
        }
      }
    }
    const proxy = new Proxy(new Uint8Array(8), {});
    assert.throws(() => snapshot.read(proxy), TypeError);
    assert.throws(() => snapshot.publish(proxy), TypeError);
    assert.equal(memory.data()!.subarray(48).every((byte) => byte === 0), true);
  });
});

describe("view()", () => {
  leaveNothingBehind();

  test("gives a constructor that lies no more than the segment", () => {
    using memory = created();
    let kept: ArrayBuffer | undefined;
    let count = 0;
    const constructor = (bytes: unknown) =>
      class {
        static get BYTES_PER_ELEMENT() {
          count++;
          return bytes as number;
        }
        readonly view: Uint8Array;
        constructor(buffer: ArrayBuffer, byteOffset?: number, length?: number) {
          kept = buffer;
          this.view = new Uint8Array(buffer, byteOffset, length);
        }
      };
    for (const bad of [0, -1, 0.5, NaN, Infinity, "8", 8n, null]) {
      const Type = constructor(bad) as unknown as ViewConstructor<unknown>;
      if (bad === null) memory.view(Type); // has none
      else assert.throws(() => memory.view(Type), TypeError, String(bad));
    }
    count = 0;
    memory.view(constructor(2));
    assert.equal(count, 1);
    assert.throws(() => memory.view(constructor(2 ** 40), 0, 2), RangeError);
    assert.equal(kept!.byteLength, SEGMENT_BYTES);
    memory.detach();
    assert.equal(kept!.byteLength, 0);
  });

  test("says that it is not attached if the constructor detaches first", () => {
    using memory = created();
    const { byteLength } = memory.data()!;
    class Detaching extends Uint8Array<ArrayBuffer> {
      static override get BYTES_PER_ELEMENT(): 1 {
        memory.detach();
        return 1;
      }
    }
    assert.throws(() => memory.view(Detaching as unknown as ViewConstructor<Uint8Array>), {
      name: "SharedMemoryException",
      reason: "NotAttached",
    });
    assert.equal(memory.create(byteLength), true, memory.errorString());
    const proxy = new Proxy(Uint8Array, {
      construct(target, args) {
        memory.detach();
        return Reflect.construct(target, args);
      },
    });
    assert.throws(() => memory.view(proxy as ViewConstructor<Uint8Array>), TypeError); // the engine's, as it called
    assert.equal(memory.isAttached(), false);
  });
});

/** Options of which each may be read once: a second look detaches, and then throws. */
function once<Options extends object>(options: Options, more: () => void): Options {
  const reads = new Map<string, number>();
  const result = {} as Options;
  for (const [name, value] of Object.entries(options)) {
    Object.defineProperty(result, name, {
      enumerable: true,
      get() {
        reads.set(name, (reads.get(name) ?? 0) + 1);
        if (reads.get(name)! > 1) {
          more();
          throw new Error(`${name} was read again`);
        }
        return value;
      },
    });
  }
  return result;
}

describe("options", () => {
  leaveNothingBehind();

  test("of SharedMemory are read once", async () => {
    using memory = created();
    using other = new SharedMemory(memory.key());
    assert.equal(other.attach(), true, other.errorString());
    const detach = () => void memory.detach();
    for (const held of [false, true]) {
      const { signal } = new AbortController();
      const wait = () => once({ timeout: held ? 50 : 10_000, signal }, detach);
      if (held) assert.equal(other.lock(), true, other.errorString());
      assert.equal(await memory.lockAsync(wait()), !held, memory.errorString());
      if (!held) memory.unlock();
      const result = memory.withLockAsync(() => 1, wait());
      if (held) await assert.rejects(result, { reason: "Timeout" });
      else assert.equal(await result, 1);
      assert.equal(memory.isAttached(), true);
    }
    assert.equal(other.unlock() && memory.tryLock() && memory.unlock(), true);
    const options: OpenOptions = {
      size: 64,
      mode: 1,
      disposition: "create",
      stale: "keep",
      timeout: 100,
      permissions: 0o600,
      initialize: (bytes) => bytes.fill(1),
    };
    using opened = SharedMemory.open(uniqueKey(), once(options, detach));
    assert.equal(opened.data()![63], 1);
  });

  test("of a signal that is aborted by a getter that throws or detaches release the lock", async () => {
    using memory = created();
    using other = new SharedMemory(memory.key());
    assert.equal(other.attach(), true, other.errorString());
    for (const detaches of [false, true]) {
      let looks = 0;
      const signal = {
        addEventListener() {},
        removeEventListener() {},
        throwIfAborted() {
          if (++looks === 1) return;
          if (detaches) memory.detach();
          else throw new Error("on a second look");
        },
      } as unknown as AbortSignal;
      if (detaches) assert.equal(await memory.lockAsync({ signal }), false);
      else await assert.rejects(memory.lockAsync({ signal }), { message: "on a second look" });
      assert.equal(other.tryLock() && other.unlock(), true, other.errorString());
    }
  });

  test("of the primitives are read once", async () => {
    using memory = created();
    const detach = () => void memory.detach();
    const mutex = Mutex.create(memory.view(Uint8Array), 0);
    const other = Mutex.at(memory.view(Uint8Array), 0);
    const event = Event.create(memory.view(Uint8Array), 64);
    const { signal } = new AbortController();
    for (const held of [false, true]) {
      const wait = () => once({ timeout: held ? 50 : 10_000, signal }, detach);
      if (held) other.lock();
      assert.equal(await mutex.lockAsync(wait()), !held);
      if (!held) mutex.unlock();
      const result = mutex.withLockAsync(() => 1, wait());
      if (held) await assert.rejects(result, { code: "Timeout" });
      else assert.equal(await result, 1);
    }
    other.unlock();
    assert.equal(
      await event.waitAsync(once({ timeout: 5, signal, since: event.sequence }, detach)),
      false,
    );
    assert.equal(
      await event.waitUntilAsync(() => false, once({ timeout: 5, signal }, detach)),
      false,
    );
    assert.equal(memory.isAttached(), true);
  });

  test("that a condition aborts end the wait", async () => {
    using memory = created();
    const event = Event.create(memory.view(Uint8Array), 0);
    const controller = new AbortController();
    const condition = () => {
      controller.abort(new Error("mine"));
      return false;
    };
    await assert.rejects(event.waitUntilAsync(condition, { signal: controller.signal }), {
      message: "mine",
    });
  });
});
