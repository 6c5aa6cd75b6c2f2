import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { AccessMode } from "../mod.ts";
import {
  assertFails,
  OPEN_LOCK,
  OPEN_NEW_LOCK,
  REMOVE_LOCK,
  setUp,
} from "./fixtures/fake_system.ts";

const { ReadWrite } = AccessMode;

/** Steps of the scripts: a look at the segment through its key file, and the section's lock. */
const LOOK = (status: string) =>
  `open("/q/seg", O_NONBLOCK|O_CLOEXEC) = 5
  ftok("/q/seg", 'Q') = 0x51000001
  shmget(0x51000001, 0, 0) = 9
  shmctl(9, IPC_STAT) = ${status}`;
/** The same with the key file that is kept open from the last time. */
const LOOK_AGAIN = (status: string) => LOOK(status).replace(/.*O_CLOEXEC\) = 5\n/, "");
const FIND = `open("/q/seg", O_NONBLOCK|O_CLOEXEC) = 4
  ftok("/q/seg", 'Q') = 0x51000001
  shmget(0x51000001, 0, 0600) = 9`;
const FIND_AGAIN = FIND.replace(/.*O_CLOEXEC\) = 4\n/, "");
const TRY_LOCK = "semtimedop(7, [-1 SEM_UNDO], 10 ms)";
const RELEASE = "semop(7, [0 IPC_NOWAIT, 1 SEM_UNDO]) = 0";
const ATTACHED = `shmat(9, 0, 0) = 0x7f0000000000
  shmctl(9, IPC_STAT) = { size 100, attached 2 }`;
const NEW_FILE = `open("/q/seg", O_RDWR|O_CREAT|O_EXCL|O_CLOEXEC, 0640) = 4
  ftok("/q/seg", 'Q') = 0x51000001`;

describe("attach() and create() among other processes", () => {
  const attachments: [name: string, script: string][] = [
    [
      "attach() looks again if the segment is removed before shmat",
      `${FIND}\nshmat(9, 0, 0) = EIDRM\n${FIND_AGAIN}\n${ATTACHED}`,
    ],
    [
      "attach() looks again if the segment is removed during shmat",
      `${FIND}
      shmat(9, 0, 0) = 0x7f0000000000
      shmctl(9, IPC_STAT) = { size 100, attached 1, removed }
      shmdt(0x7f0000000000) = 0
      ${FIND_AGAIN}\n${ATTACHED}`,
    ],
  ];
  for (const [name, script] of attachments) {
    test(name, () => {
      const { ffi, backend } = setUp();
      ffi.play(script, () => backend.segments.attach("/q/seg", ReadWrite, null));
    });
  }

  test("attach() does without the lock that a user of the segment holds", () => {
    const { ffi, backend, lock } = setUp();
    const script = `
      ${FIND}\n${OPEN_LOCK}
      ${TRY_LOCK} = EAGAIN
      ${LOOK("{ size 100, attached 1 }")}
      flock(4, LOCK_EX|LOCK_NB) = 0
      ${ATTACHED}
      flock(4, LOCK_UN) = 0`;
    ffi.play(script, () => backend.segments.attach("/q/seg", ReadWrite, lock));
  });

  test("attach() without the lock is for one at a time: two would take each other for users", () => {
    const { ffi, backend, lock } = setUp();
    const script = `
      ${FIND}\n${OPEN_LOCK}
      ${TRY_LOCK} = EAGAIN
      ${LOOK("{ size 100, attached 1 }")}
      flock(4, LOCK_EX|LOCK_NB) = EAGAIN
      close(4) = 0
      ${FIND_AGAIN}
      ${TRY_LOCK} = 0
      ${ATTACHED}
      ${RELEASE}`;
    ffi.play(script, () => backend.segments.attach("/q/seg", ReadWrite, lock));
  });

  test("attach() without the lock looks again if it is alone: the holder may be removing", () => {
    const { ffi, backend, lock } = setUp();
    const script = `
      ${FIND}\n${OPEN_LOCK}
      ${TRY_LOCK} = EAGAIN
      ${LOOK("{ size 100, attached 1 }")}
      flock(4, LOCK_EX|LOCK_NB) = 0
      ${ATTACHED.replace("attached 2", "attached 1")}
      shmdt(0x7f0000000000) = 0
      flock(4, LOCK_UN) = 0
      close(4) = 0
      ${FIND_AGAIN}
      ${TRY_LOCK} = 0
      ${ATTACHED}
      ${RELEASE}`;
    ffi.play(script, () => backend.segments.attach("/q/seg", ReadWrite, lock));
  });

  test("attach() takes over a lock that nobody can hold, as the only one, after a wait", () => {
    const { ffi, backend, lock } = setUp();
    const script = `
      ${FIND}\n${OPEN_LOCK}
      ${TRY_LOCK} = EAGAIN
      ${LOOK("{ size 100, attached 0 }")}
      flock(3, LOCK_EX|LOCK_NB) = 0
      semtimedop(7, [-1 SEM_UNDO], 1000 ms) = EAGAIN
      ${LOOK_AGAIN("{ size 100, attached 0 }")}
      semop(7, [0 IPC_NOWAIT, 1, -1 SEM_UNDO]) = 0
      flock(3, LOCK_UN) = 0
      ${ATTACHED}
      ${RELEASE}`;
    ffi.play(script, () => backend.segments.attach("/q/seg", ReadWrite, lock));
  });

  test("create() of a segment that exists does not touch its lock", () => {
    // Qt sets the lock to free before it knows, even if somebody holds it.
    const { ffi, backend, lock } = setUp();
    const create = () =>
      ffi.play(
        `${FIND}\nclose(4) = 0`,
        () => backend.segments.create("/q/seg", 100, ReadWrite, lock),
      );
    assertFails(create, "AlreadyExists", "shmget", 17);
  });

  const missing = `open("/q/seg", O_NONBLOCK|O_CLOEXEC) = ENOENT`;
  const undone = `ftok("/q/seg", 'Q') = 0x51000001\nunlink("/q/seg") = 0\nclose(4) = 0`;
  const start = `${missing}\n${OPEN_NEW_LOCK}\n${TRY_LOCK} = 0\n${NEW_FILE}`;
  const shmget = "shmget(0x51000001, 100, IPC_CREAT|IPC_EXCL|0600)";
  for (
    const [name, code, syscall, errno, script] of [
      [
        "create() that loses against another one only gives the lock back",
        ...["AlreadyExists", "shmget", 17] as const,
        `${start}\n${shmget} = EEXIST\nclose(4) = 0
      ${LOOK("{ size 100, attached 1 }")}\n${RELEASE}`,
      ],
      [
        "create() without room for a segment removes the key files and the lock",
        ...["OutOfResources", "shmget", 28] as const,
        `${start}\n${shmget} = ENOSPC\n${undone}\n${missing}\n${REMOVE_LOCK}`,
      ],
      [
        "create() that cannot map its segment removes all of it",
        ...["OutOfResources", "shmat", 12] as const,
        `${start}\n${shmget} = 9\nshmat(9, 0, 0) = ENOMEM
      shmctl(9, IPC_RMID) = 0\n${undone}\n${missing}\n${REMOVE_LOCK}`,
      ],
    ] as const
  ) {
    test(name, () => {
      const { ffi, backend, lock } = setUp();
      const { segments } = backend;
      const create = () => ffi.play(script, () => segments.create("/q/seg", 100, ReadWrite, lock));
      assertFails(create, code, syscall, errno);
    });
  }

  test("attach() to more than the runtime can view detaches and gives the lock back", () => {
    const { ffi, backend, lock } = setUp("x64", 99);
    const script = `
      ${FIND}\n${OPEN_LOCK}
      ${TRY_LOCK} = 0
      shmat(9, 0, 0) = 0x7f0000000000
      shmctl(9, IPC_STAT) = { size 100, attached 2 }
      shmdt(0x7f0000000000) = 0
      ${LOOK("{ size 100, attached 1 }")}
      ${RELEASE}
      close(4) = 0`;
    const { segments } = backend;
    const attach = () => ffi.play(script, () => segments.attach("/q/seg", ReadWrite, lock));
    assert.throws(attach, { code: "InvalidSize", message: /100 bytes.*at most 99/ });
  });
});
