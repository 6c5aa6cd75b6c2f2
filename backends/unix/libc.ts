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
import { loadFunctions } from "./variadic.ts";

/** glibc has the first name; musl answers to it as well, and to the second. */
export const LINUX_LIBRARIES = ["libc.so.6", "libc.so"];
export const DARWIN_LIBRARIES = ["/usr/lib/libSystem.B.dylib"];

/** The C functions we call, each once: those of every system. */
const SIGNATURES = {
  calloc: { args: ["u64", "u64"], returns: "u64" },
  getenv: { args: ["buffer"], returns: "u64" }, // (name) -> char *
  strlen: { args: ["u64"], returns: "u64" },
  realpath: { args: ["buffer", "buffer"], returns: "u64" }, // (path, resolved[PATH_MAX]) -> char *
  sysconf: { args: ["i32"], returns: "u64" },

  getpid: { args: [], returns: "i32" },
  geteuid: { args: [], returns: "u32" },
  getpwuid: { args: ["u32"], returns: "u64" }, // (uid) -> struct passwd *
  kill: { args: ["i32", "i32"], returns: "i32" }, // (pid, signal)

  open: { args: ["buffer", "i32", "u32"], returns: "i32", fixed: 2 }, // (path, flags, mode)
  read: { args: ["i32", "buffer", "u64"], returns: "u64" }, // (fd, buf, count) -> ssize_t
  close: { args: ["i32"], returns: "i32" },
  fchmod: { args: ["i32", "u32"], returns: "i32" }, // (fd, mode)
  unlink: { args: ["buffer"], returns: "i32" },
  link: { args: ["buffer", "buffer"], returns: "i32" }, // (old path, new path)
  rename: { args: ["buffer", "buffer"], returns: "i32" }, // (old path, new path)
  symlink: { args: ["buffer", "buffer"], returns: "i32" }, // (text, path)
  readlink: { args: ["buffer", "buffer", "u64"], returns: "u64" }, // (path, buf, size) -> ssize_t
  flock: { args: ["i32", "i32"], returns: "i32" },

  mmap: { args: ["u64", "u64", "i32", "i32", "i32", "u64"], returns: "u64" }, // (addr, length, prot, flags, fd, offset)
  munmap: { args: ["u64", "u64"], returns: "i32" },

  shmget: { args: ["i32", "u64", "i32"], returns: "i32" }, // (key, size, flags)
  shmat: { args: ["i32", "u64", "i32"], returns: "u64" }, // (id, addr, flags) -> void *
  shmdt: { args: ["u64"], returns: "i32" },
  shmctl: { args: ["i32", "i32", "buffer"], returns: "i32" }, // (id, cmd, shmid_ds *)
  semget: { args: ["i32", "i32", "i32"], returns: "i32" }, // (key, count, flags)
  // (id, index, cmd, union semun)
  semctl: { args: ["i32", "i32", "i32", "u64"], returns: "i32", fixed: 3 },
  semop: { args: ["i32", "usize", "usize"], returns: "i32" }, // (id, sembuf *, count)
} as const satisfies CSignatures;

const LINUX_SIGNATURES = {
  __errno_location: { args: [], returns: "u64" },
  // glibc before 2.33 has no `fstat`, musl has no `statx`; both have this:
  // (SYS_statx, fd, path, flags, mask, struct statx *); what it returns, as a long, fits an int
  syscall: { args: ["usize", "i32", "buffer", "i32", "u32", "buffer"], returns: "i32", fixed: 1 },
  fcntl: { args: ["i32", "i32", "buffer"], returns: "i32" }, // (fd, cmd, struct flock *)
  // (olddirfd, old path, newdirfd, new path, flags)
  linkat: { args: ["i32", "buffer", "i32", "buffer", "i32"], returns: "i32" },
  mkdir: { args: ["buffer", "u32"], returns: "i32" }, // (path, mode)
  getrlimit: { args: ["i32", "buffer"], returns: "i32" }, // (resource, struct rlimit *)
  posix_fallocate: { args: ["i32", "u64", "u64"], returns: "i32" }, // (fd, offset, length) -> errno
  opendir: { args: ["buffer"], returns: "u64" }, // (path) -> DIR *
  readdir: { args: ["u64"], returns: "u64" }, // (DIR *) -> struct dirent *
  closedir: { args: ["u64"], returns: "i32" },
  madvise: { args: ["u64", "u64", "i32"], returns: "i32" }, // (addr, length, advice)
  semtimedop: { args: ["i32", "usize", "usize", "usize"], returns: "i32" }, // (id, sembuf *, count, timespec *)
} as const satisfies CSignatures;

const DARWIN_SIGNATURES = {
  __error: { args: [], returns: "u64" },
  confstr: { args: ["i32", "buffer", "u64"], returns: "u64" }, // (name, buf, length)
} as const satisfies CSignatures;

/** Of the kernel beneath the Unix one. */
const MACH_SIGNATURES = {
  task_self_trap: { args: [], returns: "u32" }, // what the macro mach_task_self() stands for
  // (task, to *, size, mask, flags, task, from, copy, protection *, maximal protection *, inheritance)
  mach_vm_remap: {
    args: ["u32", "buffer", "u64", "u64", "i32", "u32", "u64", "i32", "buffer", "buffer", "u32"],
    returns: "i32",
  },
} as const satisfies CSignatures;

/** On Intel their names without a suffix are those of functions for inodes of 32 bits. */
const DARWIN_STAT_SIGNATURES = {
  fstat: { args: ["i32", "buffer"], returns: "i32" }, // (fd, struct stat *)
  lstat: { args: ["buffer", "buffer"], returns: "i32" }, // (path, struct stat *)
  stat: { args: ["buffer", "buffer"], returns: "i32" }, // (path, struct stat *)
} as const satisfies CSignatures;

/** An `int64_t`, exact up to 2^53 and without the cost of a BigInt. */
function number64(view: DataView, offset: number): number {
  return view.getUint32(offset, true) + view.getInt32(offset + 4, true) * 2 ** 32;
}

/** What we ask about a file. */
export interface FileStatus {
  /** The low byte of `st_dev`. */
  readonly device: number;
  /** The low bytes of `st_ino`. */
  readonly inode: number;
  readonly uid: number;
  /** 0 once the file is deleted. */
  readonly links: number;
  /** Its size. */
  readonly bytes: number;
  /** What of it the file system has room for already, in bytes. */
  readonly reserved: number;
  /** `st_mode`: what kind of file it is, and its permissions. */
  readonly mode: number;
  /** `st_ctime`, when it was made, renamed or linked last, in seconds since 1970. */
  readonly changed: number;
}

/** What `/proc/sys/kernel/overflowuid` is if nobody has changed it. */
const OVERFLOW_UID = 65534;
/** All numbers that a user can have: -1 stands for none. */
const ALL_USERS = 2 ** 32 - 1;

/** Whether a user namespace has a number for every user; `map` is its `/proc/self/uid_map`. */
export function mapsAllUsers(map: string): boolean {
  const counts = [...map.matchAll(/^ *\d+ +\d+ +(\d+) *$/gm)].map(([, count]) => Number(count));
  return counts.reduce((sum, count) => sum + count, 0) >= ALL_USERS;
}

/** For the first read of a file; files of `/proc` do not tell their size. */
const READ_BYTES = 65536;
const FAILED = 0xffff_ffff_ffff_ffffn;
const NO_PATH = new Uint8Array(1);
/** How often a call is made again whose errno it cannot have: that is of what the runtime itself called. */
export const FOREIGN_ATTEMPTS = 10;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** A C string. The caller has made sure that `text` has no NUL. */
export function cString(text: string): Uint8Array {
  return encoder.encode(text + "\0");
}

/** The C library, with what is needed to use it from JavaScript. */
export class Libc {
  /** Its functions; of those that only Linux has, none elsewhere. */
  readonly c: CFunctions<typeof SIGNATURES & typeof LINUX_SIGNATURES>;
  readonly ffi: Ffi;
  /** The processor, as `process.arch` names it. */
  readonly arch: string;
  /** The operating system, as `process.platform` names it. */
  readonly os: string;
  /** Its numbers that other systems have others for. */
  readonly constants: SystemConstants;
  /** What asks about a file, for texts. */
  readonly statCall: string;
  readonly #darwin: DarwinFunctions | null = null;
  #mapAgain: ((address: bigint, bytes: bigint) => bigint | null) | undefined;
  #pidNamespace: number | undefined;
  #isOtherProc: boolean | undefined;
  #bootId: string | undefined;
  #errnoCell: Int32Array | undefined;
  /** The user that this process was seen to act as last. */
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
   * `errno` of this thread, as errno.ts has it; to be read right after the call that failed. V8 may do something of its own
   * in between, and then it is that of what V8 called, seldom enough to be seen once in a hundred starts of a program.
   */
  errno(): number {
    const cell = this.#errnoCell ??= this.#locateErrno();
    return swapErrno(cell[0]!, this.os) || EINTR; // 0 would pass for success
  }

  #locateErrno(): Int32Array {
    const address = this.#darwin === null ? this.c.__errno_location() : this.#darwin.__error();
    return new Int32Array(this.ffi.arrayBuffer(address, 4));
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
    return address === 0n ? undefined : this.#text(address);
  }

  /** The C string at `address`. */
  #text(address: bigint): string {
    const length = Number(this.c.strlen(address));
    if (length === 0) return "";
    return decoder.decode(new Uint8Array(this.ffi.arrayBuffer(address, length)).slice());
  }

  /** `path` without symbolic links, or the errno. */
  realpath(path: string): string | number {
    const resolved = new Uint8Array(this.constants.PATH_MAX);
    if (this.c.realpath(cString(path), resolved) === 0n) return this.errno();
    return decoder.decode(resolved.subarray(0, resolved.indexOf(0)));
  }

  /**
   * A file descriptor, or minus the errno. EAGAIN is what a runtime leaves that meets a taken lock of its own between
   * the call and the look at errno.
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

  /** The text of a symbolic link, or the errno. */
  readLink(path: string): string | number {
    const text = new Uint8Array(this.constants.PATH_MAX);
    const length = this.c.readlink(cString(path), text, BigInt(text.length));
    return length === FAILED ? this.errno() : decoder.decode(text.subarray(0, Number(length)));
  }

  /** The folder of this user's temporary files that the system itself knows, `""` if it knows none. */
  temporaryFolder(): string {
    const { PATH_MAX } = this.constants;
    const path = new Uint8Array(PATH_MAX);
    const length = this.#darwin?.confstr(_CS_DARWIN_USER_TEMP_DIR, path, BigInt(PATH_MAX)) ?? 0n;
    return length === 0n ? "" : decoder.decode(path.subarray(0, path.indexOf(0)));
  }

  /**
   * Maps shared memory of this process at a second address, which it returns: on macOS, where it is
   * `null` if that cannot be done.
   */
  mapAgain(address: bigint, bytes: bigint): bigint | null {
    return (this.#mapAgain ??= machRemap(this.ffi))(address, bytes);
  }

  /** About the file of a descriptor, or the errno. */
  fileStatus(fd: number): FileStatus | number {
    if (this.#darwin === null) return this.#statx(fd, NO_PATH, AT_EMPTY_PATH);
    return this.#darwinStatus(this.#darwin.fstat(fd, this.#stat));
  }

  /** About the file at `path`, or the errno. */
  pathStatus(path: Uint8Array, followLinks: boolean): FileStatus | number {
    if (this.#darwin === null) {
      return this.#statx(AT_FDCWD, path, followLinks ? 0 : AT_SYMLINK_NOFOLLOW);
    }
    const { lstat, stat } = this.#darwin;
    return this.#darwinStatus((followLinks ? stat : lstat)(path, this.#stat));
  }

  /**
   * About the file that a link of `/proc/PID/fd` leads to, or the errno: without a request to a file system that
   * another user runs, which need not answer.
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

  /** The text of a file, of `/proc` too, or the errno. */
  readFile(path: string): string | number {
    const bytes = this.readBytes(path);
    return typeof bytes === "number" ? bytes : decoder.decode(bytes);
  }

  /** The first bytes of a plain file that anybody may have made, or the errno; ENOENT if it is another kind of file. */
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

  /** What is in a file of the kernel's, or the errno. */
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

  /** The names in a folder, or the errno. */
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
   * Whether a process runs, whosever it is. One that ended and whose parent has not asked how, does not,
   * nor one that has got the pid of another: which started at other 16 bits of `startTime`. Without a
   * `/proc` neither of the two can be told.
   */
  isRunning(pid: number, startTime?: number): boolean {
    if (this.c.kill(pid, 0) !== 0 && this.errno() === ESRCH) return false;
    const stat = this.#processStatus(pid);
    if (stat === null) return true;
    if (startTime !== undefined && (Number(stat[19]) & 0xffff) !== startTime) return false;
    return stat[0] !== "Z" || Number(stat[17]) > 1; // state, num_threads
  }

  /** Whether this is the first thread of the process: on Linux, and not that of a worker. */
  isMainThread(): boolean {
    const number = this.ffi.usize(BigInt(SYS_GETTID[this.arch]!));
    return this.c.syscall(number, 0, NO_PATH, 0, 0, this.#stat) === this.c.getpid();
  }

  /** When a process started, in clock ticks since the system did; `null` if that is not known. */
  startTime(pid: number): number | null {
    const stat = this.#processStatus(pid);
    return stat && Number(stat[19]);
  }

  /** The number of the namespace that pids are of here; 0 if that is not known. */
  pidNamespace(): number {
    if (this.#pidNamespace === undefined) {
      const status = this.pathStatus(cString("/proc/self/ns/pid"), true);
      this.#pidNamespace = typeof status === "object" ? status.inode : 0;
    }
    return this.#pidNamespace;
  }

  /** Whether /proc is that of another pid namespace, so that what it says of a pid is about another process. */
  #hasOtherProc(): boolean {
    if (this.#isOtherProc === undefined) {
      const stat = this.readFile("/proc/self/stat");
      this.#isOtherProc = typeof stat === "string" && Number.parseInt(stat) !== this.c.getpid();
    }
    return this.#isOtherProc;
  }

  /** What no other start of the system, and no other machine, has; `""` if that is not known. */
  bootId(): string {
    if (this.#bootId === undefined) {
      const text = this.os === "linux" ? this.readFile("/proc/sys/kernel/random/boot_id") : "";
      this.#bootId = typeof text === "string" ? text.trim() : "";
    }
    return this.#bootId;
  }

  /** Whether each process of the system has a pid here; else the pid of some outside is 0. */
  seesAllProcesses(): boolean {
    return this.os !== "linux" || this.pidNamespace() === PROC_PID_INIT_INO;
  }

  /**
   * proc(5): what follows the name, in parentheses, starting with the state. `null` if it is hidden. That
   * of the first thread is the process's; of `/proc/PID/stat` qemu-user makes one up for the process itself.
   */
  #processStatus(pid: number): string[] | null {
    if (this.os !== "linux") return null;
    if (this.#hasOtherProc()) return null;
    const stat = this.readFile(`/proc/${pid}/task/${pid}/stat`);
    return typeof stat === "number" ? null : stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  }

  /**
   * The user that this process acts as, whom an object must belong to to be its own.
   *
   * In a user namespace every user without a number there appears as the overflow uid. If this process does too,
   * objects of strangers cannot be told from its own.
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

  /** Whether a user is the one that this process acts as, and can be told from others. */
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

  /** The name of a user, `null` if the system knows none. */
  loginName(uid: number): string | null {
    const entry = this.c.getpwuid(uid);
    if (entry === 0n) return null;
    return this.#text(new DataView(this.ffi.arrayBuffer(entry, 8)).getBigUint64(0, true));
  }

  /** A user as texts show him: the name if the system knows one, and the number. */
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
