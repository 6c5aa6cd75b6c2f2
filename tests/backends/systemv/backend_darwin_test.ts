/** System V on macOS: which calls are made, with its numbers and by Apple's convention for variadic ones. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import { tryThenWait } from "../../fixtures/fake_background.ts";
import * as constants from "../../../backends/unix/darwin_constants.ts";
import { errnoText, failure, swapErrno } from "../../../backends/unix/errno.ts";
import { Libc } from "../../../backends/unix/libc.ts";
import { isRunning } from "../../../backends/unix/processes.ts";
import { AccessMode, SystemSemaphoreMode } from "../../../mod.ts";
import * as fake from "../../fixtures/fake_darwin_system.ts";
import { darwin, setUp } from "../../fixtures/fake_darwin_system.ts";
import { FakeFfi } from "../../fixtures/fake_ffi.ts";
import * as linux from "../../fixtures/fake_system.ts";
import { assertFails, script, type Setup } from "../../fixtures/fake_system.ts";
import { parseIpcs } from "../../support/ipcs.ts";

const { ReadOnly, ReadWrite } = AccessMode;
const { Open } = SystemSemaphoreMode;
const { CREATE, OPEN_LOCK, OPEN_SEMAPHORE, REMAP, STATUS, TRY_DOWN, UNLOCK } = fake;
const { ALONE, SHARE, UNSHARE } = linux;
/** A lock is made by a process whose segment is not there any more. */
const OPEN_NEW_LOCK = darwin(linux.NEW_LOCK(linux.NOT_THERE));

function created({ ffi, backend, lock }: Setup, steps = CREATE) {
  return ffi.play(steps, () => backend.segments.create("/q/seg", 100, ReadWrite, lock));
}

/** Where the members of a C structure lie, from their sizes. */
function layout(pack: number, members: readonly (readonly [name: string, bytes: number])[]) {
  let end = 0;
  let widest = 1;
  const offsets: Record<string, number> = {};
  const align = (bytes: number) => Math.min(bytes, pack);
  for (const [name, bytes] of members) {
    // What is larger than 8 bytes is a structure that ends at a multiple of its own alignment.
    const alignment = align(bytes > 8 ? 8 : bytes);
    end = Math.ceil(end / alignment) * alignment;
    offsets[name] = end;
    end += bytes;
    widest = Math.max(widest, alignment);
  }
  return { offsets, bytes: Math.ceil(end / widest) * widest };
}

describe("the structures of macOS", () => {
  test("ipc_perm, shmid_ds and semid_ds are laid out as <sys/ipc.h>, shm.h and sem.h say", () => {
    const perm = layout(4, [
      ...[["uid", 4], ["gid", 4], ["cuid", 4], ["cgid", 4]] as const,
      ...[["mode", 2], ["_seq", 2], ["_key", 4]] as const,
    ]);
    const shm = layout(4, [
      ...[["shm_perm", perm.bytes], ["shm_segsz", 8], ["shm_lpid", 4], ["shm_cpid", 4]] as const,
      ...[["shm_nattch", 2], ["shm_atime", 8], ["shm_dtime", 8], ["shm_ctime", 8]] as const,
      ["shm_internal", 8],
    ]);
    const sem = layout(4, [
      ...[["sem_perm", perm.bytes], ["sem_base", 4], ["sem_nsems", 2], ["sem_otime", 8]] as const,
      ...[["sem_pad1", 4], ["sem_ctime", 8], ["sem_pad2", 4]] as const,
      ...["a", "b", "c", "d"].map((letter) => [`sem_pad3${letter}`, 4] as const),
    ]);
    const { uid, gid, cuid, mode } = perm.offsets;
    assert.deepEqual(constants.SHMID_DS, {
      bytes: shm.bytes,
      ...{ uid, gid, cuid, mode },
      segsz: shm.offsets["shm_segsz"],
      cpid: shm.offsets["shm_cpid"],
      ctime: shm.offsets["shm_ctime"],
      nattch: shm.offsets["shm_nattch"],
      nattchBytes: 2,
    });
    const otime = sem.offsets["sem_otime"];
    assert.deepEqual(constants.SEMID_DS, { bytes: sem.bytes, uid, gid, cuid, mode, otime });
  });

  test("stat, with inodes of 64 bits, is laid out as <sys/stat.h> says", () => {
    const { bytes, offsets } = layout(8, [
      ...[["dev", 4], ["mode", 2], ["nlink", 2], ["ino", 8], ["uid", 4], ["gid", 4]] as const,
      ...[["rdev", 4], ["atime", 16], ["mtime", 16], ["ctime", 16], ["birthtime", 16]] as const,
      ...[["size", 8], ["blocks", 8], ["blksize", 4], ["flags", 4], ["gen", 4]] as const,
      ...[["lspare", 4], ["qspare", 16]] as const,
    ]);
    const names = ["dev", "mode", "nlink", "ino", "uid", "mtime", "ctime", "size", "blocks"];
    const wanted = Object.fromEntries(names.map((name) => [name, offsets[name]]));
    assert.deepEqual(constants.STAT, { bytes, ...wanted });
  });
});

describe("the numbers of macOS", () => {
  test("of flags and commands are those of its headers", () => {
    const { O_NONBLOCK, O_CREAT, O_EXCL, O_CLOEXEC, O_NOFOLLOW } = constants; // <sys/fcntl.h>
    assert.deepEqual([O_NONBLOCK, O_CREAT, O_EXCL, O_CLOEXEC], [0x4, 0x200, 0x800, 0x1000000]);
    assert.deepEqual(O_NOFOLLOW, { x64: 0x100, arm64: 0x100 });
    const { GETPID, GETVAL, SETVAL } = constants; // <sys/sem.h>
    assert.deepEqual([GETPID, GETVAL, SETVAL], [4, 5, 8]);
    const { MAP_ANONYMOUS, MAP_NORESERVE } = constants; // <sys/mman.h>
    assert.deepEqual([MAP_ANONYMOUS, MAP_NORESERVE], [0x1000, 0x40]);
    const { _SC_PAGESIZE, _CS_DARWIN_USER_TEMP_DIR, PATH_MAX } = constants; // <unistd.h>
    assert.deepEqual([_SC_PAGESIZE, _CS_DARWIN_USER_TEMP_DIR, PATH_MAX], [29, 65537, 1024]);
  });

  test("of errors become those that the backends know, no two the same, and back", () => {
    // <sys/errno.h>: EAGAIN, ENAMETOOLONG, ELOOP, EIDRM, EOVERFLOW, EOPNOTSUPP, ETIMEDOUT
    const known = [35, 63, 62, 90, 84, 102, 60].map((errno) => swapErrno(errno, "darwin"));
    assert.deepEqual(known, [11, 36, 40, 43, 75, 95, 110]);
    const all = Array.from({ length: 200 }, (_, errno) => errno);
    assert.equal(new Set(all.map((errno) => swapErrno(errno, "darwin"))).size, all.length);
    for (const errno of all) {
      assert.equal(swapErrno(swapErrno(errno, "darwin"), "darwin"), errno);
      assert.equal(swapErrno(errno, "linux"), errno);
    }
  });

  test("of errors are what a text and an exception have", () => {
    const platform = Object.getOwnPropertyDescriptor(process, "platform")!;
    Object.defineProperty(process, "platform", { value: "darwin", configurable: true });
    try {
      const ELOOP = swapErrno(62, "darwin");
      assert.equal(errnoText(ELOOP), "ELOOP 62");
      assert.equal(failure("open", ELOOP).errno, 62);
      assert.equal(errnoText(swapErrno(11, "darwin")), "EDEADLK 11"); // and not EAGAIN
      assert.equal(errnoText(2), "ENOENT 2");
    } finally {
      Object.defineProperty(process, "platform", platform);
    }
  });
});

describe("the C library of macOS", () => {
  const load = (arch: string) => {
    const ffi = new FakeFfi(arch, undefined, "darwin");
    new Libc(ffi, arch, "darwin");
    return ffi;
  };
  const missing = ["syscall", "semtimedop", "linkat", "posix_fallocate", "__errno_location"];

  for (const [arch, suffix] of [["x64", "$INODE64"], ["arm64", ""]] as const) {
    test(`is libSystem, and on ${arch} nothing is loaded that it does not have`, () => {
      const { libraries, signatures } = load(arch);
      assert.deepEqual(libraries, ["/usr/lib/libSystem.B.dylib"]);
      const names = Object.keys(signatures);
      for (const name of missing) assert.ok(!names.includes(name), name);
      const stats = names.filter((name) => name.includes("stat"));
      assert.deepEqual(stats, ["fstat", "lstat", "stat"].map((name) => name + suffix));
      assert.ok(names.includes("__error") && names.includes("semop"));
    });
  }

  test("gets variadic arguments from the stack on Apple's processors, and only there", () => {
    const { signatures } = load("arm64");
    const unused = (count: number) => Array(count).fill("u64");
    assert.deepEqual(signatures["open"]?.args, ["buffer", "i32", ...unused(6), "u64"]);
    assert.deepEqual(signatures["semctl"]?.args, ["i32", "i32", "i32", ...unused(5), "u64"]);
    assert.deepEqual(signatures["semop"]?.args, ["i32", "usize", "usize"]);
    const intel = load("x64").signatures;
    assert.deepEqual(intel["open"]?.args, ["buffer", "i32", "u32"]);
    assert.deepEqual(intel["semctl"]?.args, ["i32", "i32", "i32", "u64"]);
  });

  test("says which processes run, zombies and those with a pid of old included", () => {
    const ffi = new FakeFfi("arm64", undefined, "darwin");
    const libc = new Libc(ffi, "arm64", "darwin");
    assert.equal(ffi.play("kill(77, 0) = 0", () => isRunning(libc, 77)), true);
    assert.equal(ffi.play("kill(77, 0) = EPERM", () => isRunning(libc, 77)), true);
    assert.equal(ffi.play("kill(77, 0) = ESRCH", () => isRunning(libc, 77)), false);
  });
});

describe("the folder of the key files on macOS", () => {
  for (
    const [name, script, expected] of [
      [
        "is TMPDIR without symbolic links",
        `getenv("TMPDIR") = "/tmp"\nrealpath("/tmp") = "/private/tmp"`,
        "/private/tmp",
      ],
      [
        "is the user's own without TMPDIR",
        `getenv("TMPDIR") = NULL
        confstr(65537) = "/var/folders/x/T/"
        realpath("/var/folders/x/T/") = "/private/var/folders/x/T"`,
        "/private/var/folders/x/T",
      ],
      [
        "is /tmp if there is none",
        `getenv("TMPDIR") = NULL
        confstr(65537) = 0
        realpath("/tmp") = "/private/tmp"`,
        "/private/tmp",
      ],
    ] as const
  ) {
    test(name, () => {
      const { ffi, backend } = setUp();
      assert.equal(ffi.play(script, () => backend.folder()), expected);
    });
  }

  test("is for platformSafeKey() what Qt calls RuntimeLocation", () => {
    const { ffi, backend } = setUp();
    const folder = ffi.play(`getenv("HOME") = "/Users/me"`, () => backend.runtimeFolder());
    assert.equal(folder, "/Users/me/Library/Application Support");
  });
});

for (const arch of ["x64", "arm64"]) {
  describe(`System V on macOS ${arch}`, () => {
    const pageBytes = arch === "arm64" ? 16384 : 4096;
    /** Scripts are written for Apple's pages. */
    const sized = (steps: string) => steps.replaceAll("16384", `${pageBytes}`);
    const create = (setup: Setup) => created(setup, sized(CREATE));

    test("create() makes the lock, taken, and under it the key file and the segment", () => {
      const segment = create(setUp(arch));
      assert.deepEqual([segment.address, segment.size], [fake.ALIAS, 100]);
    });

    test("attach() takes the lock, maps, and learns the size and who is attached", () => {
      const { ffi, backend, lock } = setUp(arch);
      const attach = () => backend.segments.attach("/q/seg", ReadWrite, lock);
      assert.equal(ffi.play(sized(fake.ATTACH), attach).size, 100);
    });

    test("attach() reads of how many are attached no more than there is", () => {
      const { ffi, backend } = setUp(arch);
      const steps = `
        ${fake.FOUND.replace("|O_NOFOLLOW", "").replace("0600", "0400")}
        ${SHARE(4)} = 0
        stat("/q/seg") = { inode 1 }
        shmat(9, 0, SHM_RDONLY) = 0x7f0000000000
        ${STATUS("size 100, attached 65535")}
        ${sized(REMAP)}`; // noise follows the number
      const attach = () => backend.segments.attach("/q/seg", ReadOnly, null);
      assert.equal(ffi.play(steps, attach).size, 100);
    });

    test("attach() finds a segment that is removed meanwhile gone, as nobody can see it any more", () => {
      const { ffi, backend } = setUp(arch);
      const find = fake.FOUND.replace("|O_NOFOLLOW", "");
      const steps = `
        ${find}
        ${SHARE(4)} = 0
        stat("/q/seg") = { inode 1 }
        shmat(9, 0, 0) = 0x7f0000000000
        shmctl(9, IPC_STAT) = EINVAL
        shmdt(0x7f0000000000) = 0
        ${UNSHARE(4)}
        shmget(0x51000001, 0, 0600) = ENOENT
        stat("/q/seg") = { inode 1 }`;
      const attach = () => backend.segments.attach("/q/seg", ReadWrite, null);
      assertFails(() => ffi.play(steps, attach), "NotFound", "shmget", 2);
    });

    const ZEROS = (address: string, fixed: string) =>
      `mmap(${address}, ${pageBytes}, PROT_READ|PROT_WRITE, ` +
      `MAP_PRIVATE|${fixed}MAP_ANONYMOUS|MAP_NORESERVE, -1, 0)`;
    const BURY = ZEROS("0x7f5500000000", "MAP_FIXED|");

    test("a detach puts private memory over the mapping that is used, and then is shmdt()", () => {
      const setup = setUp(arch);
      const segment = create(setup);
      const steps = `${BURY} = 0x7f5500000000\nshmdt(0x7f0000000000) = 0`;
      assert.equal(setup.ffi.play(steps, () => segment.unmap()), true);
      setup.ffi.play(
        script(`${TRY_DOWN} = 0`, fake.REMOVE_ALL),
        () => segment.release({ lockHeld: false, wait: true }),
      );
      setup.ffi.play(`munmap(0x7f5500000000, ${pageBytes}) = 0`, () => segment.free());
    });

    test("a detach without memory for that leaves the segment attached", () => {
      const setup = setUp(arch);
      const segment = create(setup);
      assert.equal(setup.ffi.play(`${BURY} = ENOMEM`, () => segment.unmap()), false);
      const steps = `shmdt(0x7f0000000000) = 0\nmunmap(0x7f5500000000, ${pageBytes}) = 0`;
      setup.ffi.play(steps, () => segment.free());
    });

    describe("a segment that cannot be mapped twice", () => {
      const ONCE = sized(CREATE).replace(/= 0x7f5500000000/, "= 3"); // KERN_NO_SPACE
      const OCCUPY = ZEROS("0x7f0000000000", "");

      test("is used where it is attached, and leaves private memory there", () => {
        const setup = setUp(arch);
        const segment = created(setup, ONCE);
        assert.equal(segment.address, 0x7f0000000000n);
        const steps = `shmdt(0x7f0000000000) = 0\n${OCCUPY} = 0x7f0000000000`;
        assert.equal(setup.ffi.play(steps, () => segment.unmap()), true);
        setup.ffi.play(`munmap(0x7f0000000000, ${pageBytes}) = 0`, () => segment.free());
      });

      test("leaves alone what another thread has mapped there in between", () => {
        const setup = setUp(arch);
        const segment = created(setup, ONCE);
        const steps = `
          shmdt(0x7f0000000000) = 0
          ${OCCUPY} = 0x7f0000100000
          munmap(0x7f0000100000, ${pageBytes}) = 0`;
        assert.equal(setup.ffi.play(steps, () => segment.unmap()), true);
        segment.free(); // which does nothing
      });

      test("is detached also if there is no memory", () => {
        const setup = setUp(arch);
        const segment = created(setup, ONCE);
        const steps = `shmdt(0x7f0000000000) = 0\n${OCCUPY} = ENOMEM`;
        assert.equal(setup.ffi.play(steps, () => segment.unmap()), true);
        segment.free();
      });

      test("is detached and nothing more if it is only given back", () => {
        const setup = setUp(arch);
        const segment = created(setup, ONCE);
        setup.ffi.play("shmdt(0x7f0000000000) = 0", () => segment.free());
      });

      test("is every segment where the system has no function for it", () => {
        const setup = setUp(arch);
        setup.ffi.missing.push("mach_vm_remap");
        const steps = CREATE.replace(/ *task_self_trap.*\n.*\n/, "");
        assert.equal(created(setup, steps).address, 0x7f0000000000n);
      });
    });

    test("the last one to leave removes everything", () => {
      const setup = setUp(arch);
      const segment = create(setup);
      const steps = script(`${TRY_DOWN} = 0`, fake.REMOVE_ALL);
      setup.ffi.play(steps, () => segment.release({ lockHeld: false, wait: true }));
    });

    test("open() makes the segment, or attaches to it", () => {
      const request = { size: 100, mode: ReadWrite, timeoutMs: 5000, initialize: null } as const;
      const open = (steps: string) => {
        const { ffi, backend, lock } = setUp(arch);
        return ffi.play(sized(steps), () =>
          backend.segments.open("/q/seg", {
            ...{ ...request, existing: "attach", stale: "replace" },
          }, lock));
      };
      const none = darwin(script(`${linux.OPEN("/q/seg")} = ENOENT`, linux.NO_UNFINISHED));
      const map = script(
        ...[`${linux.SHMGET_NEW} = 9`, darwin(linux.SEG_CURRENT)],
        ...["shmat(9, 0, 0) = 0x7f0000000000", REMAP],
      );
      open(script(OPEN_NEW_LOCK, none, fake.NEW_FILE, map, UNLOCK));
      const used = STATUS("size 100, attached 1");
      const enter = script(OPEN_LOCK, `${TRY_DOWN} = 0`);
      open(script(enter, fake.FIND, used, fake.ATTACHED, UNLOCK));
    });

    test("the key is made of the device's and the inode's low bits, as by ftok()", () => {
      const { ffi, backend } = setUp(arch);
      const steps = `
        open("/q/seg", O_NONBLOCK|O_CLOEXEC) = 4
        fstat(4) = { inode 0x1234fedc, minor 0x10000ab }
        shmget(0x51abfedc, 0, 0600) = ENOENT`;
      const attach = () => backend.segments.attach("/q/seg", ReadWrite, null);
      assertFails(() => ffi.play(steps, attach), "NotFound", "shmget", 2);
    });

    test("a key file that may not be read is refused: there is no O_PATH", () => {
      const { ffi, backend } = setUp(arch);
      const steps = `open("/q/seg", O_NONBLOCK|O_CLOEXEC) = EACCES`;
      const attach = () => backend.segments.attach("/q/seg", ReadWrite, null);
      assertFails(() => ffi.play(steps, attach), "PermissionDenied", "open", 13);
    });

    test("a key file that is a symbolic link is refused: ELOOP has its own number", () => {
      const { ffi, backend, lock } = setUp(arch);
      const steps = `open("/q/seg", O_NONBLOCK|O_NOFOLLOW|O_CLOEXEC) = ELOOP`;
      const attach = () => backend.segments.attach("/q/seg", ReadWrite, lock);
      assert.throws(() => ffi.play(steps, attach), /symbolic link/);
    });
  });
}

describe("what ipcs prints on macOS", () => {
  test("is read by the tests as what Linux has in /proc", () => {
    const text = `IPC status from <running system> as of Mon Nov 23 18:00:00 UTC 2026
T     ID     KEY        MODE       OWNER    GROUP  CREATOR   CGROUP NATTCH  SEGSZ  CPID  LPID
Shared Memory:
m  65536 0x5100c24d --rw-------   runner    staff   runner    staff      2   4096   501   502
m  65537 0xc800c24d --rw-------   runner    staff   runner    staff      0    100   501   501
`;
    const [first, second] = parseIpcs(text, "shm");
    const row = { shmid: "65536", key: "0x5100c24d", nattch: "2", size: "4096" };
    assert.deepEqual(first, { ...row, cpid: "501", lpid: "502" });
    assert.equal(second?.["size"], "100");
  });
});

describe("the limits of macOS", () => {
  const fails = (errno: string, code: string, number: number, message: RegExp) => {
    const { ffi, backend, lock } = setUp();
    const steps = CREATE.replace(/\) = 9[^]*/, `) = ${errno}`);
    const rest = darwin(script(
      ...[linux.UNDO_FILE, linux.ABANDON],
    ));
    const create = () => backend.segments.create("/q/seg", 100, ReadWrite, lock);
    assertFails(() => ffi.play(script(steps, rest), create), code, "shmget", number, message);
  };

  test("4 MB: a larger segment is an error that names what to raise, and how", () => {
    const text = /4 MiB.*sudo sysctl kern\.sysv\.shmmax=BYTES kern\.sysv\.shmall=PAGES.*16384/;
    fails("EINVAL", "InvalidSize", 22, text);
  });

  test("1024 pages in all", () => {
    fails("ENOMEM", "OutOfResources", 12, /sudo sysctl kern\.sysv\.shmall=PAGES.*ipcrm -m/);
  });

  test("32 segments", () => {
    fails("ENOSPC", "OutOfResources", 28, /kern\.sysv\.shmmni, usually 32.*ipcs -mp/);
  });

  test("8 segments attached at a time", () => {
    const { ffi, backend } = setUp();
    const steps = script(
      fake.FOUND.replace("|O_NOFOLLOW", ""),
      `${SHARE(4)} = 0`,
      'stat("/q/seg") = { inode 1 }',
      "shmat(9, 0, 0) = EMFILE",
      UNSHARE(4),
    );
    const attach = () => backend.segments.attach("/q/seg", ReadWrite, null);
    const text = /kern\.sysv\.shmseg, usually 8.*detach\(\) some/;
    assertFails(() => ffi.play(steps, attach), "OutOfResources", "shmat", 24, text);
  });

  test("10 locks and semaphores held at a time: EINVAL, though the lock is there", () => {
    const setup = setUp();
    created(setup);
    const steps = `
      ${TRY_DOWN} = EINVAL
      ${TRY_DOWN} = EINVAL
      semctl(7, 0, GETPID) = 77`;
    const lock = () => setup.ffi.play(steps, () => setup.lock.acquire());
    assertFails(lock, "OutOfResources", "semop", 22, /kern\.sysv\.semume, usually 10.*unlock\(\)/);
  });

  test("10 of them while a lock is made, which is removed again", () => {
    const { ffi, lock } = setUp();
    const steps = `
      ${fake.OPEN_NEW_LOCK.replace(/= 7\n(.*)= 0\n.*$/, "= 7\n$1= EINVAL")}
      semctl(7, 0, GETPID) = 0
      semctl(7, 0, IPC_RMID) = 0
      flock(3, LOCK_EX|LOCK_NB) = 0
      semget(0x51000002, 1, 0) = ENOENT
      ${darwin(linux.SEM_PATH)}
      unlink("/q/sem") = 0
      close(3) = 0`;
    const acquire = () => ffi.play(steps, () => lock.acquire());
    assertFails(acquire, "OutOfResources", "semop", 22, /kern\.sysv\.semume/);
  });

  test("a semaphore's value: macOS would let it go on from 0", () => {
    const { ffi, backend } = setUp();
    const semaphore = ffi.play(OPEN_SEMAPHORE, () => backend.semaphores.open("/q/sem", 1, Open));
    const steps = "semctl(7, 0, GETVAL) = 32766";
    const release = () => ffi.play(steps, () => semaphore.release(2));
    assertFails(release, "OutOfResources", "semop", 34, /32767/);
    const room = `${steps}\nsemop(7, [1 SEM_UNDO|IPC_NOWAIT]) = 0`;
    ffi.play(room, () => semaphore.release(1));
  });
});

describe("a lock on macOS, which has no semtimedop", () => {
  const DOWN = "semop(7, [-1 SEM_UNDO, 0 IPC_NOWAIT])";
  /** It cannot be had, and its holder lives. */
  const BUSY = script(`${TRY_DOWN} = EAGAIN`, fake.HOLDER());

  function setUpLocked(): Setup {
    const setup = setUp();
    created(setup);
    return setup;
  }

  test("is taken and given back in one semop each", () => {
    const { ffi, lock } = setUpLocked();
    ffi.play(`${TRY_DOWN} = 0`, () => assert.equal(lock.acquire(), true));
    ffi.play(UNLOCK, () => lock.release());
  });

  test("is waited for in the kernel without a timeout, if its holder lives", () => {
    const { ffi, lock } = setUpLocked();
    const steps = script(`${TRY_DOWN} = EAGAIN`, BUSY, `${DOWN} = EINTR`, `${DOWN} = 0`);
    assert.equal(ffi.play(steps, () => lock.acquire()), true);
  });

  test("is made again if it is removed meanwhile", () => {
    const { ffi, lock } = setUpLocked();
    const steps = script(
      ...[`${TRY_DOWN} = EAGAIN`, BUSY, `${DOWN} = EIDRM`, "close(3) = 0", OPEN_NEW_LOCK],
    );
    assert.equal(ffi.play(steps, () => lock.acquire()), true);
  });

  test("is made again if it was removed before", () => {
    const { ffi, lock } = setUpLocked();
    const steps = script(
      ...[`${TRY_DOWN} = EINVAL`, `${TRY_DOWN} = EINVAL`, "semctl(7, 0, GETPID) = EINVAL"],
      ...["close(3) = 0", OPEN_NEW_LOCK],
    );
    assert.equal(ffi.play(steps, () => lock.acquire()), true);
  });

  test("is tried with growing pauses until the timeout is over", () => {
    const { ffi, lock } = setUpLocked();
    const pauses = [1, 2, 4, 8, 16, 9].flatMap((ms) => [`pause(${ms} ms)`, BUSY]);
    const steps = script(`${TRY_DOWN} = EAGAIN`, BUSY, ...pauses);
    assert.equal(ffi.play(steps, () => lock.acquire(40)), false);
  });

  test("is taken when it becomes free meanwhile", () => {
    const { ffi, lock } = setUpLocked();
    const steps = script(
      ...[`${TRY_DOWN} = EAGAIN`, BUSY, "pause(1 ms)", BUSY, "pause(2 ms)", `${TRY_DOWN} = 0`],
    );
    assert.equal(ffi.play(steps, () => lock.acquire(1000)), true);
  });

  test("is tried without a pause if there is no time", () => {
    const { ffi, lock } = setUpLocked();
    const steps = script(`${TRY_DOWN} = EAGAIN`, BUSY);
    assert.equal(ffi.play(steps, () => lock.acquire(0)), false);
  });

  test("is put right if a peer has raised its value, as Qt's create() does", () => {
    const { ffi, lock } = setUpLocked();
    const steps = script(
      ...[`${TRY_DOWN} = EAGAIN`, `${TRY_DOWN} = EAGAIN`, "semctl(7, 0, GETVAL) = 2"],
      darwin(linux.SEM_CURRENT),
      linux.SETTLE(2),
      "semop(7, [-1 SEM_UNDO, 0 IPC_NOWAIT]) = 0",
    );
    assert.equal(ffi.play(steps, () => lock.acquire()), true);
  });

  test("is taken over after a second if nobody who lives gives it back", () => {
    const { ffi, lock } = setUpLocked();
    const dead = fake.HOLDER().replace(/0$/, "ESRCH");
    const waits = [1, 2, 4, 8, ...Array(62).fill(16)] // 1007 ms
      .flatMap((ms) => [`pause(${ms} ms)`, `${TRY_DOWN} = EAGAIN`, dead]);
    const steps = script(
      ...[`${TRY_DOWN} = EAGAIN`, `${TRY_DOWN} = EAGAIN`, dead, ...waits],
      ...[`${ALONE(3)} = 0`, "semctl(7, 0, GETPID) = 77", "kill(77, 0) = ESRCH"],
      ...["semctl(7, 0, GETPID) = 77", `${linux.TAKE_OVER} = 0`, UNSHARE(3)],
    );
    assert.equal(ffi.play(steps, () => lock.acquire()), true);
  });

  test("is tried from timers, with pauses, for an asynchronous call", async () => {
    const { ffi, lock } = setUpLocked();
    const TRY = script(`${TRY_DOWN} = EAGAIN`, BUSY);
    const wait = (steps: string, ms: number) => ffi.play(steps, () => tryThenWait(lock, ms));
    assert.equal(await wait(script(TRY, "background pause(1 ms)"), 1), false);
    assert.equal(await wait(script(TRY, "background pause(2 ms)"), 2), false);
    assert.equal(await wait(`${TRY_DOWN} = 0`, 4), true);
  });

  test("of an asynchronous call that is closed meanwhile is not opened again", async () => {
    const { ffi, lock } = setUpLocked();
    const steps = script(`${TRY_DOWN} = EAGAIN`, BUSY, "background pause(1 ms)", "close(3) = 0");
    const taken = ffi.play(steps, () => {
      const waiting = tryThenWait(lock);
      lock.close();
      return waiting;
    });
    assert.equal(await taken, false);
  });
});

describe("a semaphore on macOS", () => {
  const TRY = "semop(7, [-1 SEM_UNDO|IPC_NOWAIT])";

  function opened() {
    const { ffi, backend } = setUp();
    const open = () => backend.semaphores.open("/q/sem", 5, Open);
    return { ffi, semaphore: ffi.play(OPEN_SEMAPHORE, open) };
  }

  test("that is made gets its initial value, and is removed by its maker if nobody uses it", () => {
    const { ffi, backend } = setUp();
    const opening = darwin(linux.OPEN_NEW_SEMAPHORE(5));
    const semaphore = ffi.play(opening, () => backend.semaphores.open("/q/sem", 5, Open));
    const removal = script(linux.FOLDER, `${ALONE(3)} = 0`, linux.REMOVE_LAST);
    ffi.play(darwin(removal).replaceAll("_f0000001", "_0"), () => semaphore.close());
  });

  test("is waited for in the kernel without a timeout", () => {
    const { ffi, semaphore } = opened();
    const steps = script(`${TRY} = EAGAIN`, `${TRY} = EAGAIN`, "semop(7, [-1 SEM_UNDO]) = 0");
    assert.equal(ffi.play(steps, () => semaphore.acquire()), true);
  });

  test("is tried until the timeout is over", () => {
    const { ffi, semaphore } = opened();
    const tries = [1, 2, 2].flatMap((ms) => [`pause(${ms} ms)`, `${TRY} = EAGAIN`]);
    const steps = script(`${TRY} = EAGAIN`, `${TRY} = EAGAIN`, ...tries);
    assert.equal(ffi.play(steps, () => semaphore.acquire(5)), false);
  });
});
