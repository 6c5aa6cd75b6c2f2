import { AccessMode } from "../../errors.ts";
import {
  FAILED_ADDRESS,
  MADV_POPULATE_READ,
  MAP_SHARED,
  O_RDONLY,
  O_RDWR,
  PROT_READ,
  PROT_WRITE,
} from "../unix/linux_constants.ts";
import { BackendError, checkSegmentSize, type ErrnoTable, lockTimeout } from "../failure.ts";
import { EEXIST, EFAULT, ENOENT, ENOMEM, failure } from "../unix/errno.ts";
import type { Libc } from "../unix/libc.ts";
import { nextPause, sleepSync } from "../timing.ts";
import type { Mappings } from "../unix/mappings.ts";
import { PosixFile, type PosixName, posixName } from "./object_file.ts";
import {
  type Lock,
  type OpenRequest,
  PRIVATE,
  type ReleaseOptions,
  type Segment,
  type SegmentBackend,
} from "../types.ts";

/** How long to wait for the lock while another process creates the segment under it. */
const MAKE_MS = 5000;
/** How long to wait for the size of a segment that another program creates without the lock. */
const GROW_MS = 100;
/** The length of one wait for the lock, after which `open` checks again whether the segment exists by now. */
const LOOK_MS = 50;

const ERRORS: ErrnoTable = {
  [ENOENT]: ["NotFound", "doesn't exist: some process must create() it first"],
  [EEXIST]: [
    "AlreadyExists",
    "already exists: attach() to it; if a crash left it, attach() and detach() removes it, " +
    "unless another program created it",
  ],
  [ENOMEM]: ["OutOfResources", "out of memory or address space"],
};

const INITIALIZE_ERRORS: ErrnoTable = {
  [EEXIST]: [
    "AlreadyExists",
    "another program, for example a Qt program, created the segment while this one initialized it; open() again",
  ],
};

/** A mapped POSIX shared memory object. */
class PosixSegment implements Segment {
  readonly address: bigint;
  readonly size: number;
  readonly #mappings: Mappings;
  readonly #file: PosixFile;
  readonly #lock: Lock | null;

  constructor(mappings: Mappings, address: bigint, file: PosixFile, lock: Lock | null) {
    this.#mappings = mappings;
    this.address = address;
    this.size = file.size;
    this.#file = file;
    this.#lock = lock;
  }

  unmap(): boolean {
    return this.#mappings.replaceWithZeros(this.address, this.size);
  }

  free(): void {
    this.#mappings.free(this.address, this.size);
  }

  setPersistent(isPersistent: boolean): void {
    this.#file.setPersistent(isPersistent);
  }

  respectPersistence(): void {
    this.#file.respectPersistence();
  }

  requirePersistable(): void {
    this.#file.requirePersistable();
  }

  /** Whether no other object uses the segment; `null` if it has been removed meanwhile. */
  isSole(): boolean | null {
    return this.#file.isSole();
  }

  /** Ends the use of a segment that no other process can find, or that has been removed. The lock stays open. */
  discard(): void {
    this.unmap();
    this.free();
    this.#file.close();
  }

  release({ lockHeld }: ReleaseOptions): void {
    try {
      if (lockHeld) this.#lock?.release();
      this.#lock?.close();
    } finally {
      this.#file.leave();
    }
  }
}

/**
 * The POSIX shared memory objects of Linux. A new object gets its name when it is complete, and an object is removed by
 * its last user, so neither step needs the lock. The lock only ensures that one process at a time runs `initialize`.
 */
export class PosixSegments implements SegmentBackend {
  readonly #libc: Libc;
  readonly #mappings: Mappings;
  readonly #maxBytes: number;

  constructor(libc: Libc, mappings: Mappings, maxBytes: number) {
    this.#libc = libc;
    this.#mappings = mappings;
    this.#maxBytes = maxBytes;
  }

  /** Does nothing, because any object of this module can be persistent. */
  requirePersistable(): void {}

  create(nativeKey: string, size: number, mode: AccessMode, lock: Lock | null): Segment {
    const name = segmentName(nativeKey);
    if (PosixFile.exists(this.#libc, name)) throw failure("open", EEXIST, ERRORS, name.path);
    return this.#make(name, size, mode, lock, null) ?? this.#refuse(name);
  }

  attach(
    nativeKey: string,
    mode: AccessMode,
    lock: Lock | null,
    permissions = PRIVATE,
    minBytes = 0,
  ): Segment {
    const name = segmentName(nativeKey, permissions);
    const segment = this.#attach(name, mode, lock, minBytes);
    if (segment === null) throw failure("open", ENOENT, ERRORS, name.path);
    return segment;
  }

  open(nativeKey: string, request: OpenRequest, lock: Lock, permissions = PRIVATE): Segment {
    const name = segmentName(nativeKey, permissions);
    const { size, mode, existing, stale, timeoutMs, adopt } = request;
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      if (stale === "replace") PosixFile.removeUnused(this.#libc, name);
      const isThere = PosixFile.exists(this.#libc, name);
      if (isThere && existing === "refuse") this.#refuse(name);
      const found = isThere && adopt === undefined ? this.#attach(name, mode, lock, size) : null;
      if (found !== null) return found;
      const left = deadline - performance.now();
      if (lock.acquire(Math.max(0, Math.min(left, LOOK_MS)))) {
        const opened = this.#openLocked(name, request, lock);
        if (opened !== null) return opened;
      } else if (left <= 0) {
        throw lockTimeout(lock);
      }
    }
  }

  /**
   * Creates the segment, or adopts the one that exists, under the lock, which the caller has acquired. Returns `null` if
   * there must be another attempt, because another process has created or removed the segment meanwhile.
   */
  #openLocked(
    name: PosixName,
    { size, mode, initialize, adopt, isPersistent }: OpenRequest,
    lock: Lock,
  ): Segment | null {
    let isLeft = false;
    const leaving = (act: (segment: Segment) => void) => (segment: Segment) => {
      isLeft = true;
      act(segment);
      isLeft = false;
    };
    try {
      if (!PosixFile.exists(this.#libc, name)) {
        return this.#make(
          name,
          size,
          mode,
          lock,
          initialize && leaving(initialize),
          isPersistent,
        );
      }
      if (adopt === undefined) return null;
      return this.#adopt(name, size, mode, lock, leaving(adopt));
    } finally {
      if (!isLeft) lock.release();
    }
  }

  /** Attaches under the lock, and calls `adopt` if no other object uses the segment. Returns `null` if there is none. */
  #adopt(
    name: PosixName,
    size: number,
    mode: AccessMode,
    lock: Lock,
    adopt: (segment: Segment) => void,
  ): Segment | null {
    const segment = this.#attach(name, mode, lock, size, true);
    const isSole = segment?.isSole() ?? null;
    if (isSole === null) segment?.discard();
    else if (isSole) adopt(segment!);
    return isSole === null ? null : segment;
  }

  /** Creates a segment; returns `null` if a segment with this name already exists. */
  #make(
    name: PosixName,
    size: number,
    mode: AccessMode,
    lock: Lock | null,
    initialize: OpenRequest["initialize"],
    isPersistent = false,
  ): Segment | null {
    this.#checkSize(size);
    const file = PosixFile.make(this.#libc, name, size);
    let segment: PosixSegment | undefined;
    let isKept = false;
    try {
      segment = this.#map(file, mode, lock);
      isKept = initialize !== null; // `initialize` also ends the segment if it throws
      initialize?.(segment);
      if (isPersistent) file.setPersistent(true);
      if (file.publish()) {
        isKept = true;
        return segment;
      }
      if (initialize === null) return null;
      throw failure("linkat", EEXIST, INITIALIZE_ERRORS, name.path);
    } finally {
      if (!isKept) {
        if (segment === undefined) file.close();
        else segment.discard();
      }
    }
  }

  /** Attaches to a segment; returns `null` if it does not exist. */
  #attach(
    name: PosixName,
    mode: AccessMode,
    lock: Lock | null,
    minBytes: number,
    isLocked = false,
  ): PosixSegment | null {
    const readOnly = mode === AccessMode.ReadOnly;
    const file = PosixFile.open(this.#libc, name, readOnly ? O_RDONLY : O_RDWR, (bytes) => {
      if (bytes > 0) this.#checkSize(bytes, minBytes); // a size of 0 means that it is still being created
    });
    if (file === null) return null;
    try {
      if (file.size === 0) this.#awaitSize(file, isLocked ? null : lock);
      this.#checkSize(file.size, minBytes);
      if (!readOnly && !file.isReserved) file.reserve();
      return this.#map(file, mode, lock);
    } catch (error) {
      file.close(); // an unused segment is not removed
      throw error;
    }
  }

  /**
   * Waits until the segment has a size, because the file exists before it has one. Qt creates a segment under the lock;
   * C and Python programs need not.
   */
  #awaitSize(file: PosixFile, lock: Lock | null): void {
    if (lock?.acquire(MAKE_MS)) lock.release();
    const deadline = performance.now() + GROW_MS;
    for (let pause = 1;; pause = nextPause(pause)) {
      file.refresh();
      if (file.size > 0) return;
      if (performance.now() >= deadline) break;
      sleepSync(pause);
    }
    throw new BackendError(
      "InvalidSize",
      "the segment has 0 bytes: the program that is creating it has not finished; remove it if " +
        "that has ended",
    );
  }

  #map(file: PosixFile, mode: AccessMode, lock: Lock | null): PosixSegment {
    const { c } = this.#libc;
    const access = mode === AccessMode.ReadOnly ? PROT_READ : PROT_READ | PROT_WRITE;
    const length = this.#mappings.bytesOf(file.size);
    const address = c.mmap(0n, length, access, MAP_SHARED, file.fd, 0n);
    if (address === FAILED_ADDRESS) throw failure("mmap", this.#libc.errno(), ERRORS);
    // A read-only segment cannot be reserved, so its pages are at least made present.
    const isPresent = file.isReserved || c.madvise(address, length, MADV_POPULATE_READ) === 0 ||
      this.#libc.errno() !== EFAULT;
    if (isPresent) return new PosixSegment(this.#mappings, address, file, lock);
    this.#mappings.free(address, file.size);
    throw new BackendError(
      "OutOfResources",
      "/dev/shm is full, and has no room for all of the segment",
    );
  }

  #checkSize(size: number, minBytes = 1): void {
    checkSegmentSize(size, minBytes, this.#maxBytes);
  }

  #refuse(name: PosixName): never {
    throw failure("open", EEXIST, ERRORS, name.path);
  }
}

function segmentName(nativeKey: string, permissions = PRIVATE): PosixName {
  return posixName("segment", nativeKey, "", permissions);
}
