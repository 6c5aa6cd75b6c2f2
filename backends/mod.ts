import process from "node:process";
import { UnsupportedError } from "../errors.ts";
import { selectFfi } from "../ffi/mod.ts";
import type { Ffi } from "../ffi/types.ts";
import { isSupported, NativeIpcKeyType, schemeOf } from "../native_ipc_key.ts";
import { DarwinSleeper } from "./futex/darwin.ts";
import { DarwinThreads } from "./mutex/darwin_threads.ts";
import { S_IFDIR, S_IFMT } from "./unix/linux_constants.ts";
import { EEXIST, errnoText, Failure } from "./unix/errno.ts";
import { Kernel32 } from "./win32/kernel32.ts";
import { cString, Libc } from "./unix/libc.ts";
import { Mappings } from "./unix/mappings.ts";
import { OwnerMutexes } from "./mutex/owner_word.ts";
import { DarwinPosixLibrary } from "./posix_darwin/library.ts";
import { DarwinPosixSegments } from "./posix_darwin/segments.ts";
import { DarwinPosixSemaphores } from "./posix_darwin/semaphore.ts";
import { PosixLibrary } from "./posix/library.ts";
import { PosixSegments } from "./posix/segments.ts";
import { PosixSemaphores } from "./posix/semaphore.ts";
import { Pthreads } from "./mutex/pthread.ts";
import { PROJECT_ID } from "./systemv/key_file.ts";
import { SystemVSegments } from "./systemv/segments.ts";
import { SystemVSemaphores } from "./systemv/semaphore_set.ts";
import type { SharedMutexes } from "./mutex/types.ts";
import type { Backend } from "./types.ts";
import { WindowsEvents } from "./futex/windows.ts";
import { WindowsMutexes } from "./mutex/windows.ts";
import { WindowsSegments } from "./windows/segments.ts";
import { WindowsSemaphores } from "./windows/semaphore.ts";
import type { WordSleeper } from "./futex/types.ts";

export interface Platform {
  readonly os: string;
  readonly arch: string;
}

/** System V, which Qt's string keys mean on Unix. */
export function systemV(
  ffi: Ffi,
  platform: Platform,
  projectId = PROJECT_ID,
  libc: Libc = libraryOf(ffi, platform),
): Backend {
  return {
    arrayBuffer: (address, byteLength) => ffi.arrayBuffer(address, byteLength),
    segments: new SystemVSegments(libc, ffi.maxBufferBytes, libc.pageBytes, projectId),
    semaphores: new SystemVSemaphores(libc, projectId),
    folder: () => temporaryFolder(libc),
    runtimeFolder: () => runtimeFolder(libc),
    users: libc,
  };
}

/** POSIX, the other kind of key on Unix. */
export function posix(ffi: Ffi, libc: Libc, library?: PosixLibrary): Backend {
  const mappings = new Mappings(libc, libc.pageBytes);
  return {
    arrayBuffer: (address, byteLength) => ffi.arrayBuffer(address, byteLength),
    ...(libc.os === "darwin"
      ? darwinPosix(libc, mappings, ffi.maxBufferBytes)
      : linuxPosix(libc, mappings, ffi.maxBufferBytes, library)),
    folder: () => "",
    runtimeFolder: () => "",
    users: libc,
  };
}

function linuxPosix(
  libc: Libc,
  mappings: Mappings,
  maxBytes: number,
  library = new PosixLibrary(libc),
) {
  return {
    segments: new PosixSegments(libc, mappings, maxBytes),
    semaphores: new PosixSemaphores(library),
  };
}

function darwinPosix(libc: Libc, mappings: Mappings, maxBytes: number) {
  const library = new DarwinPosixLibrary(libc);
  return {
    segments: new DarwinPosixSegments(library, mappings, maxBytes),
    semaphores: new DarwinPosixSemaphores(library),
  };
}

/** The kernel's named objects, the only kind of key on Windows. */
export function windows(ffi: Ffi, platform: Platform, kernel?: Kernel32): Backend {
  requireSystem(["win32"], platform);
  kernel ??= new Kernel32(ffi);
  return {
    arrayBuffer: (address, byteLength) => ffi.arrayBuffer(address, byteLength),
    segments: new WindowsSegments(kernel, ffi.maxBufferBytes),
    semaphores: new WindowsSemaphores(kernel),
    folder: () => "",
    runtimeFolder: () => "",
    users: null,
  };
}

/** @throws {UnsupportedError} where there is no C library that is known */
export function libraryOf(ffi: Ffi, platform: Platform): Libc {
  requireSystem(["linux", "darwin"], platform);
  return new Libc(ffi, platform.arch, platform.os);
}

function requireSystem(expected: readonly string[], { os, arch }: Platform): void {
  if (expected.includes(os) && (arch === "x64" || arch === "arm64")) return;
  throw new UnsupportedError(
    `shared memory is not supported on ${os} ${arch} yet: only on Linux, macOS and Windows, x64 and ` +
      "arm64",
  );
}

/** What only its user may use, the folder itself included. */
const PRIVATE_FOLDER = 0o700;

/** Where Qt puts key files: `TMPDIR`, else the system's own folder, without symbolic links. */
export function temporaryFolder(libc: Libc): string {
  const folder = libc.getenv("TMPDIR") || libc.temporaryFolder() || "/tmp";
  const resolved = libc.realpath(folder);
  if (typeof resolved === "string") return resolved === "/" ? "" : resolved;
  throw new Failure(
    "KeyError",
    `the folder of the key files, ${folder}, cannot be used; create it or set TMPDIR to another ` +
      `[realpath: ${errnoText(resolved)}]`,
    "realpath",
    resolved,
  );
}

/**
 * Qt's `RuntimeLocation`: `XDG_RUNTIME_DIR`, or else `runtime-USER` in the folder of the key files. As in Qt a missing
 * one is created, and one that is not private is not used; then nothing of it is changed.
 */
function runtimeFolder(libc: Libc): string {
  if (libc.os === "darwin") return `${libc.getenv("HOME") ?? ""}/Library/Application Support`;
  const uid = libc.ownUid();
  const chosen = libc.getenv("XDG_RUNTIME_DIR");
  if (chosen && privateFolderProblem(libc, chosen, uid) === null) return chosen;
  const folder = `${temporaryFolder(libc)}/runtime-${libc.loginName(uid) ?? uid}`;
  const problem = privateFolderProblem(libc, folder, uid);
  if (problem === null) return folder;
  throw new Failure(
    "KeyError",
    `there is no folder for this user's runtime files: ${folder} ${problem}; set XDG_RUNTIME_DIR to a folder of this ` +
      "user's with the permissions 0700" + (chosen ? `, which ${chosen} is not` : ""),
  );
}

/** Why a folder is not one that only the user can use, `null` if it is; created if there is none. */
function privateFolderProblem(libc: Libc, folder: string, uid: number): string | null {
  const path = cString(folder);
  if (libc.c.mkdir(path, PRIVATE_FOLDER) === 0) return null;
  const errno = libc.errno();
  if (errno !== EEXIST) return `cannot be created [mkdir: ${errnoText(errno)}]`;
  const status = libc.pathStatus(path, false); // not through a link, which anybody may have put there
  if (typeof status === "number") return `cannot be used [${libc.statCall}: ${errnoText(status)}]`;
  if ((status.mode & S_IFMT) !== S_IFDIR) return "is not a folder";
  if (status.uid !== uid) return `belongs to ${libc.userName(status.uid)}, another user`;
  const permissions = status.mode & 0o777;
  if (permissions === PRIVATE_FOLDER) return null;
  return `has the permissions 0${permissions.toString(8)}, so that others may use it too`;
}

const backends = new Map<NativeIpcKeyType, Backend>();
let libc: Libc | undefined;

/** The backend of this system for a type of keys, loaded on first use. */
export function backendOf(type: NativeIpcKeyType): Backend {
  let backend = backends.get(type);
  if (backend === undefined) backends.set(type, backend = load(type));
  return backend;
}

function load(type: NativeIpcKeyType): Backend {
  const { platform: os, arch } = process;
  if (!isSupported(type, os)) {
    const text = type === 0
      ? "the key has no type"
      : `${os} has no objects of type ${schemeOf(type)}`;
    throw new Failure("KeyError", `${text}; see SharedMemory.isKeyTypeSupported()`);
  }
  if (type === NativeIpcKeyType.Windows) {
    const shared = sharedKernel();
    return windows(shared.ffi, { os, arch }, shared);
  }
  const library = sharedLibrary();
  library.ownUid(); // refuses where other users cannot be told from this one
  if (type === NativeIpcKeyType.PosixRealtime) {
    return posix(library.ffi, library, os === "darwin" ? undefined : sharedPosixLibrary(library));
  }
  return systemV(library.ffi, { os, arch }, type, library);
}

let posixLibrary: PosixLibrary | undefined;
let kernel: Kernel32 | undefined;
let darwinSleeper: DarwinSleeper | null | undefined;
let mutexes: SharedMutexes | undefined;

/**
 * What sleeps until a word of a segment changes; `null` where no system call does that between processes.
 *
 * @param id what tells the word from others where its address does not
 * @param read what the word is now
 */
export function wordSleeper(id: number, read: () => number | undefined): WordSleeper | null {
  if (process.platform === "win32") return new WindowsEvents(sharedKernel(), id, read);
  const library = sharedLibrary();
  if (process.platform === "darwin") return sharedDarwinSleeper(library);
  return sharedPosixLibrary(library).futex;
}

function sharedPosixLibrary(library: Libc): PosixLibrary {
  return posixLibrary ??= new PosixLibrary(library);
}

function sharedKernel(): Kernel32 {
  return kernel ??= new Kernel32(selectFfi());
}

/** @throws {UnsupportedError} where there is no C library that is known */
export function sharedLibrary(): Libc {
  const { platform: os, arch } = process;
  return libc ??= libraryOf(selectFfi(), { os, arch });
}

function sharedDarwinSleeper(library: Libc): DarwinSleeper | null {
  if (darwinSleeper === undefined) darwinSleeper = DarwinSleeper.load(library);
  return darwinSleeper;
}

/** A number for `wordSleeper`; 0 where it needs none. */
export function wordId(): number {
  if (process.platform !== "win32") return 0;
  return crypto.getRandomValues(new Uint32Array(1))[0]!;
}

/** @throws {UnsupportedError} on other systems, and where the C library has no robust ones */
export function sharedMutexes(): SharedMutexes {
  return mutexes ??= loadMutexes();
}

function loadMutexes(): SharedMutexes {
  if (process.platform === "win32") return new WindowsMutexes(sharedKernel());
  const library = sharedLibrary();
  if (process.platform !== "darwin") return new Pthreads(library);
  const { ffi } = library;
  return new OwnerMutexes(ffi, new DarwinThreads(library), sharedDarwinSleeper(library));
}
