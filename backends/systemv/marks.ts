import { failure } from "../unix/errno.ts";
import { cString, type Libc } from "../unix/libc.ts";

/**
 * What this module notes about an object of the kernel: a symbolic link in the folder of temporary files,
 * whose name has the System V key and whose text says which object is meant. The kernel's objects
 * themselves have no room for a mark: whatever could be set in their modes other programs set by accident.
 *
 * A note may outlive its object, and keys, ids and numbers of namespaces all come again, after a container has
 * started anew as after a reboot. So a text has to say more than those, and whoever reads it compares that with what
 * he knows of the object himself.
 */
export class Mark {
  readonly #libc: Libc;
  readonly #path: string;

  constructor(libc: Libc, what: "unfinished" | "inherited", key: number) {
    this.#libc = libc;
    const folder = libc.getenv("TMPDIR") || libc.temporaryFolder() || "/tmp";
    const number = (key >>> 0).toString(16).padStart(8, "0");
    // Containers that share the folder may have other objects of the same key and id.
    this.#path = `${folder}/qipc_${what}_${number}_${ipcNamespace(libc).toString(16)}`;
  }

  /** The text, `null` if there is no mark of this user's, written since the system was started. */
  read(): string | null {
    const status = this.#libc.pathStatus(cString(this.#path), false);
    if (typeof status === "number" || !this.#libc.isOwn(status.uid)) return null;
    return readMark(this.#libc, this.#path);
  }

  /**
   * Sets the mark, in place of an earlier one.
   *
   * @throws {BackendError} if the folder does not allow it
   */
  set(text: string): void {
    const { c } = this.#libc;
    const [path, next] = [cString(this.#path), cString(`${this.#path}_next${c.getpid()}`)];
    c.unlink(next); // left by a process that was killed between the two calls
    const line = `${text} ${this.#libc.bootId()}`;
    if (c.symlink(cString(line), next) !== 0 || c.rename(next, path) !== 0) {
      throw failure("symlink", this.#libc.errno(), {}, this.#path);
    }
  }

  clear(): void {
    this.#libc.c.unlink(cString(this.#path));
  }
}

/** The text of the mark at a path, `null` if it was written on another machine or before this one was started. */
export function readMark(libc: Libc, path: string): string | null {
  const line = libc.readLink(path);
  const end = ` ${libc.bootId()}`;
  return typeof line === "string" && line.endsWith(end) ? line.slice(0, -end.length) : null;
}

/** What says which segment is unfinished: only its creator's IPC_SET, at the end, changes the time. */
export function segmentText(id: number, changed: number): string {
  return `id ${id} ${changed}`;
}

/** The same of one that this process is about to make: a pid comes again, but not with the time of its start. */
export function makerText(libc: Libc): string {
  const pid = libc.c.getpid();
  return `pid ${pid} ${libc.startTime(pid) ?? 0}`;
}

/** Whether it means the process that has or had this pid; it cannot if another process has that now. */
export function isMakerText(libc: Libc, text: string | null, pid: number): boolean {
  const [, maker, started] = /^pid (\d+) (\d+)$/.exec(text ?? "") ?? [];
  if (Number(maker) !== pid) return false;
  const found = libc.startTime(pid);
  return found === null || found === Number(started);
}

/** What says which semaphore is left to its users, unlike all texts before: that a text is new says that it is theirs. */
export function semaphoreText(id: number): string {
  return `id ${id} ${Math.random().toString(36).slice(2)}`;
}

/** Whether it says so of a semaphore of this id. */
export function isSemaphoreText(text: string | null, id: number): boolean {
  return text?.startsWith(`id ${id} `) === true;
}

/** The number of the namespace of System V objects; 0 if it is not known. */
export function ipcNamespace(libc: Libc): number {
  if (libc.os !== "linux") return 0;
  const status = libc.pathStatus(cString("/proc/self/ns/ipc"), true);
  return typeof status === "object" ? status.inode : 0;
}
