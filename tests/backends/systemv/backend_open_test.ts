/** `SegmentBackend.open`: the segment is made or attached to, under the lock. */
import { describe, test } from "node:test";
import type { OpenRequest } from "../../../backends/types.ts";
import { AccessMode } from "../../../mod.ts";
import { PID } from "../../fixtures/fake_ffi.ts";
import * as fake from "../../fixtures/fake_system.ts";
import { assertFails, script, setUp } from "../../fixtures/fake_system.ts";

const {
  ATTACHED,
  DOWN,
  FIND,
  GIVE_UP,
  HOLDER,
  LOOK,
  NEW_FILE,
  OPEN,
  OPEN_LOCK,
} = fake;
const { ABANDON, ALONE, CLAIM, NOT_THERE, NO_UNFINISHED, SEG_CURRENT, SHARE, SHMGET_NEW } = fake;
const { STATUS, STATX, TRY_DOWN, UNLOCK, UNSHARE, WAIT_IN_VAIN } = fake;

const REQUEST: OpenRequest = {
  size: 100,
  mode: AccessMode.ReadWrite,
  existing: "attach",
  stale: "replace",
  timeoutMs: 5000,
  initialize: null,
};

const ENTER = script(OPEN_LOCK, `${DOWN(10)} = 0`);
const BUSY = script(OPEN_LOCK, `${DOWN(10)} = EAGAIN`, HOLDER());
const OPEN_NEW_LOCK = fake.NEW_LOCK(NOT_THERE);
const NONE = `${OPEN("/q/seg")} = ENOENT`;
const MAP_NEW = script(`${SHMGET_NEW} = 9`, SEG_CURRENT, "shmat(9, 0, 0) = 0x7f0000000000");
const USED = STATUS("size 100, attached 1");
const STALE = STATUS("size 100, attached 0");

function open(steps: string, request: Partial<OpenRequest> = {}, permissions?: number) {
  const { ffi, backend, lock } = setUp("x64", undefined, permissions);
  const { segments } = backend;
  return ffi.play(
    steps,
    () => segments.open("/q/seg", { ...REQUEST, ...request }, lock, permissions),
  );
}

describe("open()", () => {
  for (
    const [who, mode] of [["others may use", 0o666], ["only a group may use", 0o660]] as const
  ) {
    test(`makes what ${who} with its permissions, whatever is private otherwise`, () => {
      const digits = mode.toString(8).padStart(4, "0");
      const shared = script(OPEN_NEW_LOCK, NONE, NO_UNFINISHED, NEW_FILE, MAP_NEW, UNLOCK)
        .replaceAll(/0640(\) = (\d)\n)/g, `${digits}$1fchmod($2, ${digits}) = 0\n`)
        .replaceAll(/\b0600\b/g, digits);
      open(shared, {}, mode);
    });
  }

  test("asks again if the errno of a file's call is that of the runtime's own threads", () => {
    const again = `${OPEN("/q/seg")} = EAGAIN`;
    open(script(OPEN_NEW_LOCK, again, NONE, NO_UNFINISHED, NEW_FILE, MAP_NEW, UNLOCK));
    assertFails(
      () => {
        open(script(OPEN_NEW_LOCK, ...new Array(11).fill(again), ABANDON));
      },
      "UnknownError",
      "open",
      11,
    );
  });

  test("makes the segment if the user who held the lock is gone by then", () => {
    const steps = script(
      ...[BUSY, LOOK("size 100, attached 1"), NONE],
      ...[`${TRY_DOWN} = 0`, NONE, NO_UNFINISHED, NEW_FILE, MAP_NEW, UNLOCK],
    );
    open(steps);
  });

  test("refuses one that is used if it is to be new, with or without the lock", () => {
    const request = { existing: "refuse" } as const;
    const locked = script(ENTER, FIND, USED, GIVE_UP("attached 1", SEG_CURRENT));
    const unlocked = script(BUSY, LOOK("size 100, attached 1"));
    for (const steps of [locked, unlocked]) {
      assertFails(() => open(steps, request), "AlreadyExists", "shmget", 17);
    }
  });

  const REPLACE = script(
    ...["shmctl(9, IPC_RMID) = 0", `${ALONE(4)} = 0`, fake.SEG_PATH, `unlink("/q/seg") = 0`],
    ...["close(4) = 0", NO_UNFINISHED, `${fake.MAKE("/q/seg")} = 5`],
    ...[`${SHARE(5)} = 0`, "statx(5) = { inode 3 }"],
    ...["shmget(0x51000003, 100, IPC_CREAT|IPC_EXCL|0600) = 10", "statx(5) = { links 1 }"],
    "shmat(10, 0, 0) = 0x7f0000000000",
  );

  test("replaces one that nobody is attached to, also if it is to be new", () => {
    open(script(ENTER, FIND, STALE, REPLACE, UNLOCK), { existing: "refuse" });
  });

  const SHARED_LOCK = OPEN_LOCK.replace("0640", "0666").split("\n").slice(0, -1).join("\n");
  const THEIRS = script(
    ...[SHARED_LOCK, `${DOWN(10)} = 0`, FIND],
    STATUS("size 100, attached 0, uid 1001, cuid 1001"),
  );

  test("keeps another user's that nobody is attached to, with its file, and attaches to it", () => {
    open(script(THEIRS, ATTACHED, UNLOCK), {}, 0o666);
  });

  test("keeps another user's that nobody is attached to, and refuses it if it is to be new", () => {
    const steps = script(
      ...[THEIRS, "close(4) = 0"],
      fake.GIVE_UP_UNUSED().replace(UNSHARE(4), "close(4) = 0"),
    );
    const failing = () => open(steps, { existing: "refuse" }, 0o666);
    assertFails(failing, "AlreadyExists", "shmget", 17);
  });

  test("refuses another user's before it would remove it, unless it is shared", () => {
    const others = "size 100, attached 0, uid 1001, cuid 1001";
    const steps = script(
      ...[ENTER, FIND, STATUS(others), 'getpwuid(1001) = "eve"'],
      fake.GIVE_UP_UNUSED(SEG_CURRENT).replace("attached 0", others),
    );
    const text = /belongs to eve \(uid 1001\)/;
    assertFails(() => open(steps), "PermissionDenied", "shmctl", undefined, text);
  });

  test("keeps one that nobody is attached to if that is asked for, and attaches to it", () => {
    open(script(ENTER, FIND, STALE, ATTACHED, UNLOCK), { stale: "keep" });
  });

  test("keeps one that nobody is attached to, and refuses it if it is to be new", () => {
    const steps = script(ENTER, FIND, STALE, fake.GIVE_UP_UNUSED(SEG_CURRENT));
    const request = { stale: "keep", existing: "refuse" } as const;
    assertFails(() => open(steps, request), "AlreadyExists", "shmget", 17);
  });

  const SMALL = STATUS("size 50, attached 1");
  const tooSmall = /the segment has 50 bytes, fewer than the 100 that were asked for/;

  const LEFT = "size 50, attached 0";
  const REFUSED = script(
    ...[ENTER, FIND, SMALL, GIVE_UP(LEFT, SEG_CURRENT)],
    ...[SEG_CURRENT, "shmget(0x51000001, 0, 0) = 9"],
  );

  for (
    const [name, steps] of [
      [
        "refuses a smaller one, naming both sizes, and does not attach to it",
        script(ENTER, FIND, SMALL, GIVE_UP("attached 1", SEG_CURRENT)),
      ],
      [
        "refuses a smaller one, and does not attach to it, without the lock too",
        script(BUSY, LOOK("size 50, attached 1"), FIND, SMALL),
      ],
      [
        "leaves the one that it refuses if its key file is another one's by then",
        REFUSED.replace(/9$/, "12"),
      ],
    ] as const
  ) {
    test(name, () => {
      assertFails(() => open(steps), "InvalidSize", undefined, undefined, tooSmall);
    });
  }

  test("and says why it is refused also if it cannot be removed", () => {
    const denied = script(`${TRY_DOWN} = EACCES`, `${DOWN(10)} = EACCES`);
    const wait = script(`${TRY_DOWN} = EAGAIN`, `${DOWN(390)} = EAGAIN`, HOLDER(), STATUS(LEFT));
    const taken = script(WAIT_IN_VAIN(10), STATUS(LEFT), wait.replace(/\n.*$/, ""));
    const late = script(taken, WAIT_IN_VAIN(10), STATUS(LEFT), HOLDER(), fake.NAMED);
    for (const failing of [denied, late]) {
      const steps = script(REFUSED, failing);
      assertFails(() => open(steps), "InvalidSize", undefined, undefined, tooSmall);
    }
  });

  test("leaves nothing behind without room for a segment", () => {
    const steps = script(
      ...[OPEN_NEW_LOCK, NONE, NO_UNFINISHED, NEW_FILE, `${SHMGET_NEW} = ENOSPC`],
      ...[fake.UNDO_FILE, ABANDON],
    );
    assertFails(() => open(steps), "OutOfResources", "shmget", 28);
  });

  test("gives up after its timeout, and names who holds the lock and is not attached", () => {
    const look = `${STATX("/q/seg")} = ENOENT`;
    const steps = script(
      ...[BUSY, look, WAIT_IN_VAIN(490), WAIT_IN_VAIN(10), look],
      ...[HOLDER(), fake.NAMED],
    );
    const failing = () => open(steps, { timeoutMs: 500 });
    assertFails(failing, "LockError", undefined, undefined, /timed out.*by process 77 /);
  });

  test("gives up so too if it is another thread of this process, which it names as this one", () => {
    const look = `${STATX("/q/seg")} = ENOENT`;
    const [busy, wait] = [BUSY.replaceAll("77", `${PID}`), (ms: number) => WAIT_IN_VAIN(ms, PID)];
    const steps = script(
      busy,
      look,
      wait(490),
      wait(10),
      look,
      HOLDER(PID),
      "semctl(7, 0, GETVAL) = 1",
    );
    const failing = () => open(steps, { timeoutMs: 500 });
    assertFails(failing, "LockError", undefined, undefined, /timed out.*by this process, which /);
  });

  for (
    const [name, unfinished, taken] of [
      ["leaves a lock that may be held by who fills a segment, in another pid namespace", 1, false],
      ["takes over a lock of another pid namespace where nobody fills a segment", 0, true],
    ] as const
  ) {
    test(name, () => {
      const look = `${STATX("/q/seg")} = ENOENT`;
      const foreign = "semctl(7, 0, GETVAL) = 0\nsemctl(7, 0, GETPID) = 0\n" +
        "semctl(7, 0, IPC_STAT) = { otime 5 }";
      const wait = (...slices: number[]) =>
        slices.map((ms) => `${DOWN(ms)} = EAGAIN\n${foreign}`).join("\n");
      const steps = script(
        ...[OPEN_LOCK, wait(10), look, `${TRY_DOWN} = EAGAIN`, wait(1000, 1000, 100)],
        ...[CLAIM(3), fake.NOT_BEING_CREATED, "semctl(7, 0, GETPID) = 0", look],
        ...[`${STATX("/q/qipc_creating_/q/seg")} = { inode 4 }`, "shmget(0x51000004, 0, 0) = 10"],
        `shmctl(10, IPC_STAT) = { attached ${unfinished} }`,
        ...(taken ? [`${fake.TAKE_OVER} = 0`] : []),
        "close(8) = 0",
        ...(taken
          ? [NONE, NO_UNFINISHED, NEW_FILE, MAP_NEW, UNLOCK]
          : [`${TRY_DOWN} = EAGAIN`, wait(10), look, ...Array(3).fill(fake.HOLDS(0))]),
      );
      const opening = () => open(steps, { timeoutMs: 2120 });
      if (taken) return void opening();
      assertFails(opening, "LockError", undefined, undefined, /timed out.*by a process that /);
    });
  }
});
