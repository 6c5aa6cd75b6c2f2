/** Mutexes: exclusion, whoever dies, misuse, and waits that do not block. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import type { MutexBackend } from "../../backends/mutex/types.ts";
import { sleepSync } from "../../backends/timing.ts";
import type { SharedMemory } from "../../mod.ts";
import { Random } from "../../scripts/random.ts";
import { Counter, Mutex, SyncError } from "../../sync/mod.ts";
import { badTimeouts } from "../support/peers.ts";
import {
  type Agent,
  crewOnly,
  DEADLINE_MS,
  endAll,
  leaveNothingBehind,
  linuxOnly,
  ownRuntime,
  runtimes,
  slow,
  startAgent,
  withDeadline,
} from "../support/support.ts";
import { compilePeer, cOnly, Peer } from "../support/sync_peer.ts";
import {
  assertChecksPlace,
  assertEndsWithSegment,
  attach,
  attached,
  created,
  startCrew,
} from "../support/sync_places.ts";
import { COUNTER, makeAll, NUMBERS, numbersOf, turn } from "../support/sync_turns.ts";
import { fixture, Thread } from "../support/threads.ts";

const crew = { ...slow, ...crewOnly };
const withC = { ...slow, ...crewOnly, ...cOnly };

const isLinux = process.platform === "linux";

/** What byte 6 of a mutex says that glibc has made: musl lays it out differently. */
const GLIBC = 1;

/** Of each who counts; each is two system calls on Windows. */
const TURNS = isLinux ? 20_000 : 2000;

/** An agent that holds the mutex as `objects.mutex`. */
async function startHolder(memory: SharedMemory, runtime = ownRuntime): Promise<Agent> {
  const agent = startAgent(runtime);
  await attach(agent, memory);
  await agent.run(`
    objects.mutex = sync.Mutex.at(objects.m.view(Uint8Array));
    objects.mutex.lock();`);
  return agent;
}

describe("a mutex in a segment", () => {
  leaveNothingBehind();
  compilePeer();

  test("is taken and given back", () => {
    using memory = created();
    using other = attached(memory);
    const mutex = Mutex.create(memory.view(Uint8Array), 8);
    const same = Mutex.at(other.view(Uint8Array), 8);
    for (let i = 0; i < 3; i++) {
      for (const each of [mutex, same]) {
        assert.equal(each.isHeld, false);
        each.lock();
        assert.deepEqual([each.isHeld, each.wasAbandoned], [true, false]);
        each.unlock();
        assert.equal(each.tryLock(), true);
        each.unlock();
        assert.equal(each.withLock((wasAbandoned) => [each.isHeld, wasAbandoned])[0], true);
        assert.throws(() =>
          each.withLock(() => {
            throw new RangeError("mine");
          }), RangeError);
        assert.equal(each.isHeld, false);
      }
    }
  });

  test(
    "refuses to be locked twice by a thread, or given back by whom it is not",
    async () => {
      using memory = created();
      using other = attached(memory);
      const mutex = Mutex.create(memory.view(Uint8Array));
      const same = Mutex.at(other.view(Uint8Array));
      assert.throws(() => mutex.unlock(), { name: "SyncError", code: "NotOwner" });
      mutex.lock();
      for (const each of [mutex, same]) {
        assert.throws(() => each.lock(), { name: "SyncError", code: "Deadlock" });
        for (const ms of [undefined, 0, DEADLINE_MS, Infinity]) {
          assert.equal(each.tryLock(ms), false);
        }
        assert.throws(() => each.withLock(() => {}), { code: "Deadlock" });
      }
      assert.throws(() => same.unlock(), { code: "NotOwner" });
      const thread = new Thread(
        memory.key()!,
        `
      const mutex = sync.Mutex.at(memory.view(Uint8Array));
      try { mutex.unlock(); } catch (error) { tell(error.code); }
      tell(mutex.tryLock(10));
      await next();
      tell(mutex.tryLock());
      mutex.unlock();`,
      );
      assert.equal(await thread.next(), "NotOwner");
      assert.equal(await thread.next(), false);
      assert.equal(mutex.isHeld, true);
      mutex.unlock();
      thread.tell("unlocked");
      assert.equal(await thread.next(), true);
      assert.equal(await thread.end(), 0);
      assert.equal(mutex.tryLock(), true);
      mutex.unlock();
    },
  );

  test("refuses a function that is not done when it returns", () => {
    using memory = created();
    const mutex = Mutex.create(memory.view(Uint8Array));
    assert.throws(() => mutex.withLock(() => Promise.reject(new Error())), TypeError);
    assert.equal(mutex.isHeld, false);
  });

  test("checks its place", () => {
    assertChecksPlace(Mutex, Mutex.BYTES, Mutex.create, Mutex.at);
    using memory = created();
    const view = memory.view(Uint8Array);
    Mutex.create(view);
    assert.throws(() => Counter.at(view), { code: "WrongKind" });
    const bad: [byte: number, code: SyncError["code"], text: string][] = [
      [4, "WrongKind", "unknown"],
      [5, "WrongKind", "version"],
      [6, "WrongKind", "another C library"],
      [8, "WrongKind", "was created in another"],
      [0, "NotFound", "not written"],
    ];
    // The kind of mutex; Windows knows none.
    if (isLinux) bad.push([view[6] === GLIBC ? 16 + 16 : 16, "Damaged", "overwritten"]);
    for (const [byte, code, text] of bad) {
      view[byte]! ^= 0x55;
      assert.throws(() => Mutex.at(view), (error) => {
        assert.ok(error instanceof SyncError && error.message.includes(text), String(error));
        assert.equal(error.code, code);
        return true;
      });
      view[byte]! ^= 0x55;
    }
    Mutex.at(view);
  });

  test("ends with the segment", () => {
    assertEndsWithSegment((view) => Mutex.create(view), [
      (mutex) => mutex.lock(),
      (mutex) => mutex.tryLock(),
      (mutex) => mutex.tryLock(10),
      (mutex) => mutex.unlock(),
      (mutex) => mutex.withLock(() => {}),
    ]);
  });

  test("excludes threads, processes of all runtimes and C programs", withC, async () => {
    using memory = created();
    makeAll(memory);
    const agents = await startCrew(memory, 4);
    const count = (memory: string) => `${turn(memory)} for (let i = 0; i < ${TURNS}; i++) turn();`;
    const threads = [1, 2].map(() => new Thread(memory.key()!, `${count("memory")} tell("done");`));
    const peer = new Peer(memory, "count", TURNS);
    await Promise.all(agents.map((agent) => agent.run(count("objects.m"))));
    for (const thread of threads) {
      assert.equal(await thread.next(), "done");
      assert.equal(await thread.end(), 0);
    }
    assert.equal(await withDeadline(peer.ended, "the C program"), 0, peer.stderr);
    const total = BigInt(7 * TURNS);
    assert.deepEqual([...numbersOf(memory)], [total, total]);
    assert.equal(Counter.at(memory.view(Uint8Array), COUNTER).get(), total);
    await endAll(agents);
  });

  test("is had by the next one at once, who is told, if its holder is killed", crew, async () => {
    using memory = created();
    const mutex = Mutex.create(memory.view(Uint8Array));
    for (const runtime of runtimes) {
      const [holder, waiter] = [await startHolder(memory, runtime), startAgent(runtime)];
      await attach(waiter, memory);
      assert.equal(mutex.tryLock(), false);
      const waiting = waiter.run(`
        const mutex = sync.Mutex.at(objects.m.view(Uint8Array));
        mutex.lock();
        const { wasAbandoned } = mutex;
        mutex.unlock();
        return wasAbandoned;`);
      await holder.kill();
      assert.equal(await waiting, true);
      mutex.lock();
      assert.equal(mutex.wasAbandoned, false);
      mutex.unlock();
      await endAll([waiter]);
    }
  });

  test("is shared with a C program that is killed with it", withC, async () => {
    using memory = created();
    const mutex = makeAll(memory);
    const peer = new Peer(memory, "hold");
    assert.equal(await peer.begun(), "held");
    assert.equal(mutex.tryLock(20), false);
    assert.equal(await peer.kill(), "SIGKILL");
    assert.equal(mutex.tryLock(), true);
    assert.equal(mutex.wasAbandoned, true);
    assert.deepEqual([...numbersOf(memory)], [1n, 0n]);
    numbersOf(memory)[1] = 1n;
    mutex.unlock();
  });

  test("stays abandoned until somebody who was told gives it back in order", async () => {
    using memory = created();
    const mutex = Mutex.create(memory.view(Uint8Array));
    const holder = await startHolder(memory);
    await holder.kill();
    for (let i = 0; i < 2; i++) {
      assert.throws(() =>
        mutex.withLock((wasAbandoned) => {
          throw new Error(String(wasAbandoned));
        }), { message: "true" });
    }
    await assert.rejects(
      mutex.withLockAsync((wasAbandoned) => Promise.reject(new Error(String(wasAbandoned)))),
      { message: "true" },
    );
    assert.equal(mutex.withLock((wasAbandoned) => wasAbandoned), true);
    assert.equal(mutex.withLock((wasAbandoned) => wasAbandoned), false);
    assert.throws(() =>
      mutex.withLock(() => {
        throw new Error();
      })
    );
    assert.equal(mutex.withLock((wasAbandoned) => wasAbandoned), false);
  });

  test("is abandoned also if nobody else had joined it when its holder was killed", async () => {
    using memory = created();
    const holder = startAgent(ownRuntime);
    await attach(holder, memory);
    await holder.run(`
      objects.mutex = sync.Mutex.create(objects.m.view(Uint8Array));
      objects.mutex.lock();`);
    await holder.kill();
    const mutex = Mutex.at(memory.view(Uint8Array));
    assert.equal(mutex.tryLock(DEADLINE_MS), true);
    assert.equal(mutex.wasAbandoned, true);
    mutex.unlock();
  });

  const endings: readonly [string, string][] = [
    ["detaches", "objects.m.detach();"],
    ["disposes of the segment", "objects.m[Symbol.dispose]();"],
    ["sets another key", "objects.m.setKey(null);"],
    ["transfers the buffer away, and detaches", "m.data().buffer.transfer(); m.detach();"],
  ];
  for (const [name, ending] of endings) {
    test(`is abandoned by a thread that ${name}`, () => {
      using memory = created();
      const mutex = Mutex.create(memory.view(Uint8Array));
      const other = attached(memory);
      const same = Mutex.at(other.view(Uint8Array));
      same.lock();
      new Function("objects", "m", ending)({ m: other }, other);
      assert.equal(same.isHeld, false);
      assert.throws(() => same.unlock(), { code: "NotAttached" });
      mutex.lock();
      assert.equal(mutex.wasAbandoned, true);
      mutex.unlock();
      other.detach();
    });
  }

  test("is unlocked also once the buffer has been transferred away", () => {
    using memory = created();
    using other = attached(memory);
    const mutex = Mutex.create(memory.view(Uint8Array));
    const same = Mutex.at(other.view(Uint8Array));
    same.lock();
    (other.data()!.buffer as ArrayBuffer).transfer();
    same.unlock();
    assert.equal(mutex.tryLock(), true);
    mutex.unlock();
  });

  const threadEnds: readonly [string, string][] = [
    ["its code ends", ""],
    ["it calls process.exit()", "process.exit(0);"],
    ["it throws", "setTimeout(() => { throw new Error('boom'); }, 0); await next();"],
  ];
  for (const [name, ending] of threadEnds) {
    test(`is abandoned by a thread when ${name}`, async () => {
      using memory = created();
      const mutex = Mutex.create(memory.view(Uint8Array));
      const thread = new Thread(
        memory.key()!,
        `
        const mutex = globalThis.mutex = sync.Mutex.at(memory.view(Uint8Array));
        mutex.lock();
        tell("locked");
        ${ending}`,
      );
      assert.equal(await thread.next(), "locked");
      await thread.end();
      assert.equal(mutex.tryLock(DEADLINE_MS), true);
      assert.equal(mutex.wasAbandoned, true);
      mutex.unlock();
    });
  }

  test("is abandoned by a thread that is terminated", async () => {
    using memory = created();
    const mutex = Mutex.create(memory.view(Uint8Array));
    // It stays attached until it ends. Deno wants to read what a thread begins with.
    const agent = startAgent(ownRuntime, {}, ownRuntime.name === "deno" ? ["--allow-read"] : []);
    const source = `
      const memory = globalThis.memory = new library.SharedMemory(${JSON.stringify(memory.key())});
      memory.attach();
      sync.Mutex.at(memory.view(Uint8Array)).lock();
      tell("locked");
      await next();`;
    await agent.run(`
      const { Worker } = process.getBuiltinModule("node:worker_threads");
      const worker = new Worker(new URL(${JSON.stringify(fixture)}), {
        workerData: ${JSON.stringify(source)},
      });
      await new Promise((resolve) => worker.once("message", resolve));
      await worker.terminate();`);
    assert.equal(mutex.tryLock(DEADLINE_MS), true);
    assert.equal(mutex.wasAbandoned, true);
    mutex.unlock();
    await agent.end();
  });

  test("is abandoned by a program that ends with it", crew, async () => {
    using memory = created();
    const mutex = Mutex.create(memory.view(Uint8Array));
    for (const runtime of runtimes) {
      const holder = await startHolder(memory, runtime);
      assert.equal(await holder.end(), 0);
      mutex.lock();
      assert.equal(mutex.wasAbandoned, true, runtime.name);
      mutex.unlock();
    }
  });

  test("is no danger if its bytes are overwritten while it is held", () => {
    const random = new Random(7);
    const overwrites: readonly ((bytes: Uint8Array) => void)[] = [
      (bytes) => bytes.fill(255),
      (bytes) => bytes.fill(0),
      (bytes) => bytes.fill(0x41),
      (bytes) => bytes.subarray(16).fill(255),
      (bytes) => bytes.subarray(16 + 24).fill(255), // the pointers
      (bytes) => bytes.subarray(16, 20).fill(0), // the holder
      (bytes) => bytes.subarray(32, 36).fill(33), // the kind
      (bytes) => bytes.forEach((_, i) => bytes[i] = random.number() * 256),
    ];
    for (const overwrite of overwrites) {
      for (let pattern = 1; pattern < 8; pattern++) {
        for (const order of [[0, 1, 2], [2, 1, 0], [1, 0, 2], [1, 2, 0]]) {
          using memory = created();
          const view = memory.view(Uint8Array);
          const mutexes = [0, 64, 128].map((offset) => Mutex.create(view, offset));
          for (const mutex of mutexes) mutex.lock();
          for (const i of [0, 1, 2]) {
            if (pattern & 1 << i) overwrite(view.subarray(64 * i, 64 * i + 64));
          }
          for (const i of order) {
            try {
              mutexes[i]!.unlock();
              assert.equal(mutexes[i]!.tryLock(), true);
              mutexes[i]!.unlock();
            } catch (error) {
              assert.ok(error instanceof SyncError, String(error));
              assert.ok(pattern & 1 << i, "it was overwritten");
            }
            assert.equal(mutexes[i]!.isHeld, false);
          }
        }
      }
    }
    using memory = created();
    const mutex = Mutex.create(memory.view(Uint8Array));
    mutex.lock(); // the list of what this thread holds is in order
    mutex.unlock();
  });

  test("is no danger if the segment goes after its bytes were overwritten", () => {
    for (let i = 0; i < 20; i++) {
      using memory = created();
      const view = memory.view(Uint8Array);
      const mutexes = [0, 64, 128].map((offset) => Mutex.create(view, offset));
      for (const mutex of mutexes) mutex.lock();
      view.subarray(0, 192).fill(i);
      memory.detach();
      using next = created();
      const mutex = Mutex.create(next.view(Uint8Array));
      mutex.lock();
      mutex.unlock();
    }
  });

  test("does not hide what a function has thrown, whatever its bytes are then", async () => {
    const error = new Error("mine");
    const damaged = { code: "Damaged" };
    for (const result of [error, null]) {
      using memory = created();
      const overwrite = () => {
        memory.bytes.fill(7);
        if (result !== null) throw result;
      };
      const mutex = Mutex.create(memory.bytes);
      assert.throws(() => mutex.withLock(overwrite), result ?? damaged);
      memory.bytes.fill(0);
      const other = Mutex.create(memory.bytes);
      // deno-lint-ignore require-await -- what it throws is to reject the promise
      await assert.rejects(other.withLockAsync(async () => overwrite()), result ?? damaged);
    }
  });

  test("says so if its bytes have been overwritten", () => {
    using memory = created();
    const view = memory.view(Uint8Array);
    const mutex = Mutex.create(view);
    view.fill(0);
    assert.throws(() => mutex.lock(), { name: "SyncError", code: "Damaged" });
    assert.throws(() => mutex.tryLock(10), { code: "Damaged" });
    const again = Mutex.create(view);
    again.lock();
    view.fill(0);
    assert.throws(() => again.unlock(), { code: "Damaged" });
    assert.equal(again.isHeld, false);
  });

  test("is had at the end of a timeout if it has become free while the process stood still", () => {
    using memory = created();
    const mutex = Mutex.create(memory.view(Uint8Array));
    const { mutexes } = mutex as unknown as { mutexes: MutexBackend };
    const { lock } = mutexes;
    const waits: number[] = [];
    mutexes.lock = (node, ms) => {
      waits.push(ms);
      if (waits.length >= 3) return lock.call(mutexes, node, ms);
      sleepSync(ms + 1);
      return "held";
    };
    try {
      assert.equal(mutex.tryLock(20), true);
    } finally {
      mutexes.lock = lock;
    }
    assert.equal(waits.length, 3);
    mutex.unlock();
  });

  test("is waited for while another thread of a process holds it", async () => {
    using memory = created();
    const mutex = Mutex.create(memory.view(Uint8Array));
    const thread = new Thread(
      memory.key()!,
      `
      const mutex = sync.Mutex.at(memory.view(Uint8Array));
      mutex.lock();
      tell("locked");
      await next();
      mutex.unlock();`,
    );
    const agent = startAgent(ownRuntime);
    await attach(agent, memory);
    assert.equal(await thread.next(), "locked");
    assert.equal(mutex.tryLock(20), false);
    assert.equal(await mutex.lockAsync({ timeout: 20 }), false);
    const source = "return sync.Mutex.at(objects.m.view(Uint8Array)).tryLock(20);";
    assert.equal(await agent.run(source), false);
    thread.tell("unlock");
    assert.equal(mutex.tryLock(DEADLINE_MS), true);
    mutex.unlock();
    assert.equal(await thread.end(), 0);
    await endAll([agent]);
  });

  test("says so if its bytes name a holder that does not exist", linuxOnly, async () => {
    for (const wait of ["lock", "tryLock", "lockAsync", "withLock", "withLockAsync"] as const) {
      using memory = created();
      const view = memory.view(Uint8Array);
      const mutex = Mutex.create(view);
      const word = view[6] === GLIBC ? 4 : 5;
      memory.view(Int32Array)[word] = 0x3fff_fff0;
      const waiting = async () =>
        await (wait === "tryLock"
          ? mutex.tryLock(DEADLINE_MS)
          : wait === "lock" || wait === "lockAsync"
          ? mutex[wait]()
          : mutex[wait](() => {}));
      await assert.rejects(waiting, { name: "SyncError", code: "Damaged" }, wait);
    }
  });
});

describe("a mutex that is awaited", () => {
  leaveNothingBehind();

  test("is had in turn by those who share an object", async () => {
    using memory = created();
    const mutex = Mutex.create(memory.view(Uint8Array));
    const order: number[] = [];
    let inside = 0;
    await Promise.all(Array.from({ length: 20 }, (_, i) =>
      mutex.withLockAsync(async () => {
        assert.equal(++inside, 1);
        order.push(i);
        await new Promise((resolve) => setTimeout(resolve, i % 3));
        inside--;
      })));
    assert.deepEqual(order, Array.from({ length: 20 }, (_, i) => i));
    assert.equal(mutex.isHeld, false);
  });

  test("is had by those of other objects, threads and processes", crew, async () => {
    using memory = created();
    const view = memory.view(Uint8Array);
    Mutex.create(view);
    const numbers = numbersOf(memory);
    const loop = (memory: string) => `
      const mutex = sync.Mutex.at(${memory}.view(Uint8Array));
      const numbers = ${memory}.view(BigInt64Array, ${NUMBERS}, 2);
      for (let i = 0; i < 30; i++) {
        await mutex.withLockAsync(async () => {
          const before = numbers[0];
          await new Promise((resolve) => setTimeout(resolve));
          numbers[0] = before + 1n;
        });
      }`;
    const agents = await startCrew(memory);
    const thread = new Thread(memory.key()!, `${loop("memory")} tell("done");`);
    const own = [Mutex.at(view), Mutex.at(view)].map(async (mutex) => {
      for (let i = 0; i < 30; i++) {
        await mutex.withLockAsync(async () => {
          const before = numbers[0]!;
          await new Promise((resolve) => setTimeout(resolve));
          numbers[0] = before + 1n;
        });
      }
    });
    await Promise.all([...own, ...agents.map((agent) => agent.run(loop("objects.m")))]);
    assert.equal(await thread.next(), "done");
    assert.equal(await thread.end(), 0);
    assert.equal(numbers[0], BigInt(30 * (3 + agents.length)));
    await endAll(agents);
  });

  test("does not block the event loop", async () => {
    using memory = created();
    const mutex = Mutex.create(memory.view(Uint8Array));
    const holder = await startHolder(memory);
    const waiting = mutex.lockAsync();
    let turns = 0;
    for (; turns < 20; turns++) await new Promise((resolve) => setTimeout(resolve));
    await holder.run("objects.mutex.unlock();");
    assert.equal(await withDeadline(waiting, "the mutex"), true);
    mutex.unlock();
    assert.equal(await holder.end(), 0);
  });

  test("can be timed and aborted, and is not taken then", async () => {
    using memory = created();
    using other = attached(memory);
    const mutex = Mutex.create(memory.view(Uint8Array));
    const same = Mutex.at(other.view(Uint8Array));
    mutex.lock();
    assert.equal(await same.lockAsync({ timeout: 0 }), false);
    assert.equal(await same.lockAsync({ timeout: 5 }), false);
    assert.equal(await mutex.lockAsync({ timeout: 5 }), false);
    await assert.rejects(same.withLockAsync(() => {}, { timeout: 5 }), { code: "Timeout" });
    const reason = new Error("enough");
    await assert.rejects(same.lockAsync({ signal: AbortSignal.abort(reason) }), reason);
    const controller = new AbortController();
    const waits = [1, 2].map(() => same.lockAsync({ signal: controller.signal }));
    const last = same.lockAsync();
    controller.abort(reason);
    for (const wait of waits) await assert.rejects(wait, reason);
    mutex.unlock();
    assert.equal(await withDeadline(last, "the mutex"), true);
    same.unlock();
    for (const [timeout, error] of badTimeouts) {
      const options = { timeout: timeout as number };
      await assert.rejects(mutex.lockAsync(options), error, String(timeout));
      await assert.rejects(mutex.withLockAsync(() => {}, options), error);
      assert.throws(() => mutex.tryLock(timeout as number), error);
    }
    assert.equal(mutex.tryLock(), true);
    mutex.unlock();
  });

  test("is never left taken by a wait that ends as it is given back", async () => {
    using memory = created();
    using other = attached(memory);
    const mutex = Mutex.create(memory.view(Uint8Array));
    const same = Mutex.at(other.view(Uint8Array));
    const random = new Random(11);
    for (let i = 0; i < 100; i++) {
      mutex.lock();
      const controller = new AbortController();
      const waits = Array.from({ length: 3 }, (_, j) =>
        same.lockAsync({
          timeout: random.number() * 6,
          signal: j === 1 ? controller.signal : undefined,
        }).then((isTaken) => {
          if (isTaken) same.unlock();
        }, (error) => assert.equal(error, controller.signal.reason)));
      setTimeout(() => controller.abort(), random.number() * 6);
      await new Promise((resolve) => setTimeout(resolve, random.number() * 6));
      mutex.unlock();
      if (i % 2) controller.abort();
      await withDeadline(Promise.all(waits), "the waits");
      assert.equal(mutex.tryLock(), true);
      mutex.unlock();
    }
  });

  test("is not to be had after the segment has gone", async () => {
    using memory = created();
    const other = attached(memory);
    const mutex = Mutex.create(memory.view(Uint8Array));
    const same = Mutex.at(other.view(Uint8Array));
    mutex.lock();
    const waits: Promise<unknown>[] = [same.lockAsync(), same.withLockAsync(() => {})];
    other.detach();
    for (const wait of waits) {
      await assert.rejects(withDeadline(wait, "the end of a wait"), { code: "NotAttached" });
    }
    mutex.unlock();
    const held = attached(memory);
    const third = Mutex.at(held.view(Uint8Array));
    await third.withLockAsync(() => void held.detach());
    assert.equal(mutex.withLock((wasAbandoned) => wasAbandoned), true);
  });

  test("has nothing to do with the process's other threads", slow, async () => {
    using memory = created();
    const mutex = Mutex.create(memory.view(Uint8Array));
    mutex.lock();
    const thread = new Thread(
      memory.key()!,
      `
      const mutex = sync.Mutex.at(memory.view(Uint8Array));
      const waiting = mutex.lockAsync();
      tell("waiting");
      tell(await waiting);
      mutex.unlock();`,
    );
    assert.equal(await thread.next(), "waiting");
    mutex.unlock();
    assert.equal(await thread.next(), true);
    assert.equal(await thread.end(), 0);
  });
});
