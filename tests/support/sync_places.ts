/** What the tests of the primitives inside a segment share. */
import assert from "node:assert/strict";
import { AccessMode, SharedMemory } from "../../mod.ts";
import { type Agent, runtimes, startMany, uniqueKey } from "./support.ts";

export const SEGMENT_BYTES = 4096;

/** A new segment of 4096 bytes. */
export function created(): SharedMemory {
  const memory = new SharedMemory(uniqueKey("sync"));
  assert.equal(memory.create(SEGMENT_BYTES), true, memory.errorString());
  return memory;
}

export function attached(memory: SharedMemory, mode: AccessMode = AccessMode.ReadWrite) {
  const other = new SharedMemory(memory.key());
  assert.equal(other.attach(mode), true, other.errorString());
  return other;
}

/** Agents of all runtimes in turn, each attached as `m`, and with `view` of the segment in what they run. */
export async function startCrew(memory: SharedMemory, count = runtimes.length): Promise<Agent[]> {
  const agents = startMany(count);
  await Promise.all(agents.map((agent) => attach(agent, memory)));
  return agents;
}

export async function attach(agent: Agent, memory: SharedMemory): Promise<void> {
  await agent.request("memory", "m", memory.key());
  assert.equal(await agent.call("m", "attach"), true, await agent.call("m", "errorString"));
}

interface Primitive {
  readonly BYTES?: number;
  readonly ALIGNMENT: number;
}

/** Asserts that `create` and `at` of a primitive refuse what is no place for it. */
export function assertChecksPlace(
  { ALIGNMENT }: Primitive,
  bytes: number,
  create: (view: ArrayBufferView, byteOffset?: number) => unknown,
  at: (view: ArrayBufferView, byteOffset?: number) => unknown,
): void {
  using memory = created();
  const view = memory.view(Uint8Array);
  for (const make of [create, at]) {
    for (const bad of [undefined, null, {}, 7, view.buffer]) {
      assert.throws(() => make(bad as unknown as ArrayBufferView), TypeError, String(bad));
    }
    for (const bad of ["0", null, 0n, {}]) {
      assert.throws(() => make(view, bad as unknown as number), TypeError, String(bad));
    }
    for (const bad of [-ALIGNMENT, 1, ALIGNMENT / 2, 0.5, NaN, Infinity, SEGMENT_BYTES, 2 ** 60]) {
      assert.throws(() => make(view, bad), RangeError, String(bad));
    }
    assert.throws(() => make(memory.view(Uint8Array, ALIGNMENT / 2)), RangeError);
    assert.throws(() => make(new Uint8Array(1000)), { name: "SyncError", code: "NotAttached" });
    using reader = attached(memory, AccessMode.ReadOnly);
    assert.throws(() => make(reader.view(Uint8Array)), { code: "ReadOnly" });
  }
  assert.throws(() => create(memory.view(Uint8Array, 0, bytes - 1)), RangeError);
  assert.throws(() => create(view, SEGMENT_BYTES - bytes + ALIGNMENT), RangeError);
  assert.throws(() => at(view), { name: "SyncError", code: "NotFound" });
  view.fill(255);
  assert.throws(() => at(view), { code: "NotFound" });
  assert.throws(() => create(view), { code: "AlreadyExists" });
  view.fill(0);
  create(memory.view(DataView, ALIGNMENT, bytes));
  at(memory.view(DataView, ALIGNMENT, bytes));
  at(view, ALIGNMENT);
  assert.throws(() => at(memory.view(DataView, ALIGNMENT, bytes - 1)), RangeError);
  assert.throws(() => create(view, ALIGNMENT), { code: "AlreadyExists" });
  assert.equal(view.subarray(ALIGNMENT + bytes).every((byte) => byte === 0), true);
  new DataView(view.buffer).setUint8(ALIGNMENT + 4, 200); // the kind
  assert.throws(() => at(view, ALIGNMENT), { code: "WrongKind" });
  memory.detach();
  for (const make of [create, at]) assert.throws(() => make(view), { code: "NotAttached" });
}

/** Asserts that calls fail with a clear error once the segment has gone, however it went. */
export function assertEndsWithSegment<P>(
  create: (view: ArrayBufferView) => P,
  calls: readonly ((primitive: P) => unknown)[],
): void {
  const endings: readonly ((memory: SharedMemory, view: Uint8Array<ArrayBuffer>) => void)[] = [
    (memory) => assert.equal(memory.detach(), true),
    (memory) => memory[Symbol.dispose](),
    (memory) => memory.setKey(null),
    (_, view) => void view.buffer.transfer(), // the last
  ];
  for (const end of endings) {
    using memory = created();
    const primitive = create(memory.view(Uint8Array));
    end(memory, memory.view(Uint8Array));
    const code = end === endings.at(-1) ? "Transferred" : "NotAttached";
    for (const call of calls) {
      assert.throws(() => call(primitive), { name: "SyncError", code });
    }
  }
}
