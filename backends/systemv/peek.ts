import { BackendError } from "../failure.ts";
import type { PeekedSegment } from "../inventory.ts";
import type { Peek } from "../peek_types.ts";
import { EACCES, EIDRM, EINVAL, failure } from "../unix/errno.ts";
import type { Libc } from "../unix/libc.ts";
import { FAILED_ADDRESS, SHM_RDONLY } from "../unix/linux_constants.ts";
import { KeyFile, keyFilePath, lockPath } from "./key_file.ts";
import { SystemVSegments } from "./segments.ts";
import { SystemVSemaphores } from "./semaphores.ts";
import { Shm } from "./shm.ts";

/** An attachment of a moment. */
interface Attached {
  readonly address: bigint;
  /** Whether other processes were attached before. */
  readonly wasUsed: boolean;
  /** Ends the section in which no other process opens the segment. */
  leave(this: void): void;
}

/**
 * Reads the bytes of a System V segment. There is no other way than to attach to it, and the kernel counts that. So it is
 * attached for the moment of a few calls:
 *
 * - The last user of the segment may leave meanwhile. It leaves the removal to this process then, as to any other process
 *   that is attached, and this process removes the segment.
 * - A process that opens a segment which nobody uses treats it in another way than one that is in use. So such a segment
 *   is attached under its lock, and under the claim that keeps other processes from counting on each other.
 */
export class SystemVPeek implements Peek {
  readonly size: number;
  readonly #libc: Libc;
  readonly #thing: PeekedSegment;
  readonly #shm: Shm;
  #attached: Attached | null = null;
  #hadUsers = false;

  constructor(libc: Libc, thing: PeekedSegment) {
    this.#libc = libc;
    this.#thing = thing;
    this.#shm = new Shm(libc);
    this.size = thing.size;
  }

  read(offset: number, length: number): Uint8Array<ArrayBuffer> {
    const { address } = this.#now();
    const count = Math.min(length, this.size - offset);
    // Not a buffer of the whole segment: engines count it as memory of this program, and Bun refuses 4 GiB.
    if (!(count > 0)) return new Uint8Array();
    return new Uint8Array(this.#libc.ffi.arrayBuffer(address + BigInt(offset), count)).slice();
  }

  isTouched(offset: number, length: number): boolean {
    const attached = this.#now();
    const { pageBytes } = this.#libc;
    const begin = Math.floor(offset / pageBytes) * pageBytes;
    const end = Math.min(offset + length, this.size);
    const pages = new Uint8Array(Math.ceil((end - begin) / pageBytes));
    const address = attached.address + BigInt(begin);
    if (this.#libc.c.mincore(address, BigInt(end - begin), pages) !== 0) return true;
    return pages.some((page) => (page & 1) !== 0);
  }

  rest(): void {
    const attached = this.#attached;
    if (attached === null) return;
    this.#attached = null;
    this.#libc.c.shmdt(attached.address);
    try {
      if (attached.wasUsed) this.#removeIfLeft();
    } finally {
      attached.leave();
    }
  }

  #now(): Attached {
    return this.#attached ??= this.#attach();
  }

  #attach(): Attached {
    const { id } = this.#thing;
    const status = this.#shm.status(id);
    if (status === null) throw this.#failure("shmctl", this.#libc.errno());
    if (status.attached > 0) return this.#map(true, () => {});
    return this.#attachUnused();
  }

  /** Attaches to a segment that no process uses, so that no other process opens it meanwhile. */
  #attachUnused(): Attached {
    const leave: (() => void)[] = [];
    const leaveAll = () => leave.reverse().forEach((one) => one());
    try {
      if (!this.#enter(leave)) {
        throw new BackendError("Busy", "a process opens or removes the segment at this moment");
      }
      // A process may have opened the segment before this one had the lock, and may leave it from now on.
      this.#hadUsers = (this.#shm.status(this.#thing.id)?.attached ?? 0) > 0;
      return this.#map(false, leaveAll);
    } catch (error) {
      leaveAll();
      throw error;
    }
  }

  /**
   * Acquires the lock of the segment and the claim, if this user may; `leave` gets what undoes that. A segment that is
   * kept without a user has no lock: it gets one as from a process that opens it, and loses it again. Returns `false` if
   * another process has the lock or the claim.
   */
  #enter(leave: (() => void)[]): boolean {
    const { keyFile, lock: known, mode, isOwn } = this.#thing;
    if (keyFile === null || !isOwn) return true;
    const lock = new SystemVSemaphores(this.#libc).lock(known?.keyFile ?? lockPath(keyFile), mode);
    leave.push(() => lock.close());
    if (!lock.acquire(0)) return false;
    leave.push(() => this.#segments.abandon(keyFilePath(keyFile), lock, this.#hadUsers));
    const file = KeyFile.open(this.#libc, keyFilePath(keyFile));
    if (file === null) return true;
    leave.push(() => file.close());
    const claim = file.claim();
    if (typeof claim === "function") leave.push(claim);
    return claim !== "busy";
  }

  #map(wasUsed: boolean, leave: () => void): Attached {
    const address = this.#libc.c.shmat(this.#thing.id, 0n, SHM_RDONLY);
    if (address === FAILED_ADDRESS) throw this.#failure("shmat", this.#libc.errno());
    return { address, wasUsed, leave };
  }

  /** Removes the segment if its last user has left it while this process was attached, as that user would have done. */
  #removeIfLeft(): void {
    const { id, keyFile, mode, isOwn } = this.#thing;
    if (keyFile === null || !isOwn || this.#shm.status(id)?.attached !== 0) return;
    const lock = new SystemVSemaphores(this.#libc).lock(lockPath(keyFile), mode);
    try {
      this.#segments.removeLeft(id, keyFile, lock, mode);
    } finally {
      lock.close();
    }
  }

  get #segments(): SystemVSegments {
    return new SystemVSegments(this.#libc, Number.MAX_SAFE_INTEGER, this.#libc.pageBytes);
  }

  #failure(call: string, errno: number): BackendError {
    if (errno === EINVAL || errno === EIDRM) {
      return new BackendError("NotFound", "the segment does not exist any more");
    }
    return failure(call, errno, {
      [EACCES]: ["PermissionDenied", "its mode does not let this user read it"],
    });
  }
}
