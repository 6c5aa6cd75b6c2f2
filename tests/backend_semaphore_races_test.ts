import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SystemSemaphoreMode } from "../mod.ts";
import * as fake from "./fixtures/fake_system.ts";
import { assertFails, created, setUp } from "./fixtures/fake_system.ts";

const { Create, Open } = SystemSemaphoreMode;
const { JOIN, LEAVE, MARK, MARKED, OPEN_LOCK, OPEN_NEW_LOCK, REMOVE_LOCK, TRY_ALONE, UNMARKED } =
  fake;

const TRY_LOCK = "semtimedop(7, [-1 SEM_UNDO], 10 ms)";

describe("the lock in use", () => {
  function setUpLocked() {
    const setup = setUp();
    created(setup);
    return setup;
  }

  test("is waited for again after EINTR", () => {
    const { ffi, lock } = setUpLocked();
    const down = "semop(7, [-1 SEM_UNDO])";
    ffi.play(`${down} = EINTR\n${down} = EINTR\n${down} = 0`, () => lock.acquire());
    ffi.play(`${TRY_LOCK} = EINTR\n${TRY_LOCK} = 0`, () => assert.equal(lock.acquire(10), true));
  });

  for (const errno of ["EIDRM", "EINVAL"]) {
    test(`is made again and then taken if a peer removed it (${errno})`, () => {
      const { ffi, lock } = setUpLocked();
      const script = `
        semop(7, [-1 SEM_UNDO]) = ${errno}
        semop(7, [-1 SEM_UNDO]) = ${errno}
        close(3) = 0
        ${OPEN_NEW_LOCK.replace(" = 7", " = 8").replace("semctl(7", "semctl(8")}
        semop(8, [-1 SEM_UNDO]) = 0`;
      ffi.play(script, () => assert.equal(lock.acquire(), true));
    });
  }

  for (const errno of ["EIDRM", "EINVAL", "EAGAIN"]) {
    const cause = errno === "EAGAIN" ? "reset it to free" : "removed it";
    test(`is not released again if a peer ${cause} meanwhile (${errno})`, () => {
      // Qt adds 1 to the 1 of a new or reset one, which lets two in at a time.
      const { ffi, lock } = setUpLocked();
      const script = `semop(7, [0 IPC_NOWAIT, 1 SEM_UNDO]) = ${errno}`;
      ffi.play(script, () => lock.release());
    });
  }

  test("goes on without the kernel's undo where its count is full (ERANGE)", () => {
    const { ffi, lock } = setUpLocked();
    const undone = "semop(7, [-1 SEM_UNDO]) = ERANGE";
    ffi.play(`${undone}\n${undone}\nsemop(7, [-1]) = 0`, () => lock.acquire());
  });
});

describe("a semaphore in use", () => {
  function opened() {
    const { ffi, backend } = setUp();
    const script = `${OPEN_LOCK}\n${JOIN}`;
    const semaphore = ffi.play(script, () => backend.semaphores.open("/q/sem", 4, Open));
    return { ffi, semaphore };
  }

  test("is made again with its initial value before a release if a peer removed it", () => {
    const { ffi, semaphore } = opened();
    const script = `
      semop(7, [2 SEM_UNDO]) = EIDRM
      close(3) = 0
      ${OPEN_NEW_LOCK.replace("SETVAL, 1", "SETVAL, 4")}
      ${JOIN}
      semop(7, [2 SEM_UNDO]) = 0`;
    ffi.play(script, () => semaphore.release(2));
  });

  test("is OutOfResources if its value is at its end, with and without undo", () => {
    const { ffi, semaphore } = opened();
    const script = "semop(7, [2 SEM_UNDO]) = ERANGE\nsemop(7, [2]) = ERANGE";
    const release = () => ffi.play(script, () => semaphore.release(2));
    assertFails(release, "OutOfResources", "semop", 34);
  });
});

describe("opening a semaphore", () => {
  const cases: [name: string, mode: SystemSemaphoreMode, script: string][] = [
    [
      "starts again if another process makes it first",
      Open,
      `open("/q/sem", O_NONBLOCK|O_CLOEXEC) = 3
      ftok("/q/sem", 'Q') = 0x51000002
      semget(0x51000002, 1, 0600) = ENOENT
      semget(0x51000002, 1, IPC_CREAT|IPC_EXCL|0600) = EEXIST
      ${OPEN_LOCK.replace(/.*O_CLOEXEC\) = 3\n/, "")}`,
    ],
    [
      "makes the key file if it vanishes between open and ftok",
      Open,
      `open("/q/sem", O_NONBLOCK|O_CLOEXEC) = 3
      ftok("/q/sem", 'Q') = ENOENT
      close(3) = 0
      open("/q/sem", O_RDWR|O_CREAT|O_EXCL|O_CLOEXEC, 0640) = EEXIST
      ${OPEN_LOCK}`,
    ],
    ...["ENOENT", "0x51000003"].map((key): [string, SystemSemaphoreMode, string] => [
      `takes back what it made if the key file is ${key === "ENOENT" ? "gone" : "new"} by then`,
      Open,
      `${OPEN_NEW_LOCK.replace(/0x51000002$/, key)}
      semctl(7, 0, IPC_RMID) = 0
      close(3) = 0
      ${OPEN_NEW_LOCK}`,
    ]),
    [
      "starts again if it is removed before its value is set",
      Create,
      `open("/q/sem", O_NONBLOCK|O_CLOEXEC) = 3
      ftok("/q/sem", 'Q') = 0x51000002
      semget(0x51000002, 1, 0600) = 7
      semctl(7, 0, SETVAL, 1) = EIDRM
      ftok("/q/sem", 'Q') = ENOENT
      close(3) = 0
      ${OPEN_NEW_LOCK}`,
    ],
    [
      "opens the file again after EINTR",
      Open,
      `open("/q/sem", O_NONBLOCK|O_CLOEXEC) = EINTR\n${OPEN_LOCK}`,
    ],
    [
      "needs no permission to read the key file",
      Open,
      OPEN_LOCK.replace(" = 3", " = EACCES"),
    ],
  ];
  for (const [name, mode, script] of cases) {
    test(name, () => {
      const { ffi, backend } = setUp();
      // A file that cannot be opened cannot be locked either.
      const steps = script.includes("EACCES") ? script : `${script}\n${JOIN}`;
      ffi.play(steps, () => backend.semaphores.open("/q/sem", 1, mode));
    });
  }

  test("leaves no key file behind if the system has no more semaphores", () => {
    const { ffi, backend } = setUp();
    const script = `
      ${OPEN_NEW_LOCK.split("\n").slice(0, 4).join("\n")}
      semget(0x51000002, 1, IPC_CREAT|IPC_EXCL|0600) = ENOSPC
      ftok("/q/sem", 'Q') = 0x51000002
      unlink("/q/sem") = 0
      close(3) = 0`;
    const open = () => ffi.play(script, () => backend.semaphores.open("/q/sem", 1, Open));
    assertFails(open, "OutOfResources", "semget", 28);
  });
});

describe("of those who use a semaphore the last removes it once an owner has left", () => {
  const owner: [SystemSemaphoreMode, string] = [
    Create,
    `${OPEN_LOCK}\nsemctl(7, 0, SETVAL, 1) = 0`,
  ];
  const GONE = UNMARKED.replace(/\{.*/, "EINVAL");
  const other: [SystemSemaphoreMode, string] = [Open, OPEN_LOCK];
  const cases: [name: string, who: typeof owner, script: string][] = [
    [
      // The mark first: whoever finds nobody else there afterwards must find the mark.
      "an owner marks it, with the same user and group, and then sees that others are there",
      owner,
      `${MARK}\n${TRY_ALONE} = EAGAIN`,
    ],
    [
      "an owner does not mark what another owner has marked",
      owner,
      `${MARKED}\n${TRY_ALONE} = EAGAIN`,
    ],
    [
      "an owner that is the last removes it, whether marked before or not",
      owner,
      `${MARKED}\n${TRY_ALONE} = 0\n${REMOVE_LOCK}`,
    ],
    [
      "an owner whose semaphore was removed meanwhile deletes its key file",
      owner,
      `${GONE}\nsemget(0x51000002, 0, 0) = ENOENT\n${TRY_ALONE} = 0\n` +
      REMOVE_LOCK.replace("IPC_RMID) = 0", "IPC_RMID) = EINVAL"),
    ],
    [
      "an owner leaves the key file if somebody has made another semaphore with it",
      owner,
      `${GONE}\nsemget(0x51000002, 0, 0) = 8`,
    ],
    [
      "who is not the last leaves a marked one",
      other,
      `${LEAVE}\n${MARKED}\n${TRY_ALONE} = EAGAIN`,
    ],
    [
      "who is the last removes a marked one",
      other,
      `${LEAVE}\n${MARKED}\n${TRY_ALONE} = 0\n${REMOVE_LOCK}`,
    ],
    [
      "who is the last leaves the key file to a new semaphore of the key",
      other,
      `${LEAVE}\n${MARKED}\n${TRY_ALONE} = 0
      ${REMOVE_LOCK.replace("= 0x51000002", "= 0x51000003").replace(/unlink.* = 0\n/, "")}`,
    ],
    [
      // LOCK_EX would keep somebody who opens it at that moment from LOCK_SH.
      "who is the last leaves an unmarked one to its owner: real Qt, or one that was killed",
      other,
      `${LEAVE}\n${UNMARKED}`,
    ],
    [
      "who is the last leaves one that was removed meanwhile",
      other,
      `${LEAVE}\n${GONE}`,
    ],
  ];
  for (const [name, [mode, opening], script] of cases) {
    test(name, () => {
      const { ffi, backend } = setUp();
      const open = () => backend.semaphores.open("/q/sem", 1, mode);
      const semaphore = ffi.play(`${opening}\n${JOIN}`, open);
      const steps = script.includes("close") ? script : `${script}\nclose(3) = 0`;
      ffi.play(steps, () => semaphore.close());
    });
  }
});
