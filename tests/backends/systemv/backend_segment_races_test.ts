import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { AccessMode } from "../../../mod.ts";
import * as fake from "../../fixtures/fake_system.ts";
import { BOOT } from "../../fixtures/fake_ffi.ts";
import { assertFails, script, setUp } from "../../fixtures/fake_system.ts";

const { ReadWrite } = AccessMode;
const { ABANDON, ATTACHED, ATTACHED_UNLOCKED, CLAIMING, DOWN, FOUND, HOLDER, LOOK, NEW_FILE } =
  fake;
const { NOT_THERE, OPEN_LOCK, OPEN_NEW_LOCK, SEG_CURRENT, SHMGET_NEW, STATUS } = fake;
const { STATX, UNDO_FILE, UNLOCK } = fake;

/** The first try for the lock. */
const BUSY = script(OPEN_LOCK, `${DOWN(10)} = EAGAIN`, HOLDER());
/** What is true with the claim, and after it the attach that others see. */
const UNGUARDED = CLAIMING(4, STATUS("size 100, attached 1"), ATTACHED_UNLOCKED);

describe("attach() among other processes", () => {
  test("without the lock is for one at a time: two would take each other for users", () => {
    const { ffi, backend, lock } = setUp();
    const steps = `
      ${FOUND}\n${BUSY}
      ${LOOK("size 100, attached 1")}
      ${fake.BUSY_CLAIM(4)}
      pause(1 ms)
      ${UNGUARDED}`;
    ffi.play(steps, () => backend.segments.attach("/q/seg", ReadWrite, lock));
  });

  test("names the holder of a lock if it waited five seconds for one who is not attached", () => {
    const { ffi, backend, lock } = setUp();
    const steps = script(FOUND, BUSY, fake.WAIT_FIVE_SECONDS(LOOK("size 100, attached 0")));
    const attach = () => backend.segments.attach("/q/seg", ReadWrite, lock);
    const failing = () => ffi.play(steps, attach);
    assertFails(failing, "LockError", undefined, undefined, /timed out.*held by process 77 /);
  });

  describe("a segment with a mark", () => {
    const MARK = "/q/qipc_unfinished_51000001_f0000001";
    const status = (mode: string) => `mode ${mode}, ctime 1700000000, creator 77`;
    const found = (mode: string) => FOUND.replace("size 100", `size 100, ${status(mode)}`);
    const marked = (text: string, boot = BOOT) =>
      script(
        ...[found("0633"), STATUS(status("0633")), fake.FOLDER],
        ...[`${STATX(MARK)} = { uid 1000 }`, `readlink("${MARK}") = "${text} ${boot}"`],
      );
    const attachedTo = script(OPEN_LOCK, `${DOWN(10)} = 0`, ATTACHED, UNLOCK);
    const STAT = "/proc/77/task/77/stat";
    const process77 = (started: number) =>
      `77 (x) S ${new Array(18).fill(0).join(" ")} ${started} 0`;

    for (
      const [text, started] of [["id 9 1700000000"], ["pid 77 5"], ["pid 77 5", 5]] as const
    ) {
      test(`is not found: its maker is filling it or was killed at that (${text}, ${started})`, () => {
        const { ffi, backend, lock } = setUp();
        if (started !== undefined) ffi.files.set(STAT, process77(started));
        const attach = () => backend.segments.attach("/q/seg", ReadWrite, lock);
        assertFails(() => ffi.play(marked(text), attach), "NotFound", "shmget", 2);
      });
    }

    for (
      const [what, steps, started] of [
        ["of another time", marked("id 9 1699999999")],
        ["of another id", marked("id 8 1700000000")],
        ["of another start of the system", marked("id 9 1700000000", "0000")],
        ["by another process", marked("pid 76 5")],
        ["by a process whose pid another one has", marked("pid 77 5"), 6],
        ["that does not exist", marked("").replace(/\{ uid 1000 \}\n.*$/, "ENOENT")],
        ["and whose mode others choose", found("0777")],
      ] as const
    ) {
      test(`${what} is attached to`, () => {
        const { ffi, backend, lock } = setUp();
        if (started !== undefined) ffi.files.set(STAT, process77(started));
        const attach = () => backend.segments.attach("/q/seg", ReadWrite, lock);
        ffi.play(script(steps, attachedTo), attach);
      });
    }
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
    const steps = `${STATX("/q/seg")} = { inode 1 }\nshmget(0x51000001, 0, 0600) = 9\n${
      STATUS("attached 1")
    }`;
    const create = () => backend.segments.create("/q/seg", 100, ReadWrite, lock);
    assertFails(() => ffi.play(steps, create), "AlreadyExists", "shmget", 17);
  });

  const start = script(NOT_THERE, OPEN_NEW_LOCK, NEW_FILE);
  for (
    const [name, code, syscall, errno, steps] of [
      [
        "without room for a segment removes the key files and the lock",
        ...["OutOfResources", "shmget", 28] as const,
        script(start, `${SHMGET_NEW} = ENOSPC`, UNDO_FILE, ABANDON),
      ],
      [
        "that cannot map its segment removes all of it",
        ...["OutOfResources", "shmat", 12] as const,
        script(
          ...[start, `${SHMGET_NEW} = 9`, SEG_CURRENT, "shmat(9, 0, 0) = ENOMEM"],
          ...["shmctl(9, IPC_RMID) = 0", UNDO_FILE.replace(/.*\n/, ""), ABANDON],
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
