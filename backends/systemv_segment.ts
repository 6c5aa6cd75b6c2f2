import { AccessMode } from "../errors.ts";
import {
  FAILED_ADDRESS,
  IPC_CREAT,
  IPC_EXCL,
  IPC_RMID,
  IPC_STAT,
  LOCK_EX,
  LOCK_NB,
  LOCK_UN,
  MAP_ANONYMOUS,
  MAP_FIXED,
  MAP_NORESERVE,
  MAP_PRIVATE,
  PROT_READ,
  PROT_WRITE,
  SHM_DEST,
  SHM_RDONLY,
  SHMID_DS,
} from "./constants.ts";
import {
  EACCES,
  EEXIST,
  EIDRM,
  EINVAL,
  EMFILE,
  ENOENT,
  ENOMEM,
  ENOSPC,
  type ErrnoTable,
  Failure,
  failure,
} from "./errno.ts";
import type { Libc } from "./libc.ts";
import { KeyFile } from "./systemv_key_file.ts";
import type { Lock, Segment, SegmentBackend } from "./types.ts";

/**
 * How long attach() waits for the lock: the sections of create, attach and detach are far shorter, so
 * a holder that takes longer is a user of the segment.
 */
const SECTION_MS = 10;
const ATTACH_ATTEMPTS = 1000;
/** How often a lock that seems to be nobody's is tried to be taken over. */
const ENTER_ATTEMPTS = 5;

const OTHER_USER =
  "permission denied: the segment belongs to another user; use a key or a TMPDIR of your own";

const CREATE_ERRORS: ErrnoTable = {
  [EEXIST]: [
    "AlreadyExists",
    "already exists: attach() to it; if it is left from a crash, attach() and detach() removes it",
  ],
  [EACCES]: ["PermissionDenied", OTHER_USER],
  [EINVAL]: [
    "InvalidSize",
    "the system allows no segment of this size; raise kernel.shmmax (see `ipcs -lm`)",
  ],
  [ENOMEM]: ["OutOfResources", "out of memory: there is not enough for a segment of this size"],
  [ENOSPC]: [
    "OutOfResources",
    "the system's limit of segments is reached; raise kernel.shmmni or kernel.shmall, or look for " +
    "stale ones with `ipcs -mp` and remove them with `ipcrm -m ID`",
  ],
};

const ATTACH_ERRORS: ErrnoTable = {
  [ENOENT]: ["NotFound", "doesn't exist: some process must create() it first"],
  [EACCES]: ["PermissionDenied", OTHER_USER],
  [ENOMEM]: [
    "OutOfResources",
    "out of memory or address space; detached segments give theirs back when the garbage collector " +
    "has run, so let the event loop turn",
  ],
  [EMFILE]: ["OutOfResources", "this process has too many segments attached"],
};

interface Status {
  readonly size: number;
  readonly attached: number;
  /** Removed already; it goes with its last user. */
  readonly removed: boolean;
}

/** A segment of System V, attached. */
class SystemVSegment implements Segment {
  readonly address: bigint;
  readonly size: number;
  readonly #system: SystemVSegments;
  readonly #id: number;
  readonly #file: KeyFile;
  readonly #lock: Lock | null;
  #isBuried = false;

  constructor(
    system: SystemVSegments,
    id: number,
    address: bigint,
    size: number,
    file: KeyFile,
    lock: Lock | null,
  ) {
    this.#system = system;
    this.#id = id;
    this.address = address;
    this.size = size;
    this.#file = file;
    this.#lock = lock;
  }

  unmap(): boolean {
    return this.#isBuried = this.#system.bury(this.address, this.size);
  }

  free(): void {
    if (this.#isBuried) this.#system.unbury(this.address, this.size);
    else this.#system.detach(this.address);
  }

  leave(held: boolean, wait: boolean): void {
    const lock = this.#lock;
    let locked = held;
    try {
      if (this.#isUnused()) {
        // Whoever holds the lock may be about to attach, so what counts is what is true under it.
        locked ||= lock !== null &&
          (wait ? this.#system.enter(lock, () => !this.#isUnused()) : lock.acquire(0));
        if ((locked || lock === null) && this.#isUnused()) {
          this.#remove();
          return;
        }
      }
      lock?.bequeath(locked);
    } finally {
      lock?.close();
      this.#file.close();
    }
  }

  #isUnused(): boolean {
    const status = this.#system.status(this.#id);
    return status === null ? !this.#system.exists(this.#file) : status.attached === 0;
  }

  /** Removes what belongs to the segment. Qt also deletes a file that only lent its inode. */
  #remove(): void {
    const mayUnlink = this.#lock !== null || this.#file.created;
    const replaced = mayUnlink && this.#file.unlink() === "replaced";
    this.#system.remove(this.#id);
    if (replaced) this.#lock?.release(); // another segment has the name now, and the same lock
    else this.#lock?.remove();
  }
}

/** Qt's System V segments. */
export class SystemVSegments implements SegmentBackend {
  readonly #libc: Libc;
  readonly #maxBytes: number;
  readonly #pageBytes: number;
  readonly #statusBuffer = new Uint8Array(SHMID_DS.bytes);
  readonly #statusView = new DataView(this.#statusBuffer.buffer);

  constructor(libc: Libc, maxBytes: number, pageBytes: number) {
    this.#libc = libc;
    this.#maxBytes = maxBytes;
    this.#pageBytes = pageBytes;
  }

  create(path: string, size: number, mode: AccessMode, lock: Lock | null): Segment {
    if (size > this.#maxBytes) throw this.#oversize("the size is", size);
    // Looked up before the lock is waited for: a segment that exists is an answer at any time.
    const existing = KeyFile.open(this.#libc, path);
    if (existing !== null) {
      const found = this.#libc.c.shmget(existing.key, 0n, 0o600) !== -1;
      const errno = found ? EEXIST : this.#libc.errno();
      existing.close();
      if (errno !== ENOENT) throw failure("shmget", errno, CREATE_ERRORS);
    }
    if (lock !== null && !this.enter(lock, () => this.#isUsed(path))) {
      throw failure("shmget", EEXIST, CREATE_ERRORS);
    }
    let segment: Segment | undefined;
    try {
      return segment = this.#createLocked(path, size, mode, lock);
    } finally {
      if (segment !== undefined) lock?.release();
      else this.#abandon(path, lock);
    }
  }

  #createLocked(path: string, size: number, mode: AccessMode, lock: Lock | null): Segment {
    const { c } = this.#libc;
    const file = KeyFile.create(this.#libc, path);
    const id = c.shmget(file.key, BigInt(size), 0o600 | IPC_CREAT | IPC_EXCL);
    const errno = id === -1 ? this.#libc.errno() : 0;
    try {
      if (errno !== 0) throw failure("shmget", errno, CREATE_ERRORS);
      const address = this.#map(id, mode);
      if (address === null) throw failure("shmat", EIDRM);
      return new SystemVSegment(this, id, address, size, file, lock);
    } catch (error) {
      if (id !== -1) this.remove(id);
      if (file.created && errno !== EEXIST) file.unlink();
      file.close();
      throw error;
    }
  }

  attach(path: string, mode: AccessMode, lock: Lock | null): Segment {
    for (let attempt = 0; attempt < ATTACH_ATTEMPTS; attempt++) {
      const file = KeyFile.open(this.#libc, path);
      if (file === null) throw failure("open", ENOENT, ATTACH_ERRORS, path);
      let segment: Segment | null = null;
      try {
        segment = this.#tryAttach(file, path, mode, lock);
      } finally {
        if (segment === null) file.close();
      }
      if (segment !== null) return segment;
    }
    throw new Failure("UnknownError", "the segment is removed again and again");
  }

  /** `null` if the segment was removed while we attached. */
  #tryAttach(file: KeyFile, path: string, mode: AccessMode, lock: Lock | null): Segment | null {
    const { c } = this.#libc;
    const id = c.shmget(file.key, 0n, mode === AccessMode.ReadOnly ? 0o400 : 0o600);
    if (id === -1) throw failure("shmget", this.#libc.errno(), ATTACH_ERRORS);
    const locked = lock !== null && this.enter(lock, () => this.#isUsed(path));
    // Only one at a time attaches without the lock, so that the others it sees are users.
    const unguarded = lock !== null && !locked;
    if (unguarded && !file.flock(LOCK_EX | LOCK_NB)) return null;
    let attached = false;
    try {
      const address = this.#map(id, mode);
      if (address === null) return null;
      const status = this.status(id);
      const oversize = status !== null && status.size > this.#maxBytes;
      attached = !oversize && status !== null && !status.removed &&
        // The last user removes under the lock. Without it, that somebody else is attached shows
        // that its holder is a user, and not the last one about to remove what we just attached.
        (!unguarded || status.attached > 1);
      if (attached) return new SystemVSegment(this, id, address, status!.size, file, lock);
      c.shmdt(address);
      if (oversize) throw this.#oversize("the segment has", status.size);
      return null;
    } finally {
      if (unguarded) file.flock(LOCK_UN);
      if (locked) {
        if (attached) lock.release();
        else this.#abandon(path, lock);
      }
    }
  }

  #oversize(what: string, size: number): Failure {
    return new Failure(
      "InvalidSize",
      `${what} ${size} bytes; this runtime can make a view of at most ${this.#maxBytes}`,
    );
  }

  /**
   * Takes the lock for a section of create, attach or detach. `false` if a user of the segment holds
   * it, who may do so for as long as he likes; a lock that nobody can hold is taken over.
   */
  enter(lock: Lock, isUsed: () => boolean): boolean {
    for (let attempt = 0; attempt < ENTER_ATTEMPTS; attempt++) {
      if (lock.acquire(SECTION_MS)) return true;
      if (isUsed()) return false;
      if (lock.recover(() => !isUsed())) return true;
    }
    throw new Failure(
      "LockError",
      "the lock is held by a process that is not attached to the segment",
    );
  }

  /** Gives up under the lock. Where there is no segment there is no use for its lock either. */
  #abandon(path: string, lock: Lock | null): void {
    if (this.#lookUp(path) !== null) lock?.release();
    else lock?.remove();
  }

  /** Whether the key of a key file has a segment. */
  exists(file: KeyFile): boolean {
    return this.#libc.c.shmget(file.key, 0n, 0) !== -1;
  }

  #isUsed(path: string): boolean {
    return (this.#lookUp(path)?.attached ?? 0) > 0;
  }

  #lookUp(path: string): Status | null {
    const file = KeyFile.open(this.#libc, path);
    if (file === null) return null;
    const id = this.#libc.c.shmget(file.key, 0n, 0);
    file.close();
    return id === -1 ? null : this.status(id);
  }

  /** `null` if there is no such segment any more. */
  #map(id: number, mode: AccessMode): bigint | null {
    const address = this.#libc.c.shmat(id, 0n, mode === AccessMode.ReadOnly ? SHM_RDONLY : 0);
    if (address !== FAILED_ADDRESS) return address;
    const errno = this.#libc.errno();
    if (errno === EINVAL || errno === EIDRM) return null;
    throw failure("shmat", errno, ATTACH_ERRORS);
  }

  /** `null` if there is no such segment, or it is none of this user's. */
  status(id: number): Status | null {
    if (this.#libc.c.shmctl(id, IPC_STAT, this.#statusBuffer) === -1) return null;
    const view = this.#statusView;
    return {
      size: Number(view.getBigUint64(SHMID_DS.segsz, true)),
      attached: Number(view.getBigUint64(SHMID_DS.nattch, true)),
      removed: (view.getUint16(SHMID_DS.mode, true) & SHM_DEST) !== 0,
    };
  }

  remove(id: number): void {
    this.#libc.c.shmctl(id, IPC_RMID, this.#statusBuffer);
  }

  detach(address: bigint): void {
    this.#libc.c.shmdt(address);
  }

  /** Puts private zero-filled memory over a mapping, which detaches it. */
  bury(address: bigint, size: number): boolean {
    const length = this.#mappedBytes(size);
    const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
    return this.#libc.c.mmap(address, length, PROT_READ | PROT_WRITE, flags, -1, 0n) === address;
  }

  unbury(address: bigint, size: number): void {
    this.#libc.c.munmap(address, this.#mappedBytes(size));
  }

  #mappedBytes(size: number): bigint {
    return BigInt(Math.ceil(size / this.#pageBytes) * this.#pageBytes);
  }
}
