/** The programs of the simulation that use this module's backends, for each type of keys. */
import { BackendError, lockTimeout, orElse } from "../../backends/failure.ts";
import type { Lock, OpenRequest, Segment, Semaphore } from "../../backends/types.ts";
import { sleepSync } from "../../backends/timing.ts";
import { AccessMode, SystemSemaphoreMode } from "../../errors.ts";
import type { Note, Program } from "./scenario.ts";
import type { SimulatedFfi } from "./ffi.ts";
import { type KeyType, POSIX, SYSTEM_V } from "./keys.ts";

const BYTES = 100;
/** The time within which a program gets what it waits for, unless another one was stopped. */
const TIMEOUT_MS = 5000;
/** Longer than other processes wait for the lock before they look whether the segment is in use. */
const SLOW_MS = 30;
/** Longer than a process waits for the first value of a semaphore before it sets that. */
const SIGNAL_MS = 3000;
/** Longer than a process is stopped. */
const HOLD_MS = 25_000;

function load(type: KeyType, ffi: SimulatedFfi) {
  const { segments, semaphores } = type.backend(ffi);
  return { type, segments, semaphores, lock: semaphores.lock(type.lock) };
}

/** Uses a segment as a program does: locks it once, and detaches. */
function use(
  segment: Segment,
  lock: Lock,
  note: Note,
  timeoutMs = Infinity,
  holdMs = 0,
): void {
  const address = Number(segment.address);
  note("attached", address);
  if (lock.acquire(timeoutMs)) {
    note("locked", address);
    sleepSync(holdMs);
    note("unlocked", address);
    lock.release();
  } else if (timeoutMs === Infinity) throw new Error("a wait without a timeout has ended");
  note("detaching", address);
  detach(segment);
}

function detach(segment: Segment): void {
  segment.free();
  segment.release({ lockHeld: false, wait: true });
}

const REQUEST: OpenRequest = {
  size: BYTES,
  mode: AccessMode.ReadWrite,
  existing: "attach",
  stale: "replace",
  timeoutMs: TIMEOUT_MS,
  initialize: null,
};

type Begin = (backend: ReturnType<typeof load>, note: Note) => Segment;

const BEGINNINGS: Readonly<Record<string, Begin>> = {
  create: ({ type, segments, lock }) =>
    segments.create(type.segment, BYTES, AccessMode.ReadWrite, lock),
  attach: ({ type, segments, lock }) => segments.attach(type.segment, AccessMode.ReadWrite, lock),
  open: ({ type, segments, lock }) => segments.open(type.segment, REQUEST, lock),
  initialize: initializing(0),
  "initialize slowly": initializing(SLOW_MS),
  "initialize for long": initializing(HOLD_MS),
  "initialize patiently": initializing(0, Infinity),
};

/** Opens with `initialize`, which takes so long. */
function initializing(ms: number, timeoutMs = TIMEOUT_MS): Begin {
  return ({ type, segments, lock }, note) => {
    const initialize = ({ address }: Segment) => {
      sleepSync(ms);
      note("store", Number(address));
    };
    const segment = segments.open(type.segment, { ...REQUEST, timeoutMs, initialize }, lock);
    const stored = note("load", Number(segment.address));
    if (stored !== 1) throw new Error(`the bytes were stored ${stored} times`);
    return segment;
  };
}

/** The reasons for which a program may be refused. */
const REFUSALS: Readonly<Record<string, readonly string[]>> = {
  create: ["AlreadyExists"],
  attach: ["NotFound"],
  open: [],
  initialize: [],
  "initialize slowly": [],
  "initialize for long": [],
  "initialize patiently": [],
};

function beginning(type: KeyType, name: string, timeoutMs?: number, holdMs?: number): Program {
  return (ffi, note) => {
    const backend = load(type, ffi);
    let segment: Segment;
    try {
      segment = BEGINNINGS[name]!(backend, note);
    } catch (error) {
      if (error instanceof BackendError && REFUSALS[name]!.includes(error.code)) return;
      throw error;
    }
    use(segment, backend.lock, note, timeoutMs, holdMs);
  };
}

/** Opens when other programs have begun. */
const openingLater = (type: KeyType): Program => (ffi, note) => {
  sleepSync(1);
  beginning(type, "open")(ffi, note);
};

/** Attaches and ends without detaching, as a program that reaches its end: at most 10 ms are spent on the lock. */
const exiting = (type: KeyType): Program => (ffi, note) => {
  const { segments, lock } = load(type, ffi);
  const segment = segments.open(type.segment, REQUEST, lock);
  note("attached", Number(segment.address));
  note("detaching", Number(segment.address));
  segment.free();
  segment.release({ lockHeld: false, wait: false, exiting: true });
};

/** Creates the segment, and detaches so that it stays. */
export const keptBefore = (type: KeyType): Program => (ffi) => {
  const { segments, lock } = load(type, ffi);
  const segment = segments.open(type.segment, REQUEST, lock);
  segment.setPersistent!(true);
  detach(segment);
};

/** Opens a semaphore of value 1, acquires and releases it, and closes it. */
const semaphore =
  (type: KeyType, mode: SystemSemaphoreMode, holdMs = 0): Program => (ffi, note) => {
    const one = type.backend(ffi).semaphores.open(type.semaphore, 1, mode);
    if (one.acquire(TIMEOUT_MS)) {
      note("acquired", 0);
      sleepSync(holdMs);
      note("released", 0);
      one.release();
    } else throw lockTimeout(one);
    one.close();
  };

/** Opens a semaphore of value 0, adds 1 a while later, and holds on, as the kernel takes the 1 back at its end. */
const signaling = (type: KeyType): Program => (ffi) => {
  const one = openAtZero(type, ffi);
  sleepSync(SIGNAL_MS);
  one.release();
  sleepSync(HOLD_MS);
  one.close();
};

/** Opens a semaphore of value 0, and takes what another process adds. */
const awaiting = (type: KeyType): Program => (ffi) => {
  const one = openAtZero(type, ffi);
  one.acquire();
  one.close();
};

function openAtZero(type: KeyType, ffi: SimulatedFfi): Semaphore {
  return type.backend(ffi).semaphores.open(type.semaphore, 0, SystemSemaphoreMode.Open);
}

/**
 * Opens the segment of a C program. With a System V key it is too small, so the call is refused. If it were large enough,
 * the last process to detach would remove it, as with Qt.
 */
const chosen = (type: KeyType): Program => (ffi) => {
  const { segments, semaphores } = type.backend(ffi);
  const lock = semaphores.lock(type.chosen, 0o600, true);
  const request = { ...REQUEST, stale: "keep" } as const;
  orElse(() => {
    const segment = segments.open(type.chosen, request, lock);
    detach(segment);
  }, () => lock.close());
};

/** Creates the segment and detaches, as often as that; it may exist already. */
const creatingAgain = (type: KeyType, times: number): Program => (ffi, note) => {
  const backend = load(type, ffi);
  for (let turn = 0; turn < times; turn++) {
    orElse(() => {
      const segment = BEGINNINGS["create"]!(backend, note);
      note("attached", Number(segment.address));
      note("detaching", Number(segment.address));
      detach(segment);
    }, ({ code }) => {
      if (code !== "AlreadyExists") throw new Error(code);
    });
  }
};

/** Attaches, and is refused as often as that, because the segment is too small or does not exist. */
const refused = (type: KeyType, times: number): Program => (ffi) => {
  const { segments, lock } = load(type, ffi);
  for (let turn = 0; turn < times; turn++) {
    orElse(() => {
      segments.attach(type.segment, AccessMode.ReadWrite, lock, undefined, BYTES + 1);
      throw new Error("a segment that is too small was not refused");
    }, ({ code }) => {
      if (code !== "InvalidSize" && code !== "NotFound") throw new Error(code);
    });
  }
};

/** Removes what is stale, as `cleanup()` does. */
const cleanup = (type: KeyType): Program => (ffi) => {
  const inspection = type.inspection(ffi);
  const { segments, semaphores, keyFiles } = inspection.inventory(false);
  for (const thing of [...segments, ...semaphores, ...keyFiles]) {
    if (thing.stale && thing.isOwn && !thing.orphan) {
      orElse(() => inspection.remove(thing), () => {});
    }
  }
};

function programsOf(type: KeyType): Record<string, Program> {
  return {
    create: beginning(type, "create"),
    attach: beginning(type, "attach"),
    open: beginning(type, "open"),
    initialize: beginning(type, "initialize"),
    "try lock": beginning(type, "open", 300),
    hold: beginning(type, "open", Infinity, HOLD_MS),
    exit: exiting(type),
    "open semaphore": semaphore(type, SystemSemaphoreMode.Open),
    "create semaphore": semaphore(type, SystemSemaphoreMode.Create),
    chosen: chosen(type),
    cleanup: cleanup(type),
  };
}

/** Programs that only some scenarios need, to show what the others are too fast for. */
function slowProgramsOf(type: KeyType): Record<string, Program> {
  return {
    "initialize slowly": beginning(type, "initialize slowly"),
    "initialize for long": beginning(type, "initialize for long"),
    "initialize patiently": beginning(type, "initialize patiently"),
    "open later": openingLater(type),
    "create again": creatingAgain(type, 2),
    "refused again": refused(type, 2),
    "hold semaphore": semaphore(type, SystemSemaphoreMode.Open, HOLD_MS),
    "signal semaphore": signaling(type),
    "await semaphore": awaiting(type),
  };
}

/** Returns the programs for all types of keys, by names that begin with the prefix of the type. */
function byName(of: (type: KeyType) => Record<string, Program>): Record<string, Program> {
  return Object.fromEntries(
    [SYSTEM_V, POSIX].flatMap((type) =>
      Object.entries(of(type)).map(([name, program]) => [type.prefix + name, program])
    ),
  );
}

export const programs: Readonly<Record<string, Program>> = byName(programsOf);
export const slowPrograms: Readonly<Record<string, Program>> = byName(slowProgramsOf);
