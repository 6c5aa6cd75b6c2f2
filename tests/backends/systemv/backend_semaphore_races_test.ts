import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { SystemSemaphoreMode } from "../../../mod.ts";
import * as fake from "../../fixtures/fake_system.ts";
import { BOOT } from "../../fixtures/fake_ffi.ts";
import { assertFails, created, script, setUp } from "../../fixtures/fake_system.ts";

const { Create, Open } = SystemSemaphoreMode;
const { ALONE, CURRENT, DOWN, FOLDER, MARKED, OPEN, OPEN_NEW_SEMAPHORE } = fake;
const { OPEN_SEMAPHORE, REMOVE_LAST, SET_MARK, TRY_DOWN, UNSHARE } = fake;

function setUpLocked() {
  const setup = setUp();
  created(setup);
  return setup;
}

describe("the lock in use", () => {
  test("is waited for again after EINTR, for what is left of the time", () => {
    const { ffi, lock } = setUpLocked();
    const steps = `
      ${TRY_DOWN} = EINTR
      ${DOWN(10)} = EINTR <4 ms>
      ${DOWN(6)} = EINTR <7 ms>
      ${DOWN(0)} = 0`;
    ffi.play(steps, () => assert.equal(lock.acquire(10), true));
  });

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
    const semaphore = ffi.play(OPEN_SEMAPHORE(), () => backend.semaphores.open("/q/sem", 4, Open));
    return { ffi, semaphore };
  }

  test("is made again with its initial value before a release if a peer removed it", () => {
    const { ffi, semaphore } = opened();
    const steps = `
      semtimedop(7, [2 SEM_UNDO], 1000 ms) = EIDRM
      close(3) = 0
      ${OPEN_NEW_SEMAPHORE(4)}
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
  const owner = [Create, fake.SET_SEMAPHORE(1)] as const;
  const other = [Open, OPEN_SEMAPHORE()] as const;
  const CLOSE = script("close(3) = 0");
  const LAST = `${ALONE(3)} = 0`;
  const NOT_LAST = `${ALONE(3)} = EAGAIN`;
  const THERE = "semctl(7, 0, IPC_STAT) = {}";
  const MARK_IT = script(FOLDER, NOT_LAST, SET_MARK());
  const FIND_MARK = script(FOLDER, UNSHARE(3), MARKED());
  const cases: [name: string, who: readonly [SystemSemaphoreMode, string], steps: string][] = [
    [
      "an owner that cannot mark it leaves it",
      owner,
      script(MARK_IT.replace(/(symlink.*) = 0\n.*/, "$1 = ENOSPC"), NOT_LAST, THERE, CLOSE),
    ],
    [
      "an owner whose semaphore was removed meanwhile deletes its key file",
      owner,
      script(
        FOLDER,
        LAST,
        REMOVE_LAST.replace(fake.MARK_REMOVED, fake.OTHER("ENOENT"))
          .replace(/(RMID\)) = 0/, "$1 = EINVAL\nsemget(0x51000002, 1, 0) = ENOENT"),
      ),
    ],
    [
      "an owner leaves the key file if somebody has made another semaphore with it",
      owner,
      script(FOLDER, LAST, `${OPEN("/q/sem")} = ENOENT`, fake.OTHER(8), fake.CLEAR_MARK, CLOSE),
    ],
    [
      "an owner leaves the key file while others rely on that of the segment with its name",
      owner,
      script(
        ...[FOLDER, LAST, `${OPEN("/q/sem")} = 5`, "statx(5) = { inode 6 }"],
        ...[`${ALONE(5)} = EAGAIN`, UNSHARE(5), "semctl(7, 0, IPC_RMID) = 0"],
        ...[fake.CLEAR_MARK, CLOSE],
      ),
    ],
    [
      "who is not the last leaves no mark of one that the last has just removed",
      other,
      script(FIND_MARK, NOT_LAST, SET_MARK(), NOT_LAST)
        .concat("\nsemctl(7, 0, IPC_STAT) = EINVAL\n", fake.CLEAR_MARK, "\n", CLOSE),
    ],
    [
      "who is the last removes one that was marked anew since he came",
      [Open, OPEN_SEMAPHORE(script(FOLDER, MARKED("id 7 earlier")))],
      script(FIND_MARK, LAST, REMOVE_LAST),
    ],
    [
      "who is the last leaves one whose mark was there before him: it may be of a namespace that is gone",
      [Open, OPEN_SEMAPHORE(script(FOLDER, MARKED()))],
      script(FIND_MARK, "close(3) = 0"),
    ],
    [
      "who is the last leaves one whose mark is of another machine, or of its last start",
      other,
      script(FIND_MARK.replace(BOOT, "0000"), "close(3) = 0"),
    ],
    [
      "who is the last leaves the key file to a new semaphore of the key",
      other,
      script(
        ...[FIND_MARK, LAST, `${OPEN("/q/sem")} = ENOENT`, fake.MARK_REMOVED],
        ...[CURRENT("/q/sem", 3), "semctl(7, 0, IPC_RMID) = 0", fake.CLEAR_MARK, CLOSE],
      ),
    ],
    [
      // LOCK_EX would keep somebody who opens it at that moment from LOCK_SH.
      "who is the last leaves an unmarked one to its owner: real Qt, or one that was killed",
      other,
      fake.CLOSE_SEMAPHORE,
    ],
    [
      "who is the last leaves one with the mark of an earlier semaphore of the key",
      other,
      script(FIND_MARK.replace("id 7", "id 5"), "close(3) = 0"),
    ],
    [
      "who is the last leaves one with another user's mark",
      other,
      script(FIND_MARK.replace(/1000 \}\n.*/, "1001 }"), "close(3) = 0"),
    ],
  ];
  for (const [name, [mode, opening], steps] of cases) {
    test(name, () => {
      const { ffi, backend } = setUp();
      const open = () => backend.semaphores.open("/q/sem", 1, mode);
      const semaphore = ffi.play(opening, open);
      ffi.play(steps, () => semaphore.close());
    });
  }
});
