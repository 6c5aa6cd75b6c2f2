import type { CFunctions, CSignatures, Ffi, Usize } from "../../ffi/types.ts";
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_STATX_DONT_SYNC,
  AT_SYMLINK_NOFOLLOW,
  DIRENT,
  O_RDONLY,
  PROC_PID_INIT_INO,
  S_IFMT,
  S_IFREG,
  STATX,
  STATX_BASIC_STATS,
  SYS_GETTID,
  SYS_STATX,
} from "./linux_constants.ts";
import {
  _CS_DARWIN_USER_TEMP_DIR,
  STAT,
  VM_FLAGS_ANYWHERE,
  VM_INHERIT_SHARE,
} from "./darwin_constants.ts";
import { BackendError } from "../failure.ts";
import { EAGAIN, EINTR, ENOENT, ESRCH, failure, swapErrno } from "./errno.ts";
import { constantsOf, type SystemConstants } from "./constants.ts";
import {
  DARWIN_LIBRARIES,
  DARWIN_SIGNATURES,
  DARWIN_STAT_SIGNATURES,
  LINUX_LIBRARIES,
  LINUX_SIGNATURES,
  MACH_SIGNATURES,
  SIGNATURES,
} from "./signatures.ts";
import { loadFunctions } from "./variadic.ts";

/** Reads an `int64_t`, exact up to 2^53 and without the cost of a BigInt. */
function number64(view: DataView, offset: number): number {
  return view.getUint32(offset, true) + view.getInt32(offset + 4, true) * 2 ** 32;
}

/** The properties of a file that the backends need. */
export interface FileStatus {
  /** The low byte of `st_dev`. */
  readonly device: number;
  /** The low bytes of `st_ino`. */
  readonly inode: number;
  readonly uid: number;
  /** The number of hard links, 0 after the file is deleted. */
  readonly links: number;
  /** The size of the file. */
  readonly bytes: number;
  /** The number of bytes for which the file system has already allocated memory. */
  readonly reserved: number;
  /** The value of `st_mode`: the kind of the file and its permissions. */
  readonly mode: number;
  /** The value of `st_ctime`: when the file was created, renamed or linked last, in seconds since 1970. */
  readonly changed: number;
}

/** The default value of `/proc/sys/kernel/overflowuid`. */
const OVERFLOW_UID = 65534;
/** The number of possible uids; -1 stands for no user. */
const ALL_USERS = 2 ** 32 - 1;

/** Whether a user namespace has a number for every user; `map` is its `/proc/self/uid_map`. */
export function mapsAllUsers(map: string): boolean {
  const counts = [...map.matchAll(/^ *\d+ +\d+ +(\d+) *$/gm)].map(([, count]) => Number(count));
  return counts.reduce((sum, count) => sum + count, 0) >= ALL_USERS;
}

/** The buffer size of the first read of a file, because files of `/proc` do not tell their size. */
const READ_BYTES = 65536;
const FAILED = 0xffff_ffff_ffff_ffffn;
const NO_PATH = new Uint8Array(1);
/**
 * The maximum number of repetitions of a call whose errno is not one that it can have, because it is the errno of a
 * call that the runtime itself made.
 */
export const FOREIGN_ATTEMPTS = 10;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** Returns a C string. The caller ensures that `text` contains no NUL. */
export function cString(text: string): Uint8Array {
  return encoder.encode(text + "\0");
}

/** The C library, with helpers to use it from JavaScript. */
export class Libc {
  /** The functions of the C library. Those that only Linux has are missing on other systems. */
  readonly c: CFunctions<typeof SIGNATURES & typeof LINUX_SIGNATURES>;
  readonly ffi: Ffi;
  /** The processor, named as in `process.arch`. */
  readonly arch: string;
  /** The operating system, named as in `process.platform`. */
  readonly os: string;
  /** The constants of this system that differ between systems. */
  readonly constants: SystemConstants;
  /** The name of the call that returns the status of a file, for texts. */
  readonly statCall: string;
  readonly #darwin: DarwinFunctions | null = null;
  #mapAgain: ((address: bigint, bytes: bigint) => bigint | null) | undefined;
  #pidNamespace: number | undefined;
  #isOtherProc: boolean | undefined;
  #bootId: string | undefined;
  #errnoCell: Int32Array | undefined;
  /** The effective user of this process when `ownUid()` last looked it up. */
  lastUid = -1;
  #overflowUid: number | undefined;
  #mapsAllUsers = false;
  readonly #stat: Uint8Array;
  readonly #statView: DataView;
  readonly #statxNumber: Usize;

  constructor(ffi: Ffi, arch: string, os = "linux") {
    this.ffi = ffi;
    this.arch = arch;
    this.os = os;
    this.constants = constantsOf(os);
    const isDarwin = os === "darwin";
    this.statCall = isDarwin ? "stat" : "statx";
    this.#stat = new Uint8Array(isDarwin ? STAT.bytes : STATX.bytes);
    this.#statView = new DataView(this.#stat.buffer);
    this.#statxNumber = ffi.usize(BigInt(SYS_STATX[arch]!));
    if (isDarwin) {
      const loaded = loadDarwin(ffi, arch);
      this.#darwin = loaded;
      this.c = loaded as unknown as Libc["c"];
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
    const address = this.#darwin === null ? this.c.__errno_location() : this.#darwin.__error();
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
    return address === 0n ? undefined : this.#text(address);
  }

  /** Reads the C string at `address`. */
  #text(address: bigint): string {
    const length = Number(this.c.strlen(address));
    if (length === 0) return "";
    return decoder.decode(new Uint8Array(this.ffi.arrayBuffer(address, length)).slice());
  }

  /** Returns `path` without symbolic links, or the errno. */
  realpath(path: string): string | number {
    const resolved = new Uint8Array(this.constants.PATH_MAX);
    if (this.c.realpath(cString(path), resolved) === 0n) return this.errno();
    return decoder.decode(resolved.subarray(0, resolved.indexOf(0)));
  }

  /**
   * Opens a file; returns a file descriptor, or the negative errno. EAGAIN comes from the runtime, if it waits for one
   * of its own locks between the call and the reading of errno.
   */
  open(path: Uint8Array, flags: number, mode = 0): number {
    for (let attempt = 0;; attempt++) {
      const fd = this.c.open(path, flags, mode);
      if (fd >= 0) return fd;
      const errno = this.errno();
      const isForeign = errno === EAGAIN && attempt < FOREIGN_ATTEMPTS;
      if (errno !== EINTR && !isForeign) return -errno;
    }
  }

  /** Returns the text of a symbolic link, or the errno. */
  readLink(path: string): string | number {
    const text = new Uint8Array(this.constants.PATH_MAX);
    const length = this.c.readlink(cString(path), text, BigInt(text.length));
    return length === FAILED ? this.errno() : decoder.decode(text.subarray(0, Number(length)));
  }

  /** Returns the folder of this user's temporary files that the system itself defines, `""` if it defines none. */
  temporaryFolder(): string {
    const { PATH_MAX } = this.constants;
    const path = new Uint8Array(PATH_MAX);
    const length = this.#darwin?.confstr(_CS_DARWIN_USER_TEMP_DIR, path, BigInt(PATH_MAX)) ?? 0n;
    return length === 0n ? "" : decoder.decode(path.subarray(0, path.indexOf(0)));
  }

  /**
   * Maps shared memory of this process at a second address, which it returns, or `null` if that is not possible. Only
   * macOS can do that.
   */
  mapAgain(address: bigint, bytes: bigint): bigint | null {
    return (this.#mapAgain ??= machRemap(this.ffi))(address, bytes);
  }

  /** Returns the status of the file of a descriptor, or the errno. */
  fileStatus(fd: number): FileStatus | number {
    if (this.#darwin === null) return this.#statx(fd, NO_PATH, AT_EMPTY_PATH);
    return this.#darwinStatus(this.#darwin.fstat(fd, this.#stat));
  }

  /** Returns the status of the file at `path`, or the errno. */
  pathStatus(path: Uint8Array, followLinks: boolean): FileStatus | number {
    if (this.#darwin === null) {
      return this.#statx(AT_FDCWD, path, followLinks ? 0 : AT_SYMLINK_NOFOLLOW);
    }
    const { lstat, stat } = this.#darwin;
    return this.#darwinStatus((followLinks ? stat : lstat)(path, this.#stat));
  }

  /**
   * Returns the status of the file that a link of `/proc/PID/fd` leads to, or the errno. It makes no request to the
   * file system, because another user may run that file system and need not answer.
   */
  linkStatus(path: string): FileStatus | number {
    return this.#statx(AT_FDCWD, cString(path), AT_STATX_DONT_SYNC);
  }

  #statx(fd: number, path: Uint8Array, flags: number): FileStatus | number {
    const { syscall } = this.c;
    for (let attempt = 0;; attempt++) {
      const result = syscall(
        this.#statxNumber,
        fd,
        path,
        flags,
        STATX_BASIC_STATS,
        this.#stat,
      );
      if (result === 0) break;
      const errno = this.errno();
      if (errno !== EAGAIN || attempt === FOREIGN_ATTEMPTS) return errno;
    }
    const view = this.#statView;
    return {
      device: view.getUint32(STATX.devMinor, true) & 0xff,
      inode: view.getUint32(STATX.ino, true),
      uid: view.getUint32(STATX.uid, true),
      links: view.getUint32(STATX.nlink, true),
      bytes: number64(view, STATX.size),
      reserved: number64(view, STATX.blocks) * 512,
      mode: view.getUint16(STATX.mode, true),
      changed: number64(view, STATX.ctime),
    };
  }

  #darwinStatus(result: number): FileStatus | number {
    if (result !== 0) return this.errno();
    const view = this.#statView;
    return {
      device: view.getUint32(STAT.dev, true) & 0xff,
      inode: view.getUint32(STAT.ino, true),
      uid: view.getUint32(STAT.uid, true),
      links: view.getUint16(STAT.nlink, true),
      bytes: number64(view, STAT.size),
      reserved: number64(view, STAT.blocks) * 512,
      mode: view.getUint16(STAT.mode, true),
      changed: number64(view, STAT.ctime),
    };
  }

  /** Returns the text of a file, which may be in `/proc`, or the errno. */
  readFile(path: string): string | number {
    const bytes = this.readBytes(path);
    return typeof bytes === "number" ? bytes : decoder.decode(bytes);
  }

  /**
   * Returns the first bytes of a regular file that any user may have created, or the errno; ENOENT if the file is of
   * another kind.
   */
  readStart(path: string, bytes: number): Uint8Array<ArrayBuffer> | number {
    const { O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK } = this.constants;
    const flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW[this.arch]!;
    const fd = this.open(cString(path), flags);
    if (fd < 0) return -fd;
    try {
      const status = this.fileStatus(fd);
      if (typeof status === "number") return status;
      if ((status.mode & S_IFMT) !== S_IFREG) return ENOENT;
      const found = new Uint8Array(bytes);
      const count = this.c.read(fd, found, BigInt(bytes));
      return count === FAILED ? this.errno() : found.slice(0, Number(count));
    } finally {
      this.c.close(fd);
    }
  }

  /** Returns the content of a kernel file, or the errno. */
  readBytes(path: string): Uint8Array<ArrayBuffer> | number {
    const fd = this.open(cString(path), O_RDONLY | this.constants.O_CLOEXEC);
    if (fd < 0) return -fd;
    try {
      let bytes = new Uint8Array(READ_BYTES);
      for (let length = 0;;) {
        const count = this.c.read(fd, bytes.subarray(length), BigInt(bytes.length - length));
        if (count === FAILED) {
          const errno = this.errno();
          if (errno === EINTR) continue;
          return errno;
        }
        if (count === 0n) return bytes.slice(0, length);
        length += Number(count);
        if (length === bytes.length) {
          const more = new Uint8Array(2 * length);
          more.set(bytes);
          bytes = more;
        }
      }
    } finally {
      this.c.close(fd);
    }
  }

  /** Returns the names in a folder, or the errno. */
  readFolder(path: string): string[] | number {
    const folder = this.c.opendir(cString(path));
    if (folder === 0n) return this.errno();
    const names: string[] = [];
    for (;;) {
      const entry = this.c.readdir(folder);
      if (entry === 0n) break;
      const name = this.#text(entry + BigInt(DIRENT.name));
      if (name !== "." && name !== "..") names.push(name);
    }
    this.c.closedir(folder);
    return names;
  }

  /**
   * Whether a process of any user is running. A zombie is not running. Neither is a process that was given the pid of
   * an earlier one: its start time differs from `startTime` in the lower 16 bits. Without `/proc`, these two cases
   * cannot be recognized.
   */
  isRunning(pid: number, startTime?: number): boolean {
    if (this.c.kill(pid, 0) !== 0 && this.errno() === ESRCH) return false;
    const stat = this.#processStatus(pid);
    if (stat === null) return true;
    if (startTime !== undefined && (Number(stat[19]) & 0xffff) !== startTime) return false;
    return stat[0] !== "Z" || Number(stat[17]) > 1; // state, num_threads
  }

  /** Whether the calling thread is the first one of the process, not that of a worker. Only for Linux. */
  isMainThread(): boolean {
    const number = this.ffi.usize(BigInt(SYS_GETTID[this.arch]!));
    return this.c.syscall(number, 0, NO_PATH, 0, 0, this.#stat) === this.c.getpid();
  }

  /** Returns when a process started, in clock ticks since the system started; `null` if that is not known. */
  startTime(pid: number): number | null {
    const stat = this.#processStatus(pid);
    return stat && Number(stat[19]);
  }

  /** The number of the pid namespace of this process; 0 if that is not known. */
  pidNamespace(): number {
    if (this.#pidNamespace === undefined) {
      const status = this.pathStatus(cString("/proc/self/ns/pid"), true);
      this.#pidNamespace = typeof status === "object" ? status.inode : 0;
    }
    return this.#pidNamespace;
  }

  /** Whether /proc belongs to another pid namespace. Then what it says about a pid is about another process. */
  #hasOtherProc(): boolean {
    if (this.#isOtherProc === undefined) {
      const stat = this.readFile("/proc/self/stat");
      this.#isOtherProc = typeof stat === "string" && Number.parseInt(stat) !== this.c.getpid();
    }
    return this.#isOtherProc;
  }

  /** Returns an id that no other start of this system and no other machine has; `""` if that is not known. */
  bootId(): string {
    if (this.#bootId === undefined) {
      const text = this.os === "linux" ? this.readFile("/proc/sys/kernel/random/boot_id") : "";
      this.#bootId = typeof text === "string" ? text.trim() : "";
    }
    return this.#bootId;
  }

  /** Whether each process of the system has a pid in this namespace. Otherwise the pid of a process outside is 0. */
  seesAllProcesses(): boolean {
    return this.os !== "linux" || this.pidNamespace() === PROC_PID_INIT_INO;
  }

  /**
   * Returns the fields of proc(5) that follow the name in parentheses, starting with the state; `null` if they are
   * hidden. The fields of the first thread are those of the process. They are read from its own file because qemu-user
   * makes up `/proc/PID/stat` for the process itself.
   */
  #processStatus(pid: number): string[] | null {
    if (this.os !== "linux") return null;
    if (this.#hasOtherProc()) return null;
    const stat = this.readFile(`/proc/${pid}/task/${pid}/stat`);
    return typeof stat === "number" ? null : stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  }

  /**
   * Returns the effective user of this process. An object belongs to the process if it belongs to this user.
   *
   * In a user namespace every user without a number there appears as the overflow uid. If this process does too, its
   * objects cannot be distinguished from those of strangers.
   *
   * @throws {BackendError} `PermissionDenied` in that case
   */
  ownUid(): number {
    const uid = this.lastUid = this.currentUid();
    if (!this.#looksLikeOthers(uid)) return uid;
    throw new BackendError(
      "PermissionDenied",
      `permission denied: this process runs as uid ${uid}, which its user namespace shows for every user that it has ` +
        "no number for, so that other users cannot be told from this one; map this user (`unshare " +
        "--map-current-user`, the uid map of the container), or run as a user that is mapped",
      "geteuid",
    );
  }

  currentUid(): number {
    return this.c.geteuid();
  }

  /** Whether a user is the effective user of this process, and can be distinguished from others. */
  isOwn(uid: number): boolean {
    return uid === this.currentUid() && !this.#looksLikeOthers(uid);
  }

  #looksLikeOthers(uid: number): boolean {
    if (this.os !== "linux" || uid !== (this.#overflowUid ??= this.#readOverflowUid())) {
      return false;
    }
    if (!this.#mapsAllUsers) {
      const map = this.readFile("/proc/self/uid_map");
      this.#mapsAllUsers = typeof map === "string" && mapsAllUsers(map);
    }
    return !this.#mapsAllUsers;
  }

  #readOverflowUid(): number {
    const text = this.readFile("/proc/sys/kernel/overflowuid");
    return typeof text === "number" ? OVERFLOW_UID : Number(text);
  }

  /** Returns the name of a user, `null` if the system does not know it. */
  loginName(uid: number): string | null {
    const entry = this.c.getpwuid(uid);
    if (entry === 0n) return null;
    return this.#text(new DataView(this.ffi.arrayBuffer(entry, 8)).getBigUint64(0, true));
  }

  /** Returns a user as texts show it: the name if the system knows it, and the number. */
  userName(uid: number): string {
    const name = this.loginName(uid);
    return name === null ? `uid ${uid}` : `${name} (uid ${uid})`;
  }
}

type DarwinFunctions = CFunctions<
  typeof SIGNATURES & typeof DARWIN_SIGNATURES & typeof DARWIN_STAT_SIGNATURES
>;

function loadDarwin(ffi: Ffi, arch: string): DarwinFunctions {
  const suffix = arch === "x64" ? "$INODE64" : "";
  const stats = Object.entries(DARWIN_STAT_SIGNATURES);
  const signatures: CSignatures = {
    ...SIGNATURES,
    ...DARWIN_SIGNATURES,
    ...Object.fromEntries(stats.map(([name, signature]) => [name + suffix, signature])),
  };
  const functions = loadFunctions(ffi, { os: "darwin", arch }, DARWIN_LIBRARIES, signatures);
  const named = stats.map(([name]) => [name, functions[name + suffix]]);
  return { ...functions, ...Object.fromEntries(named) } as DarwinFunctions;
}

function machRemap(ffi: Ffi): (address: bigint, bytes: bigint) => bigint | null {
  let mach: CFunctions<typeof MACH_SIGNATURES>;
  try {
    mach = ffi.load(DARWIN_LIBRARIES, MACH_SIGNATURES);
  } catch {
    return () => null;
  }
  const task = mach.task_self_trap();
  const found = new BigUint64Array(1);
  const protections = new Uint8Array(8);
  const [to, current, maximal] = [
    new Uint8Array(found.buffer),
    protections.subarray(0, 4),
    protections.subarray(4),
  ];
  return (address, bytes) => {
    found[0] = 0n;
    const flags = VM_FLAGS_ANYWHERE;
    const result = mach.mach_vm_remap(
      ...[task, to, bytes, 0n, flags, task, address, 0, current, maximal] as const,
      VM_INHERIT_SHARE,
    );
    return result === 0 ? found[0]! : null;
  };
}
