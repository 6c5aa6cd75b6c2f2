/**
 * Programs that use System V objects without this module: the sequences of calls of real Qt, a C program, and the tools
 * of a system.
 */
import { Libc } from "../../backends/unix/libc.ts";
import {
  AT_EMPTY_PATH,
  IPC_CREAT,
  IPC_EXCL,
  IPC_RMID,
  IPC_STAT,
  O_CREAT,
  O_EXCL,
  O_RDWR,
  SEM_UNDO,
  SETVAL,
  SHMID_DS,
  STATX,
} from "../../backends/unix/linux_constants.ts";
import { EEXIST, EIDRM, EINVAL } from "../../backends/unix/errno.ts";
import type { Note, Program } from "./scenario.ts";
import { ARCH, type SimulatedFfi } from "./ffi.ts";
import { CHOSEN_FILE, LOCK_KEY, SEGMENT_KEY, SEMAPHORE_KEY } from "./keys.ts";

const AT_FDCWD = -100;
const SYS_STATX = 332n;
const encoder = new TextEncoder();
export const bytesOf = (text: string) => encoder.encode(`${text}\0`);

/** The C functions that such programs call, for one process. */
export class CProgram {
  readonly c: Libc["c"];
  readonly #libc: Libc;
  readonly #step: { address: bigint; view: DataView };

  constructor(ffi: SimulatedFfi) {
    this.#libc = new Libc(ffi, ARCH, "linux");
    this.c = this.#libc.c;
    this.#step = this.#libc.allocate(8);
  }

  get errno(): number {
    return this.#libc.errno();
  }

  /** Returns what `statx` says about a file, or an open file if the path is empty; `null` if there is none. */
  stat(path: string, fd = AT_FDCWD): DataView | null {
    const status = new Uint8Array(STATX.bytes);
    const usize = this.#libc.ffi.usize(SYS_STATX);
    const flags = path === "" ? AT_EMPTY_PATH : 0;
    const result = this.c.syscall(usize, fd, bytesOf(path), flags, 0, status);
    return result === 0 ? new DataView(status.buffer) : null;
  }

  /** Returns the key of a file as `ftok(path, 'Q')` does; -1 if there is no such file. */
  ftok(path: string): number {
    const view = this.stat(path);
    if (view === null) return -1;
    const device = view.getUint32(STATX.devMinor, true) & 0xff;
    return 0x51 << 24 | device << 16 | view.getUint32(STATX.ino, true) & 0xffff;
  }

  /** Creates a key file as Qt does; returns whether it did not exist. */
  createFile(path: string): boolean {
    const fd = this.c.open(bytesOf(path), O_CREAT | O_EXCL | O_RDWR, 0o640);
    if (fd !== -1) this.c.close(fd);
    return fd !== -1;
  }

  unlink(path: string): void {
    this.c.unlink(bytesOf(path));
  }

  /** Adds `count` to a semaphore, with undo by default. */
  semop(id: number, count: number, flags = SEM_UNDO): number {
    const { address, view } = this.#step;
    view.setInt16(2, count, true);
    view.setInt16(4, flags, true);
    const { ffi } = this.#libc;
    return this.c.semop(id, ffi.usize(address), ffi.usize(1n));
  }

  /** Returns how many processes have a segment attached; -1 if it does not exist. */
  attached(id: number): number {
    const status = new Uint8Array(SHMID_DS.bytes);
    if (this.c.shmctl(id, IPC_STAT, status) !== 0) return -1;
    return Number(new DataView(status.buffer).getBigUint64(SHMID_DS.nattch, true));
  }

  removeSegment(id: number): void {
    this.c.shmctl(id, IPC_RMID, new Uint8Array(SHMID_DS.bytes));
  }
}

/** Qt's `QSystemSemaphore` as the lock of a `QSharedMemory`. */
class QtLock {
  readonly #program: CProgram;
  #id = -1;
  #isOwner = false;

  constructor(program: CProgram) {
    this.#program = program;
  }

  open(isCreate: boolean): void {
    const { c } = this.#program;
    this.#program.createFile(LOCK_KEY);
    const key = this.#program.ftok(LOCK_KEY);
    if (key === -1) return;
    this.#id = c.semget(key, 1, IPC_CREAT | IPC_EXCL | 0o600);
    this.#isOwner = this.#id !== -1;
    if (this.#id === -1 && this.#program.errno === EEXIST) {
      this.#id = c.semget(key, 1, IPC_CREAT | 0o600);
    }
    if (isCreate) this.#isOwner = true;
    if (this.#isOwner && this.#id !== -1) c.semctl(this.#id, 0, SETVAL, 1n);
  }

  change(count: number): void {
    for (let attempt = 0; attempt < 20; attempt++) {
      if (this.#id === -1) this.open(false);
      if (this.#program.semop(this.#id, count) === 0) return;
      if (![EINVAL, EIDRM].includes(this.#program.errno)) return;
      this.close();
    }
  }

  /** Removes the semaphore, if this object has created or reset it, even while others use it. */
  close(): void {
    if (this.#isOwner) {
      this.#program.unlink(LOCK_KEY);
      if (this.#id !== -1) this.#program.c.semctl(this.#id, 0, IPC_RMID, 0n);
    }
    this.#id = -1;
    this.#isOwner = false;
  }
}

/** `QSharedMemory`: create or attach, and detach as the destructor does. */
const qt = (isCreate: boolean): Program => (ffi, note) => {
  const program = new CProgram(ffi);
  const { c } = program;
  const lock = new QtLock(program);
  lock.open(isCreate);
  lock.change(-1);
  let flags = 0o600;
  let isMade = false;
  if (isCreate) {
    isMade = program.createFile(SEGMENT_KEY);
    flags |= IPC_CREAT | IPC_EXCL;
  }
  const key = program.ftok(SEGMENT_KEY);
  const id = key === -1 ? -1 : c.shmget(key, isCreate ? 100n : 0n, flags);
  if (isMade && id === -1 && program.errno !== EEXIST) program.unlink(SEGMENT_KEY);
  const address = id === -1 ? 0n : c.shmat(id, 0n, 0);
  const isAttached = id !== -1 && address !== 0xffff_ffff_ffff_ffffn;
  if (isAttached) note("attached", Number(address));
  lock.change(1);
  if (isAttached) detachAsQt(program, lock, note, address);
  lock.close();
};

function detachAsQt(program: CProgram, lock: QtLock, note: Note, address: bigint): void {
  const { c } = program;
  lock.change(-1);
  note("detaching", Number(address));
  c.shmdt(address);
  const key = program.ftok(SEGMENT_KEY);
  const id = key === -1 ? -1 : c.shmget(key, 0n, 0o400);
  if (id !== -1 && program.attached(id) === 0) {
    program.removeSegment(id);
    program.unlink(SEGMENT_KEY);
  }
  lock.change(1);
}

/**
 * Resets the lock as Qt's `create()` does, and is killed. With a value of 2 it stands for two processes, of which the
 * second one has released the lock since.
 */
const qtReset = (value: bigint): Program => (ffi) => {
  const program = new CProgram(ffi);
  const key = program.ftok(LOCK_KEY);
  const id = key === -1 ? -1 : program.c.semget(key, 1, 0o600);
  if (id !== -1) program.c.semctl(id, 0, SETVAL, value);
};

/** Takes the lock without undo, as C programs may, and ends with it. */
const endsWithLock: Program = (ffi) => {
  const program = new CProgram(ffi);
  const key = program.ftok(LOCK_KEY);
  const id = key === -1 ? -1 : program.c.semget(key, 1, 0o600);
  if (id !== -1) program.semop(id, -1, 0);
};

/** A user who removes the segment or the lock of the key with `ipcrm`. */
const ipcrm = (what: "shm" | "sem"): Program => (ffi) => {
  const program = new CProgram(ffi);
  const key = program.ftok(what === "shm" ? SEGMENT_KEY : LOCK_KEY);
  if (key === -1) return;
  if (what === "shm") {
    const id = program.c.shmget(key, 0n, 0);
    if (id !== -1) program.removeSegment(id);
  } else {
    const id = program.c.semget(key, 0, 0);
    if (id !== -1) program.c.semctl(id, 0, IPC_RMID, 0n);
  }
};

const rm = (path: string): Program => (ffi) => new CProgram(ffi).unlink(path);

/**
 * A C program with a segment of a file of its own, which it shares with everybody. It exists before, and is to exist
 * afterwards.
 */
const cProgram: Program = (ffi, note) => {
  const program = new CProgram(ffi);
  const key = program.ftok(CHOSEN_FILE);
  const address = program.c.shmat(program.c.shmget(key, 0n, 0), 0n, 0);
  note("attached", Number(address));
  note("detaching", Number(address));
  program.c.shmdt(address);
};

/** Creates a semaphore as Qt does, and is killed before it sets the value. */
export const deadCreator: Program = (ffi) => {
  const program = new CProgram(ffi);
  program.createFile(SEMAPHORE_KEY);
  program.c.semget(program.ftok(SEMAPHORE_KEY), 1, IPC_CREAT | IPC_EXCL | 0o600);
};

export const foreignPrograms: Readonly<Record<string, Program>> = {
  "Qt create": qt(true),
  "Qt attach": qt(false),
  "ipcrm -m": ipcrm("shm"),
  "ipcrm -s": ipcrm("sem"),
  "rm key file": rm(SEGMENT_KEY),
  "rm lock file": rm(LOCK_KEY),
  "C program": cProgram,
};

/** Programs that only some scenarios need. */
export const rareForeignPrograms: Readonly<Record<string, Program>> = {
  "Qt reset": qtReset(1n),
  "Qt reset twice": qtReset(2n),
  "ends with lock": endsWithLock,
};
