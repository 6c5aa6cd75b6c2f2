/** System V segments and semaphores of the simulated Linux, as in its ipc/util.c, ipc/shm.c and ipc/sem.c. */
import {
  EACCES,
  EAGAIN,
  EEXIST,
  EIDRM,
  EINVAL,
  ENOENT,
  ENOSPC,
  EPERM,
  ERANGE,
} from "../../backends/unix/errno.ts";
import {
  GETNCNT,
  GETPID,
  GETVAL,
  GETZCNT,
  IPC_CREAT,
  IPC_EXCL,
  IPC_NOWAIT,
  IPC_RMID,
  IPC_SET,
  IPC_STAT,
  SEM_UNDO,
  SETVAL,
  SHM_DEST,
  SHM_RDONLY,
} from "../../backends/unix/linux_constants.ts";
import { freeAddress } from "./memory.ts";
import {
  type Answer,
  block,
  type Caller,
  type IpcObject,
  type IpcTable,
  isAllowed,
  NO_BYTES,
  PAGE,
  pidFor,
  type Process,
  seconds,
  type Segment,
  type SemaphoreSet,
  type SemStep,
  type State,
  wake,
} from "./state.ts";

const [READ, WRITE] = [4, 2];
const SEMVMX = 32767;
/** A process may note at most this for its end, in either direction (sysvipc(7), SEMAEM). */
const SEMAEM = 32767;
const MAX_IDS = 32768;

function ownNamespace({ state, process }: Caller) {
  return state.ipc[process.ipc]!;
}

/** Looks up a key, or creates an object for it (`ipcget`). The size is checked before the permissions. */
function get<T extends IpcObject>(
  caller: Caller,
  table: IpcTable<T>,
  key: number,
  flags: number,
  fits: (object: T) => boolean,
  create: () => T | number,
): number {
  for (const [id, object] of table.objects) {
    if (key === 0 || object.key !== key) continue;
    if ((flags & IPC_CREAT) !== 0 && (flags & IPC_EXCL) !== 0) return -EEXIST;
    if (!fits(object)) return -EINVAL;
    return isAllowed(object, caller.process, flags >> 6 | flags >> 3 | flags) ? id : -EACCES;
  }
  if (key !== 0 && (flags & IPC_CREAT) === 0) return -ENOENT;
  const made = create();
  if (typeof made === "number") return made;
  const id = nextId(table);
  table.objects.set(id, made);
  return id;
}

/** Gives out the indexes in turn, so that an id is not used again soon (`ipc_idr_alloc`). */
function nextId(table: IpcTable<IpcObject>): number {
  const end = Math.min(Math.max(Math.floor(table.objects.size * 3 / 2), 64), MAX_IDS);
  const used = new Set([...table.objects.keys()].map((id) => id % MAX_IDS));
  let index = table.next < end ? table.next : 0;
  while (used.has(index)) index = (index + 1) % end;
  if (index <= table.last) table.turn++;
  table.last = index;
  table.next = index + 1;
  return table.turn * MAX_IDS + index;
}

function newObject({ state, process: { uid, gid } }: Caller, key: number, flags: number) {
  const mode = flags & 0o777;
  return { key, mode, uid, gid, cuid: uid, cgid: gid, ctime: seconds(state) };
}

function isOwner(object: IpcObject, { uid }: Process): boolean {
  return uid === 0 || uid === object.uid || uid === object.cuid;
}

function setOwner(state: State, object: IpcObject, uid: number, gid: number, mode: number): 0 {
  Object.assign(object, { uid, gid, mode: object.mode & ~0o777 | mode & 0o777 });
  object.ctime = seconds(state);
  return 0;
}

/** Removes a mapping of a process. A segment that was removed before disappears with its last one. */
export function unmap(state: State, index: number, address: number): void {
  const process = state.processes[index]!;
  const mapping = process.maps.get(address)!;
  process.maps.delete(address);
  if (mapping.kind !== "segment") return;
  const { objects } = state.ipc[process.ipc]!.shm;
  const segment = objects.get(mapping.id)!;
  segment.attached--;
  segment.last = index;
  segment.dtime = seconds(state);
  if (segment.attached === 0 && (segment.mode & SHM_DEST) !== 0) objects.delete(mapping.id);
}

function isBlocked(value: number, op: number): boolean {
  return op === 0 ? value !== 0 : value + op < 0;
}

/** Applies all steps or none. Returns 0, an errno, or the step that has to wait (`perform_atomic_semop`). */
function apply(
  state: State,
  set: SemaphoreSet,
  id: number,
  index: number,
  steps: readonly SemStep[],
): number | SemStep {
  const { undo } = state.processes[index]!;
  let { value } = set;
  let adjustment = undo.get(id) ?? 0;
  for (const step of steps) {
    const [op, flags] = step;
    if (isBlocked(value, op)) return (flags & IPC_NOWAIT) !== 0 ? EAGAIN : step;
    value += op;
    if (value > SEMVMX) return ERANGE;
    if ((flags & SEM_UNDO) === 0) continue;
    adjustment -= op;
    if (adjustment > SEMAEM || adjustment < -SEMAEM - 1) return ERANGE;
  }
  set.value = value;
  set.last = index; // also after a wait for 0
  if (undo.has(id)) undo.set(id, adjustment);
  return 0;
}

function changes(steps: readonly SemStep[]): boolean {
  return steps.some(([op]) => op !== 0);
}

/**
 * Completes the calls that wait for a set whose value has changed, in their order, those for 0 first (`do_smart_update`).
 * The woken process does not compete: what it waited for is its own before it runs. Returns whether there was one.
 */
function serve(state: State, set: SemaphoreSet, id: number): boolean {
  let isServed = false;
  for (let isChanged = true; isChanged;) {
    isChanged = false;
    const stepsOf = (index: number) => state.processes[index]!.wait!.steps;
    const inOrder = [
      ...set.waiters.filter((index) => !changes(stepsOf(index))),
      ...set.waiters.filter((index) => changes(stepsOf(index))),
    ];
    for (const index of inOrder) {
      const result = apply(state, set, id, index, stepsOf(index));
      if (typeof result === "object") continue;
      set.waiters = set.waiters.filter((other) => other !== index);
      wake(state.processes[index]!, result);
      isServed ||= result === 0;
      isChanged = changes(stepsOf(index));
      if (isChanged) break;
    }
  }
  return isServed;
}

/** Adds what the process has noted for its end, step two of it (`exit_sem`). */
export function undoAll(state: State, index: number): void {
  const process = state.processes[index]!;
  for (const [id, adjustment] of [...process.undo].reverse()) {
    const set = state.ipc[process.ipc]!.sem.objects.get(id);
    if (set === undefined) continue;
    if (adjustment !== 0) {
      set.value = Math.min(SEMVMX, Math.max(0, set.value + adjustment));
      set.last = index;
    }
    serve(state, set, id);
    set.otime = seconds(state); // even if nothing was to be undone
  }
  process.undo.clear();
}

/** Ends the wait of a process. */
export function leaveQueue(state: State, index: number): void {
  const process = state.processes[index]!;
  const set = state.ipc[process.ipc]!.sem.objects.get(process.wait?.set ?? -1);
  if (set !== undefined) set.waiters = set.waiters.filter((other) => other !== index);
  state.sleepers = state.sleepers.filter((other) => other !== index);
  process.wait = null;
}

function semop(caller: Caller, id: number, steps: readonly SemStep[], until: number): Answer {
  const { state, index, process, mode } = caller;
  if (process.wait !== null) {
    const { result } = process.wait;
    if (result === null && mode !== 2) return block(process, state, 0);
    leaveQueue(state, index);
    return result === null ? -EAGAIN : -result;
  }
  const set = ownNamespace(caller).sem.objects.get(id);
  if (set === undefined) return -EINVAL;
  // The undo record exists even if the call then fails.
  const hasUndo = steps.some(([, flags]) => (flags & SEM_UNDO) !== 0);
  if (hasUndo && !process.undo.has(id)) process.undo.set(id, 0);
  if (!isAllowed(set, process, changes(steps) ? WRITE : READ)) return -EACCES;
  const result = apply(state, set, id, index, steps);
  if (typeof result === "object") {
    set.waiters.push(index);
    return block(process, state, until, { set: id, steps });
  }
  if (result !== 0) return -result;
  if (changes(steps)) serve(state, set, id);
  set.otime = seconds(state);
  return 0;
}

function semctl(
  caller: Caller,
  id: number,
  _index: number,
  command: number,
  first = 0,
  gid = 0,
  mode = 0,
): Answer {
  const { state, process, index } = caller;
  if (id < 0) return -EINVAL;
  if (command === SETVAL && (first < 0 || first > SEMVMX)) return -ERANGE;
  const { objects } = ownNamespace(caller).sem;
  const set = objects.get(id);
  if (set === undefined) return -EINVAL;
  if (command === IPC_RMID || command === IPC_SET) {
    if (!isOwner(set, process)) return -EPERM;
    if (command === IPC_SET) return setOwner(state, set, first, gid, mode);
    objects.delete(id);
    for (const waiter of set.waiters) wake(state.processes[waiter]!, EIDRM);
    for (const other of state.processes) if (other.ipc === process.ipc) other.undo.delete(id);
    return 0;
  }
  if (!isAllowed(set, process, command === SETVAL ? WRITE : READ)) return -EACCES;
  const count = (isForZero: boolean) =>
    set.waiters.filter((waiter) => {
      const { steps } = state.processes[waiter]!.wait!;
      let { value } = set;
      const blocking = steps.find(([op]) => isBlocked(value, op) || (value += op, false));
      return blocking !== undefined && (blocking[0] === 0) === isForZero;
    }).length;
  switch (command) {
    case IPC_STAT: {
      const { uid, gid, cuid, cgid, mode, otime, ctime } = set;
      return { ret: 0, out: { uid, gid, cuid, cgid, mode, otime, ctime } };
    }
    case GETPID:
      return pidFor(state, set.last, process);
    case GETVAL:
      return set.value;
    case GETNCNT:
      return count(false);
    case GETZCNT:
      return count(true);
    case SETVAL:
      for (const other of state.processes) {
        if (other.ipc === process.ipc && other.undo.has(id)) other.undo.set(id, 0);
      }
      set.value = first;
      set.last = index;
      set.ctime = seconds(state);
      if (serve(state, set, id)) set.otime = seconds(state);
      return 0;
    default:
      throw new Error(`semctl ${command} is not simulated`);
  }
}

export const ipcCalls = {
  shmget(caller: Caller, key: number, size: number, flags: number): Answer {
    const { shm, limits } = ownNamespace(caller);
    return get<Segment>(caller, shm, key, flags, (segment) => size <= segment.size, () => {
      if (size < 1 || size > limits.shmmax) return -EINVAL;
      const pages = [...shm.objects.values()].reduce((sum, { size }) => {
        return sum + Math.ceil(size / PAGE);
      }, Math.ceil(size / PAGE));
      if (pages > limits.shmall || shm.objects.size >= limits.shmmni) return -ENOSPC;
      const times = { atime: 0, dtime: 0, attached: 0, last: -1 };
      const made = newObject(caller, key, flags);
      return { ...made, ...times, size, creator: caller.index, shownKey: key, bytes: NO_BYTES };
    });
  },

  shmat(caller: Caller, id: number, flags: number): Answer {
    const { state, process, index } = caller;
    const segment = ownNamespace(caller).shm.objects.get(id); // also one that was removed
    if (segment === undefined) return -EINVAL;
    const wanted = (flags & SHM_RDONLY) !== 0 ? READ : READ | WRITE;
    if (!isAllowed(segment, process, wanted)) return -EACCES;
    const length = Math.ceil(segment.size / PAGE) * PAGE;
    const address = freeAddress(process, length);
    process.maps.set(address, { kind: "segment", id, length });
    segment.attached++;
    segment.last = index;
    segment.atime = seconds(state);
    return address;
  },

  shmdt({ state, process, index }: Caller, address: number): Answer {
    if (process.maps.get(address)?.kind !== "segment") return -EINVAL;
    unmap(state, index, address);
    return 0;
  },

  shmctl(caller: Caller, id: number, command: number, uid = 0, gid = 0, mode = 0): Answer {
    const { state, process } = caller;
    const { objects } = ownNamespace(caller).shm;
    const segment = objects.get(id);
    if (segment === undefined) return -EINVAL;
    if (command === IPC_STAT) {
      if (!isAllowed(segment, process, READ)) return -EACCES;
      const { uid, gid, cuid, cgid, mode, size, ctime, attached } = segment;
      const creator = pidFor(state, segment.creator, process);
      return { ret: 0, out: { uid, gid, cuid, cgid, mode, size, ctime, creator, attached } };
    }
    if (command !== IPC_SET && command !== IPC_RMID) {
      throw new Error(`shmctl ${command} is not simulated`);
    }
    if (!isOwner(segment, process)) return -EPERM;
    if (command === IPC_SET) return setOwner(state, segment, uid, gid, mode);
    // An attached segment loses its key at once, and disappears when it is no longer attached.
    if (segment.attached === 0) objects.delete(id);
    else Object.assign(segment, { key: 0, mode: segment.mode | SHM_DEST });
    return 0;
  },

  semget(caller: Caller, key: number, count: number, flags: number): Answer {
    if (count > 1) throw new Error("sets of several semaphores are not simulated");
    const { sem, limits } = ownNamespace(caller);
    return get<SemaphoreSet>(caller, sem, key, flags, () => true, () => {
      if (count < 1) return -EINVAL;
      const isFull = sem.objects.size >= Math.min(limits.semmns, limits.semmni);
      if (isFull) return -ENOSPC;
      return { ...newObject(caller, key, flags), value: 0, last: -1, otime: 0, waiters: [] };
    });
  },

  semctl,

  semop(caller: Caller, id: number, steps: readonly SemStep[]): Answer {
    return semop(caller, id, steps, Infinity);
  },

  semtimedop(caller: Caller, id: number, steps: readonly SemStep[], ms: number): Answer {
    return semop(caller, id, steps, caller.state.now + ms);
  },
};
