/** A wait for a lock or a semaphore on another thread, and what may happen to it meanwhile. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Lock } from "../../../backends/types.ts";
import { SystemSemaphoreMode } from "../../../mod.ts";
import { tryThenWait } from "../../fixtures/fake_background.ts";
import * as fake from "../../fixtures/fake_system.ts";
import { created, script, setUp } from "../../fixtures/fake_system.ts";

const { CLOSE_SEMAPHORE, DOWN, OPEN_LOCK, OPEN_NEW_SEMAPHORE, OPEN_SEMAPHORE, TRY_DOWN } = fake;
const { UNLOCK, WAIT_IN_VAIN } = fake;

const WAIT = `background ${DOWN(200)}`;
const BUSY = WAIT_IN_VAIN(0);
/** A wait, and the try that follows one in vain. */
async function wait(lock: Lock): Promise<boolean> {
  return await tryThenWait(lock) || lock.acquire(0);
}

const GIVE_BACK = "semop(7, [1 SEM_UNDO])";

describe("a lock is taken in the background", () => {
  function setUpLocked() {
    const setup = setUp();
    created(setup);
    return setup;
  }

  const cases: [name: string, steps: string, taken: boolean][] = [
    ["at once if it is free", `${TRY_DOWN} = 0`, true],
    ["on another thread, in one atomic call", script(BUSY, `${WAIT} = 0`), true],
    ["in slices: for who is to ask again", script(BUSY, `${WAIT} = EAGAIN`, BUSY), false],
    [
      "after a slice if it has become free since",
      script(BUSY, `${WAIT} = EAGAIN`, `${TRY_DOWN} = 0`),
      true,
    ],
    ["after EINTR as after a slice", script(BUSY, `${WAIT} = EINTR`, `${TRY_DOWN} = 0`), true],
    ...["EIDRM", "EINVAL"].map((errno): [string, string, boolean] => [
      `by making it again if it is removed (${errno})`,
      script(
        ...[BUSY, `${WAIT} = ${errno}`, `${TRY_DOWN} = EINVAL`, `${DOWN(0)} = EINVAL`],
        ...["close(3) = 0", fake.NEW_LOCK(fake.NOT_THERE)],
      ),
      true,
    ]),
    [
      "from somebody dead, after a second",
      script(
        BUSY.replace(/0$/, "ESRCH"),
        `${WAIT} = EAGAIN <1000 ms>`,
        BUSY.replace(/0$/, "ESRCH"),
        fake.CLAIMING(
          3,
          fake.NOT_BEING_CREATED,
          ...["semctl(7, 0, GETPID) = 77", "kill(77, 0) = ESRCH", "semctl(7, 0, GETPID) = 77"],
          `${fake.TAKE_OVER} = 0`,
        ),
      ),
      true,
    ],
  ];
  for (const [name, steps, taken] of cases) {
    test(name, async () => {
      const { ffi, lock } = setUpLocked();
      assert.equal(await ffi.play(steps, () => wait(lock)), taken);
    });
  }
});

describe("what was taken in the background is given back", () => {
  const { Open } = SystemSemaphoreMode;

  test("if the lock was closed meanwhile", async () => {
    const { ffi, lock } = setUp();
    ffi.play(script(OPEN_LOCK, `${DOWN(0)} = 0`), () => lock.acquire(0));
    // Its key file is kept open.
    const taken = ffi.play(script(BUSY, `${WAIT} = 0`, UNLOCK), () => {
      const waiting = tryThenWait(lock);
      lock.close();
      return waiting;
    });
    assert.equal(await taken, false);
  });

  test("not if a peer reset the lock meanwhile, which is free then", async () => {
    const { ffi, lock } = setUp();
    ffi.play(script(OPEN_LOCK, `${DOWN(0)} = 0`), () => lock.acquire(0));
    const steps = script(BUSY, `${WAIT} = 0`, UNLOCK.replace(/0$/, "EAGAIN"));
    const taken = ffi.play(steps, () => {
      const waiting = tryThenWait(lock);
      lock.close();
      return waiting;
    });
    assert.equal(await taken, false);
  });

  test("if the semaphore was closed meanwhile", async () => {
    const { ffi, backend } = setUp();
    const semaphore = ffi.play(OPEN_SEMAPHORE(), () => backend.semaphores.open("/q/sem", 1, Open));
    const steps = `
      semop(7, [-1 SEM_UNDO|IPC_NOWAIT]) = EAGAIN
      semtimedop(7, [-1 SEM_UNDO], 0 ms) = EAGAIN
      semctl(7, 0, GETPID) = 77
      background semtimedop(7, [-1 SEM_UNDO], 200 ms) = 0
      ${CLOSE_SEMAPHORE}
      ${GIVE_BACK} = 0`;
    const taken = ffi.play(steps, () => {
      const waiting = tryThenWait(semaphore);
      semaphore.close();
      return waiting;
    });
    assert.equal(await taken, false);
  });

  for (const errno of ["0", "EIDRM"]) {
    test(`to the old one (${errno}) if another one was made meanwhile`, async () => {
      const { ffi, backend } = setUp();
      const semaphore = ffi.play(
        OPEN_SEMAPHORE(),
        () => backend.semaphores.open("/q/sem", 1, Open),
      );
      const steps = `
        semop(7, [-1 SEM_UNDO|IPC_NOWAIT]) = EAGAIN
        semtimedop(7, [-1 SEM_UNDO], 0 ms) = EAGAIN
        semctl(7, 0, GETPID) = 77
        background semtimedop(7, [-1 SEM_UNDO], 200 ms) = 0
        semtimedop(7, [1 SEM_UNDO], 1000 ms) = EIDRM
        close(3) = 0
        ${OPEN_NEW_SEMAPHORE(1).replace(" = 7", " = 8").replaceAll("semctl(7", "semctl(8")}
        semtimedop(8, [1 SEM_UNDO], 1000 ms) = 0
        ${GIVE_BACK} = ${errno}`;
      const taken = ffi.play(steps, () => {
        const waiting = tryThenWait(semaphore);
        semaphore.release();
        return waiting;
      });
      assert.equal(await taken, false);
    });
  }

  test("not if nothing was taken", async () => {
    const { ffi, lock } = setUp();
    ffi.play(script(OPEN_LOCK, `${DOWN(0)} = 0`), () => lock.acquire(0));
    const taken = ffi.play(script(BUSY, `${WAIT} = EAGAIN`), () => {
      const waiting = tryThenWait(lock);
      lock.close();
      return waiting;
    });
    assert.equal(await taken, false);
  });
});
