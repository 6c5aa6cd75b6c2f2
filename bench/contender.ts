/**
 * The module under one runtime: `<runtime> contender.ts KEY [create]` checks it, measures it and prints
 * the nanoseconds of each operation, or of `create` alone, as one line of JSON.
 */
import process from "node:process";
import { SharedMemory } from "../mod.ts";
import { elementCosts, elementsBytes } from "./elements.ts";
import { cost } from "./timing.ts";

const segmentBytes = 4096;

function require(ok: boolean, what: string, memory: SharedMemory): void {
  if (!ok) throw new Error(`${what}: ${memory.errorString() || "the opposite was expected"}`);
}

function createCost(key: string): number {
  const memory = new SharedMemory(key);
  return cost(() => {
    require(memory.create(segmentBytes), "create", memory);
    require(memory.detach(), "detach", memory);
  }, 20);
}

// The segment persists because `kept` stays attached.
function attachCost(key: string): number {
  const kept = new SharedMemory(key);
  const memory = new SharedMemory(key);
  require(kept.create(segmentBytes), "create", kept);
  const ns = cost(() => {
    require(memory.attach(), "attach", memory);
    require(memory.detach(), "detach", memory);
  }, 50);
  require(kept.detach(), "detach", kept);
  require(!kept.attach(), "attach after the last detach", kept);
  return ns;
}

function lockCost(key: string): number {
  const memory = new SharedMemory(key);
  const other = new SharedMemory(key);
  require(memory.create(segmentBytes), "create", memory);
  require(other.attach(), "attach", other);

  const checkLock = () => {
    require(memory.lock(), "lock", memory);
    // Another object of the same thread is refused, as it could only wait for ever.
    require(!other.lock(), "lock while locked", other);
    require(memory.unlock(), "unlock", memory);
    require(other.lock(), "lock while free", other);
    require(other.unlock(), "unlock", other);
  };
  checkLock();
  const ns = cost(() => {
    require(memory.lock(), "lock", memory);
    require(memory.unlock(), "unlock", memory);
  }, 500);
  checkLock();

  require(other.detach(), "detach", other);
  require(memory.detach(), "detach", memory);
  return ns;
}

function viewCosts(key: string): Record<string, number> {
  const memory = new SharedMemory(key);
  const other = new SharedMemory(key);
  require(memory.create(elementsBytes), "create", memory);
  require(other.attach() && other.size() === elementsBytes, "attach", other);
  const bytes = memory.view(Uint8Array);
  const costs = elementCosts(bytes);

  bytes.forEach((_, index) => bytes[index] = index * 7);
  const same = other.view(Uint8Array).every((byte, index) => byte === (index * 7 & 0xff));
  require(same, "the other object's view shows the same bytes", other);

  require(other.detach(), "detach", other);
  require(memory.detach(), "detach", memory);
  return costs;
}

const [, , key, only] = process.argv;
if (key === undefined) throw new Error("usage: contender.ts KEY [create]");
const create = () => ({ "create+detach": createCost(`${key}-create`) });
const all = () => ({
  "lock+unlock": lockCost(`${key}-lock`),
  ...create(),
  "attach+detach": attachCost(`${key}-attach`),
  ...viewCosts(`${key}-view`),
});
console.log(JSON.stringify(only === "create" ? create() : all()));
