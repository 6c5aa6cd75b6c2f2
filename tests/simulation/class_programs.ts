/** Programs that use the classes, `SharedMemory` and `SystemSemaphore`, as users of this module write them. */
import { registry } from "../../registry.ts";
import { SharedMemory } from "../../shared_memory.ts";
import { SystemSemaphore } from "../../system_semaphore.ts";
import { SystemSemaphoreMode } from "../../errors.ts";
import type { Note, Program } from "./scenario.ts";

/** The keys whose native keys are those of keys.ts. */
const SEGMENT = "k";
const SEMAPHORE = "s";
const BYTES = 100;

/** Throws the error of the last operation of an object if the operation failed. */
export function must(object: SharedMemory | SystemSemaphore, isDone: boolean): void {
  if (isDone) return;
  throw Object.assign(new Error(object.errorString()), { code: object.errorReason() });
}

/** Notes that the only object of the process is attached; returns the address. */
export function noteAttached(note: Note): number {
  const [attachment] = registry.attachments;
  const address = Number(attachment!.address);
  note("attached", address);
  return address;
}

/** Begins with an object that is attached, and ends with `detach()`. */
const qtStyle =
  (begin: (memory: SharedMemory) => boolean, refusal: string): Program => (_, note) => {
    const memory = new SharedMemory(SEGMENT);
    if (!begin(memory)) {
      if (memory.errorReason() !== refusal) must(memory, false);
      return;
    }
    const address = noteAttached(note);
    memory.bytes.fill(1); // the detach of a segment with a buffer makes other calls
    must(memory, memory.lock());
    note("locked", address);
    note("unlocked", address);
    must(memory, memory.unlock());
    note("detaching", address);
    must(memory, memory.detach());
  };

/** Opens, locks for a function, and detaches at the end of the scope. */
const open: Program = (_, note) => {
  using memory = SharedMemory.open(SEGMENT, { size: BYTES });
  const address = noteAttached(note);
  memory.withLock(() => {
    note("locked", address);
    note("unlocked", address);
  });
  note("detaching", address);
};

const initialize: Program = (_, note) => {
  using memory = SharedMemory.open(SEGMENT, {
    size: BYTES,
    initialize: () => {
      const [attachment] = registry.attachments;
      note("store", Number(attachment!.address));
    },
  });
  const address = noteAttached(note);
  const stored = note("load", address);
  if (stored !== 1) throw new Error(`the bytes were stored ${stored} times`);
  must(memory, memory.lock());
  note("locked", address);
  note("unlocked", address);
  note("detaching", address); // detach() releases the lock too
};

/** Ends without `detach()`, as most programs do: the exit hook detaches. */
const exiting = (isLocked: boolean): Program => (_, note) => {
  const memory = SharedMemory.open(SEGMENT, { size: BYTES });
  const address = noteAttached(note);
  if (isLocked) {
    must(memory, memory.lock());
    note("locked", address);
    note("unlocked", address);
  }
  note("detaching", address);
};

/** Acquires a semaphore of value 1, and releases and closes it. */
const semaphore = (mode: SystemSemaphoreMode): Program => (_, note) => {
  using one = SystemSemaphore.open(SEMAPHORE, { initialValue: 1, mode });
  if (!one.tryAcquire(1000)) return;
  note("acquired", 0);
  note("released", 0);
  must(one, one.release());
};

/** Ends with a permit, which the kernel gives back. */
const endsWithPermit: Program = (_, note) => {
  const one = SystemSemaphore.open(SEMAPHORE, { initialValue: 1 });
  if (!one.tryAcquire(1000)) return;
  note("acquired", 0);
  note("released", 0);
};

export const classPrograms: Readonly<Record<string, Program>> = {
  "class create": qtStyle((memory) => memory.create(BYTES), "AlreadyExists"),
  "class attach": qtStyle((memory) => memory.attach(), "NotFound"),
  "class open": open,
  "class initialize": initialize,
  "class exit": exiting(false),
  "class exit with lock": exiting(true),
  "class semaphore": semaphore(SystemSemaphoreMode.Open),
  "class create semaphore": semaphore(SystemSemaphoreMode.Create),
  "class exit with semaphore": endsWithPermit,
};
