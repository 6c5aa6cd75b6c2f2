import { BackendError } from "../failure.ts";
import type { PeekedSegment } from "../inventory.ts";
import type { Peek } from "../peek_types.ts";
import { EACCES, EINTR, ENOENT, failure } from "../unix/errno.ts";
import { fileStatus, openFile } from "../unix/files.ts";
import { cString, type Libc } from "../unix/libc.ts";
import { O_RDONLY, S_IFMT, S_IFREG } from "../unix/linux_constants.ts";

/** The `ssize_t` -1. */
const FAILED = 0xffff_ffff_ffff_ffffn;

/**
 * Reads the bytes of a POSIX segment, which is a file. It does not map the file: another process may make it shorter at
 * any moment, and a read takes no memory for bytes that nobody has touched.
 */
export class PosixPeek implements Peek {
  readonly size: number;
  readonly #libc: Libc;
  readonly #thing: PeekedSegment;
  #fd = -1;

  constructor(libc: Libc, thing: PeekedSegment) {
    this.#libc = libc;
    this.#thing = thing;
    this.size = thing.size;
  }

  read(offset: number, length: number): Uint8Array<ArrayBuffer> {
    if (this.#fd < 0) this.#open();
    const { c } = this.#libc;
    const bytes = new Uint8Array(Math.max(0, Math.min(length, this.size - offset)));
    for (let done = 0; done < bytes.length;) {
      const rest = bytes.subarray(done);
      const count = c.pread(this.#fd, rest, BigInt(rest.length), BigInt(offset + done));
      if (count === 0n) return bytes.slice(0, done);
      if (count !== FAILED) {
        done += Number(count);
        continue;
      }
      const errno = this.#libc.errno();
      if (errno !== EINTR) throw failure("pread", errno);
    }
    return bytes;
  }

  isTouched(): boolean {
    return true;
  }

  rest(): void {
    if (this.#fd >= 0) this.#libc.c.close(this.#fd);
    this.#fd = -1;
  }

  #open(): void {
    const { O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK } = this.#libc.constants;
    const flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW[this.#libc.arch]!;
    const fd = openFile(this.#libc, cString(this.#thing.keyFile!), flags);
    if (fd < 0) {
      throw failure("open", -fd, {
        [EACCES]: ["PermissionDenied", "its mode does not let this user read it"],
        [ENOENT]: ["NotFound", "the segment does not exist any more"],
      });
    }
    this.#fd = fd;
    const status = fileStatus(this.#libc, fd);
    const isSame = typeof status === "object" && (status.mode & S_IFMT) === S_IFREG &&
      status.inode === this.#thing.id;
    if (isSame) return;
    this.rest();
    throw new BackendError("NotFound", "the segment does not exist any more");
  }
}
