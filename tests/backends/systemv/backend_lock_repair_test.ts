/** What becomes of a lock whose value peers or crashes have wrecked. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { FIRST_PID_NAMESPACE, PID } from "../../fixtures/fake_ffi.ts";
import * as fake from "../../fixtures/fake_system.ts";
import { created, script, setUp } from "../../fixtures/fake_system.ts";

const { BUSY_CLAIM, CLAIMING, DOWN, HOLDER, SEM_CURRENT, SETTLE, TAKE_OVER, TRY_DOWN, UNLOCK } =
  fake;

const VALUE = (value: number | string) => `semctl(7, 0, GETVAL) = ${value}`;
const LAST = (pid: number) => `semctl(7, 0, GETPID) = ${pid}`;
const ALIVE = (pid: number) => `${LAST(pid)}\nkill(${pid}, 0) = 0`;
const DEAD = (pid: number) => `${LAST(pid)}\nkill(${pid}, 0) = ESRCH`;
/** It may be of another pid namespace, or there was none since the lock was made. */
const NOBODY = (otime: number) => `${LAST(0)}\nsemctl(7, 0, IPC_STAT) = { otime ${otime} }`;
/** A try, and who has the lock at that time. */
const TRY = (who: string) => script(`${TRY_DOWN} = EAGAIN`, `${DOWN(0)} = EAGAIN`, VALUE(0), who);
/** No other process takes it over at that moment. */
const GUARDED = (...steps: string[]) => CLAIMING(3, fake.NOT_BEING_CREATED, ...steps);
/** It is not this process that took it, as another program. */
const OTHERS = (who: string) => who.split("\n")[0]!;

function setUpLocked() {
  const setup = setUp();
  created(setup);
  const { ffi, lock } = setup;
  const tries = (steps: string, taken: boolean) =>
    ffi.play(steps, () => assert.equal(lock.acquire(0), taken));
  /** Some time later. */
  const later = (ms: number, steps: string, taken: boolean) =>
    tries(steps.replace("EAGAIN", `EAGAIN <${ms} ms>`), taken);
  return { ffi, lock, tries, later };
}

describe("a lock whose value is above 1, which lets two in", () => {
  // The kernel says so at once: the second step, that it be 0 then, does not wait.
  const REFUSED = `${DOWN(1000)} = EAGAIN <0 ms>`;

  test("is left to a process that was faster", () => {
    const { ffi, lock } = setUpLocked();
    const steps = script(
      ...[`${TRY_DOWN} = EAGAIN`, REFUSED, VALUE(2), SEM_CURRENT],
      SETTLE(2).replace(/0\n[^]*/, "EAGAIN"),
      ...[`${DOWN(1000)} = EAGAIN`, HOLDER(), `${DOWN(500)} = 0`],
    );
    ffi.play(steps, () => assert.equal(lock.acquire(1500), true));
  });

  test("is made again if it is removed before it is looked at", () => {
    const steps = `
      ${TRY_DOWN} = EAGAIN
      ${DOWN(0)} = EAGAIN
      ${VALUE("EIDRM")}
      ${DOWN(0)} = EINVAL
      close(3) = 0
      ${fake.NEW_LOCK(fake.NOT_THERE)}`;
    setUpLocked().tries(steps, true);
  });
});

describe("a lock that a peer reset while it was held here", () => {
  const RESET = UNLOCK.replace(/0$/, "EAGAIN");
  const cases: [name: string, steps: string][] = [
    ["is taken again, and released with nothing left to undo", SETTLE(1)],
    ["is left to a process that has taken it since", SETTLE(1).replace(/0\n[^]*/, "EAGAIN")],
  ];
  for (const [name, steps] of cases) {
    test(name, () => {
      const { ffi, lock } = setUpLocked();
      ffi.play(script(RESET, VALUE(1), steps), () => lock.release());
    });
  }

  test("is not set by who finds it taken again", () => {
    const { ffi, lock } = setUpLocked();
    ffi.play(script(RESET, VALUE(0)), () => lock.release());
  });
});

describe("a lock that is taken, though whoever took it last is dead", () => {
  const TAKEN = (who: string) => script(TRY(who), GUARDED(who, OTHERS(who), `${TAKE_OVER} = 0`));

  test("is taken over after a second, and not before, by one who tries again and again", () => {
    const { tries, later } = setUpLocked();
    tries(TRY(DEAD(77)), false);
    later(999, TRY(DEAD(77)), false);
    later(1, TAKEN(DEAD(77)), true);
  });

  test("is taken over so too although signals interrupt each wait before its time is over", () => {
    const { ffi, lock } = setUpLocked();
    const interrupted = (...waits: [ms: number, taken: number][]) =>
      waits.map(([ms, taken]) => `${DOWN(ms)} = EINTR <${taken} ms>`);
    const look = [`${DOWN(0)} = EAGAIN`, VALUE(0), DEAD(77)];
    const steps = script(
      ...[`${TRY_DOWN} = EAGAIN`, ...interrupted([1000, 600], [400, 300], [100, 2500]), ...look],
      ...[...interrupted([1000, 900], [100, 100]), ...look],
      GUARDED(DEAD(77), LAST(77), `${TAKE_OVER} = 0`),
    );
    ffi.play(steps, () => assert.equal(lock.acquire(), true));
  });

  /** The process has ended but is there; what the kernel says of it as proc(5) has it. */
  const stat = (state: string, threads: number) =>
    `77 (a) S b) ${state}${" 0".repeat(16)} ${threads} 0 0\n`;

  test("is taken over so too if that is a zombie, which kill() finds", () => {
    const { ffi, tries, later } = setUpLocked();
    ffi.files.set("/proc/77/task/77/stat", stat("Z", 1));
    tries(TRY(ALIVE(77)), false);
    later(1000, TAKEN(ALIVE(77)), true);
  });

  test("is not taken over if a zombie has that pid in the /proc of another pid namespace", () => {
    const { ffi, tries, later } = setUpLocked();
    ffi.files.set("/proc/self/stat", stat("R", 1).replace("77", `${PID + 1}`));
    ffi.files.set("/proc/77/task/77/stat", stat("Z", 1));
    tries(TRY(ALIVE(77)), false);
    later(5000, TRY(ALIVE(77)), false);
  });

  for (
    const [name, state, threads] of [
      ["that process runs", "R", 1],
      ["other threads than the first of that process run", "Z", 2],
    ] as const
  ) {
    test(`is not taken over while ${name}`, () => {
      const { ffi, tries, later } = setUpLocked();
      ffi.files.set("/proc/77/task/77/stat", stat(state, threads));
      tries(TRY(ALIVE(77)), false);
      later(5000, TRY(ALIVE(77)), false);
    });
  }

  test("is taken over so too if nobody ever took it: its maker was killed", () => {
    const { tries, later } = setUpLocked();
    tries(TRY(NOBODY(0)), false);
    later(999, TRY(NOBODY(0)), false);
    later(1, TAKEN(NOBODY(0)), true);
  });

  test("is taken over so too if only somebody who waited for it has left a time of use", () => {
    const { ffi, tries, later } = setUpLocked();
    ffi.pidNamespace = FIRST_PID_NAMESPACE;
    tries(TRY(NOBODY(5)), false);
    later(1000, TAKEN(NOBODY(5)), true);
  });

  test("is taken over only by the one who claims that", () => {
    const { tries, later } = setUpLocked();
    tries(TRY(DEAD(77)), false);
    later(1000, script(TRY(DEAD(77)), BUSY_CLAIM(3)), false);
  });

  test("is not taken over if another one has done so before that", () => {
    const { tries, later } = setUpLocked();
    tries(TRY(DEAD(77)), false);
    later(1000, script(TRY(DEAD(77)), GUARDED(ALIVE(78))), false);
  });

  test("is not taken over if it is released at that moment", () => {
    const { tries, later } = setUpLocked();
    tries(TRY(DEAD(77)), false);
    later(1000, script(TRY(DEAD(77)), GUARDED(DEAD(77), LAST(77), `${TAKE_OVER} = EAGAIN`)), false);
  });

  test("is not taken over while that process lives, also if it is another user's", () => {
    const { tries, later } = setUpLocked();
    tries(TRY(ALIVE(77)), false);
    later(5000, TRY(ALIVE(77)), false);
    later(5000, TRY(ALIVE(77).replace(/0$/, "EPERM")), false);
  });

  test("is not taken over while processes use it, though each is dead by then", () => {
    const { tries, later } = setUpLocked();
    tries(TRY(DEAD(77)), false);
    later(600, TRY(DEAD(78)), false);
    later(600, TRY(DEAD(79)), false);
    later(999, TRY(DEAD(79)), false);
    later(1, TAKEN(DEAD(79)), true);
  });

  test("is not taken over for what was seen before a living one had it", () => {
    const { tries, later } = setUpLocked();
    tries(TRY(DEAD(77)), false);
    later(1000, TRY(ALIVE(77)), false); // a new process has the number
    later(1000, TRY(DEAD(77)), false);
    later(1000, TAKEN(DEAD(77)), true);
  });
});

describe("a lock whose holder may be of another pid namespace", () => {
  /** What a bounded wait for it looks like. */
  const FOREIGN = script(
    `${TRY_DOWN} = EAGAIN`,
    ...[1000, 1000, 100].map((ms) => script(`${DOWN(ms)} = EAGAIN`, VALUE(0), NOBODY(5))),
  );

  test("is not taken over by who waits for it", () => {
    const { tries, later } = setUpLocked();
    tries(TRY(NOBODY(5)), false);
    later(5000, TRY(NOBODY(5)), false);
  });

  test("is taken over by takeOver() if nobody is attached who could be the holder", () => {
    const { ffi, lock } = setUpLocked();
    const steps = script(FOREIGN, GUARDED(LAST(0), `${TAKE_OVER} = 0`));
    ffi.play(steps, () => assert.equal(lock.takeOver!(() => true, 5000), true));
  });

  for (
    const [name, stale, steps] of [
      ["somebody is attached by then", false, GUARDED(LAST(0))],
      ["another one has taken it over by then", true, GUARDED(LAST(78))],
      ["it is released by then", true, GUARDED(LAST(0), `${TAKE_OVER} = EAGAIN`)],
      ["another one is about to", true, BUSY_CLAIM(3)],
    ] as const
  ) {
    test(`is not taken over by takeOver() if ${name}`, () => {
      const { ffi, lock } = setUpLocked();
      ffi.play(script(FOREIGN, steps), () => {
        assert.equal(lock.takeOver!(() => stale, 5000), false);
      });
    });
  }

  test("is not taken over by takeOver() in less time than it takes to find out", () => {
    const { ffi, lock } = setUpLocked();
    ffi.play(script(...FOREIGN.split("\n").slice(0, 5)).replace("1000", "900"), () => {
      assert.equal(lock.takeOver!(() => true, 900), false);
    });
  });
});

describe("takeOver()", () => {
  test("takes a lock that is released meanwhile, as everybody does", () => {
    const { ffi, lock } = setUpLocked();
    const steps = script(`${TRY_DOWN} = EAGAIN`, `${DOWN(1000)} = 0`);
    ffi.play(steps, () => assert.equal(lock.takeOver!(() => true, 5000), true));
  });

  test("leaves the lock of a process that lives", () => {
    const { ffi, lock } = setUpLocked();
    const slices = [1000, 1000, 100].map((ms) => `${DOWN(ms)} = EAGAIN\n${HOLDER()}`);
    const steps = script(`${TRY_DOWN} = EAGAIN`, ...slices, GUARDED(LAST(77)));
    ffi.play(steps, () => assert.equal(lock.takeOver!(() => true, 5000), false));
  });
});
