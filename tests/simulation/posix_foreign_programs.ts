/** Programs that use POSIX objects without this module: the sequences of calls of real Qt, C programs, and `rm`. */
import {
  FAILED_ADDRESS,
  MAP_SHARED,
  O_CREAT,
  O_EXCL,
  O_NOFOLLOW,
  O_RDWR,
  PROT_READ,
  PROT_WRITE,
  STATX,
} from "../../backends/unix/linux_constants.ts";
import { sleepSync } from "../../backends/timing.ts";
import { EEXIST, ENOENT } from "../../backends/unix/errno.ts";
import { SEM_BYTES } from "../../backends/posix/mapped_semaphore.ts";
import type { CFunctions, CSignatures } from "../../ffi/types.ts";
import { ARCH, type SimulatedFfi } from "./ffi.ts";
import { bytesOf, CProgram } from "./foreign_programs.ts";
import { POSIX_CHOSEN, POSIX_LOCK, POSIX_SEGMENT } from "./keys.ts";
import type { Program } from "./scenario.ts";

const FOLDER = "/dev/shm/";
const BYTES = 100;
/** So long that others wait for it several times. */
const HOLD_MS = 3000;
const SIGNATURES = {
  ftruncate: { args: ["i32", "u64"], returns: "i32" },
  sem_init: { args: ["u64", "i32", "u32"], returns: "i32" },
  sem_wait: { args: ["u64"], returns: "i32" },
  sem_post: { args: ["u64"], returns: "i32" },
} as const satisfies CSignatures;

/** The functions of glibc for POSIX objects, for one process. */
class PosixProgram extends CProgram {
  readonly sem: CFunctions<typeof SIGNATURES>;
  readonly #temporary: string;

  constructor(ffi: SimulatedFfi) {
    super(ffi);
    this.sem = ffi.load([], SIGNATURES);
    this.#temporary = `sem.${this.c.getpid()}`;
  }

  open(name: string, flags: number): number {
    return this.c.open(bytesOf(FOLDER + name), O_RDWR | O_NOFOLLOW[ARCH]! | flags, 0o600);
  }

  override unlink(name: string): void {
    super.unlink(FOLDER + name);
  }

  /** Maps the whole object; returns `null` if there is none, or if it has no bytes yet. */
  map(name: string): bigint | null {
    const fd = this.open(name, 0);
    if (fd === -1) return null;
    const size = this.stat("", fd)!.getBigUint64(STATX.size, true);
    const address = this.c.mmap(0n, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0n);
    this.c.close(fd);
    return address === FAILED_ADDRESS ? null : address;
  }

  /** Creates a segment; returns whether it did not exist. */
  createSegment(): boolean {
    const fd = this.open(POSIX_SEGMENT, O_CREAT | O_EXCL);
    if (fd === -1) return false;
    this.sem.ftruncate(fd, BigInt(BYTES));
    this.c.close(fd);
    return true;
  }

  /** `sem_open` with O_CREAT and the value 1; returns `null` if it fails. */
  openSemaphore(isExclusive: boolean): bigint | null {
    for (;;) {
      const fd = isExclusive ? -1 : this.open(POSIX_LOCK, 0);
      if (fd !== -1) return this.#mapSemaphore(fd);
      if (!isExclusive && this.errno !== ENOENT) return null;
      const made = this.open(this.#temporary, O_CREAT | O_EXCL);
      if (made === -1) return null;
      this.sem.ftruncate(made, BigInt(SEM_BYTES));
      const address = this.#mapSemaphore(made)!;
      this.sem.sem_init(address, 1, 1);
      const [from, to] = [this.#temporary, POSIX_LOCK].map((name) => bytesOf(FOLDER + name));
      const isLinked = this.c.link(from!, to!) === 0;
      const exists = !isLinked && this.errno === EEXIST;
      this.unlink(this.#temporary);
      if (isLinked) return address;
      this.c.munmap(address, BigInt(SEM_BYTES));
      if (isExclusive || !exists) return null;
    }
  }

  #mapSemaphore(fd: number): bigint {
    const access = PROT_READ | PROT_WRITE;
    const address = this.c.mmap(0n, BigInt(SEM_BYTES), access, MAP_SHARED, fd, 0n);
    this.c.close(fd);
    return address;
  }
}

/** `QSharedMemory` with a POSIX key: create or attach, and detach as the destructor does, which leaves the object. */
const qt = (isCreate: boolean): Program => (ffi, note) => {
  const program = new PosixProgram(ffi);
  const { c, sem } = program;
  let lock: bigint | null = null;
  let isOwner = true;
  for (let attempt = 0; attempt < 3 && lock === null; attempt++) {
    lock = program.openSemaphore(isOwner);
    if (lock !== null) break;
    if (isCreate) program.unlink(POSIX_LOCK);
    else isOwner = false;
  }
  if (lock === null) return;
  sem.sem_wait(lock);
  const address = !isCreate || program.createSegment() ? program.map(POSIX_SEGMENT) : null;
  if (address !== null) note("attached", Number(address));
  sem.sem_post(lock);
  if (address !== null) {
    sem.sem_wait(lock);
    note("detaching", Number(address));
    c.munmap(address, BigInt(BYTES));
    sem.sem_post(lock);
  }
  c.munmap(lock, BigInt(SEM_BYTES));
  if (isOwner) program.unlink(POSIX_LOCK);
};

/** A C program that creates or attaches, holds the lock so long, and leaves both objects to the others. */
const cProgram = (holdMs: number): Program => (ffi, note) => {
  const program = new PosixProgram(ffi);
  const { c, sem } = program;
  program.createSegment();
  const address = program.map(POSIX_SEGMENT);
  const lock = program.openSemaphore(false);
  if (address === null || lock === null) return;
  note("attached", Number(address));
  sem.sem_wait(lock);
  note("locked", Number(address));
  sleepSync(holdMs);
  note("unlocked", Number(address));
  sem.sem_post(lock);
  c.munmap(lock, BigInt(SEM_BYTES));
  note("detaching", Number(address));
  c.munmap(address, BigInt(BYTES));
};

const rm = (name: string): Program => (ffi) => new PosixProgram(ffi).unlink(name);

/** A C program with an object of its own, which it shares with everybody. It is to exist afterwards. */
const owner: Program = (ffi, note) => {
  const program = new PosixProgram(ffi);
  const address = program.map(POSIX_CHOSEN);
  if (address === null) return;
  note("attached", Number(address));
  note("detaching", Number(address));
  program.c.munmap(address, BigInt(BYTES));
};

export const posixForeignPrograms: Readonly<Record<string, Program>> = {
  "POSIX Qt create": qt(true),
  "POSIX Qt attach": qt(false),
  "POSIX C lock": cProgram(0),
  "POSIX rm segment": rm(POSIX_SEGMENT),
  "POSIX rm lock": rm(POSIX_LOCK),
  "POSIX C program": owner,
};

/** Programs that only some scenarios need. */
export const rarePosixForeignPrograms: Readonly<Record<string, Program>> = {
  "POSIX C hold": cProgram(HOLD_MS),
};
