import { AccessMode } from "../errors.ts";
import { checkOptions, checkSize } from "./arguments.ts";
import type { Bytes } from "./view_types.ts";
import { checkTimeout } from "./waiter.ts";

/** How `SharedMemory.open()` opens a segment. */
export interface OpenOptions {
  /** The size in bytes of a new segment, and the least size of one that exists. Without it no segment is created. */
  readonly size?: number | undefined;
  /** `ReadWrite` if left out. */
  readonly mode?: AccessMode | undefined;
  /**
   * Whether to create the segment, to attach to one that exists, or to do whichever is needed. If it is left out and
   * there is a `size`, whichever is needed is done.
   */
  readonly disposition?: "create" | "attach" | "createOrAttach" | undefined;
  /** What happens to a segment that no process is attached to, as after a crash: `"replace"` if left out. */
  readonly stale?: "replace" | "keep" | undefined;
  /**
   * How long the segment exists. With `"until-unused"`, which is used if it is left out, the last process to detach
   * removes it. With `"until-removed"` it stays when this object detaches or its process ends, with its bytes, until
   * {@linkcode SharedMemory.remove} or the command `shared-memory remove`; `stale` is then `"keep"` if it is left out. The option counts
   * for this object alone: if the last one to detach has not passed it, or is a Qt program, the segment is removed. On
   * Windows, for POSIX keys of macOS and for a System V key file of your own choice it is `Unsupported`.
   */
  readonly lifetime?: "until-unused" | "until-removed" | undefined;
  /**
   * Is called with the bytes of a segment that exists and to which no process is attached, before another process that
   * passes the option can attach. A program that goes on with the bytes checks or repairs them here, as the processes
   * that used them may have been killed. It needs `size`, and `stale` or `lifetime` so that such a segment is kept. An
   * open with this option waits for the lock of the segment, for `timeout` at most. If it throws, the object is not
   * attached: a segment that had the lifetime `"until-removed"` before and now is as it has left it, another one is removed.
   */
  readonly adopt?: ((bytes: Bytes) => void) | undefined;
  /** The time in ms to wait for a process that is creating the segment; 5000 if left out. To attach alone never waits. */
  readonly timeout?: number | undefined;
  /**
   * Fills a new segment, which other processes find only after this function has returned. It is not called when
   * attaching. If it throws, no segment is created.
   */
  readonly initialize?: ((bytes: Bytes) => void) | undefined;
  /**
   * The users that may use the segment, as in `chmod`. With `0o600`, which is used if it is left out and is what Qt does,
   * only this user may, and objects of other users are refused. `0o660` or `0o666` shares with other users on purpose: a
   * user who may use the segment may change and remove it as well. Each of these users has to pass the option. Only the
   * owner of a segment can remove it, so it stays when another user detaches last.
   */
  readonly permissions?: number | undefined;
}

/** The time in ms that `createOrAttach` waits for a process that is creating the segment. */
export const OPEN_TIMEOUT_MS = 5000;

/** Returns what happens to a segment that no process is attached to. */
function staleOf(
  { lifetime, stale = lifetime === "until-removed" ? "keep" : "replace" }: OpenOptions,
): "replace" | "keep" {
  return stale;
}

/** Whether a segment that no process is attached to may be adopted. */
export function mayAdopt(options: OpenOptions): boolean {
  return staleOf(options) === "keep";
}

/** Reads each option once, and checks it: a getter may return another value the second time. */
export function checkedOptions(options: OpenOptions): OpenOptions {
  checkOptions("SharedMemory.open", options, "{ size: 1024 }");
  const { size, mode, disposition, timeout, initialize, adopt, permissions, lifetime } = options;
  const stale = staleOf({ lifetime, stale: options.stale });
  if (size !== undefined) checkSize("open", size);
  if (timeout !== undefined) checkTimeout("SharedMemory.open", timeout);
  const refuse = (option: string, what: string, value: unknown): never => {
    throw new TypeError(`SharedMemory.open: ${option} must be ${what}, not ${String(value)}`);
  };
  if (disposition !== undefined && !["create", "attach", "createOrAttach"].includes(disposition)) {
    refuse("disposition", '"create", "attach" or "createOrAttach"', disposition);
  }
  if (size === undefined && disposition !== undefined && disposition !== "attach") {
    refuse("size", `given with the disposition "${disposition}"`, size);
  }
  if (stale !== "replace" && stale !== "keep") {
    refuse("stale", '"replace" or "keep"', stale);
  }
  if (lifetime !== undefined && lifetime !== "until-unused" && lifetime !== "until-removed") {
    refuse("lifetime", '"until-unused" or "until-removed"', lifetime);
  }
  if (adopt !== undefined && typeof adopt !== "function") refuse("adopt", "a function", adopt);
  if (adopt !== undefined && (size === undefined || stale !== "keep")) {
    throw new TypeError(
      'SharedMemory.open: adopt needs a size, and stale: "keep" or lifetime: "until-removed"',
    );
  }
  if (initialize !== undefined && typeof initialize !== "function") {
    refuse("initialize", "a function", initialize);
  }
  if ((initialize ?? adopt) !== undefined && mode === AccessMode.ReadOnly) {
    refuse("mode", "ReadWrite for initialize and adopt to write to the segment", mode);
  }
  if (permissions !== undefined && (permissions & 0o666) !== permissions) {
    refuse("permissions", "a number like 0o600, 0o660 or 0o666", permissions);
  }
  return { size, mode, disposition, stale, timeout, initialize, adopt, permissions, lifetime };
}
