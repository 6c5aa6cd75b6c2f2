/** How a semaphore is opened, or made, among others who make and remove it. */
import { describe, test } from "node:test";
import { SystemSemaphoreMode } from "../mod.ts";
import * as fake from "./fixtures/fake_system.ts";
import { assertFails, script, setUp } from "./fixtures/fake_system.ts";

const { Create, Open } = SystemSemaphoreMode;
const {
  COMPLETE,
  DOWN,
  JOIN,
  KEEP_FILE,
  LEAVE,
  LINKED,
  MAKE,
  OPEN,
  OPEN_LOCK,
  OPEN_NEW_SEMAPHORE,
  UNLOCK,
} = fake;

describe("opening a semaphore", () => {
  /** A semaphore that is not there is made with the key file that is. */
  const MISSING = `${MAKE("/q/sem")} = EEXIST
      ${OPEN("/q/sem")} = 3
      statx(3) = { inode 2 }
      semget(0x51000002, 1, 0600) = ENOENT
      semget(0x51000002, 1, IPC_CREAT|IPC_EXCL|0610)`;
  /** The key file that is kept open from the last time. */
  const OPEN_AGAIN = script(LINKED, ...OPEN_LOCK.split("\n").slice(3));
  const MADE = OPEN_NEW_SEMAPHORE(1);
  const cases: [name: string, mode: SystemSemaphoreMode, script: string][] = [
    [
      "makes it with a key file that is left over",
      Open,
      `${MISSING} = 7
      semctl(7, 0, SETVAL, 1) = 0
      ${COMPLETE}`,
    ],
    [
      "starts again if another process makes it first",
      Open,
      script(`${MISSING} = EEXIST`, OPEN_AGAIN),
    ],
    [
      "starts again if another process makes it first, with a file that this one made",
      Open,
      script(...MADE.split("\n").slice(0, 2)) + `
      semget(0x51000002, 1, IPC_CREAT|IPC_EXCL|0610) = EEXIST
      close(3) = 0
      ${OPEN_LOCK}`,
    ],
    [
      "makes the key file if it vanishes before it is opened",
      Open,
      `${MAKE("/q/sem")} = EEXIST
      ${OPEN("/q/sem")} = ENOENT
      ${MADE}`,
    ],
    [
      "takes back what it made if its key file is deleted by then",
      Open,
      `${script(...MADE.split("\n").slice(0, 5))}
      statx(3) = { inode 2, links 0 }
      ${LEAVE}
      semctl(7, 0, IPC_RMID) = 0
      close(3) = 0
      ${MADE}`,
    ],
    [
      "takes back what it made if the key file that it found is deleted by then",
      Open,
      `${MISSING} = 7
      semctl(7, 0, SETVAL, 1) = 0
      ${KEEP_FILE} = 0
      statx(3) = { inode 2, links 0 }
      ${LEAVE}
      semctl(7, 0, IPC_RMID) = 0
      close(3) = 0
      ${MADE}`,
    ],
    [
      "takes back what it made if the key file that it found is being deleted",
      Open,
      `${MISSING} = 7
      semctl(7, 0, SETVAL, 1) = 0
      ${KEEP_FILE} = EAGAIN
      semctl(7, 0, IPC_RMID) = 0
      close(3) = 0
      ${MADE}`,
    ],
    [
      "takes away the mark of somebody who was killed before he deleted the key file",
      Open,
      `${OPEN_LOCK.replace("cuid 1000", "cuid 1000, mode 0610")}
      ${COMPLETE}`,
    ],
    [
      "leaves the mark to somebody who is deleting the key file",
      Open,
      `${OPEN_LOCK.replace("cuid 1000", "cuid 1000, mode 0610")}
      ${KEEP_FILE} = EAGAIN`,
    ],
    [
      "starts again if it is removed before it is looked at",
      Open,
      `${OPEN_LOCK.replace(/\{ uid 1000, cuid.*/, "EIDRM")}
      statx(3) = { inode 2, links 0 }
      close(3) = 0
      ${MADE}`,
    ],
    [
      "starts again if it is removed before its value is set",
      Create,
      `${OPEN_LOCK}
      semctl(7, 0, SETVAL, 1) = EIDRM
      statx(3) = { inode 2, links 0 }
      close(3) = 0
      ${MADE}`,
    ],
    [
      "opens the file again after EINTR",
      Open,
      OPEN_LOCK.replace(OPEN("/q/sem"), `${OPEN("/q/sem")} = EINTR\n$&`),
    ],
    [
      "says again after EINTR that it is in use",
      Open,
      `${OPEN_LOCK}\n${JOIN.replace(/0$/, "EINTR")}`,
    ],
    [
      "needs no permission to read the key file",
      Open,
      OPEN_LOCK.replace(
        OPEN("/q/sem"),
        `${OPEN("/q/sem")} = EACCES\nopen("/q/sem", O_PATH|O_NOFOLLOW|O_CLOEXEC)`,
      ),
    ],
  ];
  for (const [name, mode, steps] of cases) {
    test(name, () => {
      const { ffi, backend } = setUp();
      // A file that cannot be read cannot be locked either.
      const join = steps.includes("O_PATH") ? JOIN.replace(/0$/, "EBADF") : JOIN;
      ffi.play(`${steps}\n${join}`, () => backend.semaphores.open("/q/sem", 1, mode));
    });
  }

  test("asks whose it is only once while its key file is kept open", () => {
    const { ffi, backend, lock } = setUp();
    const steps = script(OPEN_LOCK, `${DOWN(0)} = 0`, UNLOCK);
    ffi.play(steps, () => {
      lock.acquire(0);
      lock.release();
      lock.close();
    });
    const again = backend.semaphores.lock("/q/sem");
    const fewer = script(...OPEN_AGAIN.split("\n").slice(0, -1), `${DOWN(0)} = 0`);
    ffi.play(fewer, () => again.acquire(0));
  });

  test("leaves no key file behind if the system has no more semaphores", () => {
    const { ffi, backend } = setUp();
    const steps = `
      ${script(...MADE.split("\n").slice(0, 2))}
      semget(0x51000002, 1, IPC_CREAT|IPC_EXCL|0610) = ENOSPC
      ${LINKED}
      unlink("/q/sem") = 0
      close(3) = 0`;
    const open = () => ffi.play(steps, () => backend.semaphores.open("/q/sem", 1, Open));
    assertFails(open, "OutOfResources", "semget", 28);
  });

  test("removes a new one whose value cannot be set", () => {
    const { ffi, backend } = setUp();
    const steps = `
      ${script(...MADE.split("\n").slice(0, 3))}
      semctl(7, 0, SETVAL, 40000) = ERANGE
      semctl(7, 0, IPC_RMID) = 0
      ${LINKED}
      unlink("/q/sem") = 0
      close(3) = 0`;
    const open = () => ffi.play(steps, () => backend.semaphores.open("/q/sem", 40000, Open));
    assertFails(open, "OutOfResources", "semctl", 34);
  });
});
