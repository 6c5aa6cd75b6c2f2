/** What the primitives have of Windows' kernel: no handle and no named object stays when it is not used. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import { Event, Mutex } from "../../sync/mod.ts";
import {
  leaveNothingBehind,
  ownRuntime,
  slow,
  startAgent,
  until,
  withDeadline,
} from "../support/support.ts";
import { attach, attached, created } from "../support/sync_places.ts";
import { objectNames } from "../support/windows_objects.ts";

const windowsOnly = process.platform === "win32" ? {} : { skip: "is about Windows" };

/** The objects of the primitives of a segment, whose names begin so. */
function namesOf(kind: "mutex" | "event", id: readonly number[]): string[] {
  const hex = id.map((word) => word.toString(16).padStart(kind === "mutex" ? 8 : 1, "0")).join("");
  return objectNames().filter((name) => name.startsWith(`shared-memory-${kind}-${hex}`));
}

describe("primitives on Windows", windowsOnly, () => {
  leaveNothingBehind();

  test("a mutex is one object of the kernel, as long as somebody has joined it", slow, async () => {
    using memory = created();
    using other = attached(memory);
    const mutex = Mutex.create(other.view(Uint8Array));
    for (let i = 0; i < 100; i++) Mutex.at(other.view(Uint8Array)).withLock(() => {});
    const id = [...memory.view(Uint32Array, 16, 4)];
    assert.equal(namesOf("mutex", id).length, 1);
    const agent = startAgent(ownRuntime);
    await attach(agent, memory);
    await agent.run("sync.Mutex.at(objects.m.view(Uint8Array)).lock();");
    assert.equal(mutex.tryLock(), false);
    other.detach();
    assert.equal(namesOf("mutex", id).length, 1);
    await agent.kill();
    assert.deepEqual(namesOf("mutex", id), []);
    assert.equal(Mutex.at(memory.view(Uint8Array)).withLock((wasAbandoned) => wasAbandoned), true);
  });

  test("a mutex of another session is refused", () => {
    using memory = created();
    const view = memory.view(Uint8Array);
    Mutex.create(view);
    memory.view(Int32Array)[2]!++;
    assert.throws(() => Mutex.at(view), (error: Error) => {
      assert.match(error.message, /was created in another session of Windows/);
      return true;
    });
  });

  test("an event is an object of the kernel only while somebody sleeps", slow, async () => {
    using memory = created();
    const event = Event.create(memory.view(Uint8Array));
    const id = [memory.view(Uint32Array)[3]!];
    assert.notEqual(id[0], 0);
    const isGone = () => namesOf("event", id).length === 0;
    await event.waitAsync({ timeout: 1 }); // what is loaded for that stays
    await until(isGone, "the end of a wait on another thread");
    for (let i = 0; i < 100; i++) {
      event.wait(0);
      event.wait(1);
      event.notify();
    }
    assert.equal(isGone(), true);
    const waiting = event.waitAsync();
    assert.equal(namesOf("event", id).length, 1);
    event.notify();
    assert.equal(await withDeadline(waiting, "the event"), true);
    await until(isGone, "the end of the sleep");
  });
});
