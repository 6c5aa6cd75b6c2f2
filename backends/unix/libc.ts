import type { CFunctions, Ffi, Usize } from "../../ffi/types.ts";
import { constantsOf, type SystemConstants } from "./constants.ts";
import { type DarwinFunctions, loadDarwin } from "./darwin.ts";
import { EINTR, failure, swapErrno } from "./errno.ts";
import { SYS_STATX } from "./linux_constants.ts";
import { LINUX_LIBRARIES, LINUX_SIGNATURES, SIGNATURES } from "./signatures.ts";

/**
 * The maximum number of repetitions of a call whose errno is not one that it can have, because it is the errno of a
 * call that the runtime itself made.
 */
export const FOREIGN_ATTEMPTS = 10;

const encoder = new TextEncoder();
/** The decoder of all text that the C library returns. */
export const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** Returns a C string. The caller ensures that `text` contains no NUL. */
export function cString(text: string): Uint8Array {
  return encoder.encode(text + "\0");
}

/** The loaded C library, with what every use of it from JavaScript needs. */
export class Libc {
  /** The functions of the C library. Those that only Linux has are missing on other systems. */
  readonly c: CFunctions<typeof SIGNATURES & typeof LINUX_SIGNATURES>;
  /** The functions of the C library on macOS, `null` on other systems. */
  readonly darwin: DarwinFunctions | null = null;
  readonly ffi: Ffi;
  /** The processor, named as in `process.arch`. */
  readonly arch: string;
  /** The operating system, named as in `process.platform`. */
  readonly os: string;
  /** The constants of this system that differ between systems. */
  readonly constants: SystemConstants;
  /** The number of the system call `statx`, in the form that is cheapest to pass. */
  readonly statxNumber: Usize;
  /** The effective user of this process when `ownUid()` of users.ts last looked it up. */
  lastUid = -1;
  #errnoCell: Int32Array | undefined;

  constructor(ffi: Ffi, arch: string, os = "linux") {
    this.ffi = ffi;
    this.arch = arch;
    this.os = os;
    this.constants = constantsOf(os);
    this.statxNumber = ffi.usize(BigInt(SYS_STATX[arch]!));
    if (os === "darwin") {
      this.darwin = loadDarwin(ffi, arch);
      this.c = this.darwin as unknown as Libc["c"];
    } else {
      this.c = ffi.load(LINUX_LIBRARIES, { ...SIGNATURES, ...LINUX_SIGNATURES });
    }
  }

  /** The size of a page, in bytes. */
  get pageBytes(): number {
    return Number(this.c.sysconf(this.constants._SC_PAGESIZE));
  }

  /**
   * Returns the `errno` of this thread, with the number that errno.ts has for it. It must be read right after the call
   * that failed. V8 may make calls of its own in between, and then the value belongs to such a call. That happens about
   * once in a hundred starts of a program.
   */
  errno(): number {
    const cell = this.#errnoCell ??= this.#locateErrno();
    return swapErrno(cell[0]!, this.os) || EINTR; // 0 would mean success
  }

  #locateErrno(): Int32Array {
    const address = this.darwin === null ? this.c.__errno_location() : this.darwin.__error();
    return new Int32Array(this.ffi.arrayBuffer(address, 4));
  }

  /** Allocates zeroed C memory that is never freed, for the few structures that hot calls point to. */
  allocate(byteLength: number): { address: bigint; view: DataView } {
    const address = this.c.calloc(1n, BigInt(byteLength));
    if (address === 0n) throw failure("calloc", this.errno());
    return { address, view: new DataView(this.ffi.arrayBuffer(address, byteLength)) };
  }

  /** Returns an environment variable as C programs see it. Deno's own API would require `--allow-env`. */
  getenv(name: string): string | undefined {
    const address = this.c.getenv(cString(name));
    return address === 0n ? undefined : this.text(address);
  }

  /** Reads the C string at `address`. */
  text(address: bigint): string {
    const length = Number(this.c.strlen(address));
    if (length === 0) return "";
    return decoder.decode(new Uint8Array(this.ffi.arrayBuffer(address, length)).slice());
  }

  /** Looks up the effective user of this process now. */
  currentUid(): number {
    return this.c.geteuid();
  }
}
