/** The cases of Qt's own `tst_qsharedmemory`, by their names there: the lock and the data. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import { AccessMode, SharedMemory, SharedMemoryError } from "../../mod.ts";
import { assertDetached, assertNoSemaphore } from "../support/qt_states.ts";
import {
  capabilities,
  leaveNothingBehind,
  ownRuntime,
  semaphoreValue,
  sizeOf,
  startAgent,
  uniqueKey,
  until,
} from "../support/support.ts";

/** The messages of the plain warnings of `action`; Node's own about its FFI has another name. */
async function warningsOf(action: () => void): Promise<string[]> {
  const messages: string[] = [];
  const listener = ({ name, message }: Error) => name === "Warning" && messages.push(message);
  process.on("warning", listener);
  try {
    action();
    const last = uniqueKey("the last warning"); // they are emitted later, but in order
    process.emitWarning(last);
    await until(() => messages.includes(last), last);
    return messages.slice(0, messages.indexOf(last));
  } finally {
    process.off("warning", listener);
  }
}

describe("Qt's tests of QSharedMemory: the lock and the data", () => {
  leaveNothingBehind();

  test("A6 lock: it can be taken once there is a segment, and again with a warning", async () => {
    const key = uniqueKey();
    const memory = new SharedMemory();
    assert.equal(memory.lock(), false);
    assert.equal(memory.error(), SharedMemoryError.LockError);
    memory.setKey(key);
    assert.equal(memory.lock(), false);
    assert.equal(memory.error(), SharedMemoryError.LockError);
    assert.equal(memory.create(100), true, memory.errorString());
    assert.deepEqual(await warningsOf(() => assert.equal(memory.lock(), true)), []);
    const again = await warningsOf(() => assert.equal(memory.lock(), true));
    assert.deepEqual(again, ["SharedMemory.lock: already locked"]);
    assert.equal(memory.error(), SharedMemoryError.NoError);
    // Qt's destructor warns the same, as its detach() locks again. Ours has no reason to.
    assert.deepEqual(await warningsOf(() => memory[Symbol.dispose]()), []);
    assertDetached(memory);
    assertNoSemaphore(key);
  });

  test("A6 lock: after a failed create() or attach() it is false with LockError", () => {
    // Qt: true, as the semaphore is open by then; the reference says false, and so do we.
    const key = uniqueKey();
    using existing = new SharedMemory(key);
    using memory = new SharedMemory(key);
    assert.equal(memory.attach(), false);
    assert.equal(memory.lock(), false);
    assert.equal(memory.error(), SharedMemoryError.LockError);
    assert.equal(existing.create(100), true, existing.errorString());
    assert.equal(memory.create(100), false);
    assert.equal(memory.lock(), false);
    assert.equal(memory.error(), SharedMemoryError.LockError);
    assert.equal(semaphoreValue(key), 1);
  });

  test("A6 lock: one thread that holds it gets LockError from a second object", () => {
    // Qt waits for itself, for ever.
    const key = uniqueKey();
    using one = new SharedMemory(key);
    assert.equal(one.create(100), true, one.errorString());
    using two = new SharedMemory(key);
    assert.equal(two.attach(), true, two.errorString());
    assert.equal(one.lock(), true);
    assert.equal(two.lock(), false);
    assert.equal(two.error(), SharedMemoryError.LockError);
    assert.equal(two.unlock(), false); // it is not for the second object to unlock
    assert.equal(semaphoreValue(key), 0);
    assert.equal(one.unlock(), true);
    assert.equal(two.lock(), true, two.errorString());
    assert.equal(two.unlock(), true);
  });

  for (const mode of ["ReadOnly", "ReadWrite"] as const) {
    test(`A13 simpleProducerConsumer: what one object writes another reads, attached ${mode}`, () => {
      const key = uniqueKey();
      using producer = new SharedMemory(key);
      assert.equal(producer.create(512), true, producer.errorString());
      using consumer = new SharedMemory(key);
      assert.equal(consumer.attach(AccessMode[mode]), true, consumer.errorString());
      const put = producer.data()!;
      const get = consumer.constData()!;
      assert.notEqual(put, get); // two mappings of the same memory
      const letter = "Q".charCodeAt(0);
      for (let i = 0; i < put.length; i++) {
        assert.equal(get[i], 0);
        put[i] = letter;
        assert.equal(get[i], letter);
      }
      assert.equal(get.length, sizeOf(512));
      assert.equal(consumer.detach(), true);
      assert.equal(producer.data()![511], letter);
    });
  }

  test("A14 simpleDoubleProducerConsumer: an object creates its segment again after detaching", () => {
    const key = uniqueKey();
    using producer = new SharedMemory(key);
    assert.equal(producer.create(512), true, producer.errorString());
    producer.data()!.fill(1);
    assert.equal(producer.detach(), true);
    assert.equal(producer.create(512), true, producer.errorString());
    using consumer = new SharedMemory(key);
    assert.equal(consumer.attach(), true, consumer.errorString());
    assert.deepEqual(consumer.data(), new Uint8Array(sizeOf(512))); // a new one, not what was there
  });

  test(`A9 readOnly: a store into a read-only segment kills a ${ownRuntime.name} process`, async () => {
    const key = uniqueKey();
    const agent = startAgent(ownRuntime);
    await agent.request("memory", "m", key);
    assert.equal(await agent.call("m", "create", 1024, AccessMode.ReadOnly), true);
    assert.equal(await agent.call("m", "lock"), true);
    const stored = agent.request("write", "m", 0, [97]);
    // Windows has no signals but an exit code, STATUS_ACCESS_VIOLATION unless the ownRuntime has its own.
    await assert.rejects(stored, /ended \((SIGSEGV|3221225477|-?\d+)\) in write/);
    if (!capabilities.survivesCrash) return;
    // What the dead creator left can be used: not written to, unlocked, and removed by the next.
    using memory = new SharedMemory(key);
    assert.equal(memory.attach(), true, memory.errorString());
    assert.equal(memory.lock(), true);
    assert.equal(memory.data()![0], 0);
    assert.equal(memory.detach(), true);
    assertNoSemaphore(key);
  });
});
