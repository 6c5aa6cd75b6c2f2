/** How a segment is left: who removes what, and who waits for whom. The simulation asserts what is left in the end. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { ReleaseOptions } from "../../../backends/types.ts";
import * as fake from "../../fixtures/fake_system.ts";
import { assertFails, attached, created, script, setUp } from "../../fixtures/fake_system.ts";
import { PID } from "../../fixtures/fake_ffi.ts";

const { ALONE, HOLDER, REMOVE_ALL, REMOVE_LOCK, REMOVE_ONLY_LOCK, STATUS } = fake;
const { TRY_DOWN, UNLOCK, UNSHARE, WAIT_IN_VAIN } = fake;

const USED = STATUS("attached 1");
const UNUSED = STATUS("attached 0");
const CLOSE = script("close(3) = 0", "close(4) = 0");
/** Whoever finds the segment unused, and the file in use, leaves all to its user: so that is ended first, or with the lock. */
const LET_GO = UNSHARE(4);
const GONE = script("shmctl(9, IPC_STAT) = EINVAL", "shmget(0x51000001, 0, 0) = ENOENT");
const REMOVED = "shmctl(9, IPC_RMID) = 0";

const NOT_REPLACED = script(UNUSED, fake.NOT_THERE);

type Case = readonly [name: string, steps: string, options?: Partial<ReleaseOptions>];
const LEAVE: ReleaseOptions = { lockHeld: false, wait: true };
const AT_EXIT = { wait: false };

function testAll(setUpSegment: typeof setUpCreated, cases: readonly Case[]): void {
  for (const [name, steps, options] of cases) {
    test(name, () => {
      const { ffi, segment } = setUpSegment();
      ffi.play(steps, () => segment.release({ ...LEAVE, ...options }));
    });
  }
}

function setUpCreated() {
  const setup = setUp();
  return { ...setup, segment: created(setup) };
}

function setUpAttached() {
  const setup = setUp();
  return { ...setup, segment: attached(setup) };
}

describe("the maker of the lock", () => {
  /** Others rely on the key file for as long as they may take to let go of it. */
  const SHARED = script(
    ...Array(10).fill(`${ALONE(4)} = EAGAIN\npause(1 ms)`),
    `${ALONE(4)} = EAGAIN`,
  );
  const REMOVE_SHARED = script(`${TRY_DOWN} = 0`, UNUSED, REMOVED, SHARED, REMOVE_ONLY_LOCK);

  testAll(setUpCreated, [
    [
      "removes the lock's key file too if nobody else who stays relies on key files, as Qt",
      script(`${TRY_DOWN} = 0`, USED, `${ALONE(4)} = 0`, REMOVE_LOCK, USED, "close(4) = 0"),
    ],
    [
      "who is the last leaves the key files to those of other containers",
      script(REMOVE_SHARED, `${ALONE(4)} = EAGAIN`, LET_GO, "close(4) = 0"),
    ],
    [
      "who is the last removes the key files of those who let go of them and could not have the lock",
      script(
        ...[REMOVE_SHARED, `${ALONE(4)} = 0`, LET_GO, GONE, fake.MAKE_WITH_FILE(fake.NOT_THERE)],
        ...[GONE, "shmctl(9, IPC_RMID) = EINVAL", fake.REMOVE_FILE, REMOVE_LOCK, "close(4) = 0"],
      ),
    ],
    [
      "waits at exit only as long as others take to come and go, and leaves it to them",
      script(WAIT_IN_VAIN(10), UNSHARE(3), LET_GO, UNUSED, WAIT_IN_VAIN(10), NOT_REPLACED, CLOSE),
      AT_EXIT,
    ],
  ]);

  test("leaves a mapping, without memory to put over it, until nobody can know its address", () => {
    const { ffi, segment } = setUpCreated();
    const failing = fake.BURY.replace(/ = 0x7f0000000000$/, " = ENOMEM");
    ffi.play(failing, () => assert.equal(segment.unmap(), false));
    ffi.play("shmdt(0x7f0000000000) = 0", () => segment.free());
  });
});

describe("who has only attached", () => {
  // Both key files are kept open for the next time.
  testAll(setUpAttached, [
    [
      "and is not the last only releases a lock that it holds",
      script(USED, LET_GO, UNLOCK, USED),
      { lockHeld: true },
    ],
    [
      "leaves all at exit to who holds the lock, who removes it if nobody stays",
      script(LET_GO, UNUSED, WAIT_IN_VAIN(10), NOT_REPLACED),
      AT_EXIT,
    ],
    [
      "takes a lock at exit that gets free in the time others take to come and go",
      script(LET_GO, UNUSED, `${TRY_DOWN} = EAGAIN`, `${fake.DOWN(10)} = 0`, REMOVE_ALL),
      AT_EXIT,
    ],
    [
      "leaves all at exit to another thread of this process that holds the lock",
      script(LET_GO, UNUSED, WAIT_IN_VAIN(10, PID), NOT_REPLACED),
      AT_EXIT,
    ],
    [
      "takes at the end of the program a lock that this process holds for its own",
      script(LET_GO, UNUSED, WAIT_IN_VAIN(10, PID), HOLDER(PID), REMOVE_ALL),
      { wait: false, exiting: true },
    ],
    [
      "leaves another user's segment with its files, and only releases the lock",
      script(LET_GO, UNUSED, `${TRY_DOWN} = 0`, UNUSED, "shmctl(9, IPC_RMID) = EPERM", UNLOCK),
    ],
    [
      "leaves its lock to the last one of those who use it as a semaphore",
      script(
        ...[LET_GO, UNUSED, `${TRY_DOWN} = 0`],
        REMOVE_ALL.replace(
          REMOVE_LOCK,
          script(
            ...[`${ALONE(3)} = EAGAIN`, "fcntl(3, F_OFD_GETLK, F_WRLCK 81) = { type 0 }"],
            ...[fake.FOLDER, fake.SET_MARK(), UNLOCK, UNSHARE(3)],
          ),
        ),
      ),
    ],
  ]);

  test("leaves all to who holds the lock for more than five seconds without being attached", () => {
    const { ffi, segment } = setUpAttached();
    const look = script(UNUSED, fake.NOT_THERE);
    const steps = script(LET_GO, UNUSED, WAIT_IN_VAIN(10), fake.WAIT_FIVE_SECONDS(look));
    const leave = () => ffi.play(steps, () => segment.release(LEAVE));
    assertFails(leave, "LockError", undefined, undefined, /timed out.*held by process 77 /);
  });
});
