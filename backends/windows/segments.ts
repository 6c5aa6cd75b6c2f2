import { AccessMode } from "../../errors.ts";
import { type BackendError, checkSegmentSize, lockTimeout } from "../failure.ts";
import type { Kernel32 } from "../win32/kernel32.ts";
import type { Lock, OpenRequest, ReleaseOptions, Segment, SegmentBackend } from "../types.ts";
import { SECTION_MS } from "../timing.ts";
import {
  FILE_MAP_READ,
  FILE_MAP_WRITE,
  INVALID_HANDLE_VALUE,
  MEMORY_BASIC_INFORMATION,
  PAGE_READWRITE,
} from "../win32/constants.ts";
import { Creation } from "./creation_mutexes.ts";
import { ERROR_ALREADY_EXISTS, ERROR_FILE_NOT_FOUND, windowsFailure } from "../win32/errors.ts";
import { wideName } from "../win32/names.ts";

/** How long to wait for a process that creates the segment, or that holds its lock while the segment does not exist. */
const ENTER_MS = 5000;

function access(mode: AccessMode): number {
  return mode === AccessMode.ReadOnly ? FILE_MAP_READ : FILE_MAP_READ | FILE_MAP_WRITE;
}

/** A view of a file mapping with one handle of it. The kernel removes the name with the last handle. */
class WindowsSegment implements Segment {
  readonly address: bigint;
  readonly size: number;
  readonly #kernel: Kernel32;
  readonly #mapping: bigint;
  readonly #lock: Lock | null;

  constructor(
    kernel: Kernel32,
    mapping: bigint,
    address: bigint,
    size: number,
    lock: Lock | null,
  ) {
    this.#kernel = kernel;
    this.#mapping = mapping;
    this.address = address;
    this.size = size;
    this.#lock = lock;
  }

  /**
   * Does nothing, because Windows cannot replace a view without a moment in which the address range is free. The view
   * stays until its address is no longer known to any code, or for ever. That is harmless: the name is removed with the
   * handle, and a stray access reaches the old segment.
   */
  unmap(): boolean {
    return true;
  }

  free(): void {
    this.#kernel.c.UnmapViewOfFile(this.address);
  }

  release({ lockHeld }: ReleaseOptions): void {
    try {
      if (lockHeld) this.#lock?.release();
      this.#lock?.close();
    } finally {
      this.#kernel.c.CloseHandle(this.#mapping);
    }
  }
}

/**
 * The segments of Windows, as Qt uses them: named file mappings of the paging file, which the kernel removes by itself.
 */
export class WindowsSegments implements SegmentBackend {
  readonly #kernel: Kernel32;
  readonly #maxBytes: number;
  readonly #creation: Creation;
  readonly #information = new Uint8Array(MEMORY_BASIC_INFORMATION.bytes);
  readonly #informationView = new DataView(this.#information.buffer);

  constructor(kernel: Kernel32, maxBytes: number) {
    this.#kernel = kernel;
    this.#maxBytes = maxBytes;
    this.#creation = new Creation(kernel);
  }

  create(name: string, size: number, mode: AccessMode, lock: Lock | null): Segment {
    // The segment is looked for before any wait, because an existing segment is an error at any time. If it exists only
    // because another process is looking at it, without attaching, it does not count.
    const wide = wideName(name);
    const exists = () => this.#exists(name, wide);
    if (exists() && this.#creation.exclusively(name, null, exists, exists) !== false) {
      throw alreadyExists(name);
    }
    const request = { size, mode, existing: "refuse", stale: "keep", initialize: null } as const;
    return this.#open(name, { ...request, timeoutMs: ENTER_MS }, lock);
  }

  open(name: string, request: OpenRequest, lock: Lock): Segment {
    return this.#open(name, request, lock);
  }

  #open(name: string, request: OpenRequest, lock: Lock | null): Segment {
    const { size, mode } = request;
    checkSegmentSize(size, 1, this.#maxBytes);
    const wide = wideName(name);
    const deadline = performance.now() + request.timeoutMs;
    const exists = () => this.#exists(name, wide);
    let isMade = false;
    const segment = this.#creation.exclusively(name, deadline, exists, (make) => {
      const found = this.#find(name, wide, mode);
      if (found !== 0n) return this.#join(found, name, request, lock);
      make();
      const made = this.#make(name, wide, request, lock, deadline);
      if (typeof made === "bigint") return this.#join(made, name, request, lock);
      isMade = true;
      return made;
    })!; // not null, because there is a deadline
    if (!isMade) this.#passLock(lock, segment);
    return segment;
  }

  attach(
    name: string,
    mode: AccessMode,
    lock: Lock | null,
    _permissions?: number,
    minBytes = 0,
  ): Segment {
    const wide = wideName(name);
    if (this.#creation.isFilling(name)) throw notFound(name);
    // A mapping that is too small is closed before other processes look: they would take this process for a user.
    const segment = this.#creation.exclusively(name, null, () => this.#exists(name, wide), () => {
      const found = this.#find(name, wide, mode);
      return found === 0n ? null : this.#mapOrClose(found, mode, lock, minBytes);
    });
    if (segment === null) throw notFound(name); // or it is being created and does not exist yet
    this.#passLock(lock, segment);
    return segment;
  }

  /** Attaches to an existing mapping, or fails if the request refuses one. */
  #join(mapping: bigint, name: string, request: OpenRequest, lock: Lock | null): Segment {
    const { existing, mode, size } = request;
    if (existing === "attach") return this.#mapOrClose(mapping, mode, lock, size);
    this.#kernel.c.CloseHandle(mapping);
    throw alreadyExists(name);
  }

  /**
   * Opens the lock, and acquires it for a moment if it is soon free. Qt attaches under the lock; here nothing depends
   * on it.
   */
  #passLock(lock: Lock | null, segment: Segment): void {
    try {
      if (lock?.acquire(SECTION_MS)) lock.release();
    } catch (error) {
      segment.free();
      segment.release({ lockHeld: false, wait: false });
      throw error;
    }
  }

  /** Opens the mapping with a name; returns 0 if it does not exist. */
  #find(name: string, wide: Uint8Array, mode: AccessMode): bigint {
    const { OpenFileMappingW } = this.#kernel.c;
    const mapping = this.#kernel.attempt(() => OpenFileMappingW(access(mode), 0, wide));
    if (mapping !== 0n || this.#kernel.error === ERROR_FILE_NOT_FOUND) return mapping;
    throw windowsFailure("OpenFileMappingW", this.#kernel.error, name);
  }

  #exists(name: string, wide: Uint8Array): boolean {
    const mapping = this.#find(name, wide, AccessMode.ReadOnly);
    return mapping !== 0n && this.#kernel.c.CloseHandle(mapping) !== 0;
  }

  /** Creates the segment under the lock. If a peer has created it meanwhile, returns its mapping instead. */
  #make(
    name: string,
    wide: Uint8Array,
    request: OpenRequest,
    lock: Lock | null,
    deadline: number,
  ): Segment | bigint {
    while (lock !== null && !this.#enter(lock, deadline)) {
      const mapping = this.#find(name, wide, request.mode);
      if (mapping !== 0n) return mapping;
    }
    let isLeft = false;
    try {
      let mapping = this.#createMapping(name, wide, request.size);
      while (this.#kernel.error === ERROR_ALREADY_EXISTS) {
        // The error may be that of another call. Then the mapping was new, and closing its handle has removed it.
        this.#kernel.c.CloseHandle(mapping);
        const found = this.#find(name, wide, request.mode);
        if (found !== 0n) return found;
        mapping = this.#createMapping(name, wide, request.size);
      }
      const segment = this.#mapOrClose(mapping, request.mode, lock);
      const { initialize } = request;
      if (initialize !== null) {
        isLeft = true;
        this.#creation.filling(name, () => initialize(segment));
        isLeft = false;
      }
      return segment;
    } finally {
      if (!isLeft) lock?.release();
    }
  }

  /** Acquires the lock for a section of create; returns `false` if the caller has to try again. */
  #enter(lock: Lock, deadline: number): boolean {
    if (lock.acquire(SECTION_MS)) return true;
    if (performance.now() < deadline) return false;
    throw lockTimeout(lock);
  }

  #createMapping(name: string, wide: Uint8Array, size: number): bigint {
    const { CreateFileMappingW } = this.#kernel.c;
    const high = Math.floor(size / 2 ** 32);
    const low = size % 2 ** 32;
    const mapping = this.#kernel.attempt(() =>
      CreateFileMappingW(INVALID_HANDLE_VALUE, 0n, PAGE_READWRITE, high, low, wide)
    );
    if (mapping !== 0n) return mapping;
    throw windowsFailure("CreateFileMappingW", this.#kernel.error, name);
  }

  #mapOrClose(mapping: bigint, mode: AccessMode, lock: Lock | null, minBytes = 0): Segment {
    try {
      return this.#map(mapping, mode, lock, minBytes);
    } catch (error) {
      this.#kernel.c.CloseHandle(mapping);
      throw error;
    }
  }

  #map(mapping: bigint, mode: AccessMode, lock: Lock | null, minBytes: number): Segment {
    const { MapViewOfFile, UnmapViewOfFile } = this.#kernel.c;
    const address = this.#kernel.attempt(() => MapViewOfFile(mapping, access(mode), 0, 0, 0n));
    if (address === 0n) throw windowsFailure("MapViewOfFile", this.#kernel.error);
    try {
      const size = this.#sizeAt(address);
      checkSegmentSize(size, minBytes, this.#maxBytes);
      return new WindowsSegment(this.#kernel, mapping, address, size, lock);
    } catch (error) {
      UnmapViewOfFile(address);
      throw error;
    }
  }

  /** Returns the size of a view in whole pages. The size that create() received is not known any more. */
  #sizeAt(address: bigint): number {
    const { bytes, regionSize } = MEMORY_BASIC_INFORMATION;
    const { VirtualQuery } = this.#kernel.c;
    const length = this.#kernel.attempt(() =>
      VirtualQuery(address, this.#information, BigInt(bytes))
    );
    if (length === 0n) throw windowsFailure("VirtualQuery", this.#kernel.error);
    return Number(this.#informationView.getBigUint64(regionSize, true));
  }
}

function alreadyExists(name: string): BackendError {
  return windowsFailure("OpenFileMappingW", ERROR_ALREADY_EXISTS, name);
}

function notFound(name: string): BackendError {
  return windowsFailure("OpenFileMappingW", ERROR_FILE_NOT_FOUND, name);
}
