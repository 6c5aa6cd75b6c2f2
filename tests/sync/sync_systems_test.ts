/** The primitives in other kinds of segments, and what an event does without the calls that Linux has. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import { NativeIpcKeyType, SharedMemory } from "../../mod.ts";
import { Counter, Event, Mutex, Snapshot } from "../../sync/mod.ts";
import {
  leaveNothingBehind,
  linuxOnly,
  slow,
  uniqueKey,
  withDeadline,
} from "../support/support.ts";
import { attached, created } from "../support/sync_places.ts";
import { Thread } from "../support/threads.ts";

/** Calls `body` as if this were another system. */
function as<Result>(platform: string, body: () => Result): Result {
  const original = Object.getOwnPropertyDescriptor(process, "platform")!;
  Object.defineProperty(process, "platform", { value: platform, configurable: true });
  try {
    return body();
  } finally {
    Object.defineProperty(process, "platform", original);
  }
}

describe("primitives elsewhere", () => {
  leaveNothingBehind();

  test("an event is looked for after pauses", { ...slow, ...linuxOnly }, async () => {
    using memory = created();
    using other = attached(memory);
    const [event, same] = as("darwin", () => [
      Event.create(memory.view(Uint8Array)),
      Event.at(other.view(Uint8Array)),
    ]);
    assert.equal(event!.wait(20), false);
    assert.equal(await event!.waitAsync({ timeout: 20 }), false);
    const waiting = same!.waitAsync();
    event!.notify();
    assert.equal(await withDeadline(waiting, "the event"), true);
    const thread = new Thread(
      memory.key()!,
      `
      const event = sync.Event.at(memory.view(Uint8Array));
      await next();
      event.notifyAll();`,
    );
    const { sequence } = event!;
    thread.tell("notify");
    assert.equal(event!.wait(Infinity, sequence), true);
    assert.equal(await thread.end(), 0);
    const last = same!.waitAsync();
    other.detach();
    await assert.rejects(withDeadline(last, "the end of a wait"), { code: "NotAttached" });
  });

  test("all are in POSIX segments too", linuxOnly, () => {
    const key = SharedMemory.platformSafeKey(
      uniqueKey("qipc_sync"),
      NativeIpcKeyType.PosixRealtime,
    );
    using memory = SharedMemory.open(key, {
      size: 4096,
      initialize(bytes) {
        Mutex.create(bytes, 0);
        Counter.create(bytes, 64);
        Event.create(bytes, 128);
        Snapshot.create(bytes, 192, 8);
      },
    });
    using other = SharedMemory.open(key);
    const view = other.view(Uint8Array);
    const [mutex, same] = [Mutex.at(memory.view(Uint8Array)), Mutex.at(view)];
    mutex.lock();
    assert.throws(() => same.lock(), { code: "Deadlock" });
    memory.detach();
    assert.equal(same.withLock((wasAbandoned) => wasAbandoned), true);
    assert.equal(Counter.at(view, 64).add(), 0n);
    const event = Event.at(view, 128);
    const { sequence } = event;
    event.notify();
    assert.equal(event.wait(0, sequence), true);
    const snapshot = Snapshot.at(view, 192);
    snapshot.publish(new Uint8Array(8).fill(7));
    assert.deepEqual(snapshot.read(), new Uint8Array(8).fill(7));
  });
});
