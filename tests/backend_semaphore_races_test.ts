import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SystemSemaphoreMode } from "../mod.ts";
import * as fake from "./fixtures/fake_system.ts";
import { assertFails, created, script, setUp } from "./fixtures/fake_system.ts";

const { Create, Open } = SystemSemaphoreMode;
const { DOWN, HOLDER, JOIN, LEAVE, MARK, MARKED, OPEN_LOCK, OPEN_NEW_LOCK } = fake;
const { OPEN_NEW_SEMAPHORE, REMOVE_MARKED, STATX, TRY_ALONE, TRY_DOWN, UNLOCK, UNMARKED } = fake;

function setUpLocked() {
  const setup = setUp();
  created(setup);
  return setup;
}

describe("the lock in use", () => {
  test("is waited for in slices, for as long as it takes", () => {
    const { ffi, lock } = setUpLocked();
    const slice = `${DOWN(1000)} = EAGAIN\n${HOLDER()}`;
    const steps = script(`${TRY_DOWN} = EAGAIN`, slice, slice, slice, `${DOWN(1000)} = 0`);
    ffi.play(steps, () => assert.equal(lock.acquire(), true));
  });

  test("is waited for until the timeout is over", () => {
    const { ffi, lock } = setUpLocked();
    const slices = [1000, 500].map((ms) => `${DOWN(ms)} = EAGAIN\n${HOLDER()}`);
    const steps = script(`${TRY_DOWN} = EAGAIN`, ...slices);
    ffi.play(steps, () => assert.equal(lock.acquire(1500), false));
  });

  test("is waited for again after EINTR, for what is left of the time", () => {
    const { ffi, lock } = setUpLocked();
    const steps = `
      ${TRY_DOWN} = EINTR
      ${DOWN(10)} = EINTR <4 ms>
      ${DOWN(6)} = EINTR <7 ms>
      ${DOWN(0)} = 0`;
    ffi.play(steps, () => assert.equal(lock.acquire(10), true));
  });

  for (const errno of ["EIDRM", "EINVAL"]) {
    test(`is made again, and so taken, if a peer removed it (${errno})`, () => {
      const { ffi, lock } = setUpLocked();
      const steps = `
        ${TRY_DOWN} = ${errno}
        ${DOWN(1000)} = ${errno}
        close(3) = 0
        ${OPEN_NEW_LOCK.replace(" = 7", " = 8").replaceAll(/(semop|semctl).7/g, "$1(8")}`;
      ffi.play(steps, () => assert.equal(lock.acquire(), true));
      ffi.play(UNLOCK.replace("7", "8"), () => lock.release());
    });

    test(`is opened and waited for if a peer removed it and made it again (${errno})`, () => {
      const { ffi, lock } = setUpLocked();
      const steps = `
        ${TRY_DOWN} = ${errno}
        ${DOWN(1000)} = ${errno}
        close(3) = 0
        ${OPEN_LOCK.replace(" = 7", " = 8").replace("semctl(7", "semctl(8")}
        ${DOWN(1000).replace("7", "8")} = 0`;
      ffi.play(steps, () => assert.equal(lock.acquire(), true));
    });
  }

  for (const errno of ["EIDRM", "EINVAL"]) {
    test(`is not released again if a peer removed it meanwhile (${errno})`, () => {
      // Qt adds 1 to the 1 of a new one, which lets two in at a time.
      const { ffi, lock } = setUpLocked();
      ffi.play(UNLOCK.replace(/0$/, errno), () => lock.release());
    });
  }

  test("goes on without the kernel's undo where its count is full (ERANGE)", () => {
    const { ffi, lock } = setUpLocked();
    const steps = `
      ${TRY_DOWN} = ERANGE
      ${DOWN(1000)} = ERANGE
      semtimedop(7, [-1], 1000 ms) = 0`;
    ffi.play(steps, () => assert.equal(lock.acquire(), true));
  });
});

describe("a lock whose errno is not that of semop, but of what the runtime called since", () => {
  const FOREIGN = `${DOWN(1000)} = ENOENT`;

  test("is asked for again", () => {
    const { ffi, lock } = setUpLocked();
    const steps = script(`${TRY_DOWN} = EAGAIN`, FOREIGN, FOREIGN, `${DOWN(1000)} = 0`);
    ffi.play(steps, () => assert.equal(lock.acquire(), true));
  });

  test("fails if it is that every time", () => {
    const { ffi, lock } = setUpLocked();
    const steps = script(`${TRY_DOWN} = EAGAIN`, ...new Array(11).fill(FOREIGN));
    assertFails(() => ffi.play(steps, () => lock.acquire()), "NotFound", "semop", 2);
  });
});

describe("a semaphore in use", () => {
  function opened() {
    const { ffi, backend } = setUp();
    const steps = script(OPEN_LOCK, JOIN);
    const semaphore = ffi.play(steps, () => backend.semaphores.open("/q/sem", 4, Open));
    return { ffi, semaphore };
  }

  test("is made again with its initial value before a release if a peer removed it", () => {
    const { ffi, semaphore } = opened();
    const steps = `
      semtimedop(7, [2 SEM_UNDO], 1000 ms) = EIDRM
      close(3) = 0
      ${OPEN_NEW_SEMAPHORE(4)}
      ${JOIN}
      semtimedop(7, [2 SEM_UNDO], 1000 ms) = 0`;
    ffi.play(steps, () => semaphore.release(2));
  });

  test("is OutOfResources if its value is at its end, with and without undo", () => {
    const { ffi, semaphore } = opened();
    const steps = `
      semtimedop(7, [2 SEM_UNDO], 1000 ms) = ERANGE
      semtimedop(7, [2], 1000 ms) = ERANGE`;
    const release = () => ffi.play(steps, () => semaphore.release(2));
    assertFails(release, "OutOfResources", "semop", 34);
  });
});

describe("of those who use a semaphore the last removes it once an owner has left", () => {
  const owner: [SystemSemaphoreMode, string] = [
    Create,
    `${OPEN_LOCK}\nsemctl(7, 0, SETVAL, 1) = 0`,
  ];
  const GONE = UNMARKED.replace(/\{.*/, "EINVAL");
  const other: [SystemSemaphoreMode, string] = [Open, OPEN_LOCK];
  const REMOVE_GONE = (...file: string[]) =>
    script(
      ...[GONE, `${TRY_ALONE} = 0`, `${fake.TOUCH} = EINVAL`, GONE],
      ...file,
      "semctl(7, 0, IPC_RMID) = EINVAL",
    );
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
      `${MARKED}\n${TRY_ALONE} = 0\n${REMOVE_MARKED}`,
    ],
    [
      "an owner whose semaphore was removed meanwhile deletes its key file",
      owner,
      REMOVE_GONE("semget(0x51000002, 0, 0) = ENOENT", fake.LINKED, `unlink("/q/sem") = 0`),
    ],
    [
      "an owner leaves the key file if somebody has made another semaphore with it",
      owner,
      REMOVE_GONE("semget(0x51000002, 0, 0) = 8"),
    ],
    [
      "who is not the last leaves a marked one",
      other,
      `${LEAVE}\n${MARKED}\n${TRY_ALONE} = EAGAIN`,
    ],
    [
      "who is the last removes a marked one",
      other,
      `${LEAVE}\n${MARKED}\n${TRY_ALONE} = 0\n${REMOVE_MARKED}`,
    ],
    [
      "who is the last leaves the key file to a new semaphore of the key",
      other,
      `${LEAVE}\n${MARKED}\n${TRY_ALONE} = 0
      ${
        REMOVE_MARKED.replace("links 1", "links 0").replace(
          /unlink.* = 0\n/,
          `${STATX("/q/sem")} = { inode 3 }\n`,
        )
      }`,
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
