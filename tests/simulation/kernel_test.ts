/**
 * The simulated kernel does what the real one does. Random sequences of calls are compared, and directed ones for what
 * chance seldom meets. `SIMULATION_SEQUENCES=5000` compares more of them, and `SIMULATION_SEED=7` begins with that seed.
 */
import assert from "node:assert/strict";
import { closeSync, fstatSync, mkdtempSync, openSync, rmSync, unlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { after, describe, test } from "node:test";
import {
  F_OFD_GETLK,
  F_OFD_SETLK,
  GETNCNT,
  GETPID,
  GETVAL,
  IPC_CREAT,
  IPC_EXCL,
  IPC_NOWAIT,
  IPC_RMID,
  IPC_SET,
  IPC_STAT,
  O_CREAT,
  O_EXCL,
  O_RDWR,
  SEM_UNDO,
  SETVAL,
} from "../../backends/unix/linux_constants.ts";
import { crewOnly, DEADLINE_MS, hasPython, slow } from "../support/support.ts";
import { randomSequence } from "./random_calls.ts";
import { randomWaits, sharedWords, WORDS } from "./random_waits.ts";
import { boot, type Call, call, type Result, UPTIME_MS } from "./kernel.ts";
import { RealKernel, type Sequence, shrink, type Step } from "./real_kernel.ts";

const SEQUENCES = Number(process.env["SIMULATION_SEQUENCES"] || 100);
const SEED = Number(process.env["SIMULATION_SEED"] || 1);
/** The time for which more sequences are begun. */
const BUDGET_MS = process.env["SIMULATION_SEQUENCES"] ? Infinity : 5000;
const SHRINK_MS = 20_000;

const comparable = hasPython && process.getuid?.() === 0
  ? crewOnly
  : { skip: "only root can give processes other users, and Python makes the calls" };

function shown({ uids, steps }: Sequence): string {
  const lines = steps.map(([index, call]) => `  P${index} ${JSON.stringify(call)}`);
  return [`processes of the users ${uids.join(", ")}:`, ...lines].join("\n");
}

const KEY = 0x51000001;
const CREATE = IPC_CREAT | IPC_EXCL | 0o600;
const NEW_SET: Call = ["semget", KEY, 1, IPC_CREAT | 0o666];
const NEW_SEGMENT: Call = ["shmget", KEY, 100, CREATE];
const TAKE: Call = ["semop", 0, [[-1, SEM_UNDO]]];
const GIVE: Call = ["semop", 0, [[1, SEM_UNDO]]];
const SET = (value: number): Call => ["semctl", 0, 0, SETVAL, value];
const GET = (command: number): Call => ["semctl", 0, 0, command];
const STATUS: Call = ["semctl", 0, 0, IPC_STAT];
const NEW_FILE = (path: string): Call => ["open", path, O_RDWR | O_CREAT | O_EXCL, 0o640];
const READ_FILE = (path: string): Call => ["open", path, 0, 0];
const PAUSE: Step = [0, ["pause", 1000]];
const KILL: Call = ["end", "kill"];

const { FILE: SEMAPHORE, AGAIN, SEGMENT } = WORDS;
const WORD = SEMAPHORE + 16;
const POST: Call = ["sem_post", SEMAPHORE];
const INITIALIZE: Step = [0, ["sem_init", SEMAPHORE, 0]];
const FOR_SEMAPHORE: Call = ["sem_clockwait", SEMAPHORE, Infinity];
const LOAD_SEMAPHORE: Call = ["load", SEMAPHORE, 16];
const WAIT_FOR = (address: number, ms = Infinity): Call => ["futex_wait", address, 0, ms];
const WAKE = (count: number): Call => ["futex_wake", WORD, count];
const RAISE: Call = ["store", SEMAPHORE, [1, 0, 0, 0]];

/** Sequences that chance seldom makes, with words that all processes share. */
const WAITS: Record<string, readonly Step[]> = {
  "a process that waits for a sem_t is counted there, also after it was killed": [
    ...[[1, FOR_SEMAPHORE], [2, FOR_SEMAPHORE], [0, LOAD_SEMAPHORE], [1, KILL]] as const,
    ...[[0, POST], [0, LOAD_SEMAPHORE], [0, POST], [0, LOAD_SEMAPHORE]] as const,
  ],
  "what was posted for a process that is killed then is left, and the other one sleeps on": [
    ...[[1, FOR_SEMAPHORE], [2, FOR_SEMAPHORE], [1, ["late", 0, [POST], "killed"]]] as const,
    ...[[0, LOAD_SEMAPHORE], [0, ["sem_trywait", SEMAPHORE]], [0, POST]] as const,
  ],
  "a process that is woken for a sem_t finds that another one was quicker, and waits again": [
    ...[[1, FOR_SEMAPHORE], [2, FOR_SEMAPHORE]] as const,
    ...[[1, ["late", 0, [POST, ["sem_trywait", SEMAPHORE]], ""]], [0, LOAD_SEMAPHORE]] as const,
    ...[[0, POST], [0, LOAD_SEMAPHORE]] as const, // now it is the last one
  ],
  "a sem_t that is raised by a store wakes nobody": [
    ...[[1, FOR_SEMAPHORE], [0, RAISE], [0, LOAD_SEMAPHORE], [0, POST]] as const,
    ...[[0, LOAD_SEMAPHORE]] as const,
  ],
  "a wait for a sem_t that times out does not look again": [
    ...[[1, ["sem_clockwait", SEMAPHORE, UPTIME_MS + 500]], [0, RAISE]] as const,
    ...[[0, ["pause", 700]], [0, LOAD_SEMAPHORE]] as const,
  ],
  "a sem_t wakes nobody who waits for its word by a futex": [
    [1, WAIT_FOR(SEMAPHORE)],
    [0, POST],
    [0, ["futex_wake", SEMAPHORE, 1]],
  ],
  "a futex is that of the bytes, wherever they are mapped, and wakes in the order of the waits": [
    ...[[1, WAIT_FOR(WORD)], [2, WAIT_FOR(AGAIN + 16)], [0, WAKE(1)], [1, WAIT_FOR(WORD)]] as const,
    ...[[0, WAKE(1)], [0, WAKE(100)], [0, WAKE(100)], [1, WAIT_FOR(SEGMENT + 16)]] as const,
    ...[[0, WAKE(1)]] as const,
  ],
  "a futex does not wait for another value, and at most for its time": [
    ...[[1, ["futex_wait", WORD, 1, Infinity]], [1, WAIT_FOR(WORD, 0)]] as const,
    ...[[1, WAIT_FOR(WORD, 300)], [2, WAIT_FOR(WORD)], [0, ["pause", 500]], [0, WAKE(9)]] as const,
  ],
  "a process that was killed while it waited is not woken in place of another": [
    ...[[1, WAIT_FOR(WORD)], [2, WAIT_FOR(WORD)], [1, KILL], [0, WAKE(1)]] as const,
  ],
  "a process that was woken and is killed then counts as woken": [
    ...[[1, WAIT_FOR(WORD)], [2, WAIT_FOR(WORD)], [1, ["late", 0, [WAKE(1)], "killed"]]] as const,
    ...[[0, WAKE(2)]] as const,
  ],
};

/** Sequences that chance seldom makes. */
const DIRECTED: Record<string, Omit<Sequence, "uids"> & { uids?: readonly number[] }> = {
  "waiters are served in their order, and whoever comes later gets nothing": {
    steps: [
      ...[[0, NEW_SET], [1, TAKE], [2, TAKE], [0, GET(GETNCNT)], [0, GIVE]] as const,
      ...[[0, ["semop", 0, [[-1, IPC_NOWAIT]]]], [0, GIVE], [0, GET(GETPID)]] as const,
    ],
  },
  "a waiter for more is passed by one for less": {
    steps: [[0, NEW_SET], [1, ["semop", 0, [[-2, 0]]]], [2, TAKE], [0, GIVE], [0, GET(GETVAL)]],
  },
  "waiters for 0 come before waiters for more": {
    steps: [
      ...[[0, NEW_SET], [0, SET(1)], [1, ["semop", 0, [[-2, 0]]]]] as const,
      ...[[2, ["semop", 0, [[0, 0], [2, 0]]]], [0, ["semop", 0, [[-1, 0]]]], [0, STATUS]] as const,
    ],
  },
  "a waiter whose later step fails gets that error": {
    steps: [
      ...[[0, NEW_SET], [1, ["semop", 0, [[-1, SEM_UNDO], [0, IPC_NOWAIT]]]], [2, TAKE]] as const,
      ...[[0, SET(2)], [0, GET(GETVAL)]] as const,
    ],
  },
  "a waiter gets EIDRM when the set is removed": {
    steps: [[0, NEW_SET], [1, TAKE], [2, ["semop", 0, [[-2, 0]]]], [0, ["semctl", 0, 0, IPC_RMID]]],
  },
  "a wait that times out fails with EAGAIN": {
    steps: [[0, NEW_SET], [1, ["semtimedop", 0, [[-1, SEM_UNDO]], 100]], [0, ["pause", 200]], [
      0,
      GIVE,
    ]],
  },
  "a waiter gets what SETVAL gives, and what the end of a process undoes": {
    steps: [[0, NEW_SET], [1, TAKE], [0, SET(1)], [2, TAKE], [1, KILL], [0, GET(GETPID)]],
  },
  "a waiter that is killed leaves the queue": {
    steps: [[0, NEW_SET], [1, TAKE], [2, TAKE], [1, KILL], [0, GIVE], [0, GET(GETNCNT)]],
  },
  "SETVAL forgets what all processes would undo": {
    steps: [[0, NEW_SET], [0, SET(1)], [1, TAKE], [0, SET(5)], [1, KILL], [0, GET(GETVAL)]],
  },
  "the undo of a process stays within the limits of the value": {
    steps: [
      ...[[0, NEW_SET], [1, GIVE], [0, ["semop", 0, [[-1, 0]]]], [1, KILL], [
        0,
        GET(GETVAL),
      ]] as const,
      ...[[0, SET(1)], [2, TAKE], [0, ["semop", 0, [[32767, 0]]]], [2, KILL], [
        0,
        GET(GETVAL),
      ]] as const,
    ],
  },
  "the end of a process sets the time of use even if there is nothing to undo": {
    isAligned: true,
    steps: [
      ...[[0, NEW_SET], [0, SET(1)], [1, TAKE], [1, GIVE], [0, STATUS], PAUSE, [1, KILL], [
        0,
        STATUS,
      ]] as const,
    ],
  },
  "a semop that failed leaves a time of use at the end of its process": {
    steps: [[0, NEW_SET], [1, ["semop", 0, [[-1, SEM_UNDO | IPC_NOWAIT]]]], [1, KILL], [0, STATUS]],
  },
  "times have one second, and each change sets its own": {
    isAligned: true,
    steps: [
      ...[[0, NEW_SEGMENT], [0, NEW_SET], [0, NEW_FILE("/tmp/a")], PAUSE, [0, [
        "shmat",
        0,
        0,
      ]]] as const,
      ...[[0, SET(1)], PAUSE, [0, TAKE], [0, ["shmctl", 0, IPC_SET, 0, 0, 0o640]], PAUSE] as const,
      ...[[0, ["link", "/tmp/a", "/tmp/b"]], [0, STATUS], [0, ["shmctl", 0, IPC_STAT]]] as const,
      ...[[0, ["statx", 3, "", 0x1000]], PAUSE, [0, KILL]] as const,
    ],
  },
  "a removed segment stays until its last user leaves, and can be attached by its id": {
    steps: [
      ...[[0, NEW_SEGMENT], [0, ["shmat", 0, 0]], [0, ["shmctl", 0, IPC_RMID]]] as const,
      ...[[1, ["shmget", KEY, 0, 0]], [1, ["shmat", 0, 0]], [1, NEW_SEGMENT]] as const,
      ...[[0, ["shmctl", 0, IPC_STAT]], [0, KILL], [1, ["shmdt", 0x1000_0000]]] as const,
      ...[[1, ["shmctl", 0, IPC_STAT]]] as const,
    ],
  },
  "memory that is mapped over a segment detaches it": {
    steps: [
      ...[[0, NEW_SEGMENT], [0, ["shmat", 0, 0]]] as const,
      ...[[0, ["mmap", 0x1000_0000, 100, 3, 0x4032, -1]], [0, ["shmdt", 0x1000_0000]]] as const,
      ...[[0, ["shmctl", 0, IPC_STAT]], [0, ["munmap", 0x1000_0000, 100]]] as const,
    ],
  },
  "ids are not used again soon, and wrap around": {
    steps: Array.from({ length: 70 }).flatMap((_, i): Step[] => {
      const id = i < 64 ? i : 32768 + i - 64;
      return [[0, ["semget", KEY + i % 3, 1, CREATE]], [0, ["semctl", id, 0, IPC_RMID]]];
    }),
  },
  "the limits of the kernel": {
    limits: { shmmni: "2", shmall: "4", shmmax: "12288", sem: "32000 2 500 5" },
    steps: [
      ...[[0, ["shmget", 1, 12289, CREATE]], [0, ["shmget", 1, 12288, CREATE]]] as const,
      ...[[0, ["shmget", 2, 4097, CREATE]], [0, ["shmget", 2, 1, CREATE]]] as const,
      ...[[0, ["shmget", 3, 1, CREATE]], [0, ["semget", 1, 1, CREATE]]] as const,
      ...[[0, ["semget", 2, 1, CREATE]], [0, ["semget", 3, 1, CREATE]]] as const,
    ],
  },
  "a size that does not fit is found before the permissions": {
    uids: [1000, 1001, 1001],
    steps: [[0, NEW_SEGMENT], [1, ["shmget", KEY, 101, 0o600]], [1, ["shmget", KEY, 0, 0o600]], [
      1,
      ["shmget", KEY, 0, 0],
    ]],
  },
  "a conversion of flock that fails has lost the lock; one of a byte has not": {
    steps: [
      ...[[0, NEW_FILE("/tmp/a")], [1, READ_FILE("/tmp/a")], [2, READ_FILE("/tmp/a")]] as const,
      ...[[0, ["flock", 3, 5]], [1, ["flock", 3, 5]], [0, ["flock", 3, 6]]] as const,
      ...[[1, ["flock", 3, 6]], [0, ["fcntl", 3, F_OFD_SETLK, 0, 1]]] as const,
      ...[[1, ["fcntl", 3, F_OFD_SETLK, 0, 1]], [0, ["fcntl", 3, F_OFD_SETLK, 1, 1]]] as const,
      ...[[2, ["fcntl", 3, F_OFD_GETLK, 1, 1]], [0, KILL], [1, [
        "fcntl",
        3,
        F_OFD_GETLK,
        1,
        1,
      ]]] as const,
    ],
  },
  "two descriptors of one process exclude each other": {
    steps: [
      ...[[0, NEW_FILE("/tmp/a")], [0, READ_FILE("/tmp/a")], [0, ["flock", 3, 6]]] as const,
      ...[[0, ["flock", 4, 5]], [0, ["close", 3]], [0, ["flock", 4, 5]]] as const,
    ],
  },
  "a deleted file is opened again only through /proc, and gets no new name": {
    steps: [
      ...[[0, NEW_FILE("/tmp/a")], [0, ["unlink", "/tmp/a"]], [0, NEW_FILE("/tmp/a")]] as const,
      ...[[0, ["readlink", "/proc/self/fd/3"]], [0, [
        "open",
        "/proc/self/fd/3",
        O_RDWR,
        0,
      ]]] as const,
      ...[[0, ["linkat", -100, "/proc/self/fd/3", -100, "/tmp/b", 0x400]]] as const,
      ...[[0, ["statx", 5, "", 0x1000]], [0, ["readlink", "/proc/self/fd/5"]]] as const,
    ],
  },
  "a POSIX object gets its name when it is complete": {
    uids: [1000, 1001, 1000],
    steps: [
      ...[[0, ["open", "/dev/shm/", 0o20200002, 0o600]], [0, ["fallocate", 3, 5000]]] as const,
      ...[[0, ["flock", 3, 5]], [0, ["fchmod", 3, 0o1601]], [0, [
        "mmap",
        0,
        5000,
        3,
        1,
        3,
      ]]] as const,
      ...[[0, ["sem_init", 0x1000_0000, 1]], [0, ["store", 0x1000_0010, [1, 2, 3]]]] as const,
      ...[[0, ["linkat", -100, "/proc/self/fd/3", -100, "/dev/shm/a", 0x400]]] as const,
      ...[[1, ["open", "/dev/shm/a", O_RDWR, 0]], [2, ["open", "/dev/shm/a", O_RDWR, 0]]] as const,
      ...[[2, ["mmap", 0, 5000, 3, 1, 3]], [2, ["load", 0x1000_0000, 24]]] as const,
      ...[[2, ["sem_trywait", 0x1000_0000]], [0, ["sem_trywait", 0x1000_0000]]] as const,
      ...[[0, ["sem_post", 0x1000_0000]], [2, ["load", 0x1000_0000, 24]]] as const,
      ...[[0, ["flock", 3, 6]], [0, ["unlink", "/dev/shm/a"]], [0, KILL]] as const,
      ...[[2, ["load", 0x1000_0000, 24]]] as const,
    ],
  },
  ...Object.fromEntries(
    ["/tmp", "/dev/shm"].flatMap((folder) =>
      ["full", "read-only"].map((how): [string, Omit<Sequence, "uids">] => {
        const [a, b, c] = ["a", "b", "c"].map((name) => `${folder}/${name}`) as [
          string,
          string,
          string,
        ];
        const sequence: Step[] = [
          ...[[0, NEW_FILE(a)], [0, ["symlink", "x", c]], [0, READ_FILE(a)]] as const,
          ...[[0, ["fallocate", 3, 4096]], [0, ["close", 3]], [0, ["mount", folder, how]]] as const,
          ...[[0, NEW_FILE(b)], [0, NEW_FILE(a)], [0, ["link", a, b]], [0, [
            "link",
            a,
            c,
          ]]] as const,
          ...[[0, ["symlink", "x", b]], [0, ["symlink", "x", a]], [0, [
            "mkdir",
            b,
            0o700,
          ]]] as const,
          ...[[0, ["rename", a, `${folder}/none/x`]], [0, ["rename", b, c]]] as const,
          ...[[0, ["open", a, O_RDWR, 0]], [0, ["fallocate", 3, 5000]]] as const,
          ...[[0, ["fchmod", 4, 0o600]], [0, ["flock", 4, 6]], [0, ["unlink", b]]] as const,
          ...[[0, ["open", folder, 0o20200002, 0o600]], [0, ["rename", c, a]]] as const,
          ...[[0, ["unlink", a]], [0, ["mount", folder, "usual"]], [0, NEW_FILE(b)]] as const,
        ];
        return [`a folder that is ${how}: ${folder}`, { steps: sequence }];
      })
    ),
  ),
};

describe("the simulated kernel", comparable, () => {
  const real = new RealKernel();
  after(() => real.end());

  for (const [name, sequence] of Object.entries(DIRECTED)) {
    test(name, slow, async () => {
      const differences = await real.differences({ uids: [0, 0, 0], ...sequence });
      assert.deepEqual(differences, []);
    });
  }

  for (const [name, steps] of Object.entries(WAITS)) {
    test(name, slow, async () => {
      const sequence = { uids: [0, 0, 0], steps: [...sharedWords(3), INITIALIZE, ...steps] };
      assert.deepEqual(await real.differences(sequence), []);
    });
  }

  test(
    "the end of a process is its memory, then its semaphores, then its files",
    slow,
    async () => {
      const steps: Step[] = [
        ...[[0, NEW_SET], [0, SET(1)], [0, NEW_SEGMENT], [0, NEW_FILE("/tmp/a")]] as const,
        ...[[1, ["shmat", 0, 0]], [1, TAKE], [1, READ_FILE("/tmp/a")]] as const,
        ...[[1, ["flock", 3, 6]], [1, ["watch", "/tmp/a"]]] as const,
      ];
      for (let i = 0; i < 20; i++) {
        assert.deepEqual(await real.differences({ uids: [0, 0], steps }), []);
      }
    },
  );

  test("the number of a deleted file is used again at once or not, but never while it is open", () => {
    const folder = mkdtempSync(path.join(tmpdir(), "inodes-"));
    const create = () => openSync(path.join(folder, "a"), "wx");
    const numberOf = (fd: number) => fstatSync(fd).ino;
    const first = create();
    unlinkSync(path.join(folder, "a"));
    const second = create();
    const [kept, other] = [numberOf(first), numberOf(second)];
    assert.notEqual(kept, other);
    unlinkSync(path.join(folder, "a"));
    closeSync(second);
    const third = create();
    const isReused = numberOf(third) === other;
    for (const fd of [first, third]) closeSync(fd);
    rmSync(folder, { recursive: true });

    const state = boot({ processes: [{}], device: { reusesInodes: isReused } });
    const run = (...made: Call) => call(state, 0, made) as Result;
    const number = (fd: number) =>
      (run("statx", fd, "", 0x1000).out as Record<string, number>)["ino"];
    run(...NEW_FILE("/tmp/a"));
    run("unlink", "/tmp/a");
    run(...NEW_FILE("/tmp/a"));
    const before = number(4);
    assert.notEqual(number(3), before);
    run("unlink", "/tmp/a");
    run("close", 4);
    run(...NEW_FILE("/tmp/a"));
    assert.equal(number(4) === before, isReused);
  });

  for (const [name, make] of Object.entries({ "calls": randomSequence, "waits": randomWaits })) {
    test(`agrees with the real one in random sequences of ${name}`, {
      timeout: 2 * DEADLINE_MS + SEQUENCES * 1000,
    }, async () => {
      const deadline = performance.now() + BUDGET_MS;
      let compared = 0;
      for (let seed = SEED; seed < SEED + SEQUENCES && performance.now() < deadline; seed++) {
        const sequence = make(seed);
        if ((await real.differences(sequence)).length > 0) {
          const shorter = await shrink(real, sequence, SHRINK_MS);
          const found = await real.differences(shorter);
          assert.fail(`seed ${seed}: ${shown(shorter)}\n${found.join("\n")}`);
        }
        compared++;
      }
      assert.ok(compared > 0, `only ${compared} sequences in ${BUDGET_MS} ms`);
    });
  }
});
