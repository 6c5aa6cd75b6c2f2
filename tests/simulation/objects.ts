/** The objects of a scenario as the kernel has them, for each type of keys. */
import { IPC_CREAT, S_IFREG } from "../../backends/unix/linux_constants.ts";
import { SEM_BYTES } from "../../backends/posix/mapped_semaphore.ts";
import { call, type State } from "./kernel.ts";
import { CHOSEN_FILE, LOCK_KEY, POSIX_CHOSEN } from "./keys.ts";
import type { LockFact, Scenario } from "./scenario.ts";
import { addInode, type Inode } from "./state.ts";

export interface Objects extends Pick<Scenario, "lockOf"> {
  /** Creates what the C program has created before. It exists in the scenarios of that program. */
  addChosen(kernel: State): void;
  /** Says whether something that the C program has created was changed or removed; `null` if not. */
  harmed(kernel: State): string | null;
  /** Names what programs of this module have left in the system. */
  leftovers(kernel: State): string[];
  /** Says what is wrong with the lock that a process holds or has just released; `null` if nothing is. */
  lockProblem(kernel: State, fact: LockFact, process: number): string | null;
}

const USER = { uid: 1000, gid: 1000 };
const CHOSEN_BYTES = 50;

/** Returns the names in a folder of the first mount namespace. */
function folder({ inodes, roots }: State, ...path: readonly string[]): Map<string, number> {
  return path.reduce(
    (entries, name) => inodes.get(entries.get(name)!)!.entries!,
    inodes.get(roots[0]!)!.entries!,
  );
}

const tmp = (kernel: State) => folder(kernel, "tmp");
const shm = (kernel: State) => folder(kernel, "dev", "shm");

/** Returns the name of a key file in its folder. */
function nameOf(keyFile: string): string {
  return keyFile.slice("/tmp/".length);
}

/** Returns the key of a file as `ftok(path, 'Q')` does. */
function keyOfFile(kernel: State, inode: number): number {
  const { device, number } = kernel.inodes.get(inode)!;
  return 0x51 << 24 | kernel.devices[device]!.minor << 16 | number & 0xffff;
}

export const SYSTEM_V_OBJECTS: Objects = {
  addChosen(kernel) {
    const inode = addInode(kernel, 0, USER, S_IFREG | 0o644, { size: 5 });
    tmp(kernel).set(nameOf(CHOSEN_FILE), inode);
    call(kernel, 0, ["shmget", keyOfFile(kernel, inode), CHOSEN_BYTES, IPC_CREAT | 0o777]);
  },

  harmed(kernel) {
    if (!tmp(kernel).has(nameOf(CHOSEN_FILE))) return "the file of the C program is gone";
    const segments = [...kernel.ipc[0]!.shm.objects.values()];
    const isThere = segments.some(({ mode, size }) => mode === 0o777 && size === CHOSEN_BYTES);
    return isThere ? null : "the segment of the C program is gone";
  },

  leftovers(kernel) {
    const { shm, sem } = kernel.ipc[0]!;
    const own = [...shm.objects].filter(([, { mode }]) => (mode & 0o777) !== 0o777);
    return [
      ...own.map(([id, { creator }]) => `segment ${id} created by P${creator}`),
      ...[...sem.objects.keys()].map((id) => `semaphore ${id}`),
      ...[...tmp(kernel).keys()].filter((name) => name !== nameOf(CHOSEN_FILE)),
    ];
  },

  lockProblem(kernel, fact) {
    const sets = [...kernel.ipc[0]!.sem.objects.values()];
    const inode = tmp(kernel).get(nameOf(LOCK_KEY));
    const key = inode === undefined ? null : keyOfFile(kernel, inode);
    if (fact === "detaching") {
      // A lock without a key file is being removed, and its value tells those who wait to create another.
      const isWrong = sets.some((set) => set.value > 1 && set.key === key);
      return isWrong ? "a lock was released twice" : null;
    }
    const held = sets.filter(({ value }) => value === 0);
    if (held.length === 0) {
      return fact === "locked"
        ? "a process has taken a lock whose value is not 0"
        : "a lock that is held does not have the value 0";
    }
    return held.some((set) => set.key === key)
      ? null
      : "a process holds a lock whose key file is gone";
  },
};

/** The mode that another program gives its object: a sticky one, but not with the bits of this module's mark. */
const CHOSEN_MODE = S_IFREG | 0o1777;
/** The object is large enough for this module's programs, which therefore attach to it. */
const CHOSEN_CONTENT = new Uint8Array(100).fill(7);

/** Whether this module has created an object, whose mode says so. */
function isOwn({ mode }: Inode): boolean {
  return (mode & 0o7111) === 0o1001;
}

/** Returns the inode of the semaphore that a process has mapped, which is its lock. */
function mappedSemaphore({ processes, opens, inodes }: State, process: number): number | undefined {
  return [...processes[process]!.maps.values()].filter(({ kind }) => kind === "file")
    .map(({ id }) => opens.get(id)!.inode)
    .find((inode) => inodes.get(inode)!.size === SEM_BYTES);
}

export const POSIX_OBJECTS: Objects = {
  addChosen(kernel) {
    const { device } = kernel.inodes.get(folder(kernel, "dev").get("shm")!)!;
    const content = { size: CHOSEN_CONTENT.length, bytes: CHOSEN_CONTENT };
    shm(kernel).set(POSIX_CHOSEN, addInode(kernel, device, USER, CHOSEN_MODE, content));
  },

  harmed(kernel) {
    const file = kernel.inodes.get(shm(kernel).get(POSIX_CHOSEN) ?? -1);
    if (file === undefined) return "the object of the C program is gone";
    const isSame = file.mode === CHOSEN_MODE && file.size === CHOSEN_CONTENT.length &&
      file.bytes === CHOSEN_CONTENT;
    return isSame ? null : "the object of the C program has been changed";
  },

  leftovers(kernel) {
    const found = [...shm(kernel)].map(([name, id]) => [name, kernel.inodes.get(id)!] as const);
    return found.filter(([, inode]) => isOwn(inode)).map(([name]) => name);
  },

  lockProblem(kernel, fact, process) {
    const semaphore = kernel.inodes.get(mappedSemaphore(kernel, process) ?? -1);
    // A process may detach without having used the lock, or after it has closed the lock.
    if (semaphore === undefined) return fact === "detaching" ? null : `P${process} has no lock`;
    const value = new DataView(semaphore.bytes.buffer).getInt32(0, true);
    if (fact === "detaching") return value > 1 ? "a lock was released twice" : null;
    if (value !== 0) return "a lock that is held does not have the value 0";
    return semaphore.links > 0 ? null : `P${process} holds a lock that has no name`;
  },

  lockOf: mappedSemaphore,
};
