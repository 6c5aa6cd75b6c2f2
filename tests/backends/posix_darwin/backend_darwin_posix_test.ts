/** POSIX objects on macOS: which calls are made, and what they cannot do there. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { tryThenWait } from "../../fixtures/fake_background.ts";
import { keyTypeOf } from "../../../backends/mod.ts";
import { Libc } from "../../../backends/unix/libc.ts";
import { darwinPosix } from "../../../backends/posix_darwin/mod.ts";
import type { OpenRequest } from "../../../backends/types.ts";
import { AccessMode, NativeIpcKeyType, SystemSemaphoreMode } from "../../../mod.ts";
import { legacyNativeKey, platformSafeKey } from "../../../native_ipc_key.ts";
import { FakeFfi } from "../../fixtures/fake_ffi.ts";
import { assertFails, script } from "../../fixtures/fake_system.ts";

const { ReadOnly, ReadWrite } = AccessMode;
const { Create, Open } = SystemSemaphoreMode;

function setUp(arch = "arm64") {
  const ffi = new FakeFfi(arch, undefined, "darwin");
  const backend = darwinPosix(ffi, new Libc(ffi, arch, "darwin"));
  return { ffi, ...backend, lock: backend.semaphores.lock("/seg") };
}

const MAKE = `shm_open("/seg", O_RDWR|O_CREAT|O_EXCL, 0600)`;
const FIND = `shm_open("/seg", O_RDWR)`;
const MAP = (prot = "PROT_READ|PROT_WRITE", bytes = 16384) =>
  `mmap(0x0, ${bytes}, ${prot}, MAP_SHARED, 4, 0) = 0x7f0000000000`;
const CREATE = `${MAKE} = 4
  ftruncate(4, 100) = 0
  fstat(4) = { bytes 16384 }
  ${MAP()}`;
const ATTACH = `${FIND} = 4
  fstat(4) = { bytes 16384 }
  fstat(4) = { bytes 16384 }
  ${MAP()}`;
const MAKE_LOCK = `sem_open("/seg", O_CREAT|O_EXCL, 0600, 1)`;
const TRY = "sem_trywait(5)";
const TAKE = script(`${MAKE_LOCK} = 5`, `${TRY} = 0`);
const GIVE = "sem_post(5) = 0";

const REQUEST: OpenRequest = {
  ...{ size: 100, mode: ReadWrite, existing: "attach", stale: "keep", timeoutMs: 5 },
  initialize: null,
};

for (const arch of ["x64", "arm64"]) {
  describe(`a POSIX segment on macOS ${arch}`, () => {
    test("is made in one atomic call, given its size once, and asked what that is", () => {
      const { ffi, segments, lock } = setUp(arch);
      const create = () => segments.create("/seg", 100, ReadWrite, lock);
      const segment = ffi.play(CREATE, create);
      assert.deepEqual([segment.address, segment.size], [0x7f0000000000n, 16384]);
    });

    test("is removed, and its lock, by the object that made it when that detaches", () => {
      const { ffi, segments, lock } = setUp(arch);
      const segment = ffi.play(CREATE, () => segments.create("/seg", 100, ReadWrite, lock));
      ffi.play(TAKE, () => lock.acquire());
      const zeros = "PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED|MAP_ANONYMOUS|MAP_NORESERVE";
      const steps = `
        mmap(0x7f0000000000, 16384, ${zeros}, -1, 0) = 0x7f0000000000
        ${GIVE}
        sem_close(5) = 0
        sem_unlink("/seg") = 0
        shm_unlink("/seg") = 0
        close(4) = 0
        munmap(0x7f0000000000, 16384) = 0`;
      ffi.play(steps, () => {
        assert.equal(segment.unmap(), true);
        segment.release({ lockHeld: true, wait: true });
        segment.free();
      });
    });

    test("is left to its maker by the others", () => {
      const { ffi, segments, lock } = setUp(arch);
      const segment = ffi.play(ATTACH, () => segments.attach("/seg", ReadWrite, lock));
      assert.equal(segment.size, 16384);
      ffi.play(TAKE, () => lock.acquire());
      const steps = script(GIVE, "sem_close(5) = 0", "close(4) = 0");
      ffi.play(steps, () => segment.release({ lockHeld: true, wait: true }));
    });

    test("is attached to read-only", () => {
      const { ffi, segments } = setUp(arch);
      const steps = ATTACH.replace("O_RDWR", "0").replace("|PROT_WRITE", "");
      ffi.play(steps, () => segments.attach("/seg", ReadOnly, null));
    });
  });
}

describe("a POSIX segment on macOS", () => {
  test("that cannot have its size is not left behind", () => {
    for (
      const [errno, code, number] of [
        ["EINVAL", "InvalidSize", 22],
        ["ENOMEM", "OutOfResources", 12],
      ] as const
    ) {
      const { ffi, segments } = setUp();
      const steps = `
        ${MAKE} = 4
        ftruncate(4, 100) = ${errno}
        shm_unlink("/seg") = 0
        close(4) = 0`;
      const create = () => ffi.play(steps, () => segments.create("/seg", 100, ReadWrite, null));
      assertFails(create, code, "ftruncate", number);
    }
  });

  test("that exists is an error for create(), which says how it goes", () => {
    const { ffi, segments } = setUp();
    const create = () => segments.create("/seg", 100, ReadWrite, null);
    const text = /attach\(\).*shm_unlink\(\) or the system is restarted/;
    const fail = () => ffi.play(`${MAKE} = EEXIST`, create);
    assertFails(fail, "AlreadyExists", "shm_open", 17, text);
  });

  test("that does not exist, or is another user's, is an error for attach()", () => {
    for (
      const [errno, code, number] of [
        ["ENOENT", "NotFound", 2],
        ["EACCES", "PermissionDenied", 13],
      ] as const
    ) {
      const { ffi, segments } = setUp();
      const attach = () => segments.attach("/seg", ReadWrite, null);
      assertFails(() => ffi.play(`${FIND} = ${errno}`, attach), code, "shm_open", number);
    }
    const { ffi, segments } = setUp();
    const steps = `${FIND} = 4
      fstat(4) = { bytes 16384, uid 501 }
      getpwuid(501) = "ann"
      close(4) = 0`;
    const attach = () => ffi.play(steps, () => segments.attach("/seg", ReadWrite, null));
    assertFails(attach, "PermissionDenied", "fstat", undefined, /ann \(uid 501\)/);
  });

  test("that is being made is waited for until it has a size", () => {
    const { ffi, segments } = setUp();
    const none = "fstat(4) = { bytes 0 }";
    const steps = ATTACH.replace(/fstat.*\n +fstat/, `${none}\n${none}\npause(1 ms)\nfstat`);
    ffi.play(steps, () => segments.attach("/seg", ReadWrite, null));
  });

  test("that is smaller than asked for is refused", () => {
    const { ffi, segments } = setUp();
    const steps = ATTACH.replace(/mmap.*/, "close(4) = 0");
    const attach = () => segments.attach("/seg", ReadWrite, null, undefined, 16385);
    assertFails(() => ffi.play(steps, attach), "InvalidSize", undefined, undefined, /16385/);
  });

  test("is made by open() under the lock, which it keeps while the segment is filled", () => {
    const { ffi, segments, lock } = setUp();
    const initialize = () => assert.equal(ffi.next, GIVE);
    const steps = script(TAKE, `${FIND} = ENOENT`, CREATE, GIVE);
    ffi.play(steps, () => segments.open("/seg", { ...REQUEST, initialize }, lock));
  });

  test("is attached to by open() once nobody fills it, or a user holds the lock", () => {
    const { ffi, segments, lock } = setUp();
    ffi.play(script(TAKE, ATTACH, GIVE), () => segments.open("/seg", REQUEST, lock));
    const tries = [1, 2, 2].flatMap((ms) => [`${TRY} = EAGAIN`, `pause(${ms} ms)`]);
    const busy = script(...tries, `${TRY} = EAGAIN`);
    ffi.play(script(busy, ATTACH), () => segments.open("/seg", REQUEST, lock));
    const none = script(busy, `${FIND} = ENOENT`);
    const open = () => ffi.play(none, () => segments.open("/seg", REQUEST, lock));
    assertFails(open, "LockError", undefined, undefined, /timed out/);
  });

  test("is refused by open() that is to make one", () => {
    const { ffi, segments, lock } = setUp();
    const request = { ...REQUEST, existing: "refuse" } as const;
    const steps = script(TAKE, `${FIND} = 4`, "close(4) = 0", GIVE);
    const open = () => ffi.play(steps, () => segments.open("/seg", request, lock));
    assertFails(open, "AlreadyExists", "shm_open", 17);
  });

  test("that initialize fails to fill has been left, with the lock", () => {
    const { ffi, segments, lock } = setUp();
    const mine = new RangeError("mine");
    const steps = script(
      ...[TAKE, `${FIND} = ENOENT`, CREATE, GIVE, "sem_close(5) = 0", `sem_unlink("/seg") = 0`],
      ...[`shm_unlink("/seg") = 0`, "close(4) = 0"],
    );
    const open = () =>
      segments.open("/seg", {
        ...REQUEST,
        initialize(segment) {
          segment.release({ lockHeld: true, wait: true });
          throw mine;
        },
      }, lock);
    assert.throws(() => ffi.play(steps, open), (error) => error === mine);
  });
});

describe("the lock of a POSIX segment on macOS", () => {
  test("of another user is refused, and may be shared on purpose", () => {
    const { ffi, lock } = setUp();
    const steps = script(`${MAKE_LOCK} = EEXIST`, `sem_open("/seg", 0) = EACCES`);
    const text = /the lock belongs to another user; .*\(the option permissions\)/;
    const taking = () => ffi.play(steps, () => lock.acquire());
    assertFails(taking, "PermissionDenied", "sem_open", 13, text);
  });

  test("is opened if it exists, and made again if it is removed at that moment", () => {
    const { ffi, lock } = setUp();
    const steps = script(
      ...[`${MAKE_LOCK} = EEXIST`, `sem_open("/seg", 0) = ENOENT`],
      ...[`${MAKE_LOCK} = EEXIST`, `sem_open("/seg", 0) = 5`, `${TRY} = 0`],
    );
    assert.equal(ffi.play(steps, () => lock.acquire()), true);
    assert.deepEqual([lock.isHeldHere(), lock.holder], [true, undefined]);
  });

  test("is given back once, however often it is released", () => {
    const { ffi, lock } = setUp();
    ffi.play(TAKE, () => lock.acquire());
    ffi.play(GIVE, () => lock.release());
    lock.release();
  });

  test("is waited for in the kernel without a timeout, and else by tries with pauses", async () => {
    const { ffi, lock } = setUp();
    const open = `${MAKE_LOCK} = 5`;
    const waiting = script(open, `${TRY} = EAGAIN`, "sem_wait(5) = EINTR", "sem_wait(5) = 0");
    assert.equal(ffi.play(waiting, () => lock.acquire()), true);
    const trying = script(`${TRY} = EAGAIN`, "pause(1 ms)", `${TRY} = EAGAIN`);
    assert.equal(ffi.play(trying, () => lock.acquire(1)), false);
    const once = script(`${TRY} = EAGAIN`, "background pause(1 ms)");
    assert.equal(await ffi.play(once, () => tryThenWait(lock)), false);
    assert.equal(await ffi.play(`${TRY} = 0`, () => tryThenWait(lock)), true);
  });
});

describe("a POSIX semaphore on macOS", () => {
  const SEMAPHORE = (value: number) => `sem_open("/seg", O_CREAT|O_EXCL, 0600, ${value})`;

  test("that is made gets its initial value, and is removed by its maker", () => {
    const { ffi, semaphores } = setUp();
    const open = () => semaphores.open("/seg", 3, Open);
    const semaphore = ffi.play(`${SEMAPHORE(3)} = 5`, open);
    ffi.play(script(GIVE, GIVE), () => semaphore.release(2));
    ffi.play(script("sem_close(5) = 0", `sem_unlink("/seg") = 0`), () => semaphore.close());
  });

  test("that exists keeps its value in Open mode, and stays", () => {
    const { ffi, semaphores } = setUp();
    const steps = script(`${SEMAPHORE(3)} = EEXIST`, `sem_open("/seg", 0) = 5`);
    const semaphore = ffi.play(steps, () => semaphores.open("/seg", 3, Open));
    ffi.play("sem_close(5) = 0", () => semaphore.close());
  });

  test("that exists is set in Create mode", () => {
    const { ffi, semaphores } = setUp();
    const steps = script(
      ...[`${SEMAPHORE(2)} = EEXIST`, `sem_open("/seg", 0) = 5`],
      ...[`${TRY} = 0`, `${TRY} = EAGAIN`, GIVE, GIVE],
    );
    ffi.play(steps, () => semaphores.open("/seg", 2, Create));
  });

  test("of another user is refused", () => {
    const { ffi, semaphores } = setUp();
    const steps = script(`${SEMAPHORE(1)} = EEXIST`, `sem_open("/seg", 0) = EACCES`);
    const open = () => ffi.play(steps, () => semaphores.open("/seg", 1, Open));
    const text = /the semaphore belongs to another user; use a key of your own \[/;
    assertFails(open, "PermissionDenied", "sem_open", 13, text);
  });
});

describe("a POSIX name on macOS", () => {
  const name = (bytes: number) => "/" + "n".repeat(bytes - 1);

  test("has at most 30 bytes, its slash included, and the error says what to use", () => {
    const { ffi, segments, semaphores } = setUp();
    const attach = (key: string) => segments.attach(key, ReadWrite, null);
    const steps = ATTACH.replace("/seg", name(30));
    ffi.play(steps, () => attach(name(30)));
    const uses = [
      () => attach(name(31)),
      () => semaphores.lock(name(31)),
      () => semaphores.open(name(31), 1, Open),
      () => attach("/" + "é".repeat(15)),
    ];
    const text = /has 31 bytes, and macOS allows 30.*SharedMemory\.legacyNativeKey\(\)/;
    for (const use of uses) assertFails(use, "KeyError", undefined, undefined, text);
  });

  test("is more than a slash, and has no NUL", () => {
    const { segments } = setUp();
    for (const key of ["/", "//", "/a\0b"]) {
      const attach = () => segments.attach(key, ReadWrite, null);
      assertFails(attach, "KeyError", undefined, undefined, /name/);
    }
  });

  test("fits if Qt's rules make it of a key", () => {
    const place = { os: "darwin", object: "SharedMemory", folder: "" } as const;
    for (const make of [legacyNativeKey, platformSafeKey]) {
      const key = make("a key ".repeat(20), NativeIpcKeyType.PosixRealtime, place);
      assert.equal(new TextEncoder().encode(key.nativeKey).length, 30);
    }
  });
});

describe("what macOS can do", () => {
  test("is the same for System V, and less for POSIX", () => {
    const { SystemV, PosixRealtime } = NativeIpcKeyType;
    assert.equal(keyTypeOf(SystemV, "darwin"), keyTypeOf(SystemV, "linux"));
    const { exactSize, killedHolder, removedWith } =
      keyTypeOf(PosixRealtime, "darwin")!.capabilities;
    assert.deepEqual([exactSize, killedHolder, removedWith], [false, "lost", "creator"]);
  });
});
