import type { CFunctions, CSignatures, Ffi } from "../ffi/types.ts";
import { PATH_MAX } from "./constants.ts";
import { EINTR, failure } from "./errno.ts";

/** glibc has the first name; musl answers to it as well, and to the second. */
const LIBRARIES = ["libc.so.6", "libc.so"];

/**
 * The C functions we call, each once. `open` and `semctl` are variadic, which passing the arguments
 * as if they were fixed gets right on x86-64 and on arm64 Linux.
 */
const SIGNATURES = {
  __errno_location: { args: [], returns: "u64" },
  calloc: { args: ["u64", "u64"], returns: "u64" },
  getenv: { args: ["buffer"], returns: "u64" }, // (name) -> char *
  strlen: { args: ["u64"], returns: "u64" },
  realpath: { args: ["buffer", "buffer"], returns: "u64" }, // (path, resolved[PATH_MAX]) -> char *
  sysconf: { args: ["i32"], returns: "u64" },

  open: { args: ["buffer", "i32", "u32"], returns: "i32" }, // (path, flags, mode)
  close: { args: ["i32"], returns: "i32" },
  unlink: { args: ["buffer"], returns: "i32" },
  flock: { args: ["i32", "i32"], returns: "i32" },

  mmap: { args: ["u64", "u64", "i32", "i32", "i32", "u64"], returns: "u64" }, // (addr, length, prot, flags, fd, offset)
  munmap: { args: ["u64", "u64"], returns: "i32" },

  ftok: { args: ["buffer", "i32"], returns: "i32" }, // (path, project id) -> key_t
  shmget: { args: ["i32", "u64", "i32"], returns: "i32" }, // (key, size, flags)
  shmat: { args: ["i32", "u64", "i32"], returns: "u64" }, // (id, addr, flags) -> void *
  shmdt: { args: ["u64"], returns: "i32" },
  shmctl: { args: ["i32", "i32", "buffer"], returns: "i32" }, // (id, cmd, shmid_ds *)
  semget: { args: ["i32", "i32", "i32"], returns: "i32" }, // (key, count, flags)
  semctl: { args: ["i32", "i32", "i32", "u64"], returns: "i32" }, // (id, index, cmd, union semun)
  semop: { args: ["i32", "u64", "u64"], returns: "i32" }, // (id, sembuf *, count)
  semtimedop: { args: ["i32", "u64", "u64", "u64"], returns: "i32" }, // (id, sembuf *, count, timespec *)
} as const satisfies CSignatures;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** A C string. The caller has made sure that `text` has no NUL. */
export function cString(text: string): Uint8Array {
  return encoder.encode(text + "\0");
}

/** The C library, with what is needed to use it from JavaScript. */
export class Libc {
  readonly c: CFunctions<typeof SIGNATURES>;
  readonly ffi: Ffi;
  #errnoAddress = 0n;
  #errnoCell = new Int32Array(1);

  constructor(ffi: Ffi) {
    this.ffi = ffi;
    this.c = ffi.load(LIBRARIES, SIGNATURES);
  }

  /** `errno` of this thread; to be read right after the call that failed. */
  errno(): number {
    const address = this.c.__errno_location();
    if (address !== this.#errnoAddress) {
      this.#errnoCell = new Int32Array(this.ffi.arrayBuffer(address, 4));
      this.#errnoAddress = address;
    }
    return this.#errnoCell[0]!;
  }

  /** Zeroed C memory that is never freed: for the few structures that hot calls point to. */
  allocate(byteLength: number): { address: bigint; view: DataView } {
    const address = this.c.calloc(1n, BigInt(byteLength));
    if (address === 0n) throw failure("calloc", this.errno());
    return { address, view: new DataView(this.ffi.arrayBuffer(address, byteLength)) };
  }

  /** An environment variable as C programs see it; Deno's own API would ask for `--allow-env`. */
  getenv(name: string): string | undefined {
    const address = this.c.getenv(cString(name));
    if (address === 0n) return undefined;
    const length = Number(this.c.strlen(address));
    if (length === 0) return "";
    return decoder.decode(new Uint8Array(this.ffi.arrayBuffer(address, length)).slice());
  }

  /** `path` without symbolic links, or the errno. */
  realpath(path: string): string | number {
    const resolved = new Uint8Array(PATH_MAX);
    if (this.c.realpath(cString(path), resolved) === 0n) return this.errno();
    return decoder.decode(resolved.subarray(0, resolved.indexOf(0)));
  }

  /** A file descriptor, or minus the errno. */
  open(path: Uint8Array, flags: number, mode = 0): number {
    for (;;) {
      const fd = this.c.open(path, flags, mode);
      if (fd >= 0) return fd;
      const errno = this.errno();
      if (errno !== EINTR) return -errno;
    }
  }
}
