/** The mutexes of macOS: who may take them, with the threads of Linux or made-up ones. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Attachment } from "../../core/attachment.ts";
import { DarwinFutex } from "../../backends/futex/darwin.ts";
import { DarwinThreads } from "../../backends/mutex/darwin_threads.ts";
import type { Libc } from "../../backends/unix/libc.ts";
import { futexFor } from "../../backends/futex/mod.ts";
import { OwnerMutexes, type Threads } from "../../backends/mutex/owner_word.ts";
import type { Futex } from "../../backends/futex/types.ts";
import { selectFfi } from "../../ffi/mod.ts";
import type { CSignatures, Ffi, ThreadCode } from "../../ffi/types.ts";
import type { SharedMemory } from "../../mod.ts";
import { Random } from "../../scripts/random.ts";
import type { Runtime } from "../../scripts/runtimes.ts";
import { fakeBackground } from "../fixtures/fake_background.ts";
import { LinuxThreads } from "../fixtures/linux_threads.ts";
import {
  Agent,
  crewOnly,
  leaveNothingBehind,
  linuxOnly,
  runtimes,
  slow,
} from "../support/support.ts";
import { created } from "../support/sync_places.ts";

const KILLS = 24;
const script = fileURLToPath(new URL("../fixtures/owner_victim.ts", import.meta.url));

/** A process that uses such a mutex until it is killed, and has had it once. */
async function startVictim(memory: SharedMemory, runtime: Runtime): Promise<Agent> {
  // For /proc Deno wants leave to do anything.
  const flags = runtime.args.map((flag) => flag === "--allow-ffi" ? "--allow-all" : flag);
  const agent = new Agent(runtime.name, runtime.command, [...flags, script, memory.key()!]);
  assert.equal(await agent.request("begin"), "begun");
  return agent;
}

/** Memory that is nobody else's, and threads of which some have ended. */
function setUp() {
  const buffer = new ArrayBuffer(64);
  const ended = new Set<string>();
  const ffi = { arrayBuffer: () => buffer, usize: (value: bigint) => value } as unknown as Ffi;
  const threadOf = (pid: number, thread: bigint, futex: Futex | null = null) => {
    const threads: Threads = {
      self: () => ({ pid, thread }),
      isRunning: (pid, thread) => !ended.has(`${pid} ${thread}`),
    };
    const mutexes = new OwnerMutexes(ffi, threads, futex);
    const mutex = mutexes.join(0x5000n);
    return {
      lock: (ms = 0) => mutexes.lock(mutex, ms),
      unlock: () => mutexes.unlock(mutex),
    };
  };
  return { buffer, ended, threadOf };
}

describe("a mutex that is the word with its owner", () => {
  leaveNothingBehind();

  test("is taken by one thread at a time, and given back by that only", () => {
    const { threadOf } = setUp();
    const threads = [
      threadOf(1, 7n),
      threadOf(1, 8n),
      threadOf(2, 7n),
      threadOf(99_999, 2n ** 43n),
    ];
    for (const holder of threads) {
      assert.equal(holder.lock(), "taken");
      for (const other of threads) {
        assert.equal(other.lock(), other === holder ? "own" : "held");
        assert.equal(other.lock(3), other === holder ? "own" : "held");
        if (other !== holder) assert.equal(other.unlock(), false);
      }
      assert.equal(holder.unlock(), true);
      assert.equal(holder.unlock(), false);
    }
  });

  test("is taken over from a thread that has ended, by one", () => {
    const { ended, threadOf } = setUp();
    const [dead, next, last] = [threadOf(1, 7n), threadOf(1, 8n), threadOf(2, 7n)];
    assert.equal(dead.lock(), "taken");
    assert.equal(next.lock(), "held");
    ended.add("1 7");
    assert.equal(next.lock(), "abandoned");
    assert.equal(last.lock(), "held");
    ended.add("1 8"); // and that before it has said so anywhere
    assert.equal(last.lock(), "abandoned");
    assert.equal(last.unlock(), true);
    assert.equal(threadOf(3, 9n).lock(), "taken");
  });

  test("wakes who sleeps until it is given back, and nobody otherwise", () => {
    const { buffer, threadOf } = setUp();
    const calls: string[] = [];
    const holder = threadOf(1, 2n ** 40n + 5n, {
      address: () => assert.fail("it makes none"),
      wait: () => assert.fail("it does not wait"),
      waitInBackground: () => assert.fail("it does not wait"),
      wake: (word) => calls.push(`wake ${word}`),
    });
    const waiter = threadOf(2, 9n, {
      address: () => assert.fail("it makes none"),
      wait(word, value) {
        calls.push(`sleep ${word} ${value}`);
        assert.equal(holder.unlock(), true);
      },
      waitInBackground: () => assert.fail("it blocks"),
      wake: () => assert.fail("nobody sleeps any more"),
    });
    assert.equal(holder.lock(), "taken");
    assert.equal(waiter.lock(1000), "taken");
    assert.deepEqual(calls, ["sleep 20480 5", "wake 20480"]);
    assert.equal(waiter.unlock(), true);
    assert.equal(new Uint8Array(buffer).every((byte) => byte === 0), true);
  });

  test("lets nobody hang while processes are killed", {
    ...{ timeout: 2 * slow.timeout },
    ...crewOnly,
    ...linuxOnly,
  }, async () => {
    const seed = Date.now() | 0;
    const random = new Random(seed);
    using memory = created();
    const numbers = memory.view(BigInt64Array, 128, 2);
    const mutexes = new OwnerMutexes(
      selectFfi(),
      new LinuxThreads(),
      futexFor(0, () => undefined),
    );
    const mutex = mutexes.join(Attachment.of(numbers.buffer)!.address);
    const start = (n: number) => startVictim(memory, runtimes[n % runtimes.length]!);
    let [victim, other] = [await start(0), await start(1)];
    let abandoned = 0;
    for (let i = 0; i < KILLS; i++) {
      await new Promise((resolve) => setTimeout(resolve, random.number() * 10));
      await victim.kill();
      const outcome = mutexes.lock(mutex, 10_000);
      assert.ok(outcome === "taken" || outcome === "abandoned", `seed ${seed}: ${outcome}`);
      if (outcome === "abandoned") {
        numbers[1] = numbers[0]!;
        abandoned++;
      }
      assert.equal(numbers[0], numbers[1], `seed ${seed}`);
      assert.equal(mutexes.unlock(mutex), true);
      [victim, other] = [other, await start(i)];
    }
    await Promise.all([victim.kill(), other.kill()]);
    assert.ok(numbers[0]! > BigInt(KILLS), `seed ${seed}: ${numbers[0]}, ${abandoned} abandoned`);
  });
});

const [ESRCH, EPERM, ETIMEDOUT] = [3, 1, 110];

/** A C library of macOS that has been told what its functions return. */
function libcOf(errno: number, results: Record<string, (...values: never[]) => unknown>) {
  const calls: string[] = [];
  const bind = (names: readonly string[]) =>
    Object.fromEntries(names.map((name) => [name, (...values: never[]) => {
      const shown = values.map((value: unknown) =>
        value instanceof Uint8Array ? `[${value.length}]` : value
      );
      calls.push(`${name}(${shown.join(", ")})`);
      return results[name]!(...values);
    }]));
  const load = (libraries: readonly string[], signatures: object) => {
    assert.deepEqual(libraries, ["/usr/lib/libSystem.B.dylib"]);
    const names = Object.keys(signatures);
    const missing = names.find((name) => results[name] === undefined);
    if (missing !== undefined) throw new Error(`no symbol ${missing}`);
    return bind(names);
  };
  let lastErrno = errno;
  const kill = (pid: number) => {
    if (pid === 42) return 0;
    lastErrno = ESRCH;
    return -1;
  };
  const libc = {
    c: { ...bind(["getpid"]), kill },
    os: "darwin",
    errno: () => lastErrno,
    ffi: {
      load,
      background: (libraries: readonly string[], signatures: CSignatures, code: ThreadCode) =>
        fakeBackground(load(libraries, signatures), code),
      usize: (value: bigint) => value,
    },
  };
  return { libc: libc as unknown as Libc, calls };
}

describe("what macOS is asked", () => {
  test("a thread is known by its number, which is never used again", () => {
    const { libc, calls } = libcOf(0, {
      getpid: () => 42,
      pthread_threadid_np: (_: never, id: Uint8Array) => id.set([1, 2, 3]),
      proc_pidinfo: () => 112,
    });
    const threads = new DarwinThreads(libc);
    assert.deepEqual(threads.self(), { pid: 42, thread: 0x030201n });
    assert.equal(threads.isRunning(7, 99n), true);
    assert.equal(threads.isRunning(0, 99n), false);
    assert.deepEqual(calls, [
      "pthread_threadid_np(0, [8])",
      "getpid()",
      "proc_pidinfo(7, 15, 99, [112], 112)",
    ]);
  });

  test("a thread has ended if the kernel says so, and of another user's if its process has", () => {
    const infoOf = (errno: number) =>
      new DarwinThreads(
        libcOf(errno, { pthread_threadid_np: () => 0, proc_pidinfo: () => 0 }).libc,
      );
    assert.equal(infoOf(ESRCH).isRunning(42, 1n), false);
    assert.equal(infoOf(EPERM).isRunning(42, 1n), true);
    assert.equal(infoOf(EPERM).isRunning(43, 1n), false);
  });

  test("who sleeps at a word shares it, and is woken by others", async () => {
    const { libc, calls } = libcOf(ETIMEDOUT, {
      os_sync_wait_on_address_with_timeout: () => 0,
      os_sync_wake_by_address_any: () => 0,
      os_sync_wake_by_address_all: () => 0,
    });
    const futex = DarwinFutex.load(libc)!;
    const word = futex.address(4096n);
    futex.wait(word, 2 ** 32 - 1, 1.5);
    futex.wait(word, 1, 0);
    await futex.waitInBackground(word, 3, 200, true);
    futex.wake(word);
    futex.wake(word, 2);
    futex.wake(word, 2 ** 31 - 1);
    const wait = "os_sync_wait_on_address_with_timeout";
    assert.deepEqual(calls, [
      `${wait}(4096, 4294967295, 4, 1, 32, 1500000)`,
      `${wait}(4096, 1, 4, 1, 32, 1)`,
      `${wait}(4096, 3, 4, 1, 32, 200000000)`,
      ...Array<string>(3).fill("os_sync_wake_by_address_any(4096, 4, 1)"),
      "os_sync_wake_by_address_all(4096, 4, 1)",
    ]);
  });

  test("a macOS that has no such sleep is known by that", () => {
    assert.equal(DarwinFutex.load(libcOf(0, {}).libc), null);
  });
});
