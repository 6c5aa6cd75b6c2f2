/** Random steps, such as are likely to do something in the world as it is. */
import { MEMORY_KEYS, NO_KEY, OWN_PATHS, pathOf, SEMAPHORE_KEYS } from "./names.ts";
import type { Random } from "../../scripts/random.ts";
import { AGENTS, MEMORIES, SEMAPHORES, type Step } from "./steps.ts";
import type { Memory, World } from "./world.ts";

type Call = readonly [call: string, ...args: unknown[]];
type Choice = readonly [weight: number, make: () => Call];

const SIZES = [1, 8, 100, 100, 4096, 5000, 10_000];
const TYPES = ["Uint8Array", "Int16Array", "Int32Array", "Float64Array"];

/** A step; whether there is a rule for it is for the model to say. */
export function randomStep(random: Random, world: World): Step {
  const who = random.below(AGENTS);
  const kind = random.weighted([[68, "memory"], [30, "semaphore"], [1, "process"], [
    0.3,
    "system",
  ]]);
  if (kind === "process") return [who, "process", random.chance(0.7) ? "kill" : "end"];
  if (kind === "system") {
    return [0, "system", "removeSemaphore", random.oneOf(SEMAPHORE_KEYS)];
  }
  if (kind === "semaphore") {
    return [who, random.oneOf(SEMAPHORES), ...semaphoreCall(random)];
  }
  const name = random.oneOf(MEMORIES);
  return [who, name, ...memoryCall(random, world.processes[who]!.memories[name]!)];
}

function memoryCall(random: Random, memory: Memory): Call {
  const choices = memory.attachment !== null
    ? attachedCalls(random, memory)
    : memory.key || memory.path
    ? openingCalls(random)
    : [];
  return random.weighted([...choices, ...anyCalls(random, memory)])();
}

function anyCalls(random: Random, memory: Memory): Choice[] {
  const isUsed = memory.attachment !== null;
  const isOrphan = !memory.key && !memory.path;
  const keys = [...MEMORY_KEYS, ...MEMORY_KEYS, ...MEMORY_KEYS, "", null, NO_KEY];
  const paths = [...OWN_PATHS, ...OWN_PATHS, ...MEMORY_KEYS.map(pathOf), "", null];
  const keepView = isUsed && random.chance(0.2);
  return [
    [isOrphan ? 30 : 3, () => ["setKey", random.oneOf(keys)]],
    [isOrphan ? 6 : 1, () => ["setNativeKey", random.oneOf(paths)]],
    [2, () => ["detach"]],
    [1, () => ["dispose"]],
    [1, () => ["lock"]],
    [1, () => ["unlock"]],
    [1, () => ["withLock", random.oneOf(["write", "throw"]), 0, [1]]],
    [1, () => ["withLockAsync", wait(random), random.oneOf(["write", "throw"]), 0, [2]]],
    [1, () => ["view", ...viewArguments(random)]],
    [2, () => ["create", random.oneOf([...SIZES, 0, -1]), mode(random)]],
    [2, () => ["attach", mode(random)]],
    [0.3, () => ["forget", keepView, isUsed && !keepView && random.chance(0.8)]],
  ];
}

function openingCalls(random: Random): Choice[] {
  return [
    [20, () => ["create", random.oneOf(SIZES), mode(random)]],
    [20, () => ["attach", mode(random)]],
    [10, () => ["createOrAttach", random.oneOf([...SIZES, 0]), mode(random)]],
    [10, () => ["open", random.oneOf([...MEMORY_KEYS, ""]), openOptions(random)]],
  ];
}

function attachedCalls(random: Random, memory: Memory): Choice[] {
  const size = memory.attachment!.segment.bytes.length;
  const bytes = Array.from({ length: random.below(5) }, () => random.below(256));
  const offset = random.below(Math.max(1, size - bytes.length + 1));
  return [
    [10, () => ["lock"]],
    [6, () => ["tryLock", random.oneOf([0, 3])]],
    [6, () => ["lockAsync", wait(random)]],
    [20, () => ["unlock"]],
    [4, () => ["withLock", ...guarded(random, offset, bytes)]],
    [4, () => ["withLockAsync", wait(random), ...guarded(random, offset, bytes)]],
    [8, () => ["write", offset, bytes]],
    [5, () => ["read", offset, offset + 4]],
    [4, () => ["view", ...viewArguments(random)]],
    [4, () => ["poke", random.oneOf(TYPES), 8 * random.below(20), bytes]],
    [6, () => ["detach"]],
    [2, () => ["createOrAttach", random.oneOf(SIZES), 1]],
  ];
}

function guarded(random: Random, offset: number, bytes: number[]): Call {
  const kind = random.oneOf(["write", "write", "throw", "promise", "unlock", "detach"]);
  return kind === "write" ? [kind, offset, bytes] : [kind];
}

function mode(random: Random): 0 | 1 {
  return random.chance(0.8) ? 1 : 0;
}

function wait(random: Random) {
  return random.oneOf([{}, { timeout: 0 }, { timeout: 5 }, { timeout: 20_000 }, { abort: "soon" }, {
    timeout: 10_000,
    abort: "before",
  }]);
}

function viewArguments(random: Random): unknown[] {
  const type = random.oneOf([...TYPES, "DataView"]);
  return [type, random.oneOf([0, 0, 1, 4, 8, 96, -8, 20_000]), random.oneOf([null, null, 0, 1, 9])];
}

function openOptions(random: Random): Record<string, unknown> {
  const fill = random.oneOf([undefined, random.below(256), "throw"] as const);
  const size = random.chance(0.8) ? random.oneOf([...SIZES, 0]) : undefined;
  const disposition = random.oneOf([undefined, "create", "attach", "createOrAttach"] as const);
  return {
    ...size === undefined ? {} : { size },
    ...size === undefined && disposition !== "attach" || disposition === undefined
      ? {}
      : { disposition },
    ...random.chance(0.5) ? { stale: random.oneOf(["replace", "keep"]) } : {},
    ...fill === undefined ? {} : { fill },
    ...random.chance(0.3) ? { mode: mode(random) } : {},
  };
}

function semaphoreCall(random: Random): Call {
  const keys = [...SEMAPHORE_KEYS, ...SEMAPHORE_KEYS, ...SEMAPHORE_KEYS, "", null, NO_KEY];
  const values = [0, 1, 2, 3, 3, 32_767];
  return random.weighted<() => Call>([
    [12, () => ["setKey", random.oneOf(keys), random.oneOf(values), random.chance(0.15) ? 1 : 0]],
    [14, () => ["acquire"]],
    [8, () => ["tryAcquire", random.oneOf([0, 3])]],
    [6, () => ["acquireAsync", wait(random)]],
    [20, () => ["release", random.oneOf([0, 1, 1, 1, 2, 100, 32_767])]],
    [8, () => ["dispose"]],
    [0.3, () => ["forget"]],
  ])();
}
