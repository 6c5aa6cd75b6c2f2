/** How a semaphore is opened, or made, among others who make and remove it. */
import { describe, test } from "node:test";
import { SystemSemaphoreMode } from "../../../mod.ts";
import * as fake from "../../fixtures/fake_system.ts";
import { assertFails, script, setUp } from "../../fixtures/fake_system.ts";

const { Open } = SystemSemaphoreMode;
const { DOWN, MAKE, OPEN, OPEN_LOCK, OPEN_NEW_SEMAPHORE, OPEN_SEMAPHORE } = fake;
const { SEM_CURRENT, SEM_PATH, SHARE, UNLOCK, UNMARKED_YET } = fake;

/** A key file that is of no use after all. */
const DELETED = script(SEM_PATH, `unlink("/q/sem") = 0`, "close(3) = 0");

describe("opening a semaphore", () => {
  const FILE = script(
    `${MAKE("/q/sem")} = EEXIST`,
    `${OPEN("/q/sem")} = 3`,
    "statx(3) = { inode 2 }",
  );
  const SHARED = `${SHARE(3)} = 0`;
  const MADE = OPEN_NEW_SEMAPHORE(1);
  const OPENED = OPEN_SEMAPHORE();
  /** Nobody relies on the key file, which leads to no semaphore. */
  const UNUSED = script(fake.CREATED, `${fake.ALONE(3)} = 0`, "semget(0x51000002, 1, 0) = ENOENT");
  const first = (count: number) => script(...MADE.split("\n").slice(0, count));
  const cases: [name: string, mode: SystemSemaphoreMode, script: string][] = [
    [
      "waits for nobody who has the key file alone for longer than it takes to delete it",
      Open,
      script(
        ...[FILE, UNMARKED_YET, ...Array(50).fill(`${SHARE(3)} = EAGAIN\npause(1 ms)`)],
        ...[`${SHARE(3)} = EAGAIN`, ...OPENED.split("\n").slice(6)],
      ),
    ],
    [
      "opens the file again after EINTR",
      Open,
      OPENED.replace(OPEN("/q/sem"), `${OPEN("/q/sem")} = EINTR\n$&`),
    ],
    ["says again after EINTR that it is in use", Open, OPENED.replace(SHARE(3), "$& = EINTR\n$&")],
    [
      "needs no permission to read the key file, which cannot be locked then",
      Open,
      OPENED.replace(
        OPEN("/q/sem"),
        `${OPEN("/q/sem")} = EACCES\nopen("/q/sem", O_PATH|O_NOFOLLOW|O_CLOEXEC)`,
      ).replace(SHARED, `${SHARE(3)} = EBADF`).replace(/0$/, "EBADF"),
    ],
  ];
  for (const [name, mode, steps] of cases) {
    test(name, () => {
      const { ffi, backend } = setUp();
      ffi.play(steps, () => backend.semaphores.open("/q/sem", 1, mode));
    });
  }

  describe("the first that this process makes", () => {
    const row = (gid: number, uid = 1000) =>
      `key semid perms nsems uid gid\n${0x51123456} 21 600 1 ${uid} ${gid}\n`;
    const USER = "semctl(21, 0, GETPID) = 77";
    for (
      const [name, table, steps] of [
        [
          "removes what a process was about to remove when it was killed",
          row(4050219107),
          script(USER, "kill(77, 0) = ESRCH", "semctl(21, 0, IPC_RMID) = 0"),
        ],
        ["leaves what one is about to remove", row(4050219107), script(USER, "kill(77, 0) = 0")],
        [
          "leaves what one of another pid namespace may be about to remove",
          row(4050219107),
          "semctl(21, 0, GETPID) = 0",
        ],
        ["leaves that of another user", row(4050219107, 1001), ""],
        ["leaves all others", row(100), ""],
      ] as const
    ) {
      test(name, () => {
        const { ffi, backend } = setUp();
        ffi.files.set("/proc/sysvipc/sem", table);
        const open = () => void backend.semaphores.open("/q/sem", 1, Open);
        ffi.play(MADE.replace("fcntl", script(steps, "fcntl").trim()), open);
        ffi.play(MADE, open); // looks no more
      });
    }
  });

  test("asks whose it is only once while its key file is kept open", () => {
    const { ffi, backend, lock } = setUp();
    const steps = script(OPEN_LOCK, `${DOWN(0)} = 0`, UNLOCK);
    ffi.play(steps, () => {
      lock.acquire(0);
      lock.release();
      lock.close();
    });
    const again = backend.semaphores.lock("/q/sem");
    const fewer = script(SEM_CURRENT, "semget(0x51000002, 1, 0600) = 7", `${DOWN(0)} = 0`);
    ffi.play(fewer, () => again.acquire(0));
  });

  test("leaves no key file behind if the system has no more semaphores", () => {
    const { ffi, backend } = setUp();
    const steps = `
      ${first(4)}
      semget(0x51000002, 1, IPC_CREAT|IPC_EXCL|0600) = ENOSPC
      ${UNUSED}
      ${DELETED}`;
    const open = () => ffi.play(steps, () => backend.semaphores.open("/q/sem", 1, Open));
    assertFails(open, "OutOfResources", "semget", 28);
  });

  test("removes a new one whose value cannot be set", () => {
    const { ffi, backend } = setUp();
    const steps = `
      ${first(5)}
      semctl(7, 0, SETVAL, 40000) = ERANGE
      semctl(7, 0, IPC_RMID) = 0
      ${UNUSED}
      ${DELETED}`;
    const open = () => ffi.play(steps, () => backend.semaphores.open("/q/sem", 40000, Open));
    assertFails(open, "OutOfResources", "semctl", 34);
  });
});
