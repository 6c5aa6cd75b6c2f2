import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { BackendError } from "../../../backends/failure.ts";
import { sourceFiles } from "../../../scripts/sources.ts";
import { AccessMode, SystemSemaphoreMode } from "../../../mod.ts";
import * as fake from "../../fixtures/fake_system.ts";
import { created, script, setUp } from "../../fixtures/fake_system.ts";

const { ReadOnly, ReadWrite } = AccessMode;
const { Create, Open } = SystemSemaphoreMode;

for (const arch of ["x64", "arm64"]) {
  describe(`System V on Linux ${arch}`, () => {
    test("create() makes the lock, taken, and under it the key file and the segment", () => {
      const segment = created(setUp(arch));
      assert.equal(segment.address, 0x7f0000000000n);
      assert.equal(segment.size, 100);
    });

    test("create() with ReadOnly maps the segment read-only, and makes it as ever", () => {
      const { ffi, backend, lock } = setUp(arch);
      const steps = fake.CREATE.replace("shmat(9, 0, 0)", "shmat(9, 0, SHM_RDONLY)");
      ffi.play(steps, () => backend.segments.create("/q/seg", 100, ReadOnly, lock));
    });

    for (
      const [name, mode, access, flag] of [
        ["", ReadWrite, "0600", "0"],
        [" with ReadOnly", ReadOnly, "0400", "SHM_RDONLY"],
      ] as const
    ) {
      test(`attach()${name} takes the lock, maps, and learns the size`, () => {
        const { ffi, backend, lock } = setUp(arch);
        const steps = `
          ${fake.FIND.replace("0600", access)}
          ${fake.STATUS("size 5000")}
          ${fake.OPEN_LOCK}
          ${fake.DOWN(10)} = 0
          ${fake.SHARE(4)} = 0
          ${fake.SEG_CURRENT}
          shmat(9, 0, ${flag}) = 0x7f0000000000
          ${fake.UNLOCK}`;
        const segment = ffi.play(steps, () => backend.segments.attach("/q/seg", mode, lock));
        assert.equal(segment.size, 5000);
      });
    }

    test("a native key has no lock, may be a link or another user's file, and its file stays", () => {
      const { ffi, backend } = setUp(arch);
      const steps = `
        open("/q/seg", O_NONBLOCK|O_CLOEXEC) = 4
        statx(4) = { inode 1, uid 1001 }
        shmget(0x51000001, 0, 0600) = 9
        ${fake.STATUS("size 100")}
        ${fake.ATTACHED_NATIVE}`;
      const segment = ffi.play(
        steps,
        () => backend.segments.attach("/q/seg", ReadWrite, null),
      );
      // Qt deletes the file, whoever made it and for whatever it is there.
      const last = `
        ${fake.UNSHARE(4)}
        ${fake.STATUS("size 100, attached 0")}
        shmctl(9, IPC_RMID) = 0
        ${fake.ALONE(4)} = 0
        ${fake.UNSHARE(4)}`; // and the file is kept open for the next time
      ffi.play(last, () => segment.release({ lockHeld: false, wait: true }));
    });

    test("lock() and unlock() are one semop each, undone by the kernel at any death", () => {
      const setup = setUp(arch);
      created(setup);
      setup.ffi.play(`${fake.TRY_DOWN} = 0`, () => setup.lock.acquire());
      setup.ffi.play(fake.UNLOCK, () => setup.lock.release());
    });

    test("the key is made of the device's and the inode's low bits, as by ftok()", () => {
      const { ffi, backend } = setUp(arch);
      const steps = `
        ${fake.OPEN("/q/seg")} = 4
        statx(4) = { inode 0x1234fedc, minor 0x1ab }
        shmget(0x51abfedc, 0, 0600) = ENOENT`;
      const attach = () => backend.segments.attach("/q/seg", ReadWrite, null);
      const native = steps.replace("|O_NOFOLLOW", "");
      fake.assertFails(() => ffi.play(native, attach), "NotFound", "shmget", 2);
    });
  });
}

describe("a System V semaphore", () => {
  test("that exists keeps its value in Open mode, and stays when it is let go", () => {
    const { ffi, backend } = setUp();
    const steps = fake.OPEN_SEMAPHORE();
    const semaphore = ffi.play(steps, () => backend.semaphores.open("/q/sem", 5, Open));
    ffi.play(fake.CLOSE_SEMAPHORE, () => semaphore.close());
  });

  test("that exists is set in Create mode, and then removed only if nobody uses it", () => {
    const { ffi, backend } = setUp();
    const steps = fake.SET_SEMAPHORE(5);
    const semaphore = ffi.play(steps, () => backend.semaphores.open("/q/sem", 5, Create));
    const used = `${fake.ALONE(3)} = EAGAIN`;
    const leaving = script(
      ...[fake.FOLDER, used, fake.SET_MARK(), used],
      ...["semctl(7, 0, IPC_STAT) = {}", "close(3) = 0"],
    );
    ffi.play(leaving, () => semaphore.close());
  });
});

describe("the folder of the key files", () => {
  for (
    const [name, script, expected] of [
      [
        "is TMPDIR without symbolic links",
        `getenv("TMPDIR") = "/link"\nrealpath("/link") = "/private/tmp"`,
        "/private/tmp",
      ],
      ["is /tmp without TMPDIR", `getenv("TMPDIR") = NULL\nrealpath("/tmp") = "/tmp"`, "/tmp"],
      [
        "is /tmp if TMPDIR is empty",
        `getenv("TMPDIR") = ""\nrealpath("/tmp") = "/tmp"`,
        "/tmp",
      ],
      ["may be the root", `getenv("TMPDIR") = "/"\nrealpath("/") = "/"`, ""],
    ] as const
  ) {
    test(name, () => {
      const { ffi, backend } = setUp();
      assert.equal(ffi.play(script, () => backend.folder()), expected);
    });
  }

  test("must exist", () => {
    const { ffi, backend } = setUp();
    const script = `getenv("TMPDIR") = "/gone"\nrealpath("/gone") = ENOENT`;
    const nativeKey = () => ffi.play(script, () => backend.folder());
    assert.throws(nativeKey, (error) => {
      assert.ok(error instanceof BackendError);
      assert.deepEqual([error.code, error.syscall, error.errno], ["KeyError", "realpath", 2]);
      return true;
    });
  });
});

describe("the signature of a C function", () => {
  const root = fileURLToPath(new URL("../../../", import.meta.url));
  test("is declared in backends/unix/signatures.ts and nowhere else", () => {
    const names = Object.keys(setUp().ffi.signatures);
    assert.ok(names.includes("shmget") && names.includes("semop") && names.length > 10);
    const declaration = new RegExp(`\\b(${names.join("|")})"?\\s*:\\s*\\{`, "g");
    for (const file of sourceFiles()) {
      const found = readFileSync(root + file, "utf8").match(declaration) ?? [];
      if (file === "backends/unix/signatures.ts") assert.equal(found.length, names.length, file);
      // Of a variadic one there is one signature for each way to call it, and other threads load what they call.
      else if (file !== "backends/systemv/semop_wait.ts") {
        assert.deepEqual(found.filter((text) => !text.startsWith("syscall:")), [], file);
      }
    }
  });
});
