/** The real backends run on the simulated kernel. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { AccessMode } from "../../mod.ts";
import { posix } from "../../backends/posix/mod.ts";
import { systemV } from "../../backends/systemv/mod.ts";
import type { OpenRequest } from "../../backends/types.ts";
import { Libc } from "../../backends/unix/libc.ts";
import { ARCH, SimulatedFfi } from "./ffi.ts";
import { boot, call, clone, end, isBlocked, type State } from "./kernel.ts";
import { inVirtualTime, running } from "./virtual_time.ts";

const REQUEST: OpenRequest = {
  size: 100,
  mode: AccessMode.ReadWrite,
  existing: "attach",
  stale: "replace",
  timeoutMs: 0,
  initialize: null,
};

function backendOf(
  kind: "System V" | "POSIX",
  state: State,
  index: number,
) {
  const { pid, uid } = state.processes[index]!;
  const ffi = new SimulatedFfi((made) => {
    let result = call(state, index, made);
    // No other process runs meanwhile, so the wait lasts until its timeout.
    for (; isBlocked(result); result = call(state, index, made, 2)) state.now += result.wait;
    return result;
  }, { pid, uid });
  const libc = new Libc(ffi, ARCH);
  const backend = kind === "POSIX"
    ? posix(ffi, libc)
    : systemV(ffi, { os: "linux", arch: ARCH }, undefined, libc);
  /** Calls a function as the process. */
  const as = <Result>(body: () => Result): Result => {
    running.ffi = ffi;
    return body();
  };
  return { as, libc, backend };
}

function folders({ inodes }: State): string[] {
  return [...inodes.values()].flatMap(({ entries }) => [...entries?.keys() ?? []]).sort();
}

describe("the backends run on the simulated kernel", () => {
  const keys = {
    "System V": [
      `/tmp/qipc_sharedmemory_${"0".repeat(40)}`,
      `/tmp/qipc_systemsem_${"0".repeat(40)}`,
    ],
    "POSIX": ["/qipc_segment", "/qipc_segment"],
  } as const;

  for (const kind of ["System V", "POSIX"] as const) {
    test(`${kind}: two processes share bytes, and the last one removes everything`, () =>
      inVirtualTime(() => {
        const state = boot({ processes: [{ uid: 1000 }, { uid: 1000 }] });
        const before = folders(state);
        const [segmentKey, lockKey] = keys[kind];
        const users = [0, 1].map((index) => {
          const { as, backend } = backendOf(kind, state, index);
          return as(() => {
            const lock = backend.semaphores.lock(lockKey);
            const segment = backend.segments.open(segmentKey, REQUEST, lock);
            return {
              lock,
              segment,
              bytes: new Uint8Array(backend.arrayBuffer(segment.address, 100)),
            };
          });
        });
        const [first, second] = users as [typeof users[0], typeof users[0]];
        first.bytes[3] = 7;
        assert.equal(second.bytes[3], 7);

        const crashed = clone(state);
        for (const { segment, lock } of users) {
          segment.unmap();
          segment.release({ lockHeld: false, wait: true });
          segment.free();
          lock.close();
        }
        assert.deepEqual(folders(state), before);
        assert.equal(state.ipc[0]!.shm.objects.size + state.ipc[0]!.sem.objects.size, 0);

        // In the other branch both are killed, and the next process finds what they have left.
        end(crashed, 0);
        end(crashed, 1);
        assert.notDeepEqual(folders(crashed), before);
        assert.deepEqual([...crashed.opens.keys()], []);
      }));
  }

  test("a held lock is waited for in virtual time", () => {
    const state = boot({ processes: [{}, {}] });
    const [, key] = keys["System V"];
    const [holder, other] = [0, 1].map((i) => {
      return backendOf("System V", state, i).backend.semaphores.lock(key);
    });
    assert.equal(holder!.acquire(0), true);
    const { now } = state;
    assert.equal(other!.acquire(50), false);
    assert.ok(state.now >= now + 49, `${state.now - now} ms`);
    assert.equal(other!.holder?.(), 501);
    end(state, 0);
    assert.equal(other!.acquire(0), true); // the kernel has undone what the holder did
  });

  test("Atomics and views work on shared memory", () => {
    const state = boot({ processes: [{ uid: 1000 }, { uid: 1000 }] });
    inVirtualTime(() => {
      const users = [0, 1].map((index) => {
        const { as, backend } = backendOf("POSIX", state, index);
        return as(() => {
          const lock = backend.semaphores.lock("/qipc_segment");
          const { address } = backend.segments.open("/qipc_segment", REQUEST, lock);
          const bytes = backend.arrayBuffer(address, 100);
          return { as, lock, bytes, words: new BigInt64Array(bytes, 8, 2) };
        });
      });
      const [first, second] = users as [typeof users[0], typeof users[0]];
      first.as(() => Atomics.store(first.words, 1, -5n));
      assert.equal(second.as(() => Atomics.add(second.words, 1, 3n)), -5n);
      assert.equal(first.as(() => Atomics.compareExchange(first.words, 1, -2n, 7n)), -2n);
      assert.equal(second.as(() => Atomics.load(second.words, 1)), 7n);
      assert.throws(() => first.as(() => Atomics.load(first.words, 2)), RangeError);

      assert.equal(second.words[1], 7n);
      const bytes = first.as(() => new Uint8Array(first.bytes, 16, 3));
      bytes.set([1, 2, 3]);
      assert.deepEqual([...second.words.subarray(1)], [0x030201n]);
      assert.deepEqual(bytes.slice(1), Uint8Array.of(2, 3));
      bytes.subarray(1).fill(9);
      assert.deepEqual([...bytes], [1, 9, 9]);
      assert.equal(bytes.indexOf(9), 1);
      assert.throws(() => first.as(() => new DataView(first.bytes)), /no DataView/);

      assert.equal(first.as(() => first.lock.acquire(0)), true);
      assert.equal(second.as(() => second.lock.acquire(0)), false);
      end(state, 0);
      assert.equal(second.as(() => second.lock.acquire(0)), true); // taken over from the one that has ended
      second.bytes.transfer(0);
      assert.throws(() => second.as(() => Atomics.load(second.words, 0)), TypeError);
    });
  });
});
