/** How a segment is left: who removes what, and who waits for whom. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fake from "../../fixtures/fake_system.ts";
import { assertFails, attached, created, script, setUp } from "../../fixtures/fake_system.ts";
import { PID } from "../../fixtures/fake_ffi.ts";

const { ALONE, HOLDER, REMOVE_ALL, REMOVE_LOCK, REMOVE_ONLY_LOCK, SEG_PATH, STATUS } = fake;
const { TRY_DOWN, UNLOCK, UNSHARE, WAIT_IN_VAIN } = fake;

const USED = STATUS("attached 1");
const UNUSED = STATUS("attached 0");
/** Who cannot have the lock looks whether it is that of another segment by now, which has replaced this one. */
const NOT_REPLACED = script(UNUSED, fake.NOT_THERE);
const CLOSE = script("close(3) = 0", "close(4) = 0");
/** Whoever finds the segment unused, and the file in use, leaves all to its user: so that is ended first, or with the lock. */
const LET_GO = UNSHARE(4);

describe("the maker of the lock", () => {
  function setUpCreated() {
    const setup = setUp();
    return { ...setup, segment: created(setup) };
  }

  test("who is not the last leaves the segment, and removes a free lock", () => {
    const { ffi, segment } = setUpCreated();
    ffi.play(fake.BURY, () => assert.equal(segment.unmap(), true));
    const steps = script(
      ...[`${TRY_DOWN} = 0`, USED, `${ALONE(4)} = EAGAIN`, LET_GO, REMOVE_ONLY_LOCK, USED],
      ...["close(4) = 0"],
    );
    ffi.play(steps, () => segment.release({ lockHeld: false, wait: true }));
    ffi.play("munmap(0x7f0000000000, 4096) = 0", () => segment.free());
  });

  test("removes the lock's key file too if nobody else who stays relies on key files, as Qt", () => {
    const { ffi, segment } = setUpCreated();
    const steps = script(
      ...[`${TRY_DOWN} = 0`, USED, `${ALONE(4)} = 0`, REMOVE_LOCK, USED],
      ...["close(4) = 0"],
    );
    ffi.play(steps, () => segment.release({ lockHeld: false, wait: true }));
  });

  test("who is the last removes segment and lock also without the key file", () => {
    const { ffi, segment } = setUpCreated();
    const steps = script(
      ...[`${TRY_DOWN} = 0`, UNUSED, "shmctl(9, IPC_RMID) = 0"],
      ...[`${ALONE(4)} = 0`, fake.NOT_THERE, REMOVE_LOCK, "close(4) = 0"],
    );
    ffi.play(steps, () => segment.release({ lockHeld: false, wait: true }));
  });

  test("who is the last removes all of it with the lock that it holds already", () => {
    const { ffi, segment } = setUpCreated();
    ffi.play(REMOVE_ALL, () => segment.release({ lockHeld: true, wait: false }));
  });

  test("removes all, with a lock made again, if the others leave while it gives it up", () => {
    const { ffi, segment } = setUpCreated();
    const steps = script(
      ...[`${TRY_DOWN} = 0`, USED, `${ALONE(4)} = EAGAIN`, LET_GO, REMOVE_ONLY_LOCK],
      ...[UNUSED, UNUSED, fake.MAKE_WITH_FILE(fake.LOOK("attached 0")), REMOVE_ALL],
    );
    ffi.play(steps, () => segment.release({ lockHeld: false, wait: true }));
  });

  /** Others rely on the key file for as long as they may take to let go of it. */
  const SHARED = script(
    ...Array(10).fill(`${ALONE(4)} = EAGAIN\npause(1 ms)`),
    `${ALONE(4)} = EAGAIN`,
  );
  const REMOVE_SHARED = script(
    ...[`${TRY_DOWN} = 0`, UNUSED, "shmctl(9, IPC_RMID) = 0", SHARED, REMOVE_ONLY_LOCK],
  );

  test("who is the last leaves the key files to those of other containers", () => {
    const { ffi, segment } = setUpCreated();
    const steps = script(REMOVE_SHARED, `${ALONE(4)} = EAGAIN`, LET_GO, "close(4) = 0");
    ffi.play(steps, () => segment.release({ lockHeld: false, wait: true }));
  });

  test("who is the last removes the key files of those who let go of them and could not have the lock", () => {
    const { ffi, segment } = setUpCreated();
    const gone = script("shmctl(9, IPC_STAT) = EINVAL", "shmget(0x51000001, 0, 0) = ENOENT");
    const steps = script(
      ...[REMOVE_SHARED, `${ALONE(4)} = 0`, LET_GO, gone, fake.MAKE_WITH_FILE(fake.NOT_THERE)],
      ...[gone, "shmctl(9, IPC_RMID) = EINVAL", fake.REMOVE_FILE, REMOVE_LOCK, "close(4) = 0"],
    );
    ffi.play(steps, () => segment.release({ lockHeld: false, wait: true }));
  });

  test("who is the last leaves the file, and so the lock, to a later segment of the key", () => {
    const { ffi, segment } = setUpCreated();
    const another = SEG_PATH.replace("1", "3");
    const steps = script(
      ...[`${TRY_DOWN} = 0`, UNUSED, "shmctl(9, IPC_RMID) = 0", `${ALONE(4)} = 0`],
      ...[another, another, "shmget(0x51000003, 0, 0) = 10", UNLOCK, CLOSE],
    );
    ffi.play(steps, () => segment.release({ lockHeld: false, wait: true }));
  });

  test("waits at exit only as long as others take to come and go, and leaves it to them", () => {
    const { ffi, segment } = setUpCreated();
    const steps = script(
      ...[WAIT_IN_VAIN(0), UNSHARE(3), LET_GO, UNUSED, WAIT_IN_VAIN(10), NOT_REPLACED, CLOSE],
    );
    ffi.play(steps, () => segment.release({ lockHeld: false, wait: false }));
  });

  test("leaves a mapping, without memory to put over it, until nobody can know its address", () => {
    const { ffi, segment } = setUpCreated();
    const failing = fake.BURY.replace(/ = 0x7f0000000000$/, " = ENOMEM");
    ffi.play(failing, () => assert.equal(segment.unmap(), false));
    ffi.play("shmdt(0x7f0000000000) = 0", () => segment.free());
  });
});

describe("who has only attached", () => {
  function setUpAttached() {
    const setup = setUp();
    return { ...setup, segment: attached(setup) };
  }

  // Both key files are kept open for the next time.
  test("and is not the last does not ask for the lock", () => {
    const { ffi, segment } = setUpAttached();
    ffi.play(script(LET_GO, USED), () => segment.release({ lockHeld: false, wait: true }));
  });

  test("and is not the last only releases a lock that it holds", () => {
    const { ffi, segment } = setUpAttached();
    ffi.play(
      script(USED, LET_GO, UNLOCK, USED),
      () => segment.release({ lockHeld: true, wait: true }),
    );
  });

  test("and holds the lock removes all if the others, who could not have it, leave", () => {
    const { ffi, segment } = setUpAttached();
    const steps = script(USED, LET_GO, UNLOCK, UNUSED, UNUSED, `${TRY_DOWN} = 0`, REMOVE_ALL);
    ffi.play(steps, () => segment.release({ lockHeld: true, wait: false }));
  });

  test("takes a lock at exit that gets free in the time others take to come and go", () => {
    const { ffi, segment } = setUpAttached();
    const steps = script(
      LET_GO,
      UNUSED,
      `${TRY_DOWN} = EAGAIN`,
      `${fake.DOWN(10)} = 0`,
      REMOVE_ALL,
    );
    ffi.play(steps, () => segment.release({ lockHeld: false, wait: false }));
  });

  test("leaves all at exit to another thread of this process that holds the lock", () => {
    const { ffi, segment } = setUpAttached();
    const steps = script(LET_GO, UNUSED, WAIT_IN_VAIN(10, PID), NOT_REPLACED);
    ffi.play(steps, () => segment.release({ lockHeld: false, wait: false }));
  });

  test("takes at the end of the program a lock that this process holds for its own", () => {
    const { ffi, segment } = setUpAttached();
    const steps = script(LET_GO, UNUSED, WAIT_IN_VAIN(10, PID), HOLDER(PID), REMOVE_ALL);
    ffi.play(steps, () => segment.release({ lockHeld: false, wait: false, exiting: true }));
  });

  test("is told apart from a segment that was removed meanwhile", () => {
    const { ffi, segment } = setUpAttached();
    const gone = "shmctl(9, IPC_STAT) = EINVAL\nshmget(0x51000001, 0, 0) = ENOENT";
    const rest = REMOVE_ALL.replace(/^.*/, gone)
      .replace("shmctl(9, IPC_RMID) = 0", "shmctl(9, IPC_RMID) = EINVAL");
    const steps = script(LET_GO, gone, `${TRY_DOWN} = 0`, rest);
    ffi.play(steps, () => segment.release({ lockHeld: false, wait: true }));
  });

  test("leaves another user's segment with its files, and only releases the lock", () => {
    const { ffi, segment } = setUpAttached();
    const steps = script(
      LET_GO,
      UNUSED,
      `${TRY_DOWN} = 0`,
      UNUSED,
      "shmctl(9, IPC_RMID) = EPERM",
      UNLOCK,
    );
    ffi.play(steps, () => segment.release({ lockHeld: false, wait: true }));
  });

  test("leaves its lock to the last one of those who use it as a semaphore", () => {
    const { ffi, segment } = setUpAttached();
    const rest = script(
      ...[`${ALONE(3)} = EAGAIN`, "fcntl(3, F_OFD_GETLK, F_WRLCK 81) = { type 0 }"],
      ...[fake.FOLDER, fake.SET_MARK(), UNLOCK, UNSHARE(3)],
    );
    const steps = script(LET_GO, UNUSED, `${TRY_DOWN} = 0`, REMOVE_ALL.replace(REMOVE_LOCK, rest));
    ffi.play(steps, () => segment.release({ lockHeld: false, wait: true }));
  });

  test("leaves all to who holds the lock for more than five seconds without being attached", () => {
    const { ffi, segment } = setUpAttached();
    const look = script(UNUSED, fake.NOT_THERE);
    const steps = script(LET_GO, UNUSED, WAIT_IN_VAIN(10), fake.WAIT_FIVE_SECONDS(look));
    const text = /timed out.*held by process 77 /;
    assertFails(
      () => ffi.play(steps, () => segment.release({ lockHeld: false, wait: true })),
      "LockError",
      undefined,
      undefined,
      text,
    );
  });
});
