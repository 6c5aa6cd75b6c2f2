import { failure } from "../unix/errno.ts";
import { pathStatus, readLink, userTemporaryFolder } from "../unix/files.ts";
import { cString, type Libc } from "../unix/libc.ts";
import { bootId, startTime } from "../unix/processes.ts";
import { isOwnUid } from "../unix/users.ts";

/**
 * A note of this module about an object of the kernel: a symbolic link in the folder of temporary files, whose name
 * contains the System V key and whose text says which object is meant. The kernel's objects have no room for a mark,
 * as other programs may set any of their mode bits by accident.
 *
 * A mark may outlive its object, and keys, ids and numbers of namespaces are used again, after the restart of a
 * container as after a reboot. So the text contains more than these, and the reader compares it with what it knows of
 * the object itself.
 */
export class Mark {
  readonly #libc: Libc;
  readonly #path: string;

  constructor(libc: Libc, what: "unfinished" | "inherited", key: number) {
    this.#libc = libc;
    const folder = libc.getenv("TMPDIR") || userTemporaryFolder(libc) || "/tmp";
    const number = (key >>> 0).toString(16).padStart(8, "0");
    // Containers that share the folder may have different objects of the same key and id.
    this.#path = `${folder}/qipc_${what}_${number}_${ipcNamespace(libc).toString(16)}`;
  }

  /** Returns the text of the mark, or `null` if this user has set no mark since the system was started. */
  read(): string | null {
    const status = pathStatus(this.#libc, cString(this.#path), false);
    if (typeof status === "number" || !isOwnUid(this.#libc, status.uid)) return null;
    return readMark(this.#libc, this.#path);
  }

  /**
   * Sets the mark, and replaces an earlier one.
   *
   * @throws {BackendError} if the folder does not allow it
   */
  set(text: string): void {
    const { c } = this.#libc;
    const [path, next] = [cString(this.#path), cString(`${this.#path}_next${c.getpid()}`)];
    c.unlink(next); // a process that was killed between the two calls may have left it
    const line = `${text} ${bootId(this.#libc)}`;
    if (c.symlink(cString(line), next) !== 0 || c.rename(next, path) !== 0) {
      throw failure("symlink", this.#libc.errno(), {}, this.#path);
    }
  }

  clear(): void {
    this.#libc.c.unlink(cString(this.#path));
  }
}

/**
 * Returns the text of the mark at a path, or `null` if it was written on another machine or before the last start of
 * this one.
 */
export function readMark(libc: Libc, path: string): string | null {
  const line = readLink(libc, path);
  const end = ` ${bootId(libc)}`;
  return typeof line === "string" && line.endsWith(end) ? line.slice(0, -end.length) : null;
}

/**
 * Returns the text that says which segment is unfinished. The time in it changes only by the creator's IPC_SET at the
 * end.
 */
export function segmentText(id: number, changed: number): string {
  return `id ${id} ${changed}`;
}

/**
 * Returns the text that says that this process is about to create a segment. Pids are used again, but not with the
 * same start time.
 */
export function makerText(libc: Libc): string {
  const pid = libc.c.getpid();
  return `pid ${pid} ${startTime(libc, pid) ?? 0}`;
}

/** Whether a text means the process that has or had this pid. It does not if another process has the pid now. */
export function isMakerText(libc: Libc, text: string | null, pid: number): boolean {
  const [, maker, started] = /^pid (\d+) (\d+)$/.exec(text ?? "") ?? [];
  if (Number(maker) !== pid) return false;
  const found = startTime(libc, pid);
  return found === null || found === Number(started);
}

/**
 * Returns the text that says which semaphore this process leaves to its users. Each text is unique, so a text that differs
 * from an older one was written for the current users.
 */
export function semaphoreText(libc: Libc, id: number): string {
  return `id ${id} ${makerText(libc)} ${Math.random().toString(36).slice(2)}`;
}

/** Whether the process that has written a text about a semaphore is alive, so that its namespaces still exist. */
export function isOfLivingWriter(libc: Libc, text: string | null): boolean {
  const [, pid, started] = /^id \d+ pid (\d+) (\d+) /.exec(text ?? "") ?? [];
  return pid !== undefined && startTime(libc, Number(pid)) === Number(started);
}

/** Whether a text says that the semaphore of this id is left to its users. */
export function isSemaphoreText(text: string | null, id: number): boolean {
  return text?.startsWith(`id ${id} `) === true;
}

/** Returns the number of the namespace of System V objects, or 0 if it is not known. */
export function ipcNamespace(libc: Libc): number {
  if (libc.os !== "linux") return 0;
  const status = pathStatus(libc, cString("/proc/self/ns/ipc"), true);
  return typeof status === "object" ? status.inode : 0;
}
