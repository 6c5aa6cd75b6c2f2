import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Failure } from "../backends/errno.ts";
import { AccessMode, SystemSemaphoreMode } from "../mod.ts";
import * as fake from "./fixtures/fake_system.ts";
import { created, setUp } from "./fixtures/fake_system.ts";

const { ReadOnly, ReadWrite } = AccessMode;
const { Create, Open } = SystemSemaphoreMode;

for (const arch of ["x64", "arm64"]) {
  describe(`System V on Linux ${arch}`, () => {
    test("create() makes the lock, and under it the key file and the segment", () => {
      const segment = created(setUp(arch));
      assert.equal(segment.address, 0x7f0000000000n);
      assert.equal(segment.size, 100);
    });

    test("create() with ReadOnly maps the segment read-only, and makes it as ever", () => {
      const { ffi, backend, lock } = setUp(arch);
      const script = fake.CREATE.replace("shmat(9, 0, 0)", "shmat(9, 0, SHM_RDONLY)");
      ffi.play(script, () => backend.segments.create("/q/seg", 100, ReadOnly, lock));
    });

    for (
      const [name, mode, access, flag] of [
        ["", ReadWrite, "0600", "0"],
        [" with ReadOnly", ReadOnly, "0400", "SHM_RDONLY"],
      ] as const
    ) {
      test(`attach()${name} takes the lock, maps, and learns the size`, () => {
        const { ffi, backend, lock } = setUp(arch);
        const script = `
          open("/q/seg", O_NONBLOCK|O_CLOEXEC) = 4
          ftok("/q/seg", 'Q') = 0x51000001
          shmget(0x51000001, 0, ${access}) = 9
          ${fake.OPEN_LOCK}
          semtimedop(7, [-1 SEM_UNDO], 10 ms) = 0
          shmat(9, 0, ${flag}) = 0x7f0000000000
          shmctl(9, IPC_STAT) = { size 5000, attached 2 }
          semop(7, [0 IPC_NOWAIT, 1 SEM_UNDO]) = 0`;
        const segment = ffi.play(script, () => backend.segments.attach("/q/seg", mode, lock));
        assert.equal(segment.size, 5000);
      });
    }

    test("a native key has no lock, and its file stays", () => {
      const { ffi, backend } = setUp(arch);
      const script = `
        open("/q/seg", O_NONBLOCK|O_CLOEXEC) = 4
        ftok("/q/seg", 'Q') = 0x51000001
        shmget(0x51000001, 0, 0600) = 9
        shmat(9, 0, 0) = 0x7f0000000000
        shmctl(9, IPC_STAT) = { size 100, attached 1 }`;
      const segment = ffi.play(
        script,
        () => backend.segments.attach("/q/seg", ReadWrite, null),
      );
      // Qt deletes the file, whoever made it and for whatever it is there.
      const last = `
        shmctl(9, IPC_STAT) = { size 100, attached 0 }
        shmctl(9, IPC_STAT) = { size 100, attached 0 }
        shmctl(9, IPC_RMID) = 0`; // and the file is kept open for the next time
      ffi.play(last, () => segment.leave(false, true));
    });

    test("detach() of one of several leaves the segment; the lock's maker removes a free lock", () => {
      const setup = setUp(arch);
      const segment = created(setup);
      setup.ffi.play(fake.BURY, () => segment.unmap());
      const script = `
        shmctl(9, IPC_STAT) = { size 100, attached 1 }
        semtimedop(7, [-1 SEM_UNDO], 0 ms) = 0
        ${fake.REMOVE_LOCK}
        close(4) = 0`;
      setup.ffi.play(script, () => segment.leave(false, true));
      setup.ffi.play("munmap(0x7f0000000000, 4096) = 0", () => segment.free());
    });

    test("detach() of one of several leaves a lock that somebody holds", () => {
      const setup = setUp(arch);
      const segment = created(setup);
      const script = `
        shmctl(9, IPC_STAT) = { size 100, attached 1 }
        semtimedop(7, [-1 SEM_UNDO], 0 ms) = EAGAIN
        close(3) = 0
        close(4) = 0`;
      setup.ffi.play(script, () => segment.leave(false, true));
    });

    for (
      const [file, found] of [
        ["", `= 0x51000001\nunlink("/q/seg") = 0`],
        [", also without the key file,", "= ENOENT"],
      ] as const
    ) {
      test(`the last detach()${file} removes files, segment and lock, under the lock`, () => {
        const setup = setUp(arch);
        const segment = created(setup);
        const script = `
          shmctl(9, IPC_STAT) = { size 100, attached 0 }
          semtimedop(7, [-1 SEM_UNDO], 10 ms) = 0
          shmctl(9, IPC_STAT) = { size 100, attached 0 }
          ftok("/q/seg", 'Q') ${found}
          shmctl(9, IPC_RMID) = 0
          ${fake.REMOVE_LOCK}
          close(4) = 0`;
        setup.ffi.play(script, () => segment.leave(false, true));
      });
    }

    test("the last detach() leaves the file, and so the lock, to a later segment of the key", () => {
      const setup = setUp(arch);
      const segment = created(setup);
      const script = `
        shmctl(9, IPC_STAT) = { size 100, attached 0 }
        semtimedop(7, [-1 SEM_UNDO], 10 ms) = 0
        shmctl(9, IPC_STAT) = { size 100, attached 0 }
        ftok("/q/seg", 'Q') = 0x51000003
        shmctl(9, IPC_RMID) = 0
        semop(7, [0 IPC_NOWAIT, 1 SEM_UNDO]) = 0
        close(3) = 0
        close(4) = 0`;
      setup.ffi.play(script, () => segment.leave(false, true));
    });

    test("a detach() at exit never waits for the lock", () => {
      const setup = setUp(arch);
      const segment = created(setup);
      const script = `
        shmctl(9, IPC_STAT) = { size 100, attached 0 }
        semtimedop(7, [-1 SEM_UNDO], 0 ms) = EAGAIN
        semtimedop(7, [-1 SEM_UNDO], 0 ms) = EAGAIN
        close(3) = 0
        close(4) = 0`;
      setup.ffi.play(script, () => segment.leave(false, false));
    });

    test("without memory to put over it a mapping stays until nobody can know its address", () => {
      const setup = setUp(arch);
      const segment = created(setup);
      const failing = fake.BURY.replace(/ = 0x7f0000000000$/, " = ENOMEM");
      setup.ffi.play(failing, () => assert.equal(segment.unmap(), false));
      setup.ffi.play("shmdt(0x7f0000000000) = 0", () => segment.free());
    });

    test("lock() and unlock() are one semop each, undone by the kernel at any death", () => {
      const setup = setUp(arch);
      created(setup);
      setup.ffi.play("semop(7, [-1 SEM_UNDO]) = 0", () => setup.lock.acquire());
      setup.ffi.play("semop(7, [0 IPC_NOWAIT, 1 SEM_UNDO]) = 0", () => setup.lock.release());
      setup.ffi.play("semtimedop(7, [-1 SEM_UNDO], 1500 ms) = EAGAIN", () => {
        assert.equal(setup.lock.acquire(1500), false);
      });
    });
  });
}

describe("a System V semaphore", () => {
  test("that is made gets its initial value, and is removed by its maker if nobody uses it", () => {
    const { ffi, backend } = setUp();
    const script = `${fake.OPEN_NEW_LOCK.replace("SETVAL, 1", "SETVAL, 5")}\n${fake.JOIN}`;
    const semaphore = ffi.play(script, () => backend.semaphores.open("/q/sem", 5, Open));
    ffi.play("semop(7, [3 SEM_UNDO]) = 0", () => semaphore.release(3));
    const removal = `${fake.MARK}\n${fake.TRY_ALONE} = 0\n${fake.REMOVE_LOCK}`;
    ffi.play(removal, () => semaphore.close());
  });

  test("that exists keeps its value in Open mode, and stays when it is let go", () => {
    const { ffi, backend } = setUp();
    const script = `${fake.OPEN_LOCK}\n${fake.JOIN}`;
    const semaphore = ffi.play(script, () => backend.semaphores.open("/q/sem", 5, Open));
    const leaving = `${fake.LEAVE}\n${fake.UNMARKED}\nclose(3) = 0`;
    ffi.play(leaving, () => semaphore.close());
  });

  test("that exists is set in Create mode, and then removed only if nobody uses it", () => {
    const { ffi, backend } = setUp();
    const script = `${fake.OPEN_LOCK}\nsemctl(7, 0, SETVAL, 5) = 0\n${fake.JOIN}`;
    const semaphore = ffi.play(script, () => backend.semaphores.open("/q/sem", 5, Create));
    const leaving = `${fake.MARK}\n${fake.TRY_ALONE} = EAGAIN\nclose(3) = 0`;
    ffi.play(leaving, () => semaphore.close());
  });
});

describe("the folder of the key files", () => {
  for (
    const [name, script, expected] of [
      [
        "is TMPDIR without symbolic links",
        `getenv("TMPDIR") = "/link"\nrealpath("/link") = "/private/tmp"`,
        "/private/tmp/name",
      ],
      ["is /tmp without TMPDIR", `getenv("TMPDIR") = NULL\nrealpath("/tmp") = "/tmp"`, "/tmp/name"],
      [
        "is /tmp if TMPDIR is empty",
        `getenv("TMPDIR") = ""\nrealpath("/tmp") = "/tmp"`,
        "/tmp/name",
      ],
      ["may be the root", `getenv("TMPDIR") = "/"\nrealpath("/") = "/"`, "/name"],
    ] as const
  ) {
    test(name, () => {
      const { ffi, backend } = setUp();
      assert.equal(ffi.play(script, () => backend.nativeKey("name")), expected);
    });
  }

  test("must exist", () => {
    const { ffi, backend } = setUp();
    const script = `getenv("TMPDIR") = "/gone"\nrealpath("/gone") = ENOENT`;
    const nativeKey = () => ffi.play(script, () => backend.nativeKey("name"));
    assert.throws(nativeKey, (error) => {
      assert.ok(error instanceof Failure);
      assert.deepEqual([error.code, error.syscall, error.errno], ["KeyError", "realpath", 2]);
      return true;
    });
  });
});

describe("the signature of a C function", () => {
  const root = fileURLToPath(new URL("../", import.meta.url));
  const files = ["", "backends/", "ffi/"].flatMap((folder) =>
    readdirSync(root + folder).filter((name) => name.endsWith(".ts")).map((name) => folder + name)
  );

  test("is declared in backends/libc.ts and nowhere else", () => {
    const names = Object.keys(setUp().ffi.signatures);
    assert.ok(names.includes("shmget") && names.includes("semop") && names.length > 10);
    const declaration = new RegExp(`\\b(${names.join("|")})"?\\s*:\\s*\\{`, "g");
    for (const file of files) {
      const found = readFileSync(root + file, "utf8").match(declaration) ?? [];
      assert.equal(found.length, file === "backends/libc.ts" ? names.length : 0, file);
    }
  });
});
