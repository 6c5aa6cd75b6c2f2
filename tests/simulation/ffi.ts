/**
 * The product's `Ffi` for one process of the simulated kernel. It decodes the arguments of C functions into readable
 * calls, and encodes what the kernel answers into C structures. What belongs to the process alone is here: its own
 * memory, `errno`, and the environment.
 */
import {
  _SC_CLK_TCK,
  DIRENT,
  FLOCK,
  FUTEX_WAIT,
  IPC_SET,
  IPC_STAT,
  SEMID_DS,
  SHMID_DS,
  STATX,
  SYS_FUTEX,
  SYS_GETTID,
  SYS_STATX,
} from "../../backends/unix/linux_constants.ts";
import { EAGAIN } from "../../backends/unix/errno.ts";
import { background } from "../../ffi/threads.ts";
import type {
  Background,
  CFunctions,
  CSignatures,
  Ffi,
  ThreadCode,
  Usize,
} from "../../ffi/types.ts";
import type { ElementArray } from "./atomics.ts";
import { O_DIRECTORY } from "./files.ts";
import type { Call, Result } from "./kernel.ts";
import { FIRST_WORD, WORDS_BYTES } from "./memory.ts";
import { TICKS } from "./proc_files.ts";
import { PAGE } from "./state.ts";

/** The processor that the numbers of system calls and flags belong to. */
export const ARCH = "x64";

/** Makes a call of the process, and returns when it has ended. */
export type MakeCall = (call: Call) => Result;

export interface FfiOptions {
  readonly pid: number;
  readonly uid: number;
  readonly environ?: Readonly<Record<string, string>>;
}

type Fields = Readonly<Record<string, number>>;
type Address = number | bigint | Usize;

/** How a simulated process binds C functions on a thread: workers.ts gives the code `bind` and `memory`. */
const THREADS = {
  code: "",
  described: (signature: unknown) => signature,
  joinsAtExit: true,
  flags: [],
};

const ERRNO_CELL = 0x1000;
const FIRST_PRIVATE = 0x10_0000;
const decoder = new TextDecoder();
const encoder = new TextEncoder();

function text(bytes: Uint8Array): string {
  return decoder.decode(bytes.subarray(0, bytes.indexOf(0)));
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** What a C function that returns a pointer or a `long` returns, where -1 is failure. */
function wide(result: number): bigint {
  return BigInt.asUintN(64, BigInt(result));
}

function put64(view: DataView, offset: number, value: number): void {
  view.setBigUint64(offset, BigInt(value), true);
}

function putPermissions(view: DataView, layout: typeof SHMID_DS | typeof SEMID_DS, from: Fields) {
  view.setUint32(layout.uid, from["uid"]!, true);
  view.setUint32(layout.gid, from["gid"]!, true);
  view.setUint32(layout.cuid, from["cuid"]!, true);
  view.setUint16(layout.mode, from["mode"]!, true);
}

function permissionsOf(view: DataView, layout: typeof SHMID_DS | typeof SEMID_DS) {
  const { uid, gid, mode } = layout;
  return [view.getUint32(uid, true), view.getUint32(gid, true), view.getUint16(mode, true)];
}

function putSegmentStatus(view: DataView, from: Fields): void {
  putPermissions(view, SHMID_DS, from);
  put64(view, SHMID_DS.segsz, from["size"]!);
  put64(view, SHMID_DS.ctime, from["ctime"]!);
  view.setInt32(SHMID_DS.cpid, from["creator"]!, true);
  put64(view, SHMID_DS.nattch, from["attached"]!);
}

function putSetStatus(view: DataView, from: Fields): void {
  putPermissions(view, SEMID_DS, from);
  put64(view, SEMID_DS.otime, from["otime"]!);
}

function putFileStatus(view: DataView, from: Fields): void {
  view.setUint32(STATX.nlink, from["links"]!, true);
  view.setUint32(STATX.uid, from["uid"]!, true);
  view.setUint16(STATX.mode, from["mode"]!, true);
  put64(view, STATX.ino, from["ino"]!);
  put64(view, STATX.size, from["size"]!);
  put64(view, STATX.blocks, from["blocks"]!);
  put64(view, STATX.ctime, from["ctime"]!);
  put64(view, STATX.mtime, from["mtime"]!);
  view.setUint32(STATX.devMinor, from["dev"]!, true);
}

export class SimulatedFfi implements Ffi {
  readonly maxBufferBytes = Number.MAX_SAFE_INTEGER;
  readonly hasFastCalls = false;
  readonly #makeCall: MakeCall;
  readonly #options: FfiOptions;
  readonly #errno = new Int32Array(1);
  readonly #private = new Map<number, ArrayBuffer>();
  #nextPrivate = FIRST_PRIVATE;
  #wordsCount = 0;
  /** The addresses of the views of shared memory. */
  readonly #views = new WeakMap<ArrayBufferLike, number>();
  readonly #environ = new Map<string, bigint>();
  readonly #folders = new Map<bigint, { fd: number; names: string[]; entry: bigint }>();

  constructor(makeCall: MakeCall, options: FfiOptions) {
    this.#makeCall = makeCall;
    this.#options = options;
    const { environ = { TMPDIR: "/tmp" } } = options;
    for (const [name, value] of Object.entries(environ)) {
      const bytes = encoder.encode(`${value}\0`);
      const address = this.#allocate(bytes.length);
      this.#bytes(address).set(bytes);
      this.#environ.set(name, address);
    }
  }

  load<const S extends CSignatures>(_libraries: readonly string[], signatures: S): CFunctions<S> {
    const missing = Object.keys(signatures).filter((name) => !(name in this.#functions));
    if (missing.length > 0) throw new Error(`not simulated: ${missing.join(", ")}`);
    return this.#functions as unknown as CFunctions<S>;
  }

  background<const S extends CSignatures>(
    libraries: readonly string[],
    signatures: S,
    code: ThreadCode,
  ): Background {
    return background(THREADS, libraries, signatures, code);
  }

  /** Starts a thread of the process; returns its index. */
  startThread(program: number): number {
    return this.#return("thread", program);
  }

  /** Sends a message to a thread of the process, or from a thread to the process. */
  post(to: number | "leader", message: unknown): void {
    this.#return("post", to, JSON.stringify(message));
  }

  /** Waits for a message; returns `null` when the time is `until`. */
  receive(until: number): { readonly from: number; readonly message: unknown } | null {
    const { out } = this.#call("receive", until);
    if (out === null) return null;
    const [, from, message] = /^(\d+) (.*)$/.exec(out as string)!;
    return { from: Number(from), message: JSON.parse(message!) };
  }

  /** Begins a timer; returns the time. */
  beginTimer(): number {
    return this.#return("timer");
  }

  endThreads(): void {
    this.#return("terminate");
  }

  /** Returns a buffer of memory that the threads of the process share. */
  newWords(bytes: number): ArrayBuffer {
    if (bytes > WORDS_BYTES) {
      throw new Error(`threads share at most ${WORDS_BYTES} bytes at a place`);
    }
    this.#wordsCount++;
    const { pid } = this.#options;
    return this.wordsAt(FIRST_WORD + pid * 0x1000 + this.#wordsCount * WORDS_BYTES, bytes);
  }

  wordsAt(address: number, bytes: number): ArrayBuffer {
    const buffer = new ArrayBuffer(bytes);
    this.#views.set(buffer, address);
    return buffer;
  }

  /** Waits until a word that threads share is not `value` any more, as `Atomics.wait` does. */
  waitForWord(address: number, value: number, ms: number): "ok" | "not-equal" | "timed-out" {
    const { errno } = this.#call("futex_wait", address, value, ms);
    return errno === 0 ? "ok" : errno === EAGAIN ? "not-equal" : "timed-out";
  }

  wakeWaiters(address: number, count: number): number {
    return this.#return("futex_wake", address, count);
  }

  /** Returns the private memory that begins at an address, if there is some, as what another thread can read. */
  privateMemory(address: number): [[number, number[]]] | null {
    const buffer = this.#private.get(this.#startOf(address) ?? -1);
    if (buffer === undefined) return null;
    return [[this.#startOf(address)!, [...new Uint8Array(buffer)]]];
  }

  addPrivateMemory(address: number, bytes: readonly number[]): void {
    this.#private.set(address, new Uint8Array(bytes).buffer);
  }

  usize(value: bigint): Usize {
    return Number(value) as unknown as Usize;
  }

  arrayBuffer(address: bigint, byteLength: number): ArrayBuffer {
    const at = Number(address);
    if (at === ERRNO_CELL) return this.#errno.buffer;
    const own = this.#private.get(at);
    if (own !== undefined) return own.byteLength === byteLength ? own : own.slice(0, byteLength);
    const found = this.#ownMemory(at);
    if (found !== null) return found.slice().buffer.slice(0, byteLength);
    const buffer = new ArrayBuffer(byteLength);
    this.#views.set(buffer, at);
    return buffer;
  }

  /** Whether a buffer is shared memory, as far as the process has it. */
  isShared(buffer: ArrayBufferLike): boolean {
    return this.#views.has(buffer);
  }

  /** Returns the address of a view's bytes; `undefined` if they are in no shared memory. */
  addressOf({ buffer, byteOffset }: ArrayBufferView): number | undefined {
    const address = buffer.byteLength > 0 ? this.#views.get(buffer) : undefined; // not of a detached buffer
    return address && address + byteOffset;
  }

  /** Makes one of `ELEMENT_CALLS` on shared memory. Returns `null` if there is no such element. */
  element(
    name: string,
    view: ElementArray,
    index: number,
    values: readonly unknown[],
  ): number | bigint | null {
    const start = this.addressOf(view);
    if (start === undefined) return null;
    if (!(index < view.length)) {
      if (name.startsWith("plain")) return null;
      throw new RangeError(`${name}: there is no element ${index}`);
    }
    const address = start + index * view.BYTES_PER_ELEMENT;
    const array = view.constructor.name;
    const { out } = this.#call(name, address, array, ...values.map(String));
    return array.startsWith("Big") ? BigInt(out as string) : Number(out);
  }

  #allocate(bytes: number): bigint {
    const address = this.#nextPrivate;
    this.#private.set(address, new ArrayBuffer(bytes));
    this.#nextPrivate += bytes + 15 & ~15;
    return BigInt(address);
  }

  /** The beginning of the process's own memory that contains an address. */
  #startOf(address: number): number | undefined {
    for (const [start, { byteLength }] of this.#private) {
      if (address >= start && address < start + byteLength) return start;
    }
    return undefined;
  }

  /** The process's own memory from an address on; `null` if the address is not in it. */
  #ownMemory(address: number): Uint8Array<ArrayBuffer> | null {
    const start = this.#startOf(address);
    return start === undefined ? null : new Uint8Array(this.#private.get(start)!, address - start);
  }

  #bytes(address: Address): Uint8Array<ArrayBuffer> {
    const found = this.#ownMemory(Number(address));
    if (found === null) throw new Error(`no memory of the process at ${address}`);
    return found;
  }

  /** Makes a call, and sets `errno` if it fails. */
  #call(...call: Call): Result {
    const result = this.#makeCall(call);
    if (result.ret === -1) this.#errno[0] = result.errno;
    return result;
  }

  #return(...call: Call): number {
    return this.#call(...call).ret;
  }

  /** Makes a call that writes a structure. */
  #fill(to: Uint8Array, put: (view: DataView, from: Fields) => void, ...call: Call): number {
    const { ret, out } = this.#call(...call);
    if (ret === 0) put(viewOf(to), out as Fields);
    return ret;
  }

  /** Makes a call that writes bytes or a text, and returns their number. */
  #copy(to: Uint8Array, ...call: Call): number {
    const { ret, out } = this.#call(...call);
    if (ret === -1) return -1;
    const bytes = typeof out === "string" ? encoder.encode(out) : out as Uint8Array;
    to.set(bytes);
    return bytes.length;
  }

  #steps(address: Address, count: Address): [op: number, flags: number][] {
    const view = viewOf(this.#bytes(address));
    return Array.from({ length: Number(count) }, (_, i) => {
      if (view.getUint16(6 * i, true) !== 0) throw new Error("only the first semaphore of a set");
      return [view.getInt16(6 * i + 2, true), view.getInt16(6 * i + 4, true)];
    });
  }

  /** Reads a `struct timespec`, in ms. */
  #time(from: Address | Uint8Array): number {
    const view = viewOf(from instanceof Uint8Array ? from : this.#bytes(from));
    return Number(view.getBigInt64(0, true)) * 1000 + Number(view.getBigInt64(8, true)) / 1e6;
  }

  readonly #functions = {
    __errno_location: () => BigInt(ERRNO_CELL),
    gnu_get_libc_version: () => 0n,
    calloc: (count: bigint, size: bigint) => this.#allocate(Number(count * size)),
    strlen: (address: bigint) => BigInt(this.#bytes(address).indexOf(0)),
    getenv: (name: Uint8Array) => this.#environ.get(text(name)) ?? 0n,
    getpwuid: () => 0n,
    sysconf: (name: number) => BigInt(name === _SC_CLK_TCK ? TICKS : PAGE),
    getrlimit: (_resource: number, limits: Uint8Array) => (limits.fill(0xff), 0),
    getpid: () => this.#options.pid,
    geteuid: () => this.#options.uid,
    kill: (pid: number, signal: number) => this.#return("kill", pid, signal),

    open: (path: Uint8Array, flags: number, mode: number) =>
      this.#return("open", text(path), flags, mode),
    read: (fd: number, to: Uint8Array, bytes: bigint) =>
      wide(this.#copy(to, "read", fd, Number(bytes))),
    close: (fd: number) => this.#return("close", fd),
    fchmod: (fd: number, mode: number) => this.#return("fchmod", fd, mode),
    unlink: (path: Uint8Array) => this.#return("unlink", text(path)),
    link: (from: Uint8Array, to: Uint8Array) => this.#return("link", text(from), text(to)),
    linkat: (from: number, path: Uint8Array, to: number, name: Uint8Array, flags: number) =>
      this.#return("linkat", from, text(path), to, text(name), flags),
    rename: (from: Uint8Array, to: Uint8Array) => this.#return("rename", text(from), text(to)),
    symlink: (to: Uint8Array, path: Uint8Array) => this.#return("symlink", text(to), text(path)),
    readlink: (path: Uint8Array, to: Uint8Array) => wide(this.#copy(to, "readlink", text(path))),
    realpath: (path: Uint8Array, to: Uint8Array) => {
      const length = this.#copy(to, "realpath", text(path));
      if (length >= 0) to[length] = 0;
      return length < 0 ? 0n : 1n;
    },
    mkdir: (path: Uint8Array, mode: number) => this.#return("mkdir", text(path), mode),
    flock: (fd: number, operation: number) => this.#return("flock", fd, operation),
    fcntl: (fd: number, command: number, lock: Uint8Array) => {
      const view = viewOf(lock);
      const byte = Number(view.getBigInt64(FLOCK.start, true));
      const type = view.getInt16(FLOCK.type, true);
      const put = (to: DataView, { type }: Fields) => to.setInt16(FLOCK.type, type!, true);
      return this.#fill(lock, put, "fcntl", fd, command, type, byte);
    },
    posix_fallocate: (fd: number, _offset: bigint, bytes: bigint) =>
      this.#call("fallocate", fd, Number(bytes)).errno,
    ftruncate: (fd: number, bytes: bigint) => this.#return("ftruncate", fd, Number(bytes)),
    opendir: (path: Uint8Array) => {
      const fd = this.#return("open", text(path), O_DIRECTORY, 0);
      if (fd === -1) return 0n;
      const { out } = this.#call("getdents", fd); // it fails if the folder is that of a process that has ended
      const entry = this.#allocate(DIRENT.name + 256);
      this.#folders.set(entry, { fd, names: [...(out ?? []) as string[]], entry });
      return entry;
    },
    readdir: (folder: bigint) => {
      const { names, entry } = this.#folders.get(folder)!;
      const name = names.shift();
      if (name === undefined) return 0n;
      this.#bytes(entry).set(encoder.encode(`${name}\0`), DIRENT.name);
      return entry;
    },
    closedir: (folder: bigint) => {
      const { fd } = this.#folders.get(folder)!;
      this.#folders.delete(folder);
      this.#private.delete(Number(folder));
      return this.#return("close", fd);
    },

    syscall: (number: Address, ...args: unknown[]) => {
      if (Number(number) === SYS_GETTID[ARCH]) return this.#options.pid;
      if (Number(number) === SYS_STATX[ARCH]) {
        const [fd, path, flags, , to] = args as [number, Uint8Array, number, number, Uint8Array];
        return this.#fill(to, putFileStatus, "statx", fd, text(path), flags);
      }
      if (Number(number) !== SYS_FUTEX[ARCH]) throw new Error(`system call ${Number(number)}`);
      const [word, operation, value, time] = args as [
        Address,
        number,
        number,
        Address | Uint8Array,
      ];
      if (operation !== FUTEX_WAIT) return this.#return("futex_wake", Number(word), value);
      return this.#return("futex_wait", Number(word), value | 0, this.#time(time));
    },
    clock_gettime: (clock: number, to: bigint | Uint8Array) => {
      const put = (view: DataView, { seconds, nanoseconds }: Fields) => {
        put64(view, 0, seconds!);
        put64(view, 8, nanoseconds!);
      };
      const bytes = typeof to === "bigint" ? this.#bytes(to) : to;
      return this.#fill(bytes, put, "clock_gettime", clock);
    },

    mmap: (
      ...[address, bytes, access, flags, fd]: [bigint, bigint, number, number, number, bigint]
    ) => wide(this.#return("mmap", Number(address), Number(bytes), access, flags, fd)),
    munmap: (address: bigint, bytes: bigint) =>
      this.#return("munmap", Number(address), Number(bytes)),
    madvise: () => this.#return("madvise"),

    shmget: (key: number, size: bigint, flags: number) =>
      this.#return("shmget", key, Number(size), flags),
    shmat: (id: number, _address: bigint, flags: number) => wide(this.#return("shmat", id, flags)),
    shmdt: (address: bigint) => this.#return("shmdt", Number(address)),
    shmctl: (id: number, command: number, status: Uint8Array) => {
      if (command === IPC_STAT) return this.#fill(status, putSegmentStatus, "shmctl", id, command);
      const rest = command === IPC_SET ? permissionsOf(viewOf(status), SHMID_DS) : [];
      return this.#return("shmctl", id, command, ...rest);
    },
    semget: (key: number, count: number, flags: number) =>
      this.#return("semget", key, count, flags),
    semctl: (id: number, index: number, command: number, argument: bigint) => {
      if (index !== 0) throw new Error("only the first semaphore of a set");
      if (command === IPC_STAT) {
        return this.#fill(this.#bytes(argument), putSetStatus, "semctl", id, 0, command);
      }
      const rest = command === IPC_SET
        ? permissionsOf(viewOf(this.#bytes(argument)), SEMID_DS)
        : [Number(argument)];
      return this.#return("semctl", id, 0, command, ...rest);
    },
    semop: (id: number, steps: Address, count: Address) =>
      this.#return("semop", id, this.#steps(steps, count)),
    semtimedop: (id: number, steps: Address, count: Address, time: Address | Uint8Array) =>
      this.#return("semtimedop", id, this.#steps(steps, count), this.#time(time)),

    sem_init: (address: bigint, _shared: number, value: number) =>
      this.#return("sem_init", Number(address), value),
    sem_trywait: (address: bigint) => this.#return("sem_trywait", Number(address)),
    sem_post: (address: bigint) => this.#return("sem_post", Number(address)),
    sem_wait: (address: bigint) => this.#return("sem_clockwait", Number(address), Infinity),
    sem_clockwait: (address: bigint, _clock: number, time: bigint | Uint8Array) =>
      this.#return("sem_clockwait", Number(address), this.#time(time)),

    // Only who looks into the segments of others calls these, which no simulated process does.
    pread: notCalled,
    mincore: notCalled,
  };
}

function notCalled(): never {
  throw new Error("this function is not simulated");
}
