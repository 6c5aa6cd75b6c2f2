/** What the Windows backend asks of the system for segments, on a made-up one: also races and rare errors. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { windows } from "../../../backends/windows/mod.ts";
import { AccessMode, UnsupportedError } from "../../../mod.ts";
import { sourceFiles } from "../../../scripts/sources.ts";
import { ERRORS, FakeKernel32 } from "../../fixtures/fake_kernel32.ts";
import * as fake from "../../fixtures/fake_windows.ts";
import {
  assertFails,
  attach,
  create,
  open,
  script,
  setUp,
  takeBoth,
} from "../../fixtures/fake_windows.ts";

const { ENTER, FOUND, HELD, LEAVE, MAKE, MAP, MISSING, NOT_THERE, OPEN_LOCK, THERE } = fake;
const { BEGIN, END, LATER, UNLOCK, UNMAP } = fake;

describe("create() on Windows", () => {
  test("makes the segment as the only one who may, and under the lock", () => {
    const setup = setUp();
    const segment = setup.ffi.play(fake.CREATE, () => create(setup));
    assert.deepEqual([segment.address, segment.size], [0x7000n, 4096]);
    assert.equal(segment.unmap(), true); // what nobody knows any more is freed
    setup.ffi.play(UNMAP, () => segment.free());
    setup.ffi.play(
      script(fake.CLOSE_LOCK, "CloseHandle(2)"),
      () => segment.release({ lockHeld: false, wait: true }),
    );
  });

  test("releases the lock when it leaves, if it is held", () => {
    const setup = setUp();
    const segment = setup.ffi.play(fake.CREATE, () => create(setup));
    setup.ffi.play(takeBoth(500), () => setup.lock.acquire());
    const steps = script(UNLOCK, fake.CLOSE_LOCK, "CloseHandle(2)");
    setup.ffi.play(steps, () => segment.release({ lockHeld: true, wait: true }));
  });

  test("with ReadOnly only maps it so", () => {
    const setup = setUp();
    const steps = fake.CREATE.replace("(2, READ|WRITE)", "(2, READ)")
      .replace('(READ|WRITE, "seg")', '(READ, "seg")');
    setup.ffi.play(steps, () => create(setup, AccessMode.ReadOnly));
  });

  test("splits a size beyond 4 GiB into halves", () => {
    const { ffi, backend } = setUp();
    for (const size of [2 ** 32, 2 ** 33 + 5, 2 ** 52 + 1]) {
      const steps = script(
        ...[NOT_THERE, ENTER, MISSING, BEGIN, `CreateFileMappingW(${size}, "seg") = 2`],
        ...["MapViewOfFile(2, READ|WRITE) = 0x7000", `VirtualQuery(0x7000) = ${size}`, END],
      );
      const segment = ffi.play(
        steps,
        () => backend.segments.create("seg", size, AccessMode.ReadWrite, null),
      );
      assert.equal(segment.size, size);
    }
  });

  test("refuses a size that the runtime has no view of before it asks for anything", () => {
    const setup = setUp(99);
    assertFails(
      () => setup.ffi.play(NOT_THERE, () => create(setup)),
      ...["InvalidSize", undefined, undefined, /100 bytes.*at most 99/] as const,
    );
  });

  test("of a segment that exists is AlreadyExists at once, whoever holds its lock", () => {
    const setup = setUp();
    for (const state of [script(ENTER, THERE, LEAVE), fake.GIVE_UP]) { // complete, or being made
      const creating = () => setup.ffi.play(script(THERE, state), () => create(setup));
      assertFails(creating, "AlreadyExists", "OpenFileMappingW", 183, /attach\(\) to it/);
    }
  });

  test("does not take for a user who only finds the segment too small", () => {
    const setup = setUp();
    const looked = script(THERE, ENTER, NOT_THERE, LEAVE);
    setup.ffi.play(script(looked, fake.CREATE.replace(`${NOT_THERE}\n`, "")), () => create(setup));
  });

  test("of a segment that a Qt program makes meanwhile is AlreadyExists", () => {
    const setup = setUp();
    const steps = script(
      ...[NOT_THERE, ENTER, MISSING, BEGIN, OPEN_LOCK, takeBoth(10)],
      ...[`${MAKE} = 2 ERROR_ALREADY_EXISTS`, "CloseHandle(2)", FOUND],
      ...[UNLOCK, "CloseHandle(2)", END],
    );
    const creating = () => setup.ffi.play(steps, () => create(setup));
    assertFails(creating, "AlreadyExists", "OpenFileMappingW", 183);
  });

  test("waits for a lock that somebody holds without a segment, and then gives up", () => {
    const setup = setUp();
    const waits = Array(499).fill(script(takeBoth(10, "WAIT_TIMEOUT"), HELD, MISSING));
    const first = script(takeBoth(10, "WAIT_TIMEOUT"), HELD);
    const steps = script(NOT_THERE, ENTER, MISSING, BEGIN, OPEN_LOCK, ...waits, first, END);
    const creating = () => setup.ffi.play(steps, () => create(setup));
    assertFails(creating, "LockError", undefined, undefined, /held by a process that is not att/);
  });

  test("finds the segment of the Qt program whose lock it waits for", () => {
    const setup = setUp();
    const steps = script(
      ...[NOT_THERE, ENTER, MISSING, BEGIN, OPEN_LOCK, takeBoth(10, "WAIT_TIMEOUT"), fake.FOREIGN],
      ...[FOUND, "CloseHandle(2)", END],
    );
    assertFails(
      () => setup.ffi.play(steps, () => create(setup)),
      "AlreadyExists",
      "OpenFileMappingW",
      183,
    );
  });

  const errors: readonly [keyof typeof ERRORS, string, RegExp][] = [
    ["ERROR_COMMITMENT_LIMIT", "InvalidSize", /enlarge/],
    ["ERROR_INVALID_PARAMETER", "InvalidSize", /size/],
    ["ERROR_NO_SYSTEM_RESOURCES", "OutOfResources", /resources/],
    ["ERROR_NOT_ENOUGH_MEMORY", "OutOfResources", /memory/],
    ["ERROR_DISK_FULL", "OutOfResources", /disk/],
    ["ERROR_ACCESS_DENIED", "PermissionDenied", /another user.*use another key/],
    ["ERROR_INVALID_HANDLE", "KeyError", /another kind.*use another key/],
    ["ERROR_PATH_NOT_FOUND", "KeyError", /use another/],
    ["ERROR_INVALID_NAME", "KeyError", /use another/],
    ["ERROR_BAD_PATHNAME", "KeyError", /use another/],
    ["ERROR_FILENAME_EXCED_RANGE", "KeyError", /too long/],
  ];
  for (const [error, code, advice] of errors) {
    test(`that fails with ${error} is ${code}, and leaves nothing`, () => {
      const setup = setUp();
      const before = script(NOT_THERE, ENTER, MISSING, BEGIN, OPEN_LOCK, takeBoth(10));
      const steps = script(before, `${MAKE} = NULL ${error}`, UNLOCK, END);
      const creating = () => setup.ffi.play(steps, () => create(setup));
      assertFails(creating, code, "CreateFileMappingW", ERRORS[error], advice);
      assertFails(
        () =>
          setup.ffi.play(
            script(fake.NOT_THERE.replace("ERROR_FILE_NOT_FOUND", error)),
            () => create(setup),
          ),
        ...[code, "OpenFileMappingW", ERRORS[error], new RegExp(`: ${error} \\d+\\]$`)] as const,
      );
      setup.ffi.play(fake.CLOSE_LOCK, () => setup.lock.close());
    });
  }

  test("with Global\\ that is not permitted names the right that it takes", () => {
    const { ffi, backend } = setUp();
    const name = JSON.stringify("Global\\seg");
    const steps = script(
      `OpenFileMappingW(READ, ${name}) = NULL ERROR_FILE_NOT_FOUND`,
      `CreateMutexW(${JSON.stringify("Global\\seg_looking")}) = 9`,
      `CreateMutexW(${JSON.stringify("Global\\seg_creating")}) = 1`,
      "WaitForSingleObject(9, 1000 ms) = WAIT_OBJECT_0",
      "WaitForSingleObject(1, 0 ms) = WAIT_OBJECT_0",
      `OpenFileMappingW(READ|WRITE, ${name}) = NULL ERROR_FILE_NOT_FOUND`,
      BEGIN,
      `CreateFileMappingW(9, ${name}) = NULL ERROR_ACCESS_DENIED`,
      END,
    );
    const creating = () => backend.segments.create("Global\\seg", 9, AccessMode.ReadWrite, null);
    assertFails(
      () => ffi.play(steps, creating),
      ...["PermissionDenied", "CreateFileMappingW", 5, /SeCreateGlobalPrivilege/] as const,
    );
  });

  test("closes the mapping if it cannot be mapped", () => {
    const setup = setUp();
    const steps = script(
      ...[NOT_THERE, ENTER, MISSING, BEGIN, OPEN_LOCK, takeBoth(10), `${MAKE} = 2`],
      ...["MapViewOfFile(2, READ|WRITE) = NULL ERROR_NOT_ENOUGH_MEMORY", "CloseHandle(2)"],
      ...[UNLOCK, END],
    );
    const creating = () => setup.ffi.play(steps, () => create(setup));
    assertFails(creating, "OutOfResources", "MapViewOfFile", 8);
  });

  test("asks again for an error that is none of its call's", () => {
    const setup = setUp();
    const [lie, nothing] = ["ERROR_IO_PENDING", "0"].map((error) =>
      NOT_THERE.replace("ERROR_FILE_NOT_FOUND", error)
    );
    setup.ffi.play(script(lie!, nothing!, fake.CREATE), () => create(setup));
    const stubborn = script(lie!, lie!, lie!);
    assertFails(
      () => setup.ffi.play(stubborn, () => create(setup)),
      ...["UnknownError", "OpenFileMappingW", 997, /error 997\]$/] as const,
    );
  });
});

describe("attach() on Windows", () => {
  test("looks for the segment as the only one, and maps it under the lock", () => {
    const setup = setUp();
    assert.equal(setup.ffi.play(fake.ATTACH, () => attach(setup)).size, 4096);
  });

  test("with ReadOnly asks for no more than that", () => {
    const setup = setUp();
    const steps = fake.ATTACH.replaceAll("READ|WRITE", "READ");
    setup.ffi.play(steps, () => attach(setup, AccessMode.ReadOnly));
  });

  test("does not wait for a user who holds the lock", () => {
    for (const holder of [HELD, fake.FOREIGN]) {
      const setup = setUp();
      const busy = script(takeBoth(10, "WAIT_TIMEOUT"), holder);
      setup.ffi.play(script(ENTER, FOUND, MAP, LEAVE, OPEN_LOCK, busy), () => attach(setup));
    }
  });

  test("to what is not there is NotFound", () => {
    const setup = setUp();
    const attaching = () => setup.ffi.play(script(ENTER, MISSING, LEAVE), () => attach(setup));
    assertFails(attaching, "NotFound", "OpenFileMappingW", 2, /create\(\) it first/);
  });

  test("that fails closes what it had opened", () => {
    const setup = setUp();
    const view = "MapViewOfFile(2, READ|WRITE)";
    const refused = `${view} = NULL ERROR_ACCESS_DENIED`;
    const denied = script(ENTER, FOUND, refused, "CloseHandle(2)", LEAVE);
    assertFails(
      () => setup.ffi.play(denied, () => attach(setup)),
      "PermissionDenied",
      "MapViewOfFile",
      5,
    );
    const conflict = script(
      ...[ENTER, FOUND, MAP, LEAVE, 'CreateSemaphoreW(1, MAXLONG, "sem") = 3'],
      ...['CreateMutexW("sem_holder") = NULL ERROR_INVALID_HANDLE', "CloseHandle(3)"],
      ...[UNMAP, "CloseHandle(2)"],
    );
    const other = setUp();
    assertFails(() => other.ffi.play(conflict, () => attach(other)), "KeyError", "CreateMutexW", 6);
  });

  test("to more than the runtime has a view of, or less than was asked for, is InvalidSize", () => {
    const wrong = script(ENTER, FOUND, MAP, UNMAP, "CloseHandle(2)", LEAVE);
    const small = setUp(4095);
    const texts = [/4096 bytes.*at most 4095/, /4096 bytes, fewer than the 4097/] as const;
    assertFails(
      () => small.ffi.play(wrong, () => attach(small)),
      "InvalidSize",
      undefined,
      undefined,
      texts[0],
    );
    const setup = setUp();
    const { segments } = setup.backend;
    const attaching = () => segments.attach("seg", AccessMode.ReadWrite, setup.lock, 0o600, 4097);
    assertFails(
      () => setup.ffi.play(wrong, attaching),
      "InvalidSize",
      undefined,
      undefined,
      texts[1],
    );
  });

  test("of a segment that is being made is NotFound", () => {
    const setup = setUp();
    const attaching = () => setup.ffi.play(fake.GIVE_UP, () => attach(setup));
    assertFails(attaching, "NotFound", "OpenFileMappingW", 2);
  });

  test("waits for who is looking for it, but not for ever, nor if he died", () => {
    const setup = setUp();
    const busy = "WaitForSingleObject(9, 1000 ms) = WAIT_TIMEOUT";
    const found = script(fake.enterAs("WAIT_OBJECT_0", busy, busy), FOUND, LEAVE);
    const patient = fake.ATTACH.replace(script(ENTER, FOUND, LEAVE), found);
    setup.ffi.play(patient, () => attach(setup));
    const dead = found.replace(`${busy}\n${busy}\n`, "")
      .replace("9, 1000 ms) = WAIT_OBJECT_0", "9, 1000 ms) = WAIT_ABANDONED");
    const missing = dead.replace(FOUND, MISSING);
    const attaching = () => setup.ffi.play(missing, () => attach(setup));
    assertFails(attaching, "NotFound", "OpenFileMappingW", 2);
    const [looking, creating] = ENTER.split("\n");
    const waits = Array(5).fill(busy);
    const stuck = script(looking!, creating!, ...waits, "CloseHandle(9)", "CloseHandle(1)");
    const giving = () => setup.ffi.play(stuck, () => attach(setup));
    assertFails(giving, "LockError", undefined, undefined, /other processes look/);
  });

  test("does not take what somebody has left who was killed while he made it", () => {
    const setup = setUp();
    const dead = fake.enterAs("WAIT_ABANDONED");
    // The kernel is still closing his handles.
    const steps = script(dead, THERE, "Sleep(10)", THERE, "Sleep(10)", NOT_THERE, MISSING, LEAVE);
    const attaching = () => setup.ffi.play(steps, () => attach(setup));
    assertFails(attaching, "NotFound", "OpenFileMappingW", 2);
  });

  test("fails once if it cannot tell that from a segment in use", () => {
    const setup = setUp();
    const looks = Array(500).fill(script(THERE, "Sleep(10)"));
    const steps = script(fake.enterAs("WAIT_ABANDONED"), ...looks, THERE, LEAVE);
    const attaching = () => setup.ffi.play(steps, () => attach(setup));
    assertFails(attaching, "LockError", undefined, undefined, /the next call takes it as it is/);
  });

  test("and all others refuse names that Windows does not have", () => {
    const { backend } = setUp();
    const { segments, semaphores } = backend;
    const wrong: readonly [string, RegExp][] = [
      ["a\\b", /backslash only after Local or Global/],
      ["local\\a", /backslash/],
      ["Local\\", /something must follow/],
      ["Global\\Local\\a", /backslash/],
      ["a\0b", /NUL/],
      ["a".repeat(261), /261 UTF-16 units; Windows allows 260/],
    ];
    for (const [name, text] of wrong) {
      const uses = [
        () => segments.attach(name, AccessMode.ReadWrite, null),
        () => segments.create(name, 1, AccessMode.ReadWrite, null),
        () => semaphores.open(name, 1, 0),
        () => semaphores.lock(name).acquire(),
      ];
      for (const use of uses) assertFails(use, "KeyError", undefined, undefined, text);
    }
  });

  test("makes a name of its own where the segment's is too long to add to", () => {
    const { ffi, backend } = setUp();
    const long = "ä".repeat(253);
    // The SHA-1 of the name; `Local\\` means nothing.
    const names: readonly [string, string][] = [
      [long, "qipc_cd5706058e26f1758aac6b707f7ede45e6065948"],
      [`Local\\${long}`, "qipc_cd5706058e26f1758aac6b707f7ede45e6065948"],
      [`Global\\${long}`, "Global\\qipc_eb4764ea64f0a107c4884ec9f4b55565a71d0502"],
    ];
    for (const [name, own] of names) {
      const steps = script(
        `CreateMutexW(${JSON.stringify(`${own}_looking`)}) = 9`,
        `CreateMutexW(${JSON.stringify(`${own}_creating`)}) = 1`,
        "WaitForSingleObject(9, 1000 ms) = WAIT_OBJECT_0",
        "WaitForSingleObject(1, 0 ms) = WAIT_OBJECT_0",
        `OpenFileMappingW(READ|WRITE, ${JSON.stringify(name)}) = NULL ERROR_FILE_NOT_FOUND`,
        LEAVE,
      );
      const attaching = () => backend.segments.attach(name, AccessMode.ReadWrite, null);
      assertFails(() => ffi.play(steps, attaching), "NotFound", "OpenFileMappingW", 2);
    }
  });
});

describe("open() on Windows", () => {
  const WITHOUT_LOCK = script(ENTER, MISSING, BEGIN, OPEN_LOCK, takeBoth(10), `${MAKE} = 2`, MAP);

  test("makes the segment, and lets nobody look for it before it is filled", () => {
    const setup = setUp();
    const { ffi } = setup;
    const segment = ffi.play(script(WITHOUT_LOCK, UNLOCK, END), () =>
      open(setup, {
        initialize: () => {
          assert.ok(ffi.next.startsWith("ReleaseSemaphore"), "locked, and the only one");
          const nested = () =>
            setup.backend.segments.attach("Local\\seg", AccessMode.ReadWrite, null);
          assertFails(nested, "NotFound", "OpenFileMappingW", 2); // to itself a mutex is open
        },
      }));
    assert.equal(segment.size, 4096);
  });

  test("leaves the segment to initialize that throws, and then lets others make it", () => {
    const setup = setUp();
    const mine = new Error("mine");
    const left = script(UNLOCK, fake.CLOSE_LOCK, "CloseHandle(2)");
    const opening = () =>
      open(setup, {
        initialize: (segment) => {
          segment.release({ lockHeld: true, wait: true });
          throw mine;
        },
      });
    const steps = script(WITHOUT_LOCK, left, END);
    assert.throws(() => setup.ffi.play(steps, opening), (error) => error === mine);
    setup.ffi.play(script(WITHOUT_LOCK, UNLOCK, END), () => open(setup)); // it is not in there any more
  });

  test("attaches to the segment that exists, if it is large enough", () => {
    const setup = setUp();
    setup.ffi.play(fake.ATTACH, () => open(setup, { initialize: () => assert.fail("again") }));
    setup.ffi.play(
      fake.ATTACH.replace(`${OPEN_LOCK}\n`, ""),
      () => open(setup, { size: 4096 }),
    );
    const tooSmall = script(ENTER, FOUND, MAP, UNMAP, "CloseHandle(2)", LEAVE);
    assertFails(
      () => setup.ffi.play(tooSmall, () => open(setup, { size: 4097 })),
      ...["InvalidSize", undefined, undefined, /4096 bytes, fewer than the 4097/] as const,
    );
  });

  test("refuses one that exists, if so asked", () => {
    const setup = setUp();
    const steps = script(ENTER, FOUND, "CloseHandle(2)", LEAVE);
    const opening = () => setup.ffi.play(steps, () => open(setup, { existing: "refuse" }));
    assertFails(opening, "AlreadyExists", "OpenFileMappingW", 183);
  });

  test("attaches to what a Qt program makes meanwhile", () => {
    const setup = setUp();
    const before = script(ENTER, MISSING, BEGIN, OPEN_LOCK, takeBoth(10));
    const exists = script(`${MAKE} = 2 ERROR_ALREADY_EXISTS`, "CloseHandle(2)");
    const after = script(UNLOCK, MAP, END, takeBoth(10), UNLOCK);
    const initialize = () => assert.fail("not ours");
    setup.ffi.play(script(before, exists, FOUND, after), () => open(setup, { initialize }));
  });

  test("is not misled by an error that is another call's", () => {
    const setup = setUp();
    const before = script(ENTER, MISSING, BEGIN, OPEN_LOCK, takeBoth(10));
    const lie = script(`${MAKE} = 2 ERROR_ALREADY_EXISTS`, "CloseHandle(2)", MISSING);
    let filled = 0;
    const steps = script(before, lie, `${MAKE} = 2`, MAP, UNLOCK, END);
    setup.ffi.play(steps, () => open(setup, { initialize: () => filled++ }));
    assert.equal(filled, 1);
  });

  test("begins anew when the creator was killed in initialize", () => {
    const setup = setUp();
    let filled = 0;
    const begun = WITHOUT_LOCK.replace(ENTER, script(fake.enterAs("WAIT_ABANDONED"), NOT_THERE));
    setup.ffi.play(
      script(begun, UNLOCK, END),
      () => open(setup, { initialize: () => filled++ }),
    );
    assert.equal(filled, 1);
  });

  test("waits for who is making the segment as long as it is asked to", () => {
    const setup = setUp();
    const [looking, creating] = ENTER.split("\n");
    const late = script(LATER, "Sleep(10)", LATER, "Sleep(10)", LATER, "Sleep(5)", LATER);
    const steps = script(looking!, creating!, late, "CloseHandle(9)", "CloseHandle(1)");
    const opening = () => setup.ffi.play(steps, () => open(setup, { timeoutMs: 25 }));
    assertFails(
      opening,
      "LockError",
      undefined,
      undefined,
      /^timed out: the lock is held by a pro/,
    );
    const later = Array(4).fill(script(LATER, "Sleep(10)"));
    const patient = fake.ATTACH.replace(ENTER, fake.enterAs("WAIT_OBJECT_0", ...later));
    setup.ffi.play(patient, () => open(setup, { timeoutMs: Infinity }));
  });
});

describe("the functions of Windows", () => {
  const root = fileURLToPath(new URL("../../../", import.meta.url));

  test("are declared in backends/win32/kernel32.ts and nowhere else", () => {
    const names = Object.keys(setUp().ffi.signatures);
    assert.ok(names.includes("CreateFileMappingW") && names.length > 10);
    const declaration = new RegExp(`\\b(${names.join("|")})"?\\s*:\\s*\\{`, "g");
    for (const file of sourceFiles()) {
      const found = readFileSync(root + file, "utf8").match(declaration) ?? [];
      assert.equal(found.length, file === "backends/win32/kernel32.ts" ? names.length : 0, file);
    }
  });

  test("are not loaded elsewhere, or on a processor that is not known", () => {
    for (const [os, arch] of [["linux", "x64"], ["win32", "ia32"]] as const) {
      const ffi = new FakeKernel32();
      assert.throws(() => windows(ffi, { os, arch }), (error) => {
        assert.ok(error instanceof UnsupportedError);
        assert.ok(error.message.includes(`${os} ${arch}`), error.message);
        return true;
      });
      assert.deepEqual(ffi.signatures, {});
    }
    windows(new FakeKernel32(), { os: "win32", arch: "arm64" });
  });
});
