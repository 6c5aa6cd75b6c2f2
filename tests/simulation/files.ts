/** Files, folders, descriptors and file locks of the simulated Linux, as in its fs/namei.c, fs/open.c and fs/locks.c. */
import {
  EACCES,
  EAGAIN,
  EEXIST,
  EINVAL,
  ELOOP,
  ENOENT,
  ENOSPC,
  ENOTDIR,
  EPERM,
  EROFS,
} from "../../backends/unix/errno.ts";
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  AT_SYMLINK_FOLLOW,
  AT_SYMLINK_NOFOLLOW,
  F_OFD_GETLK,
  F_OFD_SETLK,
  F_RDLCK,
  F_UNLCK,
  F_WRLCK,
  LOCK_EX,
  LOCK_NB,
  LOCK_UN,
  O_CREAT,
  O_EXCL,
  O_NOFOLLOW,
  O_PATH,
  O_RDWR,
  O_TMPFILE,
  S_IFDIR,
  S_IFMT,
  S_IFREG,
  S_ISVTX,
} from "../../backends/unix/linux_constants.ts";
import { procFile } from "./proc_files.ts";
import {
  addInode,
  type Answer,
  type Caller,
  EBADF,
  EISDIR,
  ENOTEMPTY,
  EXDEV,
  type FileLock,
  type Inode,
  isAllowed,
  type OpenFile,
  PAGE,
  seconds,
  type State,
} from "./state.ts";

const NOFOLLOW = O_NOFOLLOW["x64"]!;
const TMPFILE = O_TMPFILE["x64"]!;
/** The flag is not in linux_constants.ts, as only C's `opendir` uses it. */
export const O_DIRECTORY = 0o200000;
const S_IFLNK = 0o120000;
const UMASK = 0o022;
const MAX_LINKS = 40;
const [READ, WRITE, SEARCH] = [4, 2, 1];
const encoder = new TextEncoder();

/** Where a path leads: the folder and the name there, and the file if there is one. */
interface Place {
  readonly folder: Inode;
  readonly name: string;
  readonly inode: number | undefined;
  /** The path without links. */
  readonly path: string;
}

/** Follows a path in a mount namespace; returns a place or a negative errno. */
function walk(
  caller: Caller,
  path: string,
  follow: boolean,
  mounts = caller.process.mounts,
  links = 0,
): Place | number {
  const { inodes, roots } = caller.state;
  if (path === "") return -ENOENT;
  const names = path.split("/").filter((name) => name !== "" && name !== ".");
  let id = roots[mounts]!;
  if (names.length === 0) return { folder: inodes.get(id)!, name: "", inode: id, path: "/" };
  for (const [i, name] of names.entries()) {
    const folder = inodes.get(id)!;
    if (folder.entries === null) return -ENOTDIR;
    if (!isAllowed(folder, caller.process, SEARCH)) return -EACCES;
    const inode = folder.entries.get(name);
    const isLast = i === names.length - 1;
    const text = inode === undefined ? "" : inodes.get(inode)!.text;
    if (text !== "" && (follow || !isLast)) {
      if (links === MAX_LINKS) return -ELOOP;
      const before = text.startsWith("/") ? [] : names.slice(0, i);
      const next = [...before, text, ...names.slice(i + 1)].join("/");
      return walk(caller, next, follow, mounts, links + 1);
    }
    if (isLast) return { folder, name, inode, path: `/${names.join("/")}` };
    if (inode === undefined) return -ENOENT;
    id = inode;
  }
  throw new Error("unreachable");
}

/** Returns the inode that a path leads to, or a negative errno. */
export function inodeAt(caller: Caller, path: string, follow: boolean, mounts?: number): number {
  const place = walk(caller, path, follow, mounts);
  return typeof place === "number" ? place : place.inode ?? -ENOENT;
}

/** Returns the open file of a descriptor, or `null` if there is none or it was opened with O_PATH. */
export function fileOf({ state, process }: Caller, fd: number): OpenFile | null {
  const open = state.opens.get(process.fds.get(fd) ?? -1);
  return open === undefined || (open.flags & O_PATH) !== 0 ? null : open;
}

export function mayWrite({ flags }: OpenFile): boolean {
  return (flags & O_RDWR) !== 0;
}

/** Deletes a file that has no name and is not open any more. */
function forget(state: State, id: number): void {
  if (state.inodes.get(id)?.links !== 0) return;
  for (const open of state.opens.values()) if (open.inode === id) return;
  state.inodes.delete(id);
}

/**
 * Ends an open file description that has no descriptor and no mapping any more, and its locks. A mapping keeps the locks
 * of a file whose descriptor has been closed.
 */
export function release(state: State, id: number): void {
  for (const { fds, maps } of state.processes) {
    for (const open of fds.values()) if (open === id) return;
    for (const mapping of maps.values()) {
      if (mapping.kind === "file" && mapping.id === id) return;
    }
  }
  const { inode = -1 } = state.opens.get(id) ?? {};
  state.opens.delete(id);
  const file = state.inodes.get(inode);
  if (file === undefined) return;
  file.locks = file.locks.filter(({ open }) => open !== id);
  forget(state, inode);
}

function openInode(caller: Caller, inode: number, path: string, flags: number, isDeleted = false) {
  const { state: { opens }, process: { fds }, index } = caller;
  let id = index * 2 ** 16; // each process has numbers of its own, which do not depend on what others have open
  while (opens.has(id)) id++;
  opens.set(id, { inode, path, isDeleted, flags, text: null, position: 0 });
  let fd = 0;
  while (fds.has(fd)) fd++;
  fds.set(fd, id);
  return fd;
}

/** Closes a descriptor. */
export function close(state: State, index: number, fd: number): Answer {
  const { fds } = state.processes[index]!;
  const id = fds.get(fd);
  if (id === undefined) return -EBADF;
  fds.delete(fd);
  release(state, id);
  return 0;
}

function deviceOf({ state }: Caller, { device }: Inode) {
  return state.devices[device]!;
}

/** Returns why a name cannot be created there, as a negative errno, or 0. */
function creationProblem(caller: Caller, { folder, inode }: Place, needsRoom = true): number {
  if (inode !== undefined) return -EEXIST;
  const device = deviceOf(caller, folder);
  if (device.isReadOnly) return -EROFS;
  if (!isAllowed(folder, caller.process, WRITE | SEARCH)) return -EACCES;
  return needsRoom && device.isFull ? -ENOSPC : 0;
}

/** Returns why a name cannot be removed. In a sticky folder only the owner of a file may do that. */
function removalProblem({ state, process }: Caller, { folder, inode }: Place): number {
  const file = state.inodes.get(inode!)!;
  if (!isAllowed(folder, process, WRITE | SEARCH)) return -EACCES;
  const isSticky = (folder.mode & S_ISVTX) !== 0;
  const isOwner = process.uid === 0 || process.uid === file.uid || process.uid === folder.uid;
  return isSticky && !isOwner ? -EPERM : 0;
}

function create(caller: Caller, path: string, mode: number, more: Partial<Inode> = {}): number {
  const place = walk(caller, path, false);
  if (typeof place === "number") return place;
  const problem = creationProblem(caller, place);
  if (problem !== 0) return problem;
  const id = addInode(caller.state, place.folder.device, caller.process, mode, more);
  place.folder.entries!.set(place.name, id);
  return id;
}

/** Removes the name of a file. Its open descriptors then show a deleted path. */
function removeName({ state }: Caller, { folder, name, inode: id, path }: Place): void {
  folder.entries!.delete(name);
  const file = state.inodes.get(id!)!;
  file.links--;
  file.ctime = seconds(state);
  for (const open of state.opens.values()) {
    if (open.inode === id && open.path === path) open.isDeleted = true;
  }
  forget(state, id!);
}

/** Gives a file another name. Only its owner may do that, or who may read and write it (fs.protected_hardlinks). */
function linkInode(caller: Caller, id: number, path: string): Answer {
  const { state, process } = caller;
  const place = walk(caller, path, false);
  if (typeof place === "number") return place;
  const file = state.inodes.get(id)!;
  if (place.inode !== undefined) return -EEXIST;
  if (deviceOf(caller, place.folder).isReadOnly) return -EROFS;
  if (file.device !== place.folder.device) return -EXDEV;
  const isSafe = (file.mode & S_IFMT) === S_IFREG && isAllowed(file, process, READ | WRITE);
  if (!isSafe && process.uid !== file.uid && process.uid !== 0) return -EPERM;
  const problem = creationProblem(caller, place);
  if (problem === -EACCES) return problem;
  if (file.entries !== null) return -EPERM;
  if (file.links === 0 && !file.isTemporary) return -ENOENT;
  if (problem !== 0) return problem;
  place.folder.entries!.set(place.name, id);
  file.isTemporary = false;
  file.links++;
  file.ctime = seconds(state);
  return 0;
}

function openTemporary(caller: Caller, path: string, flags: number, mode: number): Answer {
  const { state, process } = caller;
  const place = walk(caller, path, true);
  if (typeof place === "number") return place;
  const folder = state.inodes.get(place.inode ?? -1);
  if (folder === undefined) return -ENOENT;
  if (folder.entries === null) return -ENOTDIR;
  const problem = creationProblem(caller, { ...place, folder, inode: undefined });
  if (problem !== 0) return problem;
  const temporary = { links: 0, isTemporary: true };
  const made = addInode(state, folder.device, process, S_IFREG | mode & ~UMASK, temporary);
  return openInode(caller, made, `${place.path}/#${state.inodes.get(made)!.number}`, flags, true);
}

/** Opens a file that exists, after the checks of `may_open`. */
function openExisting(caller: Caller, id: number, path: string, flags: number, isDeleted = false) {
  const file = caller.state.inodes.get(id)!;
  const isLink = (file.mode & S_IFMT) === S_IFLNK;
  if ((flags & O_DIRECTORY) !== 0 && file.entries === null) return -ENOTDIR;
  if ((flags & O_PATH) !== 0) return openInode(caller, id, path, flags, isDeleted);
  if (isLink) return -ELOOP;
  const writes = (flags & O_RDWR) !== 0;
  if (writes && file.entries !== null) return -EISDIR;
  if (writes && deviceOf(caller, file).isReadOnly) return -EROFS;
  if (!isAllowed(file, caller.process, writes ? READ | WRITE : READ)) return -EACCES;
  return openInode(caller, id, path, flags, isDeleted);
}

function conflicts(file: Inode, byte: number, own: number, exclusive: boolean): FileLock[] {
  return file.locks.filter((lock) =>
    lock.byte === byte && lock.open !== own && (exclusive || lock.exclusive)
  );
}

function without(file: Inode, byte: number, open: number): FileLock[] {
  return file.locks.filter((lock) => lock.byte !== byte || lock.open !== open);
}

/** Adds a lock, in an order that does not depend on which came first. */
function addLock(file: Inode, lock: FileLock): void {
  file.locks.push(lock);
  file.locks.sort((a, b) => a.open - b.open || a.byte - b.byte);
}

function statusOf(caller: Caller, id: number) {
  const file = caller.state.inodes.get(id)!;
  const { number: ino, mode, uid, gid, links, size, reserved, ctime, mtime } = file;
  const { minor } = deviceOf(caller, file);
  return { dev: minor, ino, mode, uid, gid, links, size, blocks: reserved / 512, ctime, mtime };
}

/** Makes a file at least this long, and allocates memory for it. */
function grow(caller: Caller, fd: number, bytes: number, allocates: boolean): Answer {
  const open = fileOf(caller, fd);
  const file = caller.state.inodes.get(open?.inode ?? -1);
  if (open === null || file === undefined) return -EBADF;
  if (allocates && bytes === 0) return -EINVAL;
  if (!mayWrite(open)) return allocates ? -EBADF : -EINVAL;
  if (!allocates) {
    file.size = bytes;
    file.bytes = file.bytes.slice(0, bytes);
    file.reserved = Math.min(file.reserved, Math.ceil(bytes / PAGE) * PAGE);
  } else {
    const reserved = Math.max(file.reserved, Math.ceil(bytes / PAGE) * PAGE);
    if (reserved > file.reserved && deviceOf(caller, file).isFull) return -ENOSPC;
    file.reserved = reserved;
    file.size = Math.max(file.size, bytes);
  }
  file.ctime = file.mtime = seconds(caller.state);
  return 0;
}

export const fileCalls = {
  open(caller: Caller, path: string, flags: number, mode = 0): Answer {
    if (path.startsWith("/proc")) {
      const found = procFile(caller, path);
      if (typeof found === "number") return found;
      if (found.open === undefined) return openInode(caller, -1, path, flags);
      const { inode, path: shown, isDeleted } = found.open;
      return openExisting(caller, inode, shown, flags, isDeleted);
    }
    if ((flags & TMPFILE) === TMPFILE) return openTemporary(caller, path, flags, mode);
    if ((flags & O_CREAT) !== 0) {
      if ((flags & O_EXCL) === 0) throw new Error("O_CREAT without O_EXCL is not simulated");
      const id = create(caller, path, S_IFREG | mode & ~UMASK);
      const place = walk(caller, path, false) as Place;
      return id < 0 ? id : openInode(caller, id, place.path, flags);
    }
    const place = walk(caller, path, (flags & NOFOLLOW) === 0);
    if (typeof place === "number") return place;
    const { inode, path: resolved } = place;
    return inode === undefined ? -ENOENT : openExisting(caller, inode, resolved, flags);
  },

  /** Reads a file. What a file of `/proc` says is what was true when it was read first. */
  read(caller: Caller, fd: number, bytes: number): Answer {
    const open = fileOf(caller, fd);
    if (open === null) return -EBADF;
    const file = caller.state.inodes.get(open.inode);
    if (file !== undefined && file.entries !== null) return -EISDIR;
    if (file === undefined && open.text === null) {
      const found = procFile(caller, open.path);
      if (typeof found === "number") return found;
      open.text = found.text ?? "";
    }
    const content = file === undefined ? encoder.encode(open.text!) : new Uint8Array(file.size);
    if (file !== undefined) content.set(file.bytes);
    const out = content.subarray(open.position, open.position + bytes);
    open.position += out.length;
    return { ret: out.length, out };
  },

  /** Returns all names of a folder at once. */
  getdents(caller: Caller, fd: number): Answer {
    const open = fileOf(caller, fd);
    if (open === null) return -EBADF;
    const found = open.inode === -1 ? procFile(caller, open.path) : null;
    if (typeof found === "number") return found;
    const names = found?.names ?? caller.state.inodes.get(open.inode)?.entries?.keys();
    return names === undefined ? -ENOTDIR : { ret: 0, out: [...names] };
  },

  close: ({ state, index }: Caller, fd: number): Answer => close(state, index, fd),

  fchmod(caller: Caller, fd: number, mode: number): Answer {
    const file = caller.state.inodes.get(fileOf(caller, fd)?.inode ?? -1);
    if (file === undefined) return -EBADF;
    if (deviceOf(caller, file).isReadOnly) return -EROFS;
    if (caller.process.uid !== 0 && caller.process.uid !== file.uid) return -EPERM;
    file.mode = file.mode & S_IFMT | mode & 0o7777;
    file.ctime = seconds(caller.state);
    return 0;
  },

  ftruncate: (caller: Caller, fd: number, bytes: number) => grow(caller, fd, bytes, false),
  fallocate: (caller: Caller, fd: number, bytes: number) => grow(caller, fd, bytes, true),

  unlink(caller: Caller, path: string): Answer {
    const place = walk(caller, path, false);
    if (typeof place === "number") return place;
    if (deviceOf(caller, place.folder).isReadOnly) return -EROFS;
    if (place.inode === undefined) return -ENOENT;
    const problem = removalProblem(caller, place);
    if (problem !== 0) return problem;
    if (caller.state.inodes.get(place.inode)!.entries !== null) return -EISDIR;
    removeName(caller, place);
    return 0;
  },

  link(caller: Caller, from: string, to: string): Answer {
    const id = inodeAt(caller, from, false);
    return id < 0 ? id : linkInode(caller, id, to);
  },

  /** Links a file that `/proc/self/fd` leads to. This is how a file that O_TMPFILE has created gets its name. */
  linkat(caller: Caller, from: number, path: string, to: number, name: string, flags: number) {
    if (from !== AT_FDCWD || to !== AT_FDCWD || flags !== AT_SYMLINK_FOLLOW) {
      throw new Error("another linkat is not simulated");
    }
    const found = procFile(caller, path);
    if (typeof found === "number") return found;
    return linkInode(caller, found.open!.inode, name);
  },

  rename(caller: Caller, from: string, to: string): Answer {
    const { state } = caller;
    const [old, target] = [walk(caller, from, false), walk(caller, to, false)];
    if (typeof old === "number") return old;
    if (typeof target === "number") return target;
    if (old.folder.device !== target.folder.device) return -EXDEV;
    if (deviceOf(caller, old.folder).isReadOnly) return -EROFS;
    if (old.inode === undefined) return -ENOENT;
    if (state.inodes.get(target.inode ?? -1) === old.folder) return -ENOTEMPTY;
    if (old.inode === target.inode) return 0; // two names of one file both stay
    if (state.inodes.get(old.inode)!.entries !== null) {
      throw new Error("renaming folders is not simulated");
    }
    const mayReplace = () =>
      target.inode === undefined
        ? creationProblem(caller, target, false)
        : removalProblem(caller, target);
    const problem = removalProblem(caller, old) || mayReplace();
    if (problem !== 0) return problem;
    if (target.inode !== undefined) {
      if (state.inodes.get(target.inode)!.entries !== null) return -EISDIR;
      removeName(caller, target);
    }
    old.folder.entries!.delete(old.name);
    target.folder.entries!.set(target.name, old.inode);
    state.inodes.get(old.inode)!.ctime = seconds(state);
    for (const open of state.opens.values()) {
      if (open.inode === old.inode && open.path === old.path && !open.isDeleted) {
        open.path = target.path;
      }
    }
    return 0;
  },

  symlink(caller: Caller, text: string, path: string): Answer {
    if (text === "") return -ENOENT;
    return Math.min(0, create(caller, path, S_IFLNK | 0o777, { text, size: text.length }));
  },

  mkdir(caller: Caller, path: string, mode: number): Answer {
    const entries = new Map<string, number>();
    return Math.min(0, create(caller, path, S_IFDIR | mode & ~UMASK & 0o1777, { entries }));
  },

  readlink(caller: Caller, path: string): Answer {
    if (path.startsWith("/proc/")) {
      const found = procFile(caller, path);
      if (typeof found === "number") return found;
      if (found.open === undefined) return -EINVAL;
      const { path: shown, isDeleted } = found.open;
      return { ret: 0, out: isDeleted ? `${shown} (deleted)` : shown };
    }
    const id = inodeAt(caller, path, false);
    if (id < 0) return id;
    const { text } = caller.state.inodes.get(id)!;
    return text === "" ? -EINVAL : { ret: 0, out: text };
  },

  /** Resolves the links of a path, in one step although glibc makes several calls. */
  realpath(caller: Caller, path: string): Answer {
    let resolved = "";
    for (const name of path.split("/").filter((part) => part !== "" && part !== ".")) {
      const id = inodeAt(caller, `${resolved}/${name}`, false);
      if (id < 0) return id;
      const { text } = caller.state.inodes.get(id)!;
      resolved = text === ""
        ? `${resolved}/${name}`
        : text.startsWith("/")
        ? text
        : `${resolved}/${text}`;
    }
    const id = inodeAt(caller, resolved || "/", true);
    return id < 0 ? id : { ret: 0, out: resolved || "/" };
  },

  statx(caller: Caller, fd: number, path: string, flags: number): Answer {
    if (path.startsWith("/proc/")) {
      const found = procFile(caller, path);
      if (typeof found === "number") return found;
      const out = found.open === undefined ? found.status : statusOf(caller, found.open.inode);
      return { ret: 0, out: out! };
    }
    if (path === "") {
      if ((flags & AT_EMPTY_PATH) === 0) return -ENOENT;
      const open = caller.state.opens.get(caller.process.fds.get(fd) ?? -1);
      return open === undefined ? -EBADF : { ret: 0, out: statusOf(caller, open.inode) };
    }
    const id = inodeAt(caller, path, (flags & AT_SYMLINK_NOFOLLOW) === 0);
    return id < 0 ? id : { ret: 0, out: statusOf(caller, id) };
  },

  /** Locks a file for an open file description. A conversion first gives up the lock that was held (flock(2)). */
  flock(caller: Caller, fd: number, operation: number): Answer {
    const { state, process, index } = caller;
    const open = fileOf(caller, fd);
    const file = state.inodes.get(open?.inode ?? -1);
    if (file === undefined) return -EBADF;
    if ((operation & (LOCK_NB | LOCK_UN)) === 0) throw new Error("only LOCK_NB is simulated");
    const id = process.fds.get(fd)!;
    const exclusive = (operation & LOCK_EX) !== 0;
    const isHeld = (lock: FileLock) =>
      lock.byte === -1 && lock.open === id && lock.exclusive === exclusive;
    const isUnlock = (operation & LOCK_UN) !== 0;
    if (!isUnlock && file.locks.some(isHeld)) return 0;
    file.locks = without(file, -1, id);
    if (isUnlock) return 0;
    if (conflicts(file, -1, id, exclusive).length > 0) return -EAGAIN;
    addLock(file, { byte: -1, open: id, exclusive, process: index });
    return 0;
  },

  /** Locks one byte for an open file description. A conversion that fails keeps the lock that was held. */
  fcntl(caller: Caller, fd: number, command: number, type: number, byte: number): Answer {
    const { state, process, index } = caller;
    const open = fileOf(caller, fd);
    const file = state.inodes.get(open?.inode ?? -1);
    if (open === null || file === undefined) return -EBADF;
    const id = process.fds.get(fd)!;
    const exclusive = type === F_WRLCK;
    const [conflict] = type === F_UNLCK ? [] : conflicts(file, byte, id, exclusive);
    if (command === F_OFD_GETLK) {
      const found = conflict === undefined ? F_UNLCK : conflict.exclusive ? F_WRLCK : F_RDLCK;
      return { ret: 0, out: { type: found } };
    }
    if (command !== F_OFD_SETLK) throw new Error(`fcntl ${command} is not simulated`);
    if (exclusive && !mayWrite(open)) return -EBADF;
    if (conflict !== undefined) return -EAGAIN;
    file.locks = without(file, byte, id);
    if (type !== F_UNLCK) addLock(file, { byte, open: id, exclusive, process: index });
    return { ret: 0, out: { type } };
  },
};
