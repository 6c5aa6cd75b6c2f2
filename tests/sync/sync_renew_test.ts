/** Mutex.renew(): a mutex whose users have all ended. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SharedMemory } from "../../mod.ts";
import { layout, u32 } from "../../collections/mod.ts";
import { Counter, Mutex } from "../../sync/mod.ts";
import {
  leaveNothingBehind,
  ownRuntime,
  runtimes,
  slow,
  staleOnly,
  startAgent,
  uniqueKey,
} from "../support/support.ts";

const KEPT = {
  size: 4096,
  lifetime: "until-removed",
  initialize: (bytes: Uint8Array) => void Mutex.create(bytes),
} as const;

describe("a mutex of which all users have ended", staleOnly, () => {
  leaveNothingBehind();

  for (const runtime of runtimes) {
    test(
      `is free after renew(), and abandoned if ${runtime.name} was killed with it`,
      slow,
      async () => {
        const key = uniqueKey();
        for (const isHeld of [true, false]) {
          const agent = startAgent(runtime);
          await agent.run(`
          objects.m = library.SharedMemory.open(${JSON.stringify(key)}, {
            size: 4096,
            lifetime: "until-removed",
            initialize: (bytes) => void sync.Mutex.create(bytes),
            adopt: (bytes) => void sync.Mutex.renew(bytes),
          });
          objects.mutex = sync.Mutex.at(objects.m.bytes);
          objects.mutex.lock();
          ${isHeld ? "" : "objects.mutex.unlock();"}
        `);
          await agent.kill();
          using memory = SharedMemory.open(key, {
            ...KEPT,
            adopt: (bytes) => void Mutex.renew(bytes),
          });
          const mutex = Mutex.at(memory.bytes);
          assert.equal(mutex.tryLock(), true);
          assert.equal(mutex.wasAbandoned, isHeld);
          mutex.unlock();
          if (!isHeld) memory.remove();
        }
      },
    );
  }

  test("of another container is usable after renew(), and only then", () => {
    using memory = SharedMemory.open(uniqueKey(), { size: 4096, initialize: KEPT.initialize });
    const words = memory.view(Int32Array, 0, 16);
    words[2]! ^= 1; // the scope, as a mutex of another namespace of pids has it
    words[4] = 1 << 20; // and it is held by a thread of that
    assert.throws(() => Mutex.at(memory.bytes), { code: "WrongKind" });
    Mutex.renew(memory.bytes);
    const mutex = Mutex.at(memory.bytes);
    assert.equal(mutex.tryLock(), true);
    assert.equal(mutex.wasAbandoned, true);
    mutex.unlock();
    assert.equal(mutex.tryLock() && !mutex.wasAbandoned, true);
    mutex.unlock();
    assert.throws(() => Mutex.renew(memory.bytes, 64), { code: "NotFound" });
  });

  test("in a layout is renewed by open(), and `adopt` gets the members", slow, async () => {
    const key = uniqueKey();
    const Shape = layout({
      hits: Counter,
      state: Mutex,
      inner: layout({ lock: Mutex }),
      n: u32(4),
    });
    const agent = startAgent(ownRuntime);
    await agent.run(`
      const { layout, u32 } = collections;
      const { Counter, Mutex } = sync;
      const Shape = layout({ hits: Counter, state: Mutex, inner: layout({ lock: Mutex }), n: u32(4) });
      objects.shared = Shape.open(${JSON.stringify(key)}, { lifetime: "until-removed" });
      objects.shared.hits.add(5);
      objects.shared.inner.lock.lock();
    `);
    await agent.kill();
    let adopted = 0;
    const open = () =>
      Shape.open(key, {
        lifetime: "until-removed",
        initialize: () => assert.fail("begun anew"),
        adopt(shared) {
          adopted++;
          assert.equal(shared.hits.get(), 5n);
          shared.n[0] = 7;
        },
      });
    using first = open();
    using second = open();
    assert.deepEqual([adopted, second.n[0], Number(second.hits.get())], [1, 7, 5]);
    second.inner.lock.withLock((wasAbandoned) => assert.equal(wasAbandoned, true));
    second.state.withLock((wasAbandoned) => assert.equal(wasAbandoned, false));
    first.memory.remove();
  });

  test("in a layout of another declaration is left alone, and replaced on request", () => {
    const key = uniqueKey();
    {
      using old = layout({ state: Mutex }).open(key, { lifetime: "until-removed" });
      old.state.lock();
    }
    const Other = layout({ hits: Counter });
    const open = (replace: boolean) => Other.open(key, { lifetime: "until-removed", replace });
    assert.throws(() => open(false), { name: "WrongLayout" });
    {
      using old = layout({ state: Mutex }).open(key, { lifetime: "until-removed" });
      assert.throws(() => open(true), { name: "WrongLayout" }, "in use");
      assert.equal(old.state.tryLock(), true);
      old.state.unlock();
    }
    {
      using other = open(true);
      other.hits.add(3);
    }
    using other = open(true);
    assert.equal(other.hits.get(), 3n);
    other.memory.remove();
  });
});
