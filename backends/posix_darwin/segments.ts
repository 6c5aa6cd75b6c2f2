import { AccessMode } from "../../errors.ts";
import {
  FAILED_ADDRESS,
  MAP_SHARED,
  O_RDONLY,
  O_RDWR,
  PROT_READ,
  PROT_WRITE,
} from "../unix/linux_constants.ts";
import {
  BackendError,
  checkSegmentSize,
  type ErrnoTable,
  lockTimeout,
  othersText,
} from "../failure.ts";
import { EACCES, EEXIST, EINVAL, ENOENT, ENOMEM, failure } from "../unix/errno.ts";
import { type FileStatus, fileStatus } from "../unix/files.ts";
import type { Libc } from "../unix/libc.ts";
import { ownUid, userName } from "../unix/users.ts";
import type { Mappings } from "../unix/mappings.ts";
import { nextPause, sleepSync } from "../timing.ts";
import { darwinName, type DarwinPosixLibrary } from "./library.ts";
import {
  isShared,
  type Lock,
  type OpenRequest,
  PRIVATE,
  type ReleaseOptions,
  type Segment,
  type SegmentBackend,
} from "../types.ts";

/** How long to wait for a process that has created a segment but not given it a size yet. */
const MAKE_MS = 1000;

const ERRORS: ErrnoTable = {
  [ENOENT]: ["NotFound", "doesn't exist: some process must create() it first"],
  [EEXIST]: [
    "AlreadyExists",
    "already exists: attach() to it; if a crash left it, it stays until a program calls " +
    "shm_unlink() or the system is restarted",
  ],
  [ENOMEM]: ["OutOfResources", "out of memory or address space"],
};

const SIZE_ERRORS: ErrnoTable = {
  ...ERRORS,
  [EINVAL]: ["InvalidSize", "macOS allows no segment of this size"],
};

/** A mapped POSIX shared memory object. */
class DarwinPosixSegment implements Segment {
  readonly address: bigint;
  readonly size: number;
  readonly #segments: DarwinPosixSegments;
  readonly #fd: number;
  readonly #lock: Lock | null;
  /** The name of the segment if this object created it, otherwise `null`. */
  readonly #made: Uint8Array | null;

  constructor(
    segments: DarwinPosixSegments,
    address: bigint,
    size: number,
    fd: number,
    lock: Lock | null,
    made: Uint8Array | null,
  ) {
    this.#segments = segments;
    this.address = address;
    this.size = size;
    this.#fd = fd;
    this.#lock = lock;
    this.#made = made;
  }

  unmap(): boolean {
    return this.#segments.mappings.replaceWithZeros(this.address, this.size);
  }

  free(): void {
    this.#segments.mappings.free(this.address, this.size);
  }

  release({ lockHeld }: ReleaseOptions): void {
    try {
      if (lockHeld) this.#lock?.release();
      if (this.#made !== null) this.#lock?.remove?.();
      else this.#lock?.close();
    } finally {
      this.#segments.release(this.#fd, this.#made);
    }
  }
}

/**
 * The POSIX shared memory objects of macOS. The system does not tell which processes use one: they are not files that
 * could be locked, and they have no count of users. So the object that created a segment removes the segment and its
 * lock when it detaches. Other processes can still use them, but no process can open them any more.
 */
export class DarwinPosixSegments implements SegmentBackend {
  readonly mappings: Mappings;
  readonly #library: DarwinPosixLibrary;
  readonly #libc: Libc;
  readonly #maxBytes: number;

  constructor(library: DarwinPosixLibrary, mappings: Mappings, maxBytes: number) {
    this.#library = library;
    this.#libc = library.libc;
    this.mappings = mappings;
    this.#maxBytes = maxBytes;
  }

  create(nativeKey: string, size: number, mode: AccessMode, lock: Lock | null): Segment {
    return this.#make(darwinName(nativeKey), size, mode, lock, PRIVATE, null);
  }

  attach(
    nativeKey: string,
    mode: AccessMode,
    lock: Lock | null,
    permissions = PRIVATE,
    minBytes = 0,
  ): Segment {
    const segment = this.#attach(darwinName(nativeKey), mode, lock, permissions, minBytes);
    if (segment === null) throw failure("shm_open", ENOENT, ERRORS, nativeKey);
    return segment;
  }

  /**
   * Attaches to the segment or creates it under the lock. The creator holds the lock until the segment is filled, so
   * `open` waits for the lock. A user of the segment may hold it too, so `open` also attaches without the lock.
   */
  open(nativeKey: string, request: OpenRequest, lock: Lock, permissions = PRIVATE): Segment {
    const name = darwinName(nativeKey);
    const { size, mode, existing, timeoutMs, initialize } = request;
    const isLocked = lock.acquire(timeoutMs);
    let isLeft = false; // `initialize` has released the lock
    try {
      const found = this.#attach(name, mode, lock, permissions, size, existing === "refuse");
      if (found !== null) return found;
      if (!isLocked) throw lockTimeout(lock);
      return this.#make(name, size, mode, lock, permissions, (segment) => {
        isLeft = true;
        initialize?.(segment);
        isLeft = false;
      });
    } finally {
      if (isLocked && !isLeft) lock.release();
    }
  }

  #make(
    name: Uint8Array,
    size: number,
    mode: AccessMode,
    lock: Lock | null,
    permissions: number,
    initialize: OpenRequest["initialize"],
  ): Segment {
    checkSegmentSize(size, 1, this.#maxBytes);
    const { O_CREAT, O_EXCL } = this.#libc.constants;
    const fd = this.#open(name, O_RDWR | O_CREAT | O_EXCL, permissions);
    let isKept = false;
    try {
      if (this.#library.c.ftruncate(fd, BigInt(size)) !== 0) {
        throw failure("ftruncate", this.#libc.errno(), SIZE_ERRORS);
      }
      const made = this.#map(fd, this.#statusOf(fd).bytes, mode, lock, name);
      isKept = true;
      initialize?.(made); // ends the segment if it throws
      return made;
    } finally {
      if (!isKept) this.release(fd, name);
    }
  }

  /** Attaches to a segment; returns `null` if it does not exist. */
  #attach(
    name: Uint8Array,
    mode: AccessMode,
    lock: Lock | null,
    permissions: number,
    minBytes: number,
    refuse = false,
  ): Segment | null {
    const fd = this.#open(name, mode === AccessMode.ReadOnly ? O_RDONLY : O_RDWR);
    if (fd === -ENOENT) return null;
    try {
      if (refuse) throw failure("shm_open", EEXIST, ERRORS);
      this.#checkUser(this.#statusOf(fd), permissions);
      const bytes = this.#sizeOf(fd);
      checkSegmentSize(bytes, minBytes, this.#maxBytes);
      if (bytes === 0) {
        throw new BackendError(
          "InvalidSize",
          "the segment has 0 bytes; the program that is creating it has not finished",
        );
      }
      return this.#map(fd, bytes, mode, lock, null);
    } catch (error) {
      this.release(fd, null);
      throw error;
    }
  }

  /** Opens or creates an object; returns a descriptor, or -ENOENT. */
  #open(name: Uint8Array, flags: number, permissions = 0): number {
    const fd = this.#library.c.shm_open(name, flags, permissions);
    if (fd >= 0) return fd;
    const errno = this.#libc.errno();
    if (errno === ENOENT) return -ENOENT;
    if (errno !== EACCES) throw failure("shm_open", errno, ERRORS);
    const text = othersText("segment", "");
    throw failure("shm_open", errno, { [EACCES]: ["PermissionDenied", text] });
  }

  #map(
    fd: number,
    bytes: number,
    mode: AccessMode,
    lock: Lock | null,
    made: Uint8Array | null,
  ): Segment {
    const { c } = this.#libc;
    const access = mode === AccessMode.ReadOnly ? PROT_READ : PROT_READ | PROT_WRITE;
    const address = c.mmap(0n, BigInt(bytes), access, MAP_SHARED, fd, 0n);
    if (address === FAILED_ADDRESS) throw failure("mmap", this.#libc.errno(), ERRORS);
    return new DarwinPosixSegment(this, address, bytes, fd, lock, made);
  }

  #statusOf(fd: number): FileStatus {
    const status = fileStatus(this.#libc, fd);
    if (typeof status === "number") throw failure("fstat", status, ERRORS);
    return status;
  }

  #sizeOf(fd: number): number {
    const deadline = performance.now() + MAKE_MS;
    for (let ms = nextPause(0);; ms = nextPause(ms)) {
      const { bytes } = this.#statusOf(fd);
      if (bytes > 0 || performance.now() >= deadline) return bytes;
      sleepSync(ms);
    }
  }

  #checkUser({ uid }: FileStatus, permissions: number): void {
    if (isShared(permissions) || uid === ownUid(this.#libc)) return;
    const text = othersText("segment", userName(this.#libc, uid));
    throw new BackendError("PermissionDenied", text, "fstat");
  }

  /** Closes a descriptor, and removes the segment if its name is given. */
  release(fd: number, name: Uint8Array | null): void {
    if (name !== null) this.#library.c.shm_unlink(name);
    this.#libc.c.close(fd);
  }
}
