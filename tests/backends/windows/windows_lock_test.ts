/** What the Windows backend asks of the system for locks and semaphores, on a made-up one. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import type { Lock, Semaphore } from "../../../backends/types.ts";
import { tryThenWait } from "../../fixtures/fake_background.ts";
import * as fake from "../../fixtures/fake_windows.ts";
import {
  assertFails,
  locked,
  opened,
  script,
  setUp,
  takeBoth,
} from "../../fixtures/fake_windows.ts";

const { CLOSE_LOCK, FOREIGN, HELD, OPEN_LOCK, UNLOCK } = fake;
const TIMEOUT = (ms: number) => takeBoth(ms, "WAIT_TIMEOUT");
/** The looks at the mutex, at Qt's semaphore and at the one of pending calls. */
const MUTEX = "WaitForSingleObject(4, 0 ms)";
const VALUE = "WaitForSingleObject(3, 0 ms)";
const PENDING = "WaitForSingleObject(5, 0 ms)";
/** The value of the semaphore of pending calls is made 1, or is that already. */
const NOT_PENDING = ["ReleaseSemaphore(5, 1) = 0", "ReleaseSemaphore(5, 1) = FALSE"] as const;

describe("a lock of Windows", () => {
  test("is Qt's semaphore and a mutex of ours, taken in one call", () => {
    const { ffi, lock } = setUp();
    assert.equal(ffi.play(script(OPEN_LOCK, takeBoth(500)), () => lock.acquire()), true);
    assert.deepEqual([lock.isHeldHere(), lock.holder!()], [true, process.pid]);
    ffi.play(UNLOCK, () => lock.release());
    assert.deepEqual([lock.isHeldHere(), lock.holder!()], [false, null]);
    lock.release(); // held no more: nothing is added
    ffi.play(CLOSE_LOCK, () => lock.close());
    lock.close();
  });

  test("is released when it is closed", () => {
    const { ffi, lock } = locked(setUp());
    ffi.play(script(UNLOCK, CLOSE_LOCK), () => lock.close());
  });

  test("is waited for in slices, for ever or until the timeout is over", () => {
    const { ffi, lock } = opened(setUp());
    const busy = (ms: number) => script(TIMEOUT(ms), HELD);
    const forever = script(busy(500), busy(500), busy(500), takeBoth(500));
    assert.equal(ffi.play(forever, () => lock.acquire()), true);
    ffi.play(UNLOCK, () => lock.release());
    const late = script(busy(500), busy(500), busy(200));
    assert.equal(ffi.play(late, () => lock.acquire(1199.5)), false);
    assert.equal(ffi.play(busy(0), () => lock.acquire(0)), false);
  });

  test("that fails to wait says so", () => {
    const { ffi, lock } = opened(setUp());
    const steps = `${takeBoth(500, "WAIT_FAILED")} ERROR_INVALID_HANDLE`;
    const acquiring = () => ffi.play(steps, () => lock.acquire());
    assertFails(acquiring, "KeyError", "WaitForMultipleObjects", 6);
  });

  const deaths: readonly [string, string][] = [
    [
      "with the lock",
      script(TIMEOUT(500), `${MUTEX} = WAIT_ABANDONED`, `${VALUE} = WAIT_TIMEOUT`, NOT_PENDING[1]),
    ],
    [
      "between taking it in the background and owning it",
      script(
        ...[TIMEOUT(500), `${MUTEX} = WAIT_ABANDONED`, `${VALUE} = WAIT_TIMEOUT`, NOT_PENDING[0]],
      ),
    ],
    ["while it released it", takeBoth(500, "WAIT_ABANDONED")],
    [
      "while it released it, just now",
      script(TIMEOUT(500), `${MUTEX} = WAIT_ABANDONED`, `${VALUE} = WAIT_OBJECT_0`),
    ],
  ];
  for (const [when, steps] of deaths) {
    test(`is taken over from a process that died ${when}`, () => {
      const { ffi, lock } = opened(setUp());
      assert.equal(ffi.play(steps, () => lock.acquire()), true);
      ffi.play(UNLOCK, () => lock.release());
    });
  }

  test("is found dead by a mere try, too", () => {
    const { ffi, lock } = opened(setUp());
    const steps = script(
      TIMEOUT(0),
      `${MUTEX} = WAIT_ABANDONED`,
      `${VALUE} = WAIT_TIMEOUT`,
      NOT_PENDING[1],
    );
    assert.equal(ffi.play(steps, () => lock.acquire(0)), true);
  });

  test("that a Qt program holds is left to it", () => {
    const { ffi, lock } = opened(setUp());
    const busy = (ms: number) => script(TIMEOUT(ms), FOREIGN);
    const steps = script(...Array(20).fill(busy(500)));
    assert.equal(ffi.play(steps, () => lock.acquire(10_000)), false);
  });

  test("that comes free during the look is taken by it", () => {
    const { ffi, lock } = opened(setUp());
    const steps = script(TIMEOUT(0), `${MUTEX} = WAIT_OBJECT_0`, `${VALUE} = WAIT_OBJECT_0`);
    assert.equal(ffi.play(steps, () => lock.acquire(0)), true);
  });

  test("that another thread took for a process which was killed then is taken over after 1 s", () => {
    const { ffi, lock } = opened(setUp());
    const look = script(
      `${MUTEX} = WAIT_OBJECT_0`,
      `${VALUE} = WAIT_TIMEOUT`,
      `${PENDING} = WAIT_TIMEOUT`,
    );
    const notYet = script(TIMEOUT(500), look, "ReleaseMutex(4)");
    const steps = script(notYet, notYet, TIMEOUT(500), look, NOT_PENDING[0]);
    assert.equal(ffi.play(steps, () => lock.acquire()), true);
  });

  test("that was about to be taken so and comes free is no reason to take over the next", () => {
    const { ffi, lock } = opened(setUp());
    const look = script(
      `${MUTEX} = WAIT_OBJECT_0`,
      `${VALUE} = WAIT_TIMEOUT`,
      `${PENDING} = WAIT_TIMEOUT`,
    );
    const pending = script(TIMEOUT(500), look, "ReleaseMutex(4)");
    const steps = [HELD, FOREIGN].map((between) => script(pending, pending, TIMEOUT(500), between));
    const end = script(pending, pending);
    assert.equal(ffi.play(script(...steps, end), () => lock.acquire(4000)), false);
  });

  test("whose value a peer has raised is put right by whoever releases it", () => {
    const { ffi, lock } = locked(setUp());
    const steps = script(
      ...["ReleaseSemaphore(3, 1) = 2", `${VALUE} = WAIT_OBJECT_0`, `${VALUE} = WAIT_OBJECT_0`],
      "ReleaseMutex(4)",
    );
    ffi.play(steps, () => lock.release());
    ffi.play(takeBoth(500), () => lock.acquire());
    const full = [
      "ReleaseSemaphore(3, 1) = FALSE",
      ...Array(1000).fill(`${VALUE} = WAIT_OBJECT_0`),
    ];
    ffi.play(script(...full, "ReleaseMutex(4)"), () => lock.release());
  });

  test("whose value a peer has raised is not given to a second object of the thread", () => {
    const setup = locked(setUp());
    const other = fake.anotherLock(setup);
    // To its owner a mutex is open. What was taken too much is not given back.
    const steps = script(OPEN_LOCK, takeBoth(20), "ReleaseMutex(4)", TIMEOUT(20)); // and no look
    assert.equal(setup.ffi.play(steps, () => other.acquire(20)), false);
    assert.equal(other.isHeldHere(), true);
    setup.ffi.play(UNLOCK, () => setup.lock.release());
    assert.equal(setup.ffi.play(takeBoth(20), () => other.acquire(20)), true);
  });

  test("goes by its name, with or without Local\\", () => {
    const { backend } = setUp();
    const [plain, local, global] = ["sem", "Local\\sem", "Global\\sem"].map((name) =>
      backend.semaphores.lock(name).identity
    );
    assert.equal(plain, local);
    assert.notEqual(plain, global);
  });
});

/** A wait, and the try that follows one in vain. */
async function wait(lock: Lock): Promise<boolean> {
  return await tryThenWait(lock) || lock.acquire(0);
}

const inBackground = (result: string) =>
  `background WaitForMultipleObjects([3, 5], ALL, 200 ms) = ${result}`;
const BUSY = script(TIMEOUT(0), HELD);
const OWN = "WaitForSingleObject(4, 100 ms)";

describe("a lock of Windows is taken in the background", () => {
  const CONFIRMED = script(`${OWN} = WAIT_OBJECT_0`, `${PENDING} = WAIT_TIMEOUT`, NOT_PENDING[0]);
  const cases: readonly [name: string, steps: string, taken: boolean][] = [
    ["at once if it is free", takeBoth(0), true],
    [
      "by another thread, and then owned",
      script(BUSY, inBackground("WAIT_OBJECT_0"), CONFIRMED),
      true,
    ],
    ["in slices: for who is to ask again", script(BUSY, inBackground("WAIT_TIMEOUT"), BUSY), false],
    [
      "after a slice if it has become free",
      script(BUSY, inBackground("WAIT_TIMEOUT"), takeBoth(0)),
      true,
    ],
    [
      "unless this thread was so slow that another process has taken it over and still has it",
      script(
        BUSY,
        inBackground("WAIT_OBJECT_0"),
        `${OWN} = WAIT_TIMEOUT`,
        `${PENDING} = WAIT_OBJECT_0`,
        NOT_PENDING[0],
        BUSY,
      ),
      false,
    ],
    [
      "unless this thread was so slow that another process has taken it over and released it",
      script(
        ...[BUSY, inBackground("WAIT_OBJECT_0"), `${OWN} = WAIT_OBJECT_0`],
        ...[`${PENDING} = WAIT_OBJECT_0`, NOT_PENDING[0], "ReleaseMutex(4)", BUSY],
      ),
      false,
    ],
    [
      "and given back if one of us holds it, whose value a peer has raised",
      script(
        ...[BUSY, inBackground("WAIT_OBJECT_0"), `${OWN} = WAIT_TIMEOUT`],
        ...[`${PENDING} = WAIT_TIMEOUT`, NOT_PENDING[0], "ReleaseSemaphore(3, 1) = 0", BUSY],
      ),
      false,
    ],
  ];
  for (const [name, steps, taken] of cases) {
    test(name, async () => {
      const { ffi, lock } = opened(setUp());
      assert.equal(await ffi.play(steps, () => wait(lock)), taken);
      assert.equal(lock.isHeldHere(), taken);
    });
  }

  test("and given back if it was closed meanwhile, whose handles stay open so long", async () => {
    const { ffi, lock } = opened(setUp());
    const steps = script(BUSY, inBackground("WAIT_OBJECT_0"), CONFIRMED, UNLOCK, CLOSE_LOCK);
    const taken = ffi.play(steps, () => {
      const waiting = tryThenWait(lock);
      lock.close();
      return waiting;
    });
    assert.equal(await taken, false);
    assert.equal(lock.isHeldHere(), false);
  });

  test("and not given back if nothing was taken until it was closed", async () => {
    const { ffi, lock } = opened(setUp());
    const taken = ffi.play(script(BUSY, inBackground("WAIT_TIMEOUT"), CLOSE_LOCK), () => {
      const waiting = tryThenWait(lock);
      lock.close();
      return waiting;
    });
    assert.equal(await taken, false);
  });

  test("and not taken from another object of this thread that got it meanwhile", async () => {
    const setup = opened(setUp());
    const { ffi, lock } = setup;
    const other = fake.anotherLock(setup);
    ffi.play(script(OPEN_LOCK, BUSY), () => other.acquire(0));
    const steps = script(
      ...[BUSY, inBackground("WAIT_OBJECT_0"), takeBoth(500)],
      ...[`${PENDING} = WAIT_TIMEOUT`, NOT_PENDING[0], TIMEOUT(0)],
    );
    const taken = ffi.play(steps, () => {
      const waiting = wait(lock);
      other.acquire();
      return waiting;
    });
    assert.equal(await taken, false);
    assert.equal(lock.isHeldHere(), true);
  });
});

describe("a semaphore of Windows", () => {
  const WAIT = (ms: number, result: string) => `WaitForSingleObject(6, ${ms} ms) = ${result}`;
  const BACKGROUND = "background WaitForSingleObject(6, 200 ms)";

  function openSemaphore(): { ffi: fake.Setup["ffi"]; semaphore: Semaphore } {
    const { ffi, backend } = setUp();
    const steps = 'CreateSemaphoreW(5, MAXLONG, "s") = 6 ERROR_ALREADY_EXISTS';
    return { ffi, semaphore: ffi.play(steps, () => backend.semaphores.open("s", 5, 1)) };
  }

  test("is opened or made, in either mode, and closed once", () => {
    const { ffi, semaphore } = openSemaphore();
    ffi.play("CloseHandle(6)", () => semaphore.close());
    semaphore.close();
  });

  test("is taken in slices", () => {
    const { ffi, semaphore } = openSemaphore();
    const steps = script(WAIT(1000, "WAIT_TIMEOUT"), WAIT(1000, "WAIT_OBJECT_0"));
    assert.equal(ffi.play(steps, () => semaphore.acquire()), true);
    const late = script(WAIT(1000, "WAIT_TIMEOUT"), WAIT(500, "WAIT_TIMEOUT"));
    assert.equal(ffi.play(late, () => semaphore.acquire(1500)), false);
  });

  test("is released by any number, up to its maximum", () => {
    const { ffi, semaphore } = openSemaphore();
    ffi.play("ReleaseSemaphore(6, 3) = 7", () => semaphore.release(3));
    const full = "ReleaseSemaphore(6, 1) = FALSE ERROR_TOO_MANY_POSTS";
    const releasing = () => ffi.play(full, () => semaphore.release());
    assertFails(releasing, "OutOfResources", "ReleaseSemaphore", 298, /maximum of 2147483647/);
  });

  test("that belongs to something else, or to somebody else, says so", () => {
    const { ffi, backend } = setUp();
    for (
      const [error, code, number] of [
        ["ERROR_INVALID_HANDLE", "KeyError", 6],
        ["ERROR_ACCESS_DENIED", "PermissionDenied", 5],
      ] as const
    ) {
      const steps = `CreateSemaphoreW(1, MAXLONG, "s") = NULL ${error}`;
      const opening = () => ffi.play(steps, () => backend.semaphores.open("s", 1, 0));
      assertFails(opening, code, "CreateSemaphoreW", number, /use another key/);
    }
  });

  for (const [taken, then] of [[true, ["ReleaseSemaphore(6, 1) = 0"]], [false, []]] as const) {
    test(`gives back what it ${taken ? "took" : "did not take"} after it was closed`, async () => {
      const { ffi, semaphore } = openSemaphore();
      const result = taken ? "WAIT_OBJECT_0" : "WAIT_TIMEOUT";
      const steps = script(
        WAIT(0, "WAIT_TIMEOUT"),
        `${BACKGROUND} = ${result}`,
        ...then,
        "CloseHandle(6)",
      );
      const waiting = ffi.play(steps, () => {
        const acquired = tryThenWait(semaphore);
        semaphore.close();
        return acquired;
      });
      assert.equal(await waiting, false);
    });
  }

  test("is taken in the background", async () => {
    const { ffi, semaphore } = openSemaphore();
    const steps = script(WAIT(0, "WAIT_TIMEOUT"), `${BACKGROUND} = WAIT_OBJECT_0`);
    assert.equal(await ffi.play(steps, () => tryThenWait(semaphore)), true);
    const late = steps.replace("200 ms) = WAIT_OBJECT_0", "200 ms) = WAIT_TIMEOUT");
    assert.equal(await ffi.play(late, () => tryThenWait(semaphore)), false);
  });
});
