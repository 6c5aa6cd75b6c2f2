/** Random sequences of what processes do with words that they share: with a `sem_t` of the C library, and with futexes. */
import { IPC_CREAT, O_CREAT, O_EXCL, O_RDWR } from "../../backends/unix/linux_constants.ts";
import { Random } from "../../scripts/random.ts";
import { type Call, UPTIME_MS } from "./kernel.ts";
import { type Sequence, simulate, type Step } from "./real_kernel.ts";
import type { State } from "./state.ts";

/** Where each process has the file and the segment, and where the file again. */
const [FILE, SEGMENT, AGAIN] = [0x1000_0000, 0x1000_1000, 0x1000_2000];
export const WORDS = { FILE, SEGMENT, AGAIN };
/** The places of the `sem_t`, each in the file or in the segment, and of other words. */
const SEMAPHORES = [FILE, FILE, AGAIN, SEGMENT + 64];
const OTHERS = [FILE + 16, AGAIN + 16, SEGMENT + 128];
const PLACES = [...SEMAPHORES, ...OTHERS];
const VALUES = [0, 0, 1, 1, 2, 2 ** 31 - 1];
/** Also what a stray store leaves. */
const STORED = [...VALUES, 2 ** 31, 2 ** 32 - 1];
/** A wait with a timeout takes longer than all other calls of a sequence, and a pause longer than the timeout. */
const [TIMEOUT_MS, PAUSE_MS] = [1500, 1600];

type Make = (random: Random, state: State, address: number) => Call;

/** Gives all processes the same file and the same segment. */
export function sharedWords(processes: number): Step[] {
  const attach = (index: number): Step[] => [
    [index, ["mmap", 0, 4096, 3, 1, 3]],
    [index, ["shmat", 0, 0]],
    [index, ["mmap", 0, 4096, 3, 1, 3]],
  ];
  return [
    [0, ["open", "/dev/shm/a", O_RDWR | O_CREAT | O_EXCL, 0o600]],
    [0, ["fchmod", 3, 0o666]],
    [0, ["fallocate", 3, 4096]],
    [0, ["shmget", 1, 4096, IPC_CREAT | 0o666]],
    ...attach(0),
    ...Array.from({ length: processes - 1 }).flatMap((_, i): Step[] => {
      return [[i + 1, ["open", "/dev/shm/a", O_RDWR, 0]], ...attach(i + 1)];
    }),
  ];
}

function bytesOf(word: number): number[] {
  return [...new Uint8Array(Uint32Array.of(word).buffer)];
}

function valueAt(state: State, address: number): number {
  const steps = ["load", address, 4] as const;
  const { answers } = simulate({ uids: [], steps: [[0, steps]] }, state);
  return new DataView(Uint8Array.from(answers[0]![2] as number[]).buffer).getInt32(0, true);
}

const SEMAPHORE_CALLS: readonly (readonly [weight: number, make: Make])[] = [
  [1, (r, _, at) => ["sem_init", at, r.oneOf(VALUES)]],
  [3, (_r, _s, at) => ["sem_trywait", at]],
  [5, (_r, _s, at) => ["sem_post", at]],
  [6, (r, s, at) => {
    const end = r.chance(0.4) ? UPTIME_MS + s.now + r.oneOf([0, TIMEOUT_MS, TIMEOUT_MS]) : Infinity;
    return ["sem_clockwait", at, end];
  }],
  [2, (r, _s, at) => ["store", at, bytesOf(r.oneOf(STORED))]],
];

const WORD_CALLS: readonly (readonly [weight: number, make: Make])[] = [
  [4, (r, s, at) => {
    const value = r.chance(0.8) ? valueAt(s, at) : r.oneOf([0, 1, -1]);
    return ["futex_wait", at, value, r.oneOf([Infinity, TIMEOUT_MS, 0])];
  }],
  [4, (r, _s, at) => ["futex_wake", at, r.oneOf([0, 1, 1, 1, 2, 100])]],
  [1, (r, _s, at) => ["store", at, bytesOf(r.oneOf(STORED))]],
  [2, (_r, _s, at) => ["load", at, 16]],
];

/** Whether a call has one outcome: of several waiters for a `sem_t` that wake up at once, any may be first. */
function isCertain({ sleepers }: State, [name, address, count]: Call): boolean {
  return name !== "futex_wake" || count === 1 || OTHERS.includes(address as number) ||
    sleepers.length < 2;
}

/** Makes a sequence of two to four processes, of which a seed makes the same again. The first one sees the end. */
export function randomWaits(seed: number): Sequence {
  const random = new Random(seed);
  const count = 2 + random.below(3);
  const uids = Array.from({ length: count }, () => random.oneOf([0, 1000, 1001]));
  const steps = sharedWords(count);
  for (const address of [FILE, SEGMENT + 64]) {
    steps.push([0, ["sem_init", address, random.oneOf(VALUES)]]);
  }
  const fixed = steps.length;
  const length = fixed + 5 + random.below(40);
  let pauses = random.chance(0.05) ? 1 : 0;
  const isForSemaphores = random.chance(0.3);
  while (steps.length < length) {
    const { state } = simulate({ uids, steps });
    const index = random.below(count);
    const { stage, wait } = state.processes[index]!;
    if (random.chance(0.05) && pauses-- > 0) steps.push([0, ["pause", PAUSE_MS]]);
    if (index > 0 && stage === "running" && random.chance(0.03)) {
      steps.push([index, ["end", "kill"]]);
    }
    if (stage !== "running" || wait !== null) continue;
    const isSemaphore = isForSemaphores || random.chance(0.6);
    const call = isSemaphore
      ? random.weighted(SEMAPHORE_CALLS)(random, state, random.oneOf(SEMAPHORES))
      : random.weighted(WORD_CALLS)(random, state, random.oneOf(PLACES));
    const isWait = /wait$/.test(call[0]) && call[0] !== "sem_trywait";
    if (isCertain(state, call) && (index > 0 || !isWait)) steps.push([index, call]);
  }
  for (const address of [FILE, SEGMENT + 64]) steps.push([0, ["load", address, 20]]);
  for (const address of OTHERS) steps.push([0, ["futex_wake", address, 100]]);
  return { uids, steps, fixed };
}
