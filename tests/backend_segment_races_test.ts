import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { AccessMode } from "../mod.ts";
import * as fake from "./fixtures/fake_system.ts";
import { assertFails, script, setUp } from "./fixtures/fake_system.ts";

const { ReadWrite } = AccessMode;
const { ATTACHED, DOWN, FOUND, HOLDER, LOOK, NEW_FILE, OPEN, OPEN_LOCK, OPEN_NEW_LOCK } = fake;
const { REMOVE_LOCK, SHMGET_NEW, STATUS, STATX, THERE, TRY_DOWN, UNLOCK } = fake;

/** The same as FOUND with the key file that is kept open from the last time. */
const FOUND_AGAIN = script(
  "statx(4) = { inode 1, links 1 }",
  "shmget(0x51000001, 0, 0600) = 9",
  STATUS("size 100"),
);
/** The first try for the lock. */
const BUSY = script(OPEN_LOCK, `${DOWN(10)} = EAGAIN`, HOLDER());
/** A look at the segment that finds no key file. */
const NONE = `${STATX("/q/seg")} = ENOENT`;

describe("attach() among other processes", () => {
  const NATIVE = FOUND.replace("|O_NOFOLLOW", "");
  const NATIVE_AGAIN = FOUND_AGAIN.replace("statx(4)", `statx("/q/seg")`);
  const attachments: [name: string, script: string][] = [
    [
      "looks again if the segment is removed before shmat",
      script(NATIVE, "shmat(9, 0, 0) = EIDRM", NATIVE_AGAIN, ATTACHED),
    ],
    [
      "looks again if the segment is removed during shmat",
      `${NATIVE}
      shmat(9, 0, 0) = 0x7f0000000000
      ${STATUS("size 100, attached 1, removed")}
      shmdt(0x7f0000000000) = 0
      ${NATIVE_AGAIN}\n${ATTACHED}`,
    ],
    [
      "opens the key file that is there if the one that was kept open is not",
      `${NATIVE}
      shmat(9, 0, 0) = EINVAL
      statx("/q/seg") = { inode 3 }
      close(4) = 0
      ${NATIVE.replace("inode 1", "inode 3").replace("0x51000001", "0x51000003")}
      ${ATTACHED}`,
    ],
  ];
  for (const [name, steps] of attachments) {
    test(name, () => {
      const { ffi, backend } = setUp();
      ffi.play(steps, () => backend.segments.attach("/q/seg", ReadWrite, null));
    });
  }

  test("removes the lock that it opened if there is no segment any more", () => {
    const { ffi, backend, lock } = setUp();
    const steps = script(
      ...[FOUND, OPEN_LOCK, `${DOWN(10)} = 0`],
      ...["shmat(9, 0, 0) = EIDRM", NONE, REMOVE_LOCK],
      ...["statx(4) = { inode 1, links 0 }", "close(4) = 0", `${OPEN("/q/seg")} = ENOENT`],
    );
    const attach = () => backend.segments.attach("/q/seg", ReadWrite, lock);
    assertFails(() => ffi.play(steps, attach), "NotFound", "open", 2);
  });

  test("does without the lock that a user of the segment holds", () => {
    const { ffi, backend, lock } = setUp();
    const steps = `
      ${FOUND}\n${BUSY}
      ${LOOK("size 100, attached 1")}
      flock(4, LOCK_EX|LOCK_NB) = 0
      ${ATTACHED}
      flock(4, LOCK_UN) = 0`;
    ffi.play(steps, () => backend.segments.attach("/q/seg", ReadWrite, lock));
  });

  test("without the lock is for one at a time: two would take each other for users", () => {
    const { ffi, backend, lock } = setUp();
    const steps = `
      ${FOUND}\n${BUSY}
      ${LOOK("size 100, attached 1")}
      flock(4, LOCK_EX|LOCK_NB) = EAGAIN
      close(4) = 0
      ${FOUND}
      ${TRY_DOWN} = 0
      ${ATTACHED}
      ${UNLOCK}`;
    ffi.play(steps, () => backend.segments.attach("/q/seg", ReadWrite, lock));
  });

  test("without the lock looks again if it is alone: the holder may be removing", () => {
    const { ffi, backend, lock } = setUp();
    const steps = `
      ${FOUND}\n${BUSY}
      ${LOOK("size 100, attached 1")}
      flock(4, LOCK_EX|LOCK_NB) = 0
      ${ATTACHED.replace("attached 2", "attached 1")}
      shmdt(0x7f0000000000) = 0
      flock(4, LOCK_UN) = 0
      close(4) = 0
      ${FOUND}
      ${TRY_DOWN} = 0
      ${ATTACHED}
      ${UNLOCK}`;
    ffi.play(steps, () => backend.segments.attach("/q/seg", ReadWrite, lock));
  });

  test("takes over a lock that nobody can hold, as the only one, after a second", () => {
    const { ffi, backend, lock } = setUp();
    const dead = HOLDER().replace("kill(77, 0) = 0", "kill(77, 0) = ESRCH");
    const steps = `
      ${FOUND}
      ${OPEN_LOCK}
      ${DOWN(10)} = EAGAIN
      ${dead}
      ${LOOK("size 100, attached 0")}
      ${TRY_DOWN} = EAGAIN
      ${DOWN(1000)} = EAGAIN
      ${dead}
      flock(3, LOCK_EX|LOCK_NB) = 0
      ${dead.split("\n").slice(1).join("\n")}
      ${fake.TAKE_OVER} = 0
      flock(3, LOCK_UN) = 0
      ${ATTACHED}
      ${UNLOCK}`;
    ffi.play(steps, () => backend.segments.attach("/q/seg", ReadWrite, lock));
  });

  test("names the holder of a lock if it waited five seconds for one who is not attached", () => {
    const { ffi, backend, lock } = setUp();
    const steps = script(FOUND, BUSY, fake.WAIT_FIVE_SECONDS(LOOK("size 100, attached 0")));
    const attach = () => backend.segments.attach("/q/seg", ReadWrite, lock);
    const failing = () => ffi.play(steps, attach);
    assertFails(failing, "LockError", undefined, undefined, /timed out.*held by process 77 /);
  });

  test("to more than the runtime can view fails before anybody takes it for a user", () => {
    const { ffi, backend, lock } = setUp("x64", 99);
    const { segments } = backend;
    const attach = () => ffi.play(FOUND, () => segments.attach("/q/seg", ReadWrite, lock));
    assert.throws(attach, { code: "InvalidSize", message: /100 bytes.*at most 99/ });
  });
});

describe("create() among other processes", () => {
  test("of a segment that exists does not touch its lock", () => {
    // Qt sets the lock to free before it knows, even if somebody holds it.
    const { ffi, backend, lock } = setUp();
    const steps = `${STATX("/q/seg")} = { inode 1 }\nshmget(0x51000001, 0, 0600) = 9`;
    const create = () => backend.segments.create("/q/seg", 100, ReadWrite, lock);
    assertFails(() => ffi.play(steps, create), "AlreadyExists", "shmget", 17);
  });

  test("does not wait for the lock of a segment that has got a user since", () => {
    const { ffi, backend, lock } = setUp();
    const steps = script(NONE, BUSY, LOOK("size 100, attached 1"));
    const create = () => backend.segments.create("/q/seg", 100, ReadWrite, lock);
    assertFails(() => ffi.play(steps, create), "AlreadyExists", "shmget", 17);
  });

  test("uses a key file that has no segment", () => {
    const { ffi, backend, lock } = setUp();
    const steps = `
      ${STATX("/q/seg")} = { inode 1 }
      shmget(0x51000001, 0, 0600) = ENOENT
      ${OPEN_LOCK}
      ${DOWN(10)} = 0
      ${fake.MAKE("/q/seg")} = EEXIST
      ${OPEN("/q/seg")} = 4
      statx(4) = { inode 1 }
      ${SHMGET_NEW} = 9
      shmat(9, 0, 0) = 0x7f0000000000
      ${UNLOCK}`;
    ffi.play(steps, () => backend.segments.create("/q/seg", 100, ReadWrite, lock));
  });

  const undone = script("statx(4) = { inode 1, links 1 }", `unlink("/q/seg") = 0`, "close(4) = 0");
  const start = script(NONE, OPEN_NEW_LOCK, NEW_FILE);
  for (
    const [name, code, syscall, errno, steps] of [
      [
        "that loses against another one leaves it its file, and removes its own lock",
        ...["AlreadyExists", "shmget", 17] as const,
        script(
          ...[start, `${SHMGET_NEW} = EEXIST`, "close(4) = 0"],
          ...[THERE, REMOVE_LOCK, STATUS("attached 1")],
        ),
      ],
      [
        "that loses against another one only gives a lock of theirs back",
        ...["AlreadyExists", "shmget", 17] as const,
        script(
          ...[NONE, OPEN_LOCK, `${DOWN(10)} = 0`, NEW_FILE, `${SHMGET_NEW} = EEXIST`],
          ...["close(4) = 0", fake.GIVE_UP("attached 1")],
        ),
      ],
      [
        "without room for a segment removes the key files and the lock",
        ...["OutOfResources", "shmget", 28] as const,
        script(start, `${SHMGET_NEW} = ENOSPC`, undone, NONE, REMOVE_LOCK),
      ],
      [
        "that cannot map its segment removes all of it",
        ...["OutOfResources", "shmat", 12] as const,
        script(
          ...[start, `${SHMGET_NEW} = 9`, "shmat(9, 0, 0) = ENOMEM"],
          ...["shmctl(9, IPC_RMID) = 0", undone, NONE, REMOVE_LOCK],
        ),
      ],
    ] as const
  ) {
    test(name, () => {
      const { ffi, backend, lock } = setUp();
      const { segments } = backend;
      const create = () => ffi.play(steps, () => segments.create("/q/seg", 100, ReadWrite, lock));
      assertFails(create, code, syscall, errno);
    });
  }
});
