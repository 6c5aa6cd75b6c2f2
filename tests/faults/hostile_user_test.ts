/** Another user plants things under our names in a folder where everybody may make files. */
import assert from "node:assert/strict";
import { chownSync, lchownSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import process from "node:process";
import { describe, test } from "node:test";
import { selectFfi } from "../../ffi/mod.ts";
import { SharedMemory, SharedMemoryException, SystemSemaphore } from "../../mod.ts";
import { ftok, leaveNothingBehind, segmentFile, semaphoreFile } from "../support/support.ts";
import { systemLibrary, uniqueKey } from "../support/support.ts";

const NOBODY = 65534;
const IPC_CREAT = 0o1000;
const IPC_RMID = 0;
const IPC_SET = 1;
const IPC_STAT = 2;
const SETVAL = 16;

const isRoot = process.getuid?.() === 0;
const options = isRoot ? {} : { skip: "only root can act as another user" };

/** Makes kernel objects as nobody does. */
function asNobody<Result>(act: () => Result): Result {
  const { seteuid } = selectFfi().load(["libc.so.6", "libc.so"], {
    seteuid: { args: ["u32"], returns: "i32" },
  });
  assert.equal(seteuid(NOBODY), 0);
  try {
    return act();
  } finally {
    assert.equal(seteuid(0), 0);
  }
}

/** Makes the files that `key` leads to ours, for others to look up what they mean. */
function ownFiles(key: string): void {
  for (const path of [segmentFile(key), semaphoreFile(key)]) writeFileSync(path, "");
}

function removeFiles(key: string): void {
  for (const path of [segmentFile(key), semaphoreFile(key)]) rmSync(path, { force: true });
}

describe("what another user plants gains him nothing", options, () => {
  leaveNothingBehind();

  for (const file of [segmentFile, semaphoreFile]) {
    test(`a key file ${file("").slice(-17)} of his is refused`, () => {
      const key = uniqueKey();
      writeFileSync(file(key), "", { mode: 0o666 });
      chownSync(file(key), NOBODY, NOBODY);
      const memory = new SharedMemory(key);
      assert.equal(memory.create(16), false);
      assert.match(
        memory.errorString(),
        /the key file \S+ belongs to \w+ \(uid 65534\), another user/,
      );
      assert.equal(memory.createOrAttach(16), false);
      removeFiles(key);
    });

    test(`a symbolic link ${file("").slice(-17)} of his is refused, wherever it leads`, () => {
      const [key, ours] = [uniqueKey(), uniqueKey()];
      using other = new SharedMemory(ours);
      assert.equal(other.create(16), true, other.errorString());
      symlinkSync(file(ours), file(key));
      lchownSync(file(key), NOBODY, NOBODY);
      const memory = new SharedMemory(key);
      assert.equal(memory.createOrAttach(16), false);
      assert.match(memory.errorString(), /is a symbolic link, .*remove it/);
      removeFiles(key);
    });
  }

  for (const given of [false, true]) {
    test(`a segment of his is refused${given ? ", even if he gives it to us" : ""}`, () => {
      const key = uniqueKey();
      ownFiles(key);
      const { c } = systemLibrary();
      const status = new Uint8Array(112);
      const id = asNobody(() => {
        const made = c.shmget(ftok(segmentFile(key)), 64n, 0o666 | IPC_CREAT);
        assert.notEqual(made, -1);
        if (given) {
          assert.equal(c.shmctl(made, IPC_STAT, status), 0);
          new DataView(status.buffer).setUint32(4, 0, true); // shm_perm.uid; its creator stays
          assert.equal(c.shmctl(made, IPC_SET, status), 0);
        }
        return made;
      });
      const memory = new SharedMemory(key);
      assert.equal(memory.attach(), false);
      assert.match(memory.errorString(), /the segment belongs to \w+ \(uid 65534\), another user/);
      assert.throws(
        () => SharedMemory.open(key, { size: 16, stale: "keep" }),
        (error) => error instanceof SharedMemoryException && error.code === "PermissionDenied",
      );
      assert.equal(c.shmctl(id, IPC_RMID, status), 0);
      removeFiles(key);
    });
  }

  test("a semaphore of his is refused, as a lock and as a semaphore", () => {
    const key = uniqueKey();
    ownFiles(key);
    const { c } = systemLibrary();
    const id = asNobody(() => {
      const made = c.semget(ftok(semaphoreFile(key)), 1, 0o666 | IPC_CREAT);
      assert.equal(c.semctl(made, 0, SETVAL, 1n), 0);
      return made;
    });
    assertRefused(key);
    const semaphore = new SystemSemaphore(key, 1);
    assert.match(
      semaphore.errorString(),
      /the semaphore belongs to \w+ \(uid 65534\), another user/,
    );
    assert.equal(semaphore.acquire(), false);
    assert.equal(c.semctl(id, 0, 12, 0n), 1, "nobody has touched it");
    assert.equal(c.semctl(id, 0, IPC_RMID, 0n), 0);
    removeFiles(key);
  });

  function assertRefused(key: string): void {
    const memory = new SharedMemory(key);
    for (const size of [16, 32]) {
      assert.equal(memory.create(size), false);
      assert.match(
        memory.errorString(),
        /the lock belongs to \w+ \(uid 65534\), another user/,
      );
      assert.equal(memory.createOrAttach(size), false);
    }
  }

  test("all of it at once is refused by every way to open", () => {
    const key = uniqueKey();
    for (const path of [segmentFile(key), semaphoreFile(key)]) {
      writeFileSync(path, "", { mode: 0o666 });
      chownSync(path, NOBODY, NOBODY);
    }
    const { c } = systemLibrary();
    const id = asNobody(() => c.shmget(ftok(segmentFile(key)), 64n, 0o666 | IPC_CREAT));
    // create() finds the segment before it looks at anything else.
    const memory = new SharedMemory(key);
    assert.equal(memory.create(16), false);
    assert.equal(memory.isAttached(), false);
    assert.equal(memory.attach(), false);
    assert.match(memory.errorString(), /another user/);
    assert.equal(memory.createOrAttach(16), false);
    assert.match(memory.errorString(), /another user/);
    assert.equal(c.shmctl(id, IPC_RMID, new Uint8Array(112)), 0);
    removeFiles(key);
  });
});

describe("sharing with other users on purpose", options, () => {
  leaveNothingBehind();

  test("needs the option permissions on both sides, and then works both ways", () => {
    const key = uniqueKey();
    const permissions = 0o666;
    using ours = SharedMemory.open(key, { size: 64, permissions });
    ours.data()![0] = 7;
    const theirs = asNobody(() => {
      assert.throws(() => SharedMemory.open(key, { size: 64 }), { code: "PermissionDenied" });
      return SharedMemory.open(key, { size: 64, permissions });
    });
    assert.equal(theirs.data()![0], 7);
    asNobody(() => {
      assert.equal(theirs.lock(), true, theirs.errorString());
      assert.equal(ours.tryLock(), false);
      assert.equal(theirs.unlock(), true, theirs.errorString());
      assert.equal(theirs.detach(), true, theirs.errorString());
    });
    assert.equal(ours.lock(), true, ours.errorString());
  });
});
