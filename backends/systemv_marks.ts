import { failure } from "./errno.ts";
import { cString, type Libc } from "./libc.ts";

/**
 * What this module notes about an object of the kernel: a symbolic link in the folder of temporary files,
 * whose name has the System V key and whose text says which object is meant. The kernel's objects
 * themselves have no room for a mark: whatever could be set in their modes other programs set by accident.
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

  /** The text, `null` if there is no mark of this user's. */
  read(): string | null {
    const status = this.#libc.pathStatus(cString(this.#path), false);
    if (typeof status === "number" || !this.#libc.isOwn(status.uid)) return null;
    const text = this.#libc.readLink(this.#path);
    return typeof text === "string" ? text : null;
  }

  /**
   * Sets the mark, in place of an earlier one.
   *
   * @throws {Failure} if the folder does not allow it
   */
  set(text: string): void {
    const { c } = this.#libc;
    const [path, next] = [cString(this.#path), cString(`${this.#path}_next${c.getpid()}`)];
    c.unlink(next); // left by a process that was killed between the two calls
    if (c.symlink(cString(text), next) !== 0 || c.rename(next, path) !== 0) {
      throw failure("symlink", this.#libc.errno(), {}, this.#path);
    }
  }

  clear(): void {
    this.#libc.c.unlink(cString(this.#path));
  }
}

/** The number of the namespace of System V objects; 0 if it is not known. */
export function ipcNamespace(libc: Libc): number {
  if (libc.os !== "linux") return 0;
  const status = libc.pathStatus(cString("/proc/self/ns/ipc"), true);
  return typeof status === "object" ? status.inode : 0;
}
