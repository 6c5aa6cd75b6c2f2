import type { CFunctions, CSignatures } from "../../ffi/types.ts";
import { PROC_PIDTHREADID64INFO, PROC_THREADINFO_BYTES } from "../unix/darwin_constants.ts";
import { ESRCH } from "../unix/errno.ts";
import type { Libc } from "../unix/libc.ts";
import { isRunning } from "../unix/processes.ts";
import { DARWIN_LIBRARIES } from "../unix/signatures.ts";
import type { Threads } from "./owner_word.ts";

const SIGNATURES = {
  pthread_threadid_np: { args: ["u64", "buffer"], returns: "i32" }, // (NULL for this thread, uint64_t *id)
  // (pid, flavor, argument, buffer, its size) -> bytes, or 0
  proc_pidinfo: { args: ["i32", "i32", "u64", "buffer", "i32"], returns: "i32" },
} as const satisfies CSignatures;

/** The threads of macOS. The kernel numbers them from its start on, and never reuses a number. */
export class DarwinThreads implements Threads {
  readonly #libc: Libc;
  readonly #c: CFunctions<typeof SIGNATURES>;
  readonly #information = new Uint8Array(PROC_THREADINFO_BYTES);

  constructor(libc: Libc) {
    this.#libc = libc;
    this.#c = libc.ffi.load(DARWIN_LIBRARIES, SIGNATURES);
  }

  self(): { pid: number; thread: bigint } {
    const id = new BigUint64Array(1);
    this.#c.pthread_threadid_np(0n, new Uint8Array(id.buffer));
    return { pid: this.#libc.c.getpid(), thread: id[0]! };
  }

  /**
   * Whether a thread is running. For a process of another user, the kernel only tells whether a process with this pid
   * exists.
   */
  isRunning(pid: number, thread: bigint): boolean {
    if (pid === 0) return false; // no owner; kill() would take 0 for the whole process group
    const information = this.#information;
    const flavor = PROC_PIDTHREADID64INFO;
    const bytes = this.#c.proc_pidinfo(pid, flavor, thread, information, information.length);
    if (bytes > 0) return true;
    return this.#libc.errno() !== ESRCH && isRunning(this.#libc, pid);
  }
}
