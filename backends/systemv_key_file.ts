import { NAME_MAX, O_CLOEXEC, O_CREAT, O_EXCL, O_NONBLOCK, O_RDONLY, O_RDWR } from "./constants.ts";
import { EACCES, EEXIST, ENOENT, type ErrnoTable, Failure, failure } from "./errno.ts";
import { cString, type Libc } from "./libc.ts";

/** Qt's `ftok` project id. */
const PROJECT_ID = "Q".charCodeAt(0);
const NO_KEY = -1;
/** A race with somebody who makes and removes the file is lost only so often in a row. */
const CREATE_ATTEMPTS = 1000;

const ERRORS: ErrnoTable = {
  [EACCES]: [
    "PermissionDenied",
    "permission denied: this user may not make or look up files there; use a TMPDIR of your own",
  ],
};

/**
 * The empty file whose inode `ftok` turns into a System V key. It is kept open: as long as somebody
 * uses the key, the inode of a deleted file is not given to the file of another key.
 */
export class KeyFile {
  readonly key: number;
  /** Whether this call made it. */
  readonly created: boolean;
  readonly #libc: Libc;
  readonly #path: Uint8Array;
  readonly #fd: number;
  #isKeepable = true;

  private constructor(libc: Libc, path: Uint8Array, fd: number, key: number, created: boolean) {
    this.#libc = libc;
    this.#path = path;
    this.#fd = fd;
    this.key = key;
    this.created = created;
  }

  /** The key file at `path`, or `null` if there is none. */
  static open(libc: Libc, path: string): KeyFile | null {
    const bytes = pathBytes(path);
    const file = KeyFile.#takeKept(libc, bytes);
    if (file !== null) return file;
    const fd = libc.open(bytes, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd === -ENOENT) return null;
    // ftok needs no permission for the file; what else the user may not do shows where it matters.
    if (fd < 0 && fd !== -EACCES) throw failure("open", -fd, {}, path);
    return KeyFile.#withKey(libc, bytes, fd, false);
  }

  /** The key file at `path`, made if it was not there. */
  static create(libc: Libc, path: string): KeyFile {
    const bytes = pathBytes(path);
    for (let attempt = 0; attempt < CREATE_ATTEMPTS; attempt++) {
      const fd = libc.open(bytes, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o640);
      if (fd >= 0) {
        const file = KeyFile.#withKey(libc, bytes, fd, true);
        if (file !== null) return file;
      } else if (fd === -EEXIST) {
        const file = KeyFile.open(libc, path);
        if (file !== null) return file;
      } else if (fd === -ENOENT) {
        throw new Failure(
          "KeyError",
          `the folder of the key file ${path} doesn't exist; create the folder [open: ENOENT ${ENOENT}]`,
          "open",
          ENOENT,
        );
      } else {
        throw failure("open", -fd, ERRORS, path);
      }
    }
    throw new Failure(
      "KeyError",
      `the key file ${path} can be neither made nor opened: it is removed again and again, or it is ` +
        "a symbolic link that leads nowhere; remove it",
    );
  }

  /** The file that was closed last with this path, if the path still leads to it. */
  static #takeKept(libc: Libc, path: Uint8Array): KeyFile | null {
    const kept = keptFiles(libc);
    const file = kept.get(path);
    if (file === undefined) return null;
    kept.delete(path);
    if (file.isCurrent()) return file;
    libc.c.close(file.#fd);
    return null;
  }

  static #withKey(libc: Libc, path: Uint8Array, fd: number, created: boolean): KeyFile | null {
    const key = libc.c.ftok(path, PROJECT_ID);
    if (key !== NO_KEY) return new KeyFile(libc, path, fd, key, created);
    const errno = libc.errno();
    if (fd >= 0) libc.c.close(fd);
    if (errno === ENOENT) return null; // removed since
    throw failure("ftok", errno, ERRORS);
  }

  /** Whether the path still leads to this key, and so newcomers find what we use. */
  isCurrent(): boolean {
    return this.#libc.c.ftok(this.#path, PROJECT_ID) === this.key;
  }

  /** Deletes the file, unless another one has taken its place, which is what it returns. */
  unlink(): "unlinked" | "missing" | "replaced" {
    const key = this.#libc.c.ftok(this.#path, PROJECT_ID);
    if (key === NO_KEY) return "missing";
    if (key !== this.key) return "replaced";
    this.#libc.c.unlink(this.#path);
    this.#isKeepable = false;
    return "unlinked";
  }

  /** `flock`; `false` if it cannot be had at once. */
  flock(operation: number): boolean {
    this.#isKeepable = false; // only closing it surely ends the lock
    return this.#fd >= 0 && this.#libc.c.flock(this.#fd, operation) === 0;
  }

  /** Closes it, sooner or later: whoever used it often uses it again. */
  close(): void {
    if (this.#fd < 0) return;
    const kept = keptFiles(this.#libc);
    if (!this.#isKeepable || this.created || kept.has(this.#path)) {
      this.#libc.c.close(this.#fd);
      return;
    }
    kept.set(this.#path, this);
    const [oldest] = kept.values();
    if (kept.size <= KEPT_MAX || oldest === undefined) return;
    kept.delete(oldest.#path);
    this.#libc.c.close(oldest.#fd);
  }
}

/** Files that were closed but are kept open for the next use, by path: at most so many. */
const kept = new WeakMap<Libc, Map<Uint8Array, KeyFile>>();
const KEPT_MAX = 16;

function keptFiles(libc: Libc): Map<Uint8Array, KeyFile> {
  let files = kept.get(libc);
  if (files === undefined) kept.set(libc, files = new Map());
  return files;
}

/** The paths of late as C strings: an object that attaches again and again uses the same two. */
const encoded = new Map<string, Uint8Array>();
const ENCODED_MAX = 100;

function pathBytes(path: string): Uint8Array {
  let bytes = encoded.get(path);
  if (bytes === undefined) {
    bytes = checkedPath(path);
    if (encoded.size >= ENCODED_MAX) encoded.clear();
    encoded.set(path, bytes);
  }
  return bytes;
}

function checkedPath(path: string): Uint8Array {
  const bytes = cString(path);
  if (bytes.indexOf(0) !== bytes.length - 1) {
    throw new Failure(
      "KeyError",
      "the native key contains a NUL character, which no path can have; leave it out",
    );
  }
  const name = path.slice(path.lastIndexOf("/") + 1);
  const excess = new TextEncoder().encode(name).length - NAME_MAX;
  if (excess > 0) {
    throw new Failure(
      "KeyError",
      `the key is too long: its key file's name is ${excess} bytes over the ${NAME_MAX} that a ` +
        "file name may have; use fewer ASCII letters (digits and other characters cost nothing)",
    );
  }
  return bytes;
}
