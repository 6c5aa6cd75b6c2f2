/** Programs that wait for a lock or a semaphore without blocking their event loops, as users of this module write them. */
import { delay, sleepSync } from "../../backends/timing.ts";
import { NativeIpcKey, NativeIpcKeyType } from "../../native_ipc_key.ts";
import { SharedMemory } from "../../shared_memory.ts";
import { SystemSemaphore } from "../../system_semaphore.ts";
import { must, noteAttached } from "./class_programs.ts";
import { Exit } from "./event_loop.ts";
import { POSIX, SYSTEM_V } from "./keys.ts";
import type { Note, Program } from "./scenario.ts";

/** The keys of a segment and a semaphore. Those of System V have the native keys of keys.ts. */
interface Keys {
  readonly prefix: string;
  readonly segment: string | NativeIpcKey;
  readonly semaphore: string | NativeIpcKey;
}

const KEYS: readonly Keys[] = [
  { prefix: SYSTEM_V.prefix, segment: "k", semaphore: "s" },
  {
    prefix: POSIX.prefix,
    segment: new NativeIpcKey(POSIX.segment, NativeIpcKeyType.PosixRealtime),
    semaphore: new NativeIpcKey(POSIX.semaphore, NativeIpcKeyType.PosixRealtime),
  },
];

function openSegment({ segment }: Keys): SharedMemory {
  return SharedMemory.open(segment, { size: BYTES });
}

function openSemaphore({ semaphore }: Keys): SystemSemaphore {
  return SystemSemaphore.open(semaphore, { initialValue: 1 });
}

const BYTES = 100;
/** Longer than a new thread needs to begin, and shorter than it waits at once. */
const SOON_MS = 50;
/** A little longer than a call waits that gives up soon, which begins later than the one that holds what it waits for. */
const HOLD_MS = 60;
/** Longer than a thread waits at once. */
const LONG_MS = 250;
/** Longer than others wait for a lock that nobody holds: a process that keeps one for so long is noticed. */
const LINGER_MS = 3000;

/** An `AbortSignal` that does not need the runtime. */
class Signal {
  aborted = false;
  readonly reason = new Error("aborted");
  readonly #listeners = new Set<() => void>();

  throwIfAborted(): void {
    if (this.aborted) throw this.reason;
  }

  addEventListener(_type: "abort", listener: () => void): void {
    this.#listeners.add(listener);
  }

  removeEventListener(_type: "abort", listener: () => void): void {
    this.#listeners.delete(listener);
  }

  abort(): void {
    this.aborted = true;
    for (const listener of [...this.#listeners]) listener();
  }
}

/** Waits for `call`; returns `null` instead of throwing the reason of the signal. */
async function unlessAborted<Result>(
  signal: Signal,
  call: Promise<Result>,
): Promise<Result | null> {
  try {
    return await call;
  } catch (error) {
    if (error !== signal.reason) throw error;
    return null;
  }
}

type Use = (memory: SharedMemory, note: Note, address: number, keys: Keys) => Promise<unknown>;
type Make = (keys: Keys) => Program;

/** Opens, uses the segment and detaches, unless `use` ends the program. */
const using = (use: Use): Make => (keys) => async (_, note) => {
  const memory = openSegment(keys);
  const address = noteAttached(note);
  const exit = await use(memory, note, address, keys);
  if (exit === undefined && memory.isAttached()) {
    note("detaching", address);
    must(memory, memory.detach());
  }
  return exit;
};

function unlockNoted(memory: SharedMemory, note: Note, address: number): void {
  note("locked", address);
  note("unlocked", address);
  must(memory, memory.unlock());
}

const lock: Use = async (memory, note, address) => {
  must(memory, await memory.lockAsync());
  unlockNoted(memory, note, address);
};

/** Holds the lock while its event loop turns. */
const withLock: Use = async (memory, note, address) => {
  await memory.withLockAsync(async () => {
    note("locked", address);
    await delay(SOON_MS);
    note("unlocked", address);
  });
};

/** Gives up after a while, blocks its event loop, and tries again. */
const timeout: Use = async (memory, note, address) => {
  if (await memory.lockAsync({ timeout: SOON_MS })) unlockNoted(memory, note, address);
  else if (memory.errorReason() !== "Timeout") must(memory, false);
  sleepSync(LINGER_MS);
  note("waiting", address);
  if (memory.tryLock()) unlockNoted(memory, note, address);
};

/** Aborts the wait, tries at once without waiting, and blocks its event loop. */
const abort: Use = async (memory, note, address) => {
  const signal = new Signal();
  setTimeout(() => signal.abort(), SOON_MS);
  const isLocked = await unlessAborted(signal, memory.lockAsync({ signal }));
  if (isLocked === false) must(memory, false);
  if (isLocked === true || memory.tryLock()) unlockNoted(memory, note, address);
  sleepSync(LINGER_MS);
};

/** Aborts the wait, and waits again without a pause. */
const abortAndWait: Use = async (memory, note, address) => {
  const signal = new Signal();
  setTimeout(() => signal.abort(), SOON_MS);
  const isLocked = await unlessAborted(signal, memory.lockAsync({ signal }));
  note("waiting", address);
  if (isLocked !== true) must(memory, await memory.lockAsync());
  unlockNoted(memory, note, address);
};

/** Two objects of one process wait; the first call is served first. */
const twice: Use = async (memory, note, address, keys) => {
  using other = openSegment(keys);
  let turn = 0;
  const locked = async (one: SharedMemory, place: number) => {
    must(one, await one.lockAsync());
    if (turn++ !== place) throw new Error(`call ${place} was served as number ${turn - 1}`);
    note("locked", address);
    await null;
    note("unlocked", address);
    must(one, one.unlock());
  };
  await Promise.all([locked(memory, 0), locked(other, 1)]);
};

/** Ends while it waits for the lock, after so much time. */
const exiting = (exit: Exit, ms = SOON_MS): Use => async (memory, note, address) => {
  const locked = async () => {
    if (!await memory.lockAsync()) return;
    note("locked", address);
    note("unlocked", address);
  };
  await Promise.race([locked(), later(ms)]);
  note("detaching", address);
  return exit;
};

async function later(ms: number): Promise<void> {
  if (ms > 0) await delay(ms);
}

/** Detaches while it waits. */
const detach: Use = async (memory, note, address) => {
  const detachSoon = async () => {
    await delay(SOON_MS);
    note("detaching", address);
    must(memory, memory.detach());
  };
  const locked = async () => {
    if (await memory.lockAsync()) return;
    const reason = memory.errorReason();
    if (reason !== "NotAttached" && reason !== "NotOwner") must(memory, false);
  };
  await Promise.all([locked(), detachSoon()]);
  await delay(LINGER_MS);
};

/** Holds the lock, as a program without asynchronous calls, and needs it again later. */
const hold = (ms: number): Make => (keys) => (_, note) => {
  using memory = openSegment(keys);
  const address = noteAttached(note);
  for (const holdMs of [ms, 0]) {
    note("waiting", address);
    must(memory, memory.lock());
    note("locked", address);
    sleepSync(holdMs);
    note("unlocked", address);
    must(memory, memory.unlock());
    sleepSync(SOON_MS);
  }
  note("detaching", address);
};

type UsePermit = (semaphore: SystemSemaphore, note: Note) => Promise<unknown>;

const usingPermit = (use: UsePermit): Make => (keys) => async (_, note) => {
  const semaphore = openSemaphore(keys);
  note("waiting", 0);
  const exit = await use(semaphore, note);
  if (exit === undefined) semaphore[Symbol.dispose]();
  return exit;
};

function releaseNoted(semaphore: SystemSemaphore, note: Note): void {
  note("acquired", 0);
  note("released", 0);
  must(semaphore, semaphore.release());
}

const acquire: UsePermit = async (semaphore, note) => {
  must(semaphore, await semaphore.acquireAsync({ timeout: 5000 }));
  releaseNoted(semaphore, note);
};

const withPermit: UsePermit = async (semaphore, note) => {
  await semaphore.withPermitAsync(async () => {
    note("acquired", 0);
    await delay(SOON_MS);
    note("released", 0);
  }, { timeout: 5000 });
};

const acquireTimeout: UsePermit = async (semaphore, note) => {
  if (await semaphore.acquireAsync({ timeout: SOON_MS })) releaseNoted(semaphore, note);
  else if (semaphore.errorReason() !== "Timeout") must(semaphore, false);
  sleepSync(LINGER_MS);
};

const acquireAbort: UsePermit = async (semaphore, note) => {
  const signal = new Signal();
  setTimeout(() => signal.abort(), SOON_MS);
  const isAcquired = await unlessAborted(signal, semaphore.acquireAsync({ signal }));
  if (isAcquired === false) must(semaphore, false);
  if (isAcquired === true || semaphore.tryAcquire()) releaseNoted(semaphore, note);
  sleepSync(LINGER_MS);
};

const acquiringAtExit = (exit: Exit): UsePermit => async (semaphore, note) => {
  const acquired = async () => {
    if (await semaphore.acquireAsync()) releaseNoted(semaphore, note);
  };
  await Promise.race([acquired(), later(SOON_MS)]);
  return exit;
};

const holdPermit = (ms: number): Make => (keys) => (_, note) => {
  using semaphore = openSemaphore(keys);
  for (const holdMs of [ms, 0]) {
    note("waiting", 0);
    must(semaphore, semaphore.acquire());
    note("acquired", 0);
    sleepSync(holdMs);
    note("released", 0);
    must(semaphore, semaphore.release());
    sleepSync(SOON_MS);
  }
};

/** Returns the programs for all types of keys, by names that begin with the prefix of the type. */
function byName(makes: Readonly<Record<string, Make>>): Readonly<Record<string, Program>> {
  return Object.fromEntries(
    KEYS.flatMap((keys) =>
      Object.entries(makes).map(([name, make]) => [keys.prefix + name, make(keys)])
    ),
  );
}

export const asyncPrograms = byName({
  "async lock": using(lock),
  "async withLock": using(withLock),
  "async lock with timeout": using(timeout),
  "async abort": using(abort),
  "async abort and wait": using(abortAndWait),
  "async lock twice": using(twice),
  "async exit": using(exiting(Exit.Node)),
  "async exit at once": using(exiting(Exit.Node, 0)),
  "async exit of Deno or Bun": using(exiting(Exit.Other)),
  "async exit of a worker": using(exiting(Exit.Worker)),
  "async detach": using(detach),
  "async semaphore": usingPermit(acquire),
  "async withPermit semaphore": usingPermit(withPermit),
  "async timeout semaphore": usingPermit(acquireTimeout),
  "async abort semaphore": usingPermit(acquireAbort),
  "async exit semaphore": usingPermit(acquiringAtExit(Exit.Node)),
  "async exit of Deno or Bun semaphore": usingPermit(acquiringAtExit(Exit.Other)),
  "async exit of a worker semaphore": usingPermit(acquiringAtExit(Exit.Worker)),
});

/** What holds a lock or a semaphore for so long that a thread waits for it, once or more often. */
export const holders = byName({
  "hold briefly": hold(HOLD_MS),
  "hold for a while": hold(LONG_MS),
  "hold briefly semaphore": holdPermit(HOLD_MS),
  "hold for a while semaphore": holdPermit(LONG_MS),
});
