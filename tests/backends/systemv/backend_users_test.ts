/** What belongs to another user is refused, and what was taken until then given back. */
import { describe, test } from "node:test";
import { AccessMode, SystemSemaphoreMode } from "../../../mod.ts";
import * as fake from "../../fixtures/fake_system.ts";
import { assertFails, script, setUp } from "../../fixtures/fake_system.ts";

const { ReadWrite } = AccessMode;
const { ATTACHED, DOWN, FIND, FOUND, MAKE, OPEN, OPEN_LOCK, REMOVE_LOCK } = fake;
const { SHARE, STATUS, STATX, UNLOCK, UNSHARE } = fake;
/** The lock is made beside a key file of another user, which leads to no segment. */
const OPEN_NEW_LOCK = fake.NEW_LOCK(
  `${STATX("/q/seg")} = { inode 1 }`,
  "shmget(0x51000001, 0, 0) = ENOENT",
);

const DENIED = "PermissionDenied";
const ALL = 0o666;
const EVE = `getpwuid(1001) = "eve"`;
/** The tables of all segments and semaphores, whosever they are. */
function setUpTables(uid: number) {
  const setup = setUp();
  for (const [name, key] of [["shm", 0x51000001], ["sem", 0x51000002]] as const) {
    const rows = ["       key        id perms   uid", "       111         0   600     0"];
    setup.ffi.files.set(`/proc/sysvipc/${name}`, `${rows.join("\n")}\n ${key} 9 600 ${uid}\n`);
  }
  return setup;
}

function attach(steps: string, permissions?: number, setup = setUp("x64", Infinity, permissions)) {
  const { ffi, backend, lock } = setup;
  return ffi.play(
    steps,
    () => backend.segments.attach("/q/seg", ReadWrite, lock, permissions),
  );
}

function create(steps: string, { ffi, backend, lock } = setUp()) {
  return ffi.play(steps, () => backend.segments.create("/q/seg", 100, ReadWrite, lock));
}

function openSemaphore(steps: string, { ffi, backend } = setUp()) {
  return ffi.play(
    steps,
    () => backend.semaphores.open("/q/sem", 1, SystemSemaphoreMode.Open),
  );
}

describe("another user's key file", () => {
  const THEIRS = (path: string, fd: number) =>
    `${OPEN(path)} = ${fd}
    statx(${fd}) = { inode ${fd === 4 ? 1 : 2}, uid 1001 }
    close(${fd}) = 0
    ${EVE}`;
  const text = /key file \/q\/se[gm] belongs to eve \(uid 1001\), another user/;

  test("is no segment to attach to", () => {
    assertFails(() => attach(THEIRS("/q/seg", 4)), DENIED, undefined, undefined, text);
  });

  test("is named by the number of a user who has no name", () => {
    const steps = THEIRS("/q/seg", 4).replace('"eve"', "NULL");
    const number = /belongs to uid 1001, another user/;
    assertFails(() => attach(steps), DENIED, undefined, undefined, number);
  });

  test("is no file to create a segment with: the lock made for that is removed", () => {
    const steps = script(
      ...[`${STATX("/q/seg")} = { inode 1, uid 1001 }`, "shmget(0x51000001, 0, 0600) = ENOENT"],
      ...[OPEN_NEW_LOCK, `${MAKE("/q/seg")} = EEXIST`, THEIRS("/q/seg", 4)],
      ...[`${STATX("/q/seg")} = { inode 1, uid 1001 }`, "shmget(0x51000001, 0, 0) = ENOENT"],
      ...[THEIRS("/q/seg", 4), REMOVE_LOCK],
    );
    assertFails(() => create(steps), DENIED, undefined, undefined, text);
  });

  test("is no lock: what was found by then is closed", () => {
    // The segment's own key file is kept open for the next time.
    const steps = script(FOUND, `${MAKE("/q/sem")} = EEXIST`, THEIRS("/q/sem", 3));
    assertFails(() => attach(steps), DENIED, undefined, undefined, text);
  });

  test("is no semaphore", () => {
    const steps = script(`${MAKE("/q/sem")} = EEXIST`, THEIRS("/q/sem", 3));
    assertFails(() => openSemaphore(steps), DENIED, undefined, undefined, text);
  });
});

describe("another user's semaphore", () => {
  const text = /the semaphore belongs to eve \(uid 1001\), another user/;
  const THEIRS = OPEN_LOCK.split("\n").slice(0, -1).join("\n");
  /** Its key file is this user's; a semaphore's is shared first. */
  const SHARED = (steps: string) =>
    steps.replace(
      /(.*)(semget)/,
      `${fake.UNMARKED_YET}\n${SHARE(3)} = 0\n${fake.SEM_CURRENT}\n$2`,
    ) + `\n${UNSHARE(3)}`;
  const OF = (users: string) => script(THEIRS, `semctl(7, 0, IPC_STAT) = { ${users} }`, EVE);

  for (const users of ["uid 1001, cuid 1001", "uid 1001, cuid 1000", "uid 1000, cuid 1001"]) {
    test(`is refused (${users}): either may change it`, () => {
      const open = () => openSemaphore(SHARED(OF(users)));
      const advice = /the semaphore belongs to eve .*; use a key or a TMPDIR of your own$/;
      assertFails(open, DENIED, "semget", undefined, advice);
    });

    test(`is refused as a lock (${users}) before anything is attached`, () => {
      const steps = script(FOUND, OF(users));
      const advice = /the lock belongs to eve .*, or share .*\(the option permissions\)$/;
      assertFails(() => attach(steps), DENIED, "semget", undefined, advice);
    });
  }

  test("is refused, with the user's name, also if it cannot be looked at", () => {
    const steps = script(THEIRS.replace(/= 7$/, "= EACCES"), EVE);
    const open = () => openSemaphore(SHARED(steps), setUpTables(1001));
    assertFails(open, DENIED, "semget", 13, text);
  });

  test("is refused as nobody's if the system does not say whose it is", () => {
    const setup = setUp();
    setup.ffi.files.clear();
    const open = () => openSemaphore(SHARED(THEIRS.replace(/= 7$/, "= EACCES")), setup);
    assertFails(open, DENIED, "semget", 13, /the semaphore belongs to another user;/);
  });
});

describe("another user's segment", () => {
  const text = /the segment belongs to eve \(uid 1001\), another user/;

  for (const users of ["uid 1001, cuid 1001", "uid 1001, cuid 1000", "uid 1000, cuid 1001"]) {
    test(`is refused (${users}) before anybody takes us for a user`, () => {
      const steps = script(FIND, STATUS(`size 100, attached 1, ${users}`), EVE);
      assertFails(() => attach(steps), DENIED, "shmctl", undefined, text);
    });
  }

  test("is refused by attach(), with the user's name, if it cannot be looked at", () => {
    const found = FIND.replace(/= 9$/, "= EACCES");
    const failing = () => attach(script(found, EVE), undefined, setUpTables(1001));
    assertFails(failing, DENIED, "shmget", 13, text);
  });

  test("is refused by create(), with the user's name, before the lock is asked for", () => {
    const steps = script(
      ...[`${STATX("/q/seg")} = { inode 1 }`, "shmget(0x51000001, 0, 0600) = EACCES"],
      EVE,
    );
    assertFails(() => create(steps, setUpTables(1001)), DENIED, "shmget", 13, text);
  });
});

describe("a symbolic link as a key file", () => {
  const text = /symbolic link.*ELOOP/;

  test("is no segment to attach to", () => {
    assertFails(() => attach(`${OPEN("/q/seg")} = ELOOP`), DENIED, "open", 40, text);
  });

  test("is no file to create a segment with: the lock made for that is removed", () => {
    const none = script(`${STATX("/q/seg")} = { inode 1 }`, "shmget(0x51000001, 0, 0) = ENOENT");
    const steps = script(
      ...[none.replace(", 0)", ", 0600)"), OPEN_NEW_LOCK],
      ...[`${MAKE("/q/seg")} = EEXIST`, `${OPEN("/q/seg")} = ELOOP`, none],
      ...[`${OPEN("/q/seg")} = ELOOP`, REMOVE_LOCK],
    );
    assertFails(() => create(steps), DENIED, "open", 40, text);
  });

  test("is no semaphore", () => {
    const steps = script(`${MAKE("/q/sem")} = EEXIST`, `${OPEN("/q/sem")} = ELOOP`);
    assertFails(() => openSemaphore(steps), DENIED, "open", 40, text);
  });

  test("is followed for a native key, unless it leads in a circle", () => {
    const { ffi, backend } = setUp();
    const steps = `open("/q/seg", O_NONBLOCK|O_CLOEXEC) = ELOOP`;
    const open = () => ffi.play(steps, () => backend.segments.attach("/q/seg", ReadWrite, null));
    assertFails(open, "KeyError", "open", 40);
  });
});

describe("a key file that may not be read", () => {
  test("is named by a descriptor that needs no permission", () => {
    const path = `open("/q/seg", O_PATH|O_NOFOLLOW|O_CLOEXEC)`;
    const found = FOUND.replace(OPEN("/q/seg"), `${OPEN("/q/seg")} = EACCES\n${path}`);
    attach(script(found, OPEN_LOCK, `${DOWN(10)} = 0`, ATTACHED, UNLOCK));
  });

  test("is refused by such a descriptor too if it is another user's", () => {
    const steps = `${OPEN("/q/seg")} = EACCES
      open("/q/seg", O_PATH|O_NOFOLLOW|O_CLOEXEC) = 4
      statx(4) = { inode 1, uid 1001 }
      close(4) = 0
      ${EVE}`;
    assertFails(() => attach(steps), DENIED, undefined, undefined);
  });

  test("is followed there for a native key", () => {
    const { ffi, backend } = setUp();
    const steps = `open("/q/seg", O_NONBLOCK|O_CLOEXEC) = EACCES
      open("/q/seg", O_PATH|O_CLOEXEC) = 4
      statx(4) = { inode 1, uid 1001 }
      shmget(0x51000001, 0, 0600) = 9
      ${STATUS("size 100")}
      ${fake.ATTACHED_NATIVE.replace("0", "EBADF")}`;
    ffi.play(steps, () => backend.segments.attach("/q/seg", ReadWrite, null));
  });

  test("is an error where its folder may not be searched", () => {
    const steps = `${OPEN("/q/seg")} = EACCES
      open("/q/seg", O_PATH|O_NOFOLLOW|O_CLOEXEC) = EACCES`;
    assertFails(() => attach(steps), DENIED, "open", 13);
  });
});

describe("permissions to share", () => {
  const FIND_LOCK = OPEN_LOCK.replace("0640", "0666").replace("uid 1000", "uid 1001")
    .split("\n").slice(0, -1).join("\n");

  function attachedToTheirs() {
    const { ffi, backend, lock } = setUp("x64", undefined, ALL);
    const found = FOUND.replace("uid 1000", "uid 1001").replace(
      "size 100",
      "size 100, uid 1001, cuid 1001",
    );
    const steps = script(found, FIND_LOCK, `${DOWN(10)} = 0`, ATTACHED, UNLOCK);
    const { segments } = backend;
    return { ffi, segment: ffi.play(steps, () => segments.attach("/q/seg", ReadWrite, lock, ALL)) };
  }

  test("accept another user's key files, lock and segment, and keep no file open", () => {
    const { ffi, segment } = attachedToTheirs();
    const leaving = script(UNSHARE(4), STATUS("attached 1"), "close(3) = 0", "close(4) = 0");
    ffi.play(leaving, () => segment.release({ lockHeld: false, wait: true }));
  });

  test("leave another user's lock where this user may remove the segment", () => {
    const { ffi, segment } = attachedToTheirs();
    const leaving = script(
      ...[UNSHARE(4), STATUS("attached 0"), `${fake.TRY_DOWN} = 0`, STATUS("attached 0")],
      ...["shmctl(9, IPC_RMID) = 0", fake.REMOVE_FILE, `${fake.ALONE(3)} = 0`],
      ...["semctl(7, 0, IPC_STAT) = { uid 1001, cuid 1001 }", UNLOCK, "close(3) = 0"],
      "close(4) = 0",
    );
    ffi.play(leaving, () => segment.release({ lockHeld: false, wait: true }));
  });

  test("do not accept a symbolic link", () => {
    assertFails(() => attach(`${OPEN("/q/seg")} = ELOOP`, ALL), DENIED, "open", 40);
  });
});
