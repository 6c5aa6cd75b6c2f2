/** What the documentation says each call of a `SystemSemaphore` does. */
import { SystemSemaphoreError } from "../../mod.ts";
import { LONGEST_MS, type Wait } from "./lock_rules.ts";
import { NO_KEY } from "./names.ts";
import type { Outcome } from "./steps.ts";
import {
  type KernelSemaphore,
  newSemaphore,
  type Opened,
  type Process,
  type Semaphore,
  type World,
} from "./world.ts";

interface Subject {
  readonly world: World;
  readonly process: Process;
  readonly semaphore: Semaphore;
  readonly name: string;
}

// deno-lint-ignore no-explicit-any
type Rule = (subject: Subject, ...args: any[]) => Outcome | null;

/** The largest value, and the most that the kernel undoes. */
const VALUE_MAX = 32767;
const done: Outcome = { value: null };

function success({ semaphore }: Subject): Outcome {
  semaphore.error = 0;
  return { value: true };
}

function failed({ semaphore }: Subject, code: keyof typeof SystemSemaphoreError): Outcome {
  semaphore.error = SystemSemaphoreError[code];
  return { value: false };
}

function hasKey({ semaphore: { key } }: Subject): boolean {
  return !!key && key !== NO_KEY;
}

/** The semaphore of the object's key, made if there is none. */
function find({ world, semaphore }: Subject): [target: KernelSemaphore, isNew: boolean] {
  const found = world.semaphores.get(semaphore.key!);
  if (found !== undefined) return [found, false];
  const made: KernelSemaphore = {
    value: semaphore.initialValue,
    undo: new Map(),
    users: new Set(),
    offers: 0,
    offeredBy: null,
    isRemoved: false,
  };
  world.semaphores.set(semaphore.key!, made);
  return [made, true];
}

/** How often the removal was left to others, not to whoever opens it now. The last time counts for that one too, as long as its process lives. */
function offersTo({ offers, offeredBy }: KernelSemaphore, world: World): number {
  return offeredBy !== null && world.processes.includes(offeredBy) ? offers - 1 : offers;
}

function open(subject: Subject, isCreate = false): Opened {
  const [target, isNew] = find(subject);
  if (isCreate) {
    target.value = subject.semaphore.initialValue;
    target.undo.clear();
  }
  const opened: Opened = {
    ...{ target, isOwner: isNew || isCreate },
    ...{ offersBefore: offersTo(target, subject.world), balance: 0 },
  };
  target.users.add(opened);
  subject.process.opened.add(opened);
  return subject.semaphore.opened = opened;
}

/** What is opened, of the semaphore that there is now. */
function current(subject: Subject): Opened {
  const opened = subject.semaphore.opened ?? open(subject);
  if (opened.target.isRemoved) {
    const [target, isNew] = find(subject);
    opened.target.users.delete(opened);
    Object.assign(opened, {
      target,
      isOwner: isNew,
      offersBefore: offersTo(target, subject.world),
    });
    target.users.add(opened);
  }
  return opened;
}

/** Lets go of it: the last one removes it, if it is its owner, or was there when the removal was left to it. */
export function close(world: World, process: Process, opened: Opened): void {
  const { target, isOwner, offersBefore } = opened;
  process.opened.delete(opened);
  target.users.delete(opened);
  if (target.isRemoved || !isOwner && target.offers === offersBefore) return;
  if (target.users.size > 0) {
    target.offers++;
    target.offeredBy = process;
    return;
  }
  for (const [key, value] of world.semaphores) if (value === target) world.semaphores.delete(key);
}

/** What the kernel does when a process ends. */
export function undo(world: World, process: Process): void {
  for (const opened of process.opened) opened.target.users.delete(opened);
  for (const target of world.semaphores.values()) {
    const value = target.value + (target.undo.get(process) ?? 0);
    target.value = Math.min(VALUE_MAX, Math.max(0, value));
    target.undo.delete(process);
  }
}

/** The kernel's step, with undo as far as it counts that. */
function add({ process }: Subject, opened: Opened, step: number): boolean {
  const { target } = opened;
  if (target.value + step > VALUE_MAX) return false;
  target.value += step;
  opened.balance -= step;
  const undone = (target.undo.get(process) ?? 0) - step;
  if (undone <= VALUE_MAX && undone >= -VALUE_MAX - 1) target.undo.set(process, undone);
  return true;
}

/** The value that an acquire would meet. */
function nextValue({ world, semaphore }: Subject): number {
  return world.semaphores.get(semaphore.key!)?.value ?? semaphore.initialValue;
}

function acquire(subject: Subject, inVain: (subject: Subject) => Outcome | null): Outcome | null {
  if (!hasKey(subject)) return failed(subject, "KeyError");
  if (nextValue(subject) === 0) {
    const outcome = inVain(subject);
    if (outcome !== null) current(subject);
    return outcome;
  }
  add(subject, current(subject), -1);
  return success(subject);
}

export const semaphoreRules: Readonly<Record<string, Rule>> = {
  setKey(subject, key: string | null, initialValue: number, mode: 0 | 1) {
    const { world, process, semaphore } = subject;
    if (key === semaphore.key && mode === 0) return done;
    if (semaphore.opened !== null) close(world, process, semaphore.opened);
    Object.assign(semaphore, { key, initialValue, opened: null, error: 0 });
    if (key === NO_KEY) failed(subject, "KeyError");
    if (hasKey(subject)) open(subject, mode === 1);
    return done;
  },
  acquire: (subject) => acquire(subject, () => null),
  tryAcquire: (subject, _timeout: number) => acquire(subject, (s) => failed(s, "UnknownError")),
  acquireAsync(subject, { timeout, abort }: Wait) {
    const givenUp = (): Outcome => {
      subject.semaphore.error = null;
      return { thrown: "given up" };
    };
    if (abort === "before") return givenUp();
    return acquire(subject, () => {
      if (abort === "soon" && timeout === undefined) return givenUp();
      return (timeout ?? Infinity) <= LONGEST_MS ? failed(subject, "UnknownError") : null;
    });
  },
  release(subject, n: number) {
    if (!hasKey(subject)) return failed(subject, "KeyError");
    const opened = n === 0 && subject.semaphore.opened || current(subject);
    return add(subject, opened, n) ? success(subject) : failed(subject, "OutOfResources");
  },
  dispose({ world, process, semaphore }) {
    if (semaphore.opened !== null) close(world, process, semaphore.opened);
    semaphore.opened = null;
    return done;
  },
  /** The object is collected; what it has acquired or released on balance lasts. */
  forget({ world, process, semaphore, name }) {
    if (semaphore.opened?.balance === 0) close(world, process, semaphore.opened);
    Object.assign(process.semaphores, { [name]: newSemaphore() });
    return done;
  },
};
