/** `SegmentBackend.open` with `initialize`: a segment is filled where nobody finds it. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { OpenRequest, Segment } from "../../../backends/types.ts";
import { AccessMode } from "../../../mod.ts";
import { PID } from "../../fixtures/fake_ffi.ts";
import * as fake from "../../fixtures/fake_system.ts";
import { assertFails, script, setUp } from "../../fixtures/fake_system.ts";

const { ALONE, CURRENT, MAKE, NOT_THERE, OPEN } = fake;
const { SET_MARK, SHARE, SHMGET_NEW, STATUS, UNLOCK, UNSHARE } = fake;

const HASH = "0123456789abcdef".repeat(3).slice(0, 40);
const PATH = `/q/qipc_sharedmemory_seg${HASH}`;
/** Where it is made. */
const UNFINISHED = `/q/qipc_creating_${HASH}`;

/** Scripts call the segment /q/seg, as all do. */
const longNamed = (steps: string) => steps.replaceAll("/q/seg", PATH);

const NONE = `${OPEN("/q/seg")} = ENOENT`;
const NO_UNFINISHED = `${OPEN(UNFINISHED)} = ENOENT`;
const OPEN_NEW_LOCK = fake.NEW_LOCK(NOT_THERE);
/** There is no segment, no unfinished one, and no file that would get another segment. */
const NOTHING = script(NONE, NO_UNFINISHED, NONE);
const MADE = `${MAKE(UNFINISHED)} = 4
  ${SHARE(4)} = 0
  statx(4) = { inode 1 }
  ${SHMGET_NEW} = 9
  ${fake.SEG_CURRENT}
  shmat(9, 0, 0) = 0x7f0000000000`;
const LINK = `link("${UNFINISHED}", "/q/seg")`;
const PUBLISH = `${LINK} = 0\nunlink("${UNFINISHED}") = 0`;
/** The unfinished file of somebody who was killed. */
const FOUND = `${OPEN(UNFINISHED)} = 5
  statx(5) = { inode 4 }`;

function setUpOpen(more: Partial<OpenRequest> = {}) {
  const { ffi, backend, lock } = setUp();
  const open = (steps: string, initialize: (segment: Segment) => void) =>
    ffi.play(longNamed(steps), () => {
      return backend.segments.open(PATH, {
        ...{ size: 100, mode: AccessMode.ReadWrite, existing: "attach", stale: "replace" },
        ...{ timeoutMs: 5000, initialize, ...more },
      }, lock);
    });
  /** `open` when it fills the segment right before it is published. */
  const publish = (steps: string, next = /^link/) => {
    let filled: Segment | undefined;
    const segment = open(steps, (segment) => {
      assert.match(ffi.next, next, "what follows");
      filled = segment;
    });
    assert.equal(segment, filled);
    return segment;
  };
  return { ffi, open, publish };
}

describe("open() with initialize", () => {
  test("shares the unfinished file with one of another container, who is filling a segment", () => {
    const { publish } = setUpOpen();
    publish(script(
      ...[OPEN_NEW_LOCK, NONE, FOUND, `${ALONE(5)} = EAGAIN`, UNSHARE(5), NONE],
      ...["statx(5) = { links 1 }", `${SHARE(5)} = 0`, "statx(5) = { links 1 }"],
      "shmget(0x51000004, 0, 0) = ENOENT",
      ...[`${SHMGET_NEW.replace("1,", "4,")} = 9`, "statx(5) = { links 1 }"],
      ...["shmat(9, 0, 0) = 0x7f0000000000"],
      ...[PUBLISH, UNLOCK],
    ));
  });

  test("without room for a segment leaves nothing behind, and fills nothing", () => {
    const { open } = setUpOpen();
    const steps = script(
      ...[OPEN_NEW_LOCK, NOTHING, MADE.replace(/= 9[^]*/, "= ENOSPC")],
      ...["shmget(0x51000001, 0, 0) = ENOENT", `${ALONE(4)} = 0`, CURRENT(UNFINISHED, 1)],
      ...[`unlink("${UNFINISHED}") = 0`, "close(4) = 0", fake.ABANDON],
    );
    const failing = () => open(steps, () => assert.fail("there is nothing to fill"));
    assertFails(failing, "OutOfResources", "shmget", 28);
  });

  /** A key file without a segment; it is kept open. */
  const EMPTY = script(
    ...[`${OPEN("/q/seg")} = 6`, "statx(6) = { inode 7 }", "shmget(0x51000007, 0, 0600) = ENOENT"],
    ...[NO_UNFINISHED, "statx(6) = { links 1 }"],
  );

  test("fills, with a mark, what others find already if they rely on a file without a segment", () => {
    const { publish } = setUpOpen();
    const mark = "/q/qipc_unfinished_51000007_f0000001";
    const steps = script(
      ...[OPEN_NEW_LOCK, EMPTY, `${ALONE(6)} = EAGAIN`, UNSHARE(6)],
      ...["statx(6) = { links 1 }", `${SHARE(6)} = 0`, "statx(6) = { links 1 }"],
      "shmget(0x51000007, 0, 0) = ENOENT",
      ...[fake.FOLDER, SET_MARK(mark, `pid ${PID} 0`)],
      ...["shmget(0x51000007, 100, IPC_CREAT|IPC_EXCL|0633) = 9", "statx(6) = { links 1 }"],
      ...[STATUS("mode 0633, ctime 1700000000"), SET_MARK(mark, "id 9 1700000000")],
      ...["shmat(9, 0, 0) = 0x7f0000000000", STATUS("mode 0633")],
      ...["shmctl(9, IPC_SET, { uid 1000, gid 100, mode 0600 }) = 0", `unlink("${mark}") = 0`],
      UNLOCK,
    );
    publish(steps, /^shmctl/);
  });

  test("that cannot be named fails, and is gone when it is left", () => {
    const { ffi, open } = setUpOpen();
    const steps = script(OPEN_NEW_LOCK, NOTHING, MADE, `${LINK} = EPERM`, fake.ABANDON);
    let made: Segment | undefined;
    const failing = () => open(steps, (segment) => made = segment);
    assertFails(failing, "PermissionDenied", "link", 1, /permission denied/);
    const again = longNamed(OPEN_NEW_LOCK);
    const removing = fake.REMOVE_ALL.replaceAll("/q/seg", UNFINISHED);
    ffi.play(script(again, removing), () => made!.release({ lockHeld: false, wait: true }));
  });
});
