import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SharedMemory } from "../../mod.ts";
import { leaveNothingBehind, uniqueKey } from "../support/support.ts";

describe("the class", () => {
  leaveNothingBehind();

  test("has methods and getters that fail with a TypeError for anything that is no SharedMemory", async () => {
    const methods = Reflect.ownKeys(SharedMemory.prototype).filter((name) =>
      name !== "constructor"
    );
    assert.ok(methods.includes("lock") && methods.includes(Symbol.dispose));
    for (const name of methods) {
      const { value, get } = Reflect.getOwnPropertyDescriptor(SharedMemory.prototype, name)!;
      const method = (value ?? get) as (...args: unknown[]) => unknown;
      for (const foreign of [{}, undefined, 1, Object.create(SharedMemory.prototype)]) {
        const args: unknown[] = /^set/.test(String(name)) ? ["key"] : [];
        if (name === "view" || name === "create") args.push(name === "view" ? Uint8Array : 1);
        const act = () => method.apply(foreign, args);
        if (/Async$/.test(String(name))) {
          await assert.rejects(async () => await act(), TypeError, String(name));
        } else {
          assert.throws(act, TypeError, String(name));
        }
      }
    }
  });

  test("can be extended, with the rules of the base class", () => {
    class Counter extends SharedMemory {
      readonly step = 2;
      increment(): number {
        this.lock();
        const count = this.view(Int32Array);
        const value = count[0]! += this.step;
        this.unlock();
        return value;
      }
      override isAttached(): boolean {
        return super.isAttached() && this.step === 2;
      }
    }
    const key = uniqueKey();
    using counter = new Counter(key);
    using plain = new SharedMemory(key);
    assert.ok(counter instanceof SharedMemory);
    assert.equal(counter.create(4), true, counter.errorString());
    assert.equal(plain.attach(), true, plain.errorString());
    assert.deepEqual([counter.increment(), counter.increment()], [2, 4]);
    assert.equal(plain.view(Int32Array)[0], 4);
    assert.equal(counter.isAttached(), true);
    counter[Symbol.dispose]();
    assert.equal(counter.isAttached(), false);
  });
});
