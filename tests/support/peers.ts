/** Everyone a lock can be shared with: the runtimes and real Qt, each attached to our segment as `m`. */
import assert from "node:assert/strict";
import { SharedMemory, SharedMemoryError } from "../../mod.ts";
import { expectTrue, versions, withQt } from "./qt_pairs.ts";
import {
  type Agent,
  ownRuntime,
  runtimes,
  slow,
  startAgent,
  startQt,
  uniqueKey,
  withDeadline,
} from "./support.ts";

export interface Peer {
  readonly name: string;
  readonly options: { skip?: string; timeout: number };
  readonly start: () => Agent;
}

const ours = runtimes.map((runtime) => ({
  name: runtime.name,
  options: slow,
  start: () => startAgent(runtime),
}));

export const peers: readonly Peer[] = [
  ...ours,
  ...versions.map((version) => ({
    name: `Qt ${version}`,
    options: withQt(version),
    start: () => startQt(version),
  })),
];

/** Another process of the runtime that this test runs in. */
export const ownPeer: Peer = ours.find(({ name }) => name === ownRuntime.name)!;

/** A new segment of 64 bytes. */
export function created(key = uniqueKey()): SharedMemory {
  const memory = new SharedMemory(key);
  assert.equal(memory.create(64), true, memory.errorString());
  return memory;
}

/** One more object of this process. */
export function attached(key: string): SharedMemory {
  const memory = new SharedMemory(key);
  assert.equal(memory.attach(), true, memory.errorString());
  return memory;
}

export async function startAttached(peer: Peer, key: string): Promise<Agent> {
  const agent = peer.start();
  await agent.request("memory", "m", key);
  await expectTrue(agent, "attach");
  return agent;
}

/** The same with the lock held. */
export async function startHolder(peer: Peer, key: string): Promise<Agent> {
  const agent = await startAttached(peer, key);
  await expectTrue(agent, "lock");
  return agent;
}

/** The process itself, not a launcher of it. */
export async function pidOf(agent: Agent): Promise<number> {
  return agent.name.startsWith("Qt") ? agent.child.pid! : await agent.run("return process.pid;");
}

/** What a wait for the lock comes to, in time. */
export function served(locked: Promise<boolean>): Promise<boolean> {
  return withDeadline(locked, "the lock");
}

/** Asserts that the last operation failed with `LockError` and exactly this text. */
export function assertLockError(memory: SharedMemory, operation: string, text: string): void {
  const { LockError } = SharedMemoryError;
  const expected = `SharedMemory.${operation} (${JSON.stringify(memory.key())}): ${text}`;
  assert.deepEqual([memory.error(), memory.errorString()], [LockError, expected]);
}

/** What is no number of ms, and what is thrown for it. */
export const badTimeouts: readonly [unknown, typeof TypeError | typeof RangeError][] = [
  ["1", TypeError],
  [null, TypeError],
  [1n, TypeError],
  [true, TypeError],
  [-1, RangeError],
  [-Infinity, RangeError],
  [NaN, RangeError],
];
