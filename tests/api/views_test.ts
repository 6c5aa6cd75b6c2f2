import assert from "node:assert/strict";
import { totalmem } from "node:os";
import { describe, test } from "node:test";
import { AccessMode, SharedMemory, SharedMemoryError, SharedMemoryException } from "../../mod.ts";
import {
  crewOnly,
  leaveNothingBehind,
  ownRuntime,
  runtimes,
  sizeOf,
  slow,
  startAgent,
  uniqueKey,
} from "../support/support.ts";

/** A new segment, and this object attached to it. */
function created(size: number, key = uniqueKey()): SharedMemory {
  const memory = new SharedMemory(key);
  assert.equal(memory.create(size), true, memory.errorString());
  return memory;
}

function attached(key: string | null): SharedMemory {
  const memory = new SharedMemory(key);
  assert.equal(memory.attach(), true, memory.errorString());
  return memory;
}

describe("the views of a segment", () => {
  leaveNothingBehind();

  test("data() and constData() are one view, the same each time, until detach()", () => {
    using memory = new SharedMemory(uniqueKey());
    assert.deepEqual([memory.data(), memory.constData()], [null, null]);
    assert.equal(memory.create(100), true, memory.errorString());
    const first = memory.data();
    assert.ok(first instanceof Uint8Array);
    assert.equal(first.length, sizeOf(100));
    assert.equal(memory.data(), first);
    assert.equal(memory.constData(), first);
    assert.equal(memory.detach(), true);
    assert.deepEqual([memory.data(), memory.constData()], [null, null]);
    assert.equal(memory.create(100), true, memory.errorString());
    assert.notEqual(memory.data(), first);
    assert.deepEqual([memory.data()!.length, first.length], [sizeOf(100), 0]);
  });

  test("view() lies at its offset and covers its length", () => {
    using memory = created(100);
    using other = attached(memory.key());
    const numbers = memory.view(Int32Array, 8, 3);
    assert.deepEqual([numbers.byteOffset, numbers.length], [8, 3]);
    assert.equal(numbers.buffer, memory.data()!.buffer);
    numbers[2] = 0x01020304;
    assert.deepEqual([...other.data()!.subarray(15, 21)], [0, 4, 3, 2, 1, 0]);
    assert.equal(other.view(DataView, 16, 4).getInt32(0, true), 0x01020304);
    other.view(BigInt64Array, 16, 1)[0] = 7n;
    assert.equal(numbers[2], 7);
    other.view(Float64Array)[11] = 0.5;
    assert.equal(memory.view(DataView).getFloat64(88, true), 0.5);
  });

  test("view() without a length takes the elements that fit", () => {
    using memory = created(21);
    const size = sizeOf(21);
    assert.equal(memory.view(Uint8Array).length, size);
    assert.equal(memory.view(Uint16Array).length, Math.floor(size / 2));
    assert.equal(memory.view(Int32Array, 8).length, Math.floor((size - 8) / 4));
    assert.equal(memory.view(Float64Array, 8).length, Math.floor((size - 8) / 8));
    assert.equal(memory.view(BigUint64Array, 16).length, Math.floor((size - 16) / 8));
    assert.equal(memory.view(DataView).byteLength, size);
    assert.equal(memory.view(DataView, 5).byteLength, size - 5);
    assert.equal(memory.view(Uint8Array, size).length, 0);
  });

  const small = sizeOf(21);
  const misfits: [string, (memory: SharedMemory) => unknown][] = [
    ["a negative offset", (memory) => memory.view(Int32Array, -4)],
    ["a misaligned offset", (memory) => memory.view(Int32Array, 2, 1)],
    ["a fractional offset", (memory) => memory.view(Uint8Array, 0.5, 1)],
    ["NaN as the offset", (memory) => memory.view(Uint8Array, NaN)],
    ["NaN as the offset, with a length", (memory) => memory.view(Uint8Array, NaN, 1)],
    ["an infinite offset", (memory) => memory.view(Uint8Array, Infinity)],
    ["an offset past the end", (memory) => memory.view(Uint8Array, small + 1)],
    [
      "an offset past the end, and no length",
      (memory) => memory.view(Float64Array, small + 8 - small % 8),
    ],
    ["a DataView past the end", (memory) => memory.view(DataView, small + 1)],
    ["a negative length", (memory) => memory.view(Int32Array, 0, -1)],
    ["a fractional length", (memory) => memory.view(Int32Array, 0, 1.5)],
    ["NaN as the length", (memory) => memory.view(Int32Array, 0, NaN)],
    ["a length beyond the end", (memory) => memory.view(Int32Array, 0, Math.floor(small / 4) + 1)],
    [
      "an offset and a length beyond the end",
      (memory) => memory.view(Float64Array, 8, Math.floor(small / 8)),
    ],
    ["a DataView beyond the end", (memory) => memory.view(DataView, small - 1, 2)],
    ["a length whose bytes are past 2^53", (memory) => memory.view(Float64Array, 0, 2 ** 52)],
  ];
  for (const [what, action] of misfits) {
    test(`view() refuses ${what} with a RangeError that names key and size`, () => {
      using memory = created(21);
      assert.throws(() => action(memory), (error: unknown) => {
        assert.ok(error instanceof RangeError);
        assert.match(error.message, /^SharedMemory\.view \("test /);
        assert.ok(error.message.includes(`segment of ${small} bytes`), error.message);
        assert.ok(error.message.includes(JSON.stringify(memory.key())), error.message);
        return true;
      });
      assert.equal(memory.isAttached(), true);
    });
  }

  test("view() throws NotFound with the key while the object is not attached", () => {
    const key = uniqueKey('quo"ted');
    using memory = new SharedMemory(key);
    const isNotFound = (error: unknown) => {
      assert.ok(error instanceof SharedMemoryException);
      assert.deepEqual(
        [error.name, error.code, error.error, error.key],
        ["SharedMemoryException", "NotFound", SharedMemoryError.NotFound, key],
      );
      assert.ok(error.message.includes(JSON.stringify(key)), error.message);
      return true;
    };
    assert.throws(() => memory.view(Int32Array), isNotFound);
    assert.equal(memory.create(8), true, memory.errorString());
    assert.equal(memory.view(Int32Array).length, sizeOf(8) / 4);
    assert.equal(memory.detach(), true);
    assert.throws(() => memory.view(Int32Array), isNotFound);
  });

  const transfers: [string, (memory: SharedMemory) => void][] = [
    ["transfer()", (memory) => void memory.view(Int32Array).buffer.transfer()],
    ["structuredClone()", (memory) => {
      const { buffer } = memory.data()!;
      structuredClone(buffer, { transfer: [buffer as ArrayBuffer] });
    }],
    ["postMessage()", (memory) => {
      const { port1 } = new MessageChannel();
      const view = memory.view(Uint8Array, 8);
      port1.postMessage(view, [view.buffer as ArrayBuffer]);
      port1.close();
    }],
  ];
  for (const [how, transfer] of transfers) {
    test(`data() and view() say that the buffer was transferred away by ${how}`, () => {
      using memory = created(64);
      using other = new SharedMemory(memory.key());
      assert.equal(other.attach(), true, other.errorString());
      transfer(memory);
      const calls = {
        data: () => memory.data(),
        constData: () => memory.constData(),
        view: () => memory.view(Int32Array),
      };
      for (const [call, act] of Object.entries(calls)) {
        assert.throws(act, (error) => {
          assert.ok(error instanceof SharedMemoryException, String(error));
          assert.deepEqual([error.reason, error.key], ["Transferred", memory.key()]);
          const operation = call === "view" ? "view" : "data";
          const key = JSON.stringify(memory.key());
          assert.ok(
            error.message.startsWith(`SharedMemory.${operation} (${key}): `),
            error.message,
          );
          return true;
        });
      }
      assert.equal(memory.isAttached() && memory.lock() && memory.unlock(), true);
      assert.equal(memory.detach() && memory.attach(), true, memory.errorString());
      other.data()![3] = 7;
      assert.equal(memory.data()![3], 7);
    });
  }

  test("a view of ReadOnly memory sees what others write", () => {
    using memory = created(8);
    using reader = new SharedMemory(memory.key());
    assert.equal(reader.attach(AccessMode.ReadOnly), true, reader.errorString());
    memory.data()![7] = 9;
    assert.equal(reader.constData()![7], 9);
    assert.equal(reader.view(BigUint64Array)[0], 9n << 56n);
  });

  const endings: [string, (memory: SharedMemory) => void][] = [
    ["detach()", (memory) => assert.equal(memory.detach(), true)],
    ["disposal", (memory) => memory[Symbol.dispose]()],
    ["setKey() of another key", (memory) => memory.setKey(uniqueKey("other"))],
    ["setKey(null)", (memory) => memory.setKey(null)],
    ["setNativeKey()", (memory) => memory.setNativeKey("/nowhere/at all")],
  ];
  for (const [what, end] of endings) {
    test(`after ${what} every view is empty, and to use it harms nobody`, () => {
      using memory = created(64);
      using other = attached(memory.key());
      other.data()!.fill(1);
      const arrays = [
        memory.data()!,
        memory.constData() as Uint8Array,
        memory.data()!.subarray(8, 16),
        memory.view(Float64Array, 8, 2),
        memory.view(Uint16Array),
        new Float64Array(memory.data()!.buffer),
        new Int8Array(memory.data()!.buffer, 60, 4),
      ];
      const dataViews = [memory.view(DataView), new DataView(memory.data()!.buffer, 4, 4)];
      end(memory);
      assert.deepEqual(
        [memory.isAttached(), memory.size(), memory.data(), memory.constData()],
        [false, 0, null, null],
      );
      for (const array of arrays) {
        assert.deepEqual([array.length, array.byteLength, array.byteOffset], [0, 0, 0]);
        assert.equal(array.buffer.byteLength, 0);
        assert.equal(array[0], undefined);
        array[0] = 2;
        assert.equal(array[0], undefined);
        assert.throws(() => array.fill(2), TypeError);
        assert.throws(() => array.set([2]), TypeError);
        assert.throws(() => array.slice(), TypeError);
      }
      assert.throws(() => Atomics.store(arrays[0] as Uint8Array, 0, 2), TypeError);
      for (const view of dataViews) {
        assert.throws(() => view.byteLength, TypeError);
        assert.throws(() => view.getUint8(0), TypeError);
        assert.throws(() => view.setUint8(0, 2), TypeError);
      }
      // The segment lives on in the other object, whose views are its own.
      assert.deepEqual([...other.data()!], Array(sizeOf(64)).fill(1));
    });
  }
});

describe("the disposal of an object", () => {
  leaveNothingBehind();

  test("happens at the end of a `using` block, and detaches", () => {
    let outside: SharedMemory;
    {
      using memory = created(8);
      outside = memory;
      assert.equal(outside.isAttached(), true);
    }
    assert.equal(outside.isAttached(), false);
    assert.equal(outside.attach(), false);
    assert.equal(outside.error(), SharedMemoryError.NotFound);
  });

  test("may happen any number of times, attached or not, and the object can be used again", () => {
    const memory = new SharedMemory(uniqueKey());
    memory[Symbol.dispose]();
    for (let time = 0; time < 3; time++) {
      assert.equal(memory.create(8), true, memory.errorString());
      memory[Symbol.dispose]();
      memory[Symbol.dispose]();
      assert.equal(memory.isAttached(), false);
    }
  });

  test("releases the lock that the object holds", () => {
    using other = created(8);
    const memory = attached(other.key());
    assert.equal(memory.lock(), true);
    memory[Symbol.dispose]();
    assert.equal(other.lock(), true, other.errorString());
  });

  const noStack = typeof DisposableStack === "undefined" ? { skip: "no DisposableStack" } : {};
  test("is done by a parent DisposableStack", noStack, () => {
    const stack = new DisposableStack();
    const [first, second] = [0, 1].map(() => new SharedMemory(uniqueKey(), stack));
    assert.equal(first!.create(8), true);
    assert.equal(second!.create(8), true);
    stack.dispose();
    assert.deepEqual([first!.isAttached(), second!.isAttached()], [false, false]);
  });

  const noAsync = typeof AsyncDisposableStack === "undefined" ? { skip: "no such stack" } : {};
  test("is done by a parent AsyncDisposableStack", noAsync, async () => {
    const stack = new AsyncDisposableStack();
    const memory = new SharedMemory(uniqueKey(), stack);
    assert.equal(memory.create(8), true);
    await stack.disposeAsync();
    assert.equal(memory.isAttached(), false);
  });
});

describe("the size of a segment", () => {
  leaveNothingBehind();

  for (const size of [1, 4096, 4097, 5000]) {
    const exact = sizeOf(size);
    test(`${size} bytes are ${exact} in every runtime`, { ...slow, ...crewOnly }, async () => {
      using memory = created(size);
      assert.deepEqual([memory.size(), memory.data()!.length], [exact, exact]);
      memory.data()![size - 1] = 0x5a;
      for (const runtime of runtimes) {
        const agent = startAgent(runtime);
        await agent.request("memory", "m", memory.key());
        assert.equal(await agent.call("m", "attach"), true);
        assert.equal(await agent.call("m", "size"), exact);
        assert.deepEqual(await agent.request("read", "m", 0, exact + 1), [...memory.data()!]);
        assert.equal(await agent.end(), 0);
      }
    });
  }

  const GIB = 2 ** 30;
  const huge = ownRuntime.name === "bun" // limits_test.ts has what Bun does
    ? { skip: "Bun has no views beyond 4 GiB" }
    : totalmem() < 8 * GIB
    ? { skip: "this machine has too little memory" }
    : {};
  test("5 GiB can be used to the last byte, and cost nothing until then", huge, () => {
    const size = 5 * GIB;
    using memory = created(size);
    using other = attached(memory.key());
    assert.deepEqual([other.size(), other.data()!.length], [size, size]);
    memory.view(Float64Array)[size / 8 - 1] = 0.5;
    assert.equal(other.view(DataView, size - 8).getFloat64(0, true), 0.5);
    assert.equal(other.view(Uint8Array, 2 ** 32 - 1, 2).length, 2);
  });
});
