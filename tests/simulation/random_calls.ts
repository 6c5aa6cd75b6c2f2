/** Random sequences of calls, of which many do something: their arguments are taken from the state of the simulation. */
import {
  F_OFD_GETLK,
  F_OFD_SETLK,
  GETNCNT,
  GETPID,
  GETVAL,
  GETZCNT,
  IPC_CREAT,
  IPC_EXCL,
  IPC_NOWAIT,
  IPC_RMID,
  IPC_SET,
  IPC_STAT,
  O_CLOEXEC,
  O_CREAT,
  O_EXCL,
  O_NOFOLLOW,
  O_PATH,
  O_RDWR,
  O_TMPFILE,
  SEM_UNDO,
  SETVAL,
  SHM_RDONLY,
} from "../../backends/unix/linux_constants.ts";
import { Random } from "../../scripts/random.ts";
import { O_DIRECTORY } from "./files.ts";
import type { Call } from "./kernel.ts";
import { type Sequence, simulate, start, type Step } from "./real_kernel.ts";
import type { SemStep, State } from "./state.ts";

const KEYS = [0, 0x51000001, 0x51000002, -5];
const MODES = [0o600, 0o600, 0o660, 0o644, 0o666, 0o633, 0o640, 0o400, 0o060, 0o006, 0];
const UIDS = [0, 1000, 1001, 0xf1697063];
const NOFOLLOW = O_NOFOLLOW["x64"]!;
const NAMES = ["/tmp/a", "/tmp/b", "/tmp/c", "/tmp/folder/a", "/tmp/folder/b", "/dev/shm/a"];
const PATHS = [...NAMES, ...NAMES, "/dev/shm/b", "/tmp/folder", "/tmp/none/a", "/tmp/a/b", "/tmp"];
const TEXTS = ["a", "b", "folder", "folder/a", "/tmp/c", "loop", "none"];

type Make = (random: Random, state: State, index: number) => Call;

function anyId(random: Random, table: { objects: Map<number, unknown>; last: number }): number {
  const ids = [...table.objects.keys()];
  return random.chance(0.9) && ids.length > 0
    ? random.oneOf(ids)
    : random.oneOf([table.last, 7, -1]);
}

function shmId(random: Random, state: State) {
  return anyId(random, state.ipc[0]!.shm);
}

function semId(random: Random, state: State) {
  return anyId(random, state.ipc[0]!.sem);
}

function anyFd(random: Random, state: State, index: number): number {
  const own = [...state.processes[index]!.fds.keys()].filter((fd) => fd > 2);
  return random.chance(0.95) && own.length > 0 ? random.oneOf(own) : 20;
}

function anyMapping(
  random: Random,
  state: State,
  index: number,
): [address: number, length: number] {
  const own = [...state.processes[index]!.maps];
  if (own.length === 0) return [0x5000_0000, 4096];
  const [address, { length }] = random.oneOf(own);
  return [address, length];
}

function procFd(random: Random, state: State, index: number): string {
  return `/proc/self/fd/${anyFd(random, state, index)}`;
}

const LOCK_STEPS: readonly (readonly SemStep[])[] = [
  [[-1, SEM_UNDO], [0, IPC_NOWAIT]],
  [[-1, SEM_UNDO | IPC_NOWAIT], [0, IPC_NOWAIT]],
  [[-1, SEM_UNDO]],
  [[-1, SEM_UNDO | IPC_NOWAIT]],
  [[0, IPC_NOWAIT], [1, SEM_UNDO]],
  [[0, IPC_NOWAIT], [1, 0], [-1, SEM_UNDO]],
  [[0, IPC_NOWAIT], [0, IPC_NOWAIT]],
  [[1, 0], [-1, SEM_UNDO]],
  [[1, SEM_UNDO]],
  [[1, 0]],
  [[0, 0]],
];

function anySteps(random: Random): readonly SemStep[] {
  if (random.chance(0.6)) return random.oneOf(LOCK_STEPS);
  return Array.from({ length: 1 + random.below(3) }, () => {
    const op = random.oneOf([-2, -1, -1, 0, 1, 1, 2, 32767, -32767]);
    return [
      op,
      (random.chance(0.5) ? SEM_UNDO : 0) | (random.chance(0.3) ? IPC_NOWAIT : 0),
    ] as const;
  });
}

function ipcFlags(random: Random): number {
  const create = random.oneOf([0, IPC_CREAT, IPC_CREAT | IPC_EXCL, IPC_CREAT | IPC_EXCL]);
  return create | random.oneOf(MODES);
}

const SYSTEM_V: readonly (readonly [weight: number, make: Make])[] = [
  [4, (r) => ["shmget", r.oneOf(KEYS), r.oneOf([0, 1, 100, 4096, 4097, 10000]), ipcFlags(r)]],
  [4, (r, s) => ["shmat", shmId(r, s), r.oneOf([0, 0, SHM_RDONLY])]],
  [3, (r, s, i) => ["shmdt", anyMapping(r, s, i)[0]]],
  [2, (r, s) => ["shmctl", shmId(r, s), IPC_STAT]],
  [1, (r, s) => ["shmctl", shmId(r, s), IPC_SET, r.oneOf(UIDS), r.oneOf(UIDS), r.oneOf(MODES)]],
  [1, (r, s) => ["shmctl", shmId(r, s), IPC_RMID]],
  [3, (r) => ["semget", r.oneOf(KEYS), r.oneOf([0, 1, 1, 1]), ipcFlags(r)]],
  [16, (r, s) => ["semop", semId(r, s), anySteps(r)]],
  [2, (r, s) => {
    return ["semctl", semId(r, s), 0, SETVAL, r.oneOf([0, 1, 1, 2, 32767, -1, 32768])];
  }],
  [3, (r, s) => ["semctl", semId(r, s), 0, r.oneOf([GETPID, GETVAL, GETNCNT, GETZCNT, IPC_STAT])]],
  [1, (r, s) => {
    return ["semctl", semId(r, s), 0, IPC_SET, r.oneOf(UIDS), r.oneOf(UIDS), r.oneOf(MODES)];
  }],
  [0.7, (r, s) => ["semctl", semId(r, s), 0, IPC_RMID]],
  [1, (r) => ["kill", 501 + r.below(3), 0]],
];

function openFlags(random: Random): number {
  const creates = random.chance(0.4) ? O_CREAT | O_EXCL : 0;
  const follow = random.chance(0.3) ? 0 : NOFOLLOW;
  const path = creates === 0 && random.chance(0.1) ? O_PATH : 0;
  const folder = creates === 0 && random.chance(0.1) ? O_DIRECTORY : 0;
  return creates | follow | path | folder | O_CLOEXEC | (random.chance(0.5) ? O_RDWR : 0);
}

const FILES: readonly (readonly [weight: number, make: Make])[] = [
  [8, (r) => ["open", r.oneOf(PATHS), openFlags(r), r.oneOf(MODES)]],
  [1, (r, s, i) => ["open", procFd(r, s, i), r.oneOf([O_CLOEXEC, O_CLOEXEC | O_RDWR]), 0]],
  [2, (r) => {
    const flags = O_TMPFILE["x64"]! | O_RDWR | O_CLOEXEC;
    return ["open", r.oneOf(["/dev/shm/", "/tmp", "/tmp/folder", "/tmp/a"]), flags, r.oneOf(MODES)];
  }],
  [4, (r, s, i) => ["close", anyFd(r, s, i)]],
  [1, (r, s, i) => ["fchmod", anyFd(r, s, i), r.oneOf([...MODES, 0o1601, 0o1777])]],
  [3, (r) => ["unlink", r.oneOf(PATHS)]],
  [3, (r) => ["link", r.oneOf(NAMES), r.oneOf(PATHS)]],
  [2, (r, s, i) => ["linkat", -100, procFd(r, s, i), -100, r.oneOf(NAMES), 0x400]],
  [3, (r) => ["rename", r.oneOf(NAMES), r.oneOf(PATHS)]],
  [2, (r) => ["symlink", r.oneOf(TEXTS), r.oneOf([...PATHS, "/tmp/loop"])]],
  [
    1,
    (r) => ["mkdir", r.oneOf(["/tmp/folder", "/tmp/a", "/tmp/folder/b"]), r.oneOf([0o700, 0o777])],
  ],
  [2, (r) => ["readlink", r.oneOf(PATHS)]],
  [1, (r, s, i) => ["readlink", procFd(r, s, i)]],
  [1, (r) => ["realpath", r.oneOf(["/tmp", "/tmp/folder", "/tmp/none", "/dev/shm/"])]],
  [3, (r, s, i) => ["statx", anyFd(r, s, i), "", 0x1000]],
  [3, (r) => ["statx", -100, r.oneOf([...PATHS, "/tmp/loop"]), r.oneOf([0, 0x100])]],
  [1, (r, s, i) => ["statx", -100, procFd(r, s, i), 0]],
  [8, (r, s, i) => ["flock", anyFd(r, s, i), r.oneOf([5, 5, 6, 6, 8])]],
  [4, (r, s, i) => {
    const command = r.oneOf([F_OFD_SETLK, F_OFD_SETLK, F_OFD_GETLK]);
    const type = command === F_OFD_GETLK ? r.below(2) : r.below(3);
    return ["fcntl", anyFd(r, s, i), command, type, r.below(2)];
  }],
  [1, (r, s, i) => ["ftruncate", anyFd(r, s, i), r.oneOf([0, 100, 5000])]],
  [1, (r, s, i) => ["fallocate", anyFd(r, s, i), r.oneOf([0, 100, 5000])]],
  [1, (r, s, i) => ["getdents", anyFd(r, s, i)]],
  [1, (r, s, i) => ["read", anyFd(r, s, i), 10]],
];

const MEMORY: readonly (readonly [weight: number, make: Make])[] = [
  [2, (r, s, i) => ["mmap", 0, r.oneOf([32, 5000]), r.oneOf([1, 3]), 1, anyFd(r, s, i)]],
  [2, (r, s, i) => {
    const [address, length] = anyMapping(r, s, i);
    return ["mmap", address, length, 3, 0x4032, -1]; // MAP_PRIVATE | ANONYMOUS | NORESERVE | FIXED
  }],
  [1, (r, s, i) => ["munmap", ...anyMapping(r, s, i)]],
];

function isPossible(state: State, index: number, [name, address]: Call): boolean {
  // Without a mapping, the address may mean anything to the real process.
  const own = state.processes[index]!.maps;
  if (name === "munmap") return own.has(address as number);
  return name !== "mmap" || address === 0 || own.has(address as number);
}

/** Makes a sequence of one to three processes, of which a seed makes the same again. */
export function randomSequence(seed: number): Sequence {
  const random = new Random(seed);
  const count = 1 + random.below(3);
  const uids = Array.from({ length: count }, () => random.oneOf([0, 1000, 1000, 1000, 1001]));
  const groups = random.weighted(
    [
      [3, [SYSTEM_V]],
      [3, [FILES]],
      [2, [SYSTEM_V, FILES, MEMORY]],
      [1, [SYSTEM_V, MEMORY]],
      [1, [FILES, MEMORY]],
    ] as const,
  );
  const choices = groups.flat();
  const steps: Step[] = [];
  if (random.chance(0.6)) steps.push([0, ["semget", KEYS[1]!, 1, IPC_CREAT | 0o666]]);
  if (random.chance(0.6)) steps.push([0, ["mkdir", "/tmp/folder", random.oneOf([0o777, 0o755])]]);
  const length = 5 + random.below(60);
  let { state } = simulate({ uids, steps });
  while (steps.length < length) {
    const index = random.below(count);
    const call: Call = random.chance(0.02)
      ? ["end", random.oneOf(["kill", "exit"])]
      : random.weighted(choices)(random, state, index);
    if (!isPossible(state, index, call)) continue;
    const step: Step = [index, call];
    try {
      state = simulate({ uids, steps: [...steps, step] }, start({ uids, steps })).state;
    } catch (error) {
      if (/not simulated/.test(String(error))) continue;
      throw error;
    }
    steps.push(step);
  }
  return { uids, steps };
}
