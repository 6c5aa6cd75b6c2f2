/** The programs of the simulation: this module's backends, real Qt's sequences of calls, and foreign programs. */
import { BackendError, lockTimeout, orElse } from "../../backends/failure.ts";
import { SystemVInspection } from "../../backends/systemv/inspection.ts";
import { systemV } from "../../backends/systemv/mod.ts";
import type { Lock, OpenRequest, Segment } from "../../backends/types.ts";
import { sleepSync } from "../../backends/timing.ts";
import { Libc } from "../../backends/unix/libc.ts";
import { AccessMode, SystemSemaphoreMode } from "../../errors.ts";
import type { Note, Program } from "./scenario.ts";
import { ARCH, type SimulatedFfi } from "./ffi.ts";
import { CHOSEN_FILE } from "./foreign_programs.ts";
import { LOCK_KEY, SEGMENT_KEY, SEMAPHORE_KEY } from "./keys.ts";

const BYTES = 100;
/** The time within which a program gets what it waits for, unless another one was stopped. */
const TIMEOUT_MS = 5000;
/** Longer than other processes wait for the lock before they look whether the segment is in use. */
const SLOW_MS = 30;
/** Longer than a process is stopped. */
const HOLD_MS = 25_000;
const PLATFORM = { os: "linux", arch: ARCH };

function load(ffi: SimulatedFfi) {
  const backend = systemV(ffi, PLATFORM);
  return { ...backend, lock: backend.semaphores.lock(LOCK_KEY) };
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
  create: ({ segments, lock }) => segments.create(SEGMENT_KEY, BYTES, AccessMode.ReadWrite, lock),
  attach: ({ segments, lock }) => segments.attach(SEGMENT_KEY, AccessMode.ReadWrite, lock),
  open: ({ segments, lock }) => segments.open(SEGMENT_KEY, REQUEST, lock),
  initialize: initializing(0),
  "initialize slowly": initializing(SLOW_MS),
};

/** Opens with `initialize`, which takes so long. */
function initializing(ms: number): Begin {
  return ({ segments, lock }, note) => {
    const initialize = ({ address }: Segment) => {
      sleepSync(ms);
      note("store", Number(address));
    };
    const segment = segments.open(SEGMENT_KEY, { ...REQUEST, initialize }, lock);
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
};

function beginning(name: string, timeoutMs?: number, holdMs?: number): Program {
  return (ffi, note) => {
    const backend = load(ffi);
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

/** Attaches and ends without detaching, as a program that reaches its end: at most 10 ms are spent on the lock. */
const exiting: Program = (ffi, note) => {
  const { segments, lock } = load(ffi);
  const segment = segments.open(SEGMENT_KEY, REQUEST, lock);
  note("attached", Number(segment.address));
  note("detaching", Number(segment.address));
  segment.free();
  segment.release({ lockHeld: false, wait: false, exiting: true });
};

/** Opens a semaphore of value 1, acquires and releases it, and closes it. */
const semaphore = (mode: SystemSemaphoreMode): Program => (ffi, note) => {
  const { semaphores } = systemV(ffi, PLATFORM);
  const one = semaphores.open(SEMAPHORE_KEY, 1, mode);
  if (one.acquire(TIMEOUT_MS)) {
    note("acquired", 0);
    note("released", 0);
    one.release();
  } else throw lockTimeout(one);
  one.close();
};

/**
 * Opens a segment by a key file that the user has chosen. The segment of the C program is too small, so the call is
 * refused. If it were large enough, the last process to detach would remove it, as with Qt.
 */
const chosen: Program = (ffi) => {
  const { segments, semaphores } = systemV(ffi, PLATFORM);
  const lock = semaphores.lock(CHOSEN_FILE, 0o600, true);
  const request = { ...REQUEST, stale: "keep" } as const;
  orElse(() => {
    const segment = segments.open(CHOSEN_FILE, request, lock);
    segment.free();
    segment.release({ lockHeld: false, wait: true });
  }, () => lock.close());
};

/** Creates the segment and detaches, as often as that; it may exist already. */
const creatingAgain = (times: number): Program => (ffi, note) => {
  const backend = load(ffi);
  for (let turn = 0; turn < times; turn++) {
    orElse(() => {
      const segment = BEGINNINGS["create"]!(backend, note);
      note("attached", Number(segment.address));
      note("detaching", Number(segment.address));
      segment.free();
      segment.release({ lockHeld: false, wait: true });
    }, ({ code }) => {
      if (code !== "AlreadyExists") throw new Error(code);
    });
  }
};

/** Attaches, and is refused as often as that, because the segment is too small or does not exist. */
const refused = (times: number): Program => (ffi) => {
  const { segments, lock } = load(ffi);
  for (let turn = 0; turn < times; turn++) {
    orElse(() => {
      segments.attach(SEGMENT_KEY, AccessMode.ReadWrite, lock, undefined, BYTES + 1);
      throw new Error("a segment that is too small was not refused");
    }, ({ code }) => {
      if (code !== "InvalidSize" && code !== "NotFound") throw new Error(code);
    });
  }
};

/** Removes what is stale, as `cleanup()` does. */
const cleanup: Program = (ffi) => {
  const inspection = new SystemVInspection(new Libc(ffi, ARCH, "linux"), () => "/tmp");
  const { segments, semaphores, keyFiles } = inspection.inventory(false);
  for (const thing of [...segments, ...semaphores, ...keyFiles]) {
    if (thing.stale && thing.isOwn && !thing.orphan) {
      orElse(() => inspection.remove(thing), () => {});
    }
  }
};

export const programs: Readonly<Record<string, Program>> = {
  create: beginning("create"),
  attach: beginning("attach"),
  open: beginning("open"),
  initialize: beginning("initialize"),
  "try lock": beginning("open", 300),
  hold: beginning("open", Infinity, HOLD_MS),
  exit: exiting,
  "open semaphore": semaphore(SystemSemaphoreMode.Open),
  "create semaphore": semaphore(SystemSemaphoreMode.Create),
  chosen,
  cleanup,
};

/** Programs that only some scenarios need, to show what the others are too fast for. */
export const slowPrograms: Readonly<Record<string, Program>> = {
  "initialize slowly": beginning("initialize slowly"),
  "create again": creatingAgain(2),
  "refused again": refused(2),
};
