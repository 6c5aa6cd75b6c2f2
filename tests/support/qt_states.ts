/** The states that Qt's own tests of `QSharedMemory` look at again and again. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { type SharedMemory, SharedMemoryError } from "../../mod.ts";
import { semaphoreFile, semaphoreValue } from "./support.ts";

/** What Qt checks of an object that is not attached and of which no operation failed. */
export function assertUntouched(memory: SharedMemory): void {
  assert.equal(memory.isAttached(), false);
  assert.equal(memory.error(), SharedMemoryError.NoError);
  assert.equal(memory.errorString(), "");
  assertDetached(memory);
}

/** What is true of every object that is not attached. */
export function assertDetached(memory: SharedMemory): void {
  assert.equal(memory.isAttached(), false);
  // Qt: a null pointer.
  assert.equal(memory.data(), null);
  assert.equal(memory.constData(), null);
  assert.equal(memory.size(), 0);
}

/** Qt leaves error() as it was; ours always says why something returned false. */
export function assertCannotDetach(memory: SharedMemory): void {
  assert.equal(memory.detach(), false);
  assert.equal(memory.error(), SharedMemoryError.NotFound);
  assert.match(memory.errorString(), /^SharedMemory\.detach /);
}

/** A failed Qt attach leaves a semaphore and its file until the object is destroyed; ours does not. */
export function assertNoSemaphore(key: string): void {
  assert.equal(semaphoreValue(key), -1);
  assert.equal(existsSync(semaphoreFile(key)), false);
}
