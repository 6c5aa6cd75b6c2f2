/** Segments that come and go. */
import { SharedMemory } from "../../mod.ts";
import { check, type Context, type Job, spin } from "./job.ts";
import { CHURNED_BYTES, FILLED_BYTES } from "./layout.ts";

/** Uses a segment that others use too, and leaves it. */
function use({ random }: Context, memory: SharedMemory): void {
  if (memory.size() !== CHURNED_BYTES) throw new Error(`a segment of ${memory.size()} bytes`);
  Atomics.add(memory.view(Int32Array), random.below(CHURNED_BYTES / 4), 1);
  if (random.chance(0.3) && check(memory, memory.tryLock(5), "LockError")) {
    if (random.chance(0.5)) check(memory, memory.unlock());
  }
  check(memory, memory.detach());
}

const createOrAttachBySelf: Job = {
  name: "create() or attach()",
  weight: 10,
  run(context) {
    using memory = new SharedMemory(context.random.oneOf(context.keys.churned));
    const isThere = check(memory, memory.create(CHURNED_BYTES), "AlreadyExists") ||
      check(memory, memory.attach(), "NotFound");
    if (isThere) use(context, memory);
  },
};

const createOrAttach: Job = {
  name: "createOrAttach()",
  weight: 10,
  run(context) {
    using memory = new SharedMemory(context.random.oneOf(context.keys.churned));
    check(memory, memory.createOrAttach(CHURNED_BYTES));
    use(context, memory);
  },
};

/** Whoever opens it sees all of what one of them has filled it with. */
const fill: Job = {
  name: "open() with initialize",
  weight: 10,
  run({ random, keys }) {
    const value = 1 + random.below(255);
    using memory = SharedMemory.open(random.oneOf(keys.filled), {
      size: FILLED_BYTES,
      initialize(bytes) {
        if (bytes.some((byte) => byte !== 0)) throw new Error("a new segment is not empty");
        const half = bytes.length / 2;
        bytes.fill(value, 0, half);
        spin(2 * random.number());
        bytes.fill(value, half);
      },
    });
    const data = memory.data()!;
    const [first] = data;
    if (first === 0 || data.some((byte) => byte !== first)) throw new Error("half initialised");
  },
};

/** Where everything may fail, but nothing may hang or crash. */
function useRoughly({ random }: Context, memory: SharedMemory): void {
  const isThere = random.chance(0.5)
    ? memory.createOrAttach(CHURNED_BYTES)
    : memory.create(CHURNED_BYTES) || memory.attach();
  if (!isThere) return;
  const words = memory.view(Int32Array);
  for (let turn = random.below(4); turn >= 0; turn--) {
    const isLocked = random.chance(0.5) ? memory.lock() : memory.tryLock(5);
    words[0]! += 1;
    if (isLocked) memory.unlock();
  }
}

const withoutFiles: Job = {
  name: "with its key files deleted",
  weight: 5,
  run(context) {
    using memory = new SharedMemory(context.keys.deleted);
    useRoughly(context, memory);
  },
};

/** For workers that do nothing else. */
export const withQt: Job = {
  name: "with a lock that Qt resets",
  weight: 5,
  run(context) {
    using memory = new SharedMemory(context.keys.reset);
    useRoughly(context, memory);
  },
};

export const churnJobs: readonly Job[] = [
  createOrAttachBySelf,
  createOrAttach,
  fill,
  withoutFiles,
  withQt,
];
