/** `SegmentBackend.open` with `initialize`: a segment is filled where nobody finds it. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Segment } from "../backends/types.ts";
import { AccessMode } from "../mod.ts";
import * as fake from "./fixtures/fake_system.ts";
import { assertFails, script, setUp } from "./fixtures/fake_system.ts";

const { ATTACHED, DOWN, FIND, MAKE, OPEN, OPEN_LOCK, OPEN_NEW_LOCK, REMOVE_LOCK } = fake;
const { SHMGET_NEW, STATUS, STATX, UNLOCK } = fake;

const HASH = "0123456789abcdef".repeat(3).slice(0, 40);
const PATH = `/q/qipc_sharedmemory_seg${HASH}`;
/** Where it is made. */
const UNFINISHED = `/q/qipc_creating_${HASH}`;

/** Scripts call the segment /q/seg, as all do. */
const longNamed = (steps: string) => steps.replaceAll("/q/seg", PATH);

const NONE = `${OPEN("/q/seg")} = ENOENT`;
const NO_UNFINISHED = `${OPEN(UNFINISHED)} = ENOENT`;
const MADE = `${MAKE(UNFINISHED)} = 4
  statx(4) = { inode 1 }
  ${SHMGET_NEW} = 9
  shmat(9, 0, 0) = 0x7f0000000000`;
const LINK = `link("${UNFINISHED}", "/q/seg")`;
const PUBLISH = `${LINK} = 0\nunlink("${UNFINISHED}") = 0`;
/** The unfinished file of somebody who was killed. */
const FOUND = `${OPEN(UNFINISHED)} = 5
  statx(5) = { inode 4 }
  shmget(0x51000004, 0, 0)`;
const UNLINK = `statx(5) = { inode 4, links 1 }
  unlink("${UNFINISHED}") = 0
  close(5) = 0`;

function setUpOpen() {
  const { ffi, backend, lock } = setUp();
  const open = (steps: string, initialize: (segment: Segment) => void) =>
    ffi.play(longNamed(steps), () => {
      return backend.segments.open(PATH, {
        ...{ size: 100, mode: AccessMode.ReadWrite, existing: "attach", stale: "replace" },
        ...{ timeoutMs: 5000, initialize },
      }, lock);
    });
  /** `open` when it fills the segment right before it is published. */
  const publish = (steps: string) => {
    let filled: Segment | undefined;
    const segment = open(steps, (segment) => {
      assert.match(ffi.next, /^link/, "what follows");
      filled = segment;
    });
    assert.equal(segment, filled);
    return segment;
  };
  return { ffi, open, publish };
}

describe("open() with initialize", () => {
  test("fills a new segment, with the lock held, before it gets its name", () => {
    const { publish } = setUpOpen();
    publish(script(OPEN_NEW_LOCK, NONE, NO_UNFINISHED, MADE, PUBLISH, UNLOCK));
  });

  test("fills no segment that is there", () => {
    const { open } = setUpOpen();
    const used = STATUS("size 100, attached 1");
    const steps = script(OPEN_LOCK, `${DOWN(10)} = 0`, FIND, used, ATTACHED, UNLOCK);
    open(steps, () => assert.fail("it was filled before"));
  });

  test("fills a new segment in the place of one that nobody is attached to", () => {
    const { publish } = setUpOpen();
    const steps = script(
      ...[OPEN_LOCK, `${DOWN(10)} = 0`, FIND, STATUS("size 100, attached 0")],
      ...["shmctl(9, IPC_RMID) = 0", "statx(4) = { inode 1, links 1 }"],
      ...[`unlink("/q/seg") = 0`, "close(4) = 0"],
      ...[NO_UNFINISHED, MADE, PUBLISH, UNLOCK],
    );
    publish(steps);
  });

  for (
    const [name, found] of [
      [
        "removes what one who was killed had not finished",
        "= 10\nshmctl(10, IPC_STAT) = { attached 0 }\nshmctl(10, IPC_RMID) = 0",
      ],
      ["removes the file of one who was killed before there was a segment", "= ENOENT"],
      [
        "takes the name, and not the segment, from one who still has an unfinished one",
        "= 10\nshmctl(10, IPC_STAT) = { attached 1 }",
      ],
    ] as const
  ) {
    test(name, () => {
      const { publish } = setUpOpen();

      publish(script(OPEN_NEW_LOCK, NONE, `${FOUND} ${found}`, UNLINK, MADE, PUBLISH, UNLOCK));
    });
  }

  test("leaves what it named to the last one to leave, under that name", () => {
    const { ffi, publish } = setUpOpen();
    const segment = publish(script(OPEN_NEW_LOCK, NONE, NO_UNFINISHED, MADE, PUBLISH, UNLOCK));
    const steps = longNamed(script(`${fake.TRY_DOWN} = 0`, fake.REMOVE_ALL));
    ffi.play(steps, () => segment.leave(false, true));
  });

  test("that throws has left the segment, of which nothing remains; the error is its own", () => {
    const { open } = setUpOpen();
    const steps = script(
      ...[OPEN_NEW_LOCK, NONE, NO_UNFINISHED, MADE],
      ...[fake.BURY, fake.REMOVE_ALL.replace("/q/seg", UNFINISHED)],
    );
    const mine = new RangeError("mine");
    const failing = (segment: Segment) => {
      segment.unmap();
      segment.leave(true, true);
      throw mine;
    };
    assert.throws(() => open(steps, failing), (error) => error === mine);
  });

  test("without room for a segment leaves nothing behind, and fills nothing", () => {
    const { open } = setUpOpen();
    const steps = script(
      ...[OPEN_NEW_LOCK, NONE, NO_UNFINISHED, MADE.replace(/= 9[^]*/, "= ENOSPC")],
      ...["statx(4) = { inode 1, links 1 }", `unlink("${UNFINISHED}") = 0`, "close(4) = 0"],
      ...[`${STATX("/q/seg")} = ENOENT`, REMOVE_LOCK],
    );
    const failing = () => open(steps, () => assert.fail("there is nothing to fill"));
    assertFails(failing, "OutOfResources", "shmget", 28);
  });

  test("takes the name of a file that leads to no segment", () => {
    const { publish } = setUpOpen();
    publish(script(
      ...[OPEN_NEW_LOCK, NONE, NO_UNFINISHED, MADE, `${LINK} = EEXIST`],
      ...[`${STATX("/q/seg")} = { inode 7 }`, "shmget(0x51000007, 0, 0) = ENOENT"],
      ...[`unlink("/q/seg") = 0`, PUBLISH, UNLOCK],
    ));
  });

  const nothing = [`${STATX("/q/seg")} = ENOENT`, REMOVE_LOCK];
  const another = [fake.THERE, fake.THERE, REMOVE_LOCK, STATUS("attached 1")];
  for (
    const [errno, code, number, text, rest] of [
      ["EPERM", "PermissionDenied", 1, /permission denied/, nothing],
      ["EEXIST", "AlreadyExists", 17, /another program.*made the segment.*open\(\) again/, another],
    ] as const
  ) {
    test(`that cannot be named (${errno}) fails, and is gone when it is left`, () => {
      const { ffi, open } = setUpOpen();
      const steps = script(
        ...[OPEN_NEW_LOCK, NONE, NO_UNFINISHED, MADE, `${LINK} = ${errno}`],
        ...rest,
      );
      let made: Segment | undefined;
      assertFails(() => open(steps, (segment) => made = segment), code, "link", number, text);
      const leaving = script(OPEN_NEW_LOCK, fake.REMOVE_ALL.replace("/q/seg", UNFINISHED));
      ffi.play(leaving, () => made!.leave(false, true));
    });
  }
});
