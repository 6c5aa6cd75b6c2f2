import assert from "node:assert/strict";
import { rmSync, writeFileSync } from "node:fs";
import { describe, test } from "node:test";
import { AccessMode, SharedMemory, SharedMemoryError, SharedMemoryException } from "../../mod.ts";
import {
  assertFailed,
  leaveNothingBehind,
  segmentFile,
  systemVOnly,
  uniqueKey,
} from "../support/support.ts";

/** Asserts that what made `memory` is there and works, and removes it. */
function assertUsable(memory: SharedMemory): void {
  assert.equal(memory.lock(), true, memory.errorString());
  assert.equal(memory.unlock(), true, memory.errorString());
  assert.equal(memory.detach(), true, memory.errorString());
}

/** Whether keys have files, and the calls are those of System V. */
const keyFiles = systemVOnly.skip === undefined;

describe("a SharedMemory that cannot do what it is asked", () => {
  leaveNothingBehind();

  for (const mode of [AccessMode.ReadWrite, AccessMode.ReadOnly]) {
    test(`attach(${mode}) without a segment is NotFound and says who must create it`, () => {
      const memory = new SharedMemory(uniqueKey());
      const path = segmentFile(memory.key()!);
      const call = keyFiles
        ? `[open ${path}: ENOENT 2]`
        : `[OpenFileMappingW ${path}: ERROR_FILE_NOT_FOUND 2]`;
      assertFailed(memory, "attach", memory.attach(mode), "NotFound", call, "create() it first");
    });
  }

  test(
    "attach() to the key file of a segment that is gone is NotFound and names shmget",
    systemVOnly,
    () => {
      const memory = new SharedMemory(uniqueKey());
      writeFileSync(memory.nativeKey()!, "");
      try {
        const advice = "create() it first";
        assertFailed(memory, "attach", memory.attach(), "NotFound", "[shmget: ENOENT 2]", advice);
      } finally {
        rmSync(memory.nativeKey()!);
      }
    },
  );

  test("create() of a segment that exists is AlreadyExists and says to attach", () => {
    const key = uniqueKey();
    using first = new SharedMemory(key);
    assert.equal(first.create(16), true, first.errorString());
    const second = new SharedMemory(key);
    const call = keyFiles ? "[shmget: EEXIST 17]" : "ERROR_ALREADY_EXISTS 183]";
    assertFailed(second, "create", second.create(16), "AlreadyExists", call, "attach() to it");
    assertUsable(first);
  });

  test("create() and attach() of an attached object are AlreadyExists and say to detach", () => {
    using memory = new SharedMemory(uniqueKey());
    assert.equal(memory.create(16), true, memory.errorString());
    const data = memory.data();
    // Qt's attach() leaves the previous error standing; a false of ours always has its reason.
    assertFailed(memory, "attach", memory.attach(), "AlreadyExists", "detach() first");
    assertFailed(memory, "create", memory.create(16), "AlreadyExists", "detach() first");
    assert.equal(memory.data(), data);
    assertUsable(memory);
  });

  test("detach() of an object that is not attached is NotFound and says to attach", () => {
    const memory = new SharedMemory(uniqueKey());
    assertFailed(memory, "detach", memory.detach(), "NotFound", "not attached", "attach() first");
  });

  test("lock() and unlock() of an object that is not attached are LockErrors", () => {
    const memory = new SharedMemory(uniqueKey());
    for (const failBefore of [() => true, () => memory.attach(), () => memory.create(0)]) {
      failBefore(); // Qt's lock() returns true after these, though there is nothing to lock
      assertFailed(memory, "lock", memory.lock(), "LockError", "not attached", "attach() first");
    }
    assertFailed(memory, "unlock", memory.unlock(), "LockError", "not attached", "attach() first");
  });

  test("unlock() of a lock that this object does not hold is a LockError", () => {
    const key = uniqueKey();
    using holder = new SharedMemory(key);
    using other = new SharedMemory(key);
    assert.equal(holder.create(16) && other.attach() && holder.lock(), true);
    assertFailed(other, "unlock", other.unlock(), "LockError", "does not hold", "lock() first");
    const advice = "another object of this thread holds the lock";
    assertFailed(other, "lock", other.lock(), "LockError", advice, "unlock() that one first");
    assert.equal(holder.unlock(), true);
    assertFailed(holder, "unlock", holder.unlock(), "LockError", "does not hold");
  });

  for (const size of [0, -0, -1, -(2 ** 40), Number.MIN_SAFE_INTEGER]) {
    test(`create(${Object.is(size, -0) ? "-0" : size}) is InvalidSize`, () => {
      const memory = new SharedMemory(uniqueKey());
      assertFailed(memory, "create", memory.create(size), "InvalidSize", "at least 1 byte");
    });
  }

  test("what is no size throws a RangeError or TypeError and disturbs nothing", () => {
    using memory = new SharedMemory(uniqueKey());
    assert.equal(memory.create(16), true, memory.errorString());
    for (const size of [NaN, 1.5, Infinity, -Infinity, 2 ** 53, -(2 ** 53)]) {
      const says = {
        name: "RangeError",
        message: /SharedMemory\.create: size .*below 2\^53, not /,
      };
      assert.throws(() => memory.create(size), says, String(size));
    }
    for (const size of ["16", 16n, null, undefined, {}, [16], new Number(16)]) {
      const says = { name: "TypeError", message: /SharedMemory\.create: size must be a number/ };
      assert.throws(() => memory.create(size as number), says, typeof size);
    }
    assert.equal(memory.error(), SharedMemoryError.NoError);
    assertUsable(memory);
  });

  test("what is no AccessMode throws a TypeError", () => {
    const memory = new SharedMemory(uniqueKey());
    for (const mode of [2, -1, 0.5, NaN, "0", "ReadOnly", null, true, {}, 1n]) {
      const wrong = mode as AccessMode;
      const says = { name: "TypeError", message: /mode must be an AccessMode/ };
      assert.throws(() => memory.create(16, wrong), says, String(mode));
      assert.throws(() => memory.attach(wrong), says, String(mode));
    }
    assert.equal(memory.error(), SharedMemoryError.NoError);
  });

  test("no key and the empty key are KeyErrors and say to set one", () => {
    const emptied = new SharedMemory(uniqueKey());
    emptied.setKey("");
    const native = new SharedMemory();
    native.setNativeKey("");
    const keyless = [new SharedMemory(), new SharedMemory(null), new SharedMemory("")];
    for (const memory of [...keyless, emptied, native]) {
      for (const operation of ["create", "attach"] as const) {
        const result = operation === "create" ? memory.create(16) : memory.attach();
        assert.equal(result, false);
        assert.equal(memory.error(), SharedMemoryError.KeyError);
        assert.match(memory.errorString(), new RegExp(`^SharedMemory\\.${operation} .*set one$`));
      }
    }
  });

  test("what is no key throws a TypeError and leaves the key as it was", () => {
    const memory = new SharedMemory("key");
    for (const key of [1, 1n, true, {}, [], Symbol("key"), undefined, () => "key"]) {
      const wrong = key as string;
      const says = {
        name: "TypeError",
        message: /the key must be a string, a NativeIpcKey or null/,
      };
      assert.throws(() => memory.setKey(wrong), says, typeof key);
      assert.throws(() => memory.setNativeKey(wrong), says, typeof key);
      if (key !== undefined) assert.throws(() => new SharedMemory(wrong), says, typeof key);
    }
    assert.equal(memory.key(), "key");
  });

  test("a key with a lone surrogate is a KeyError", () => {
    // Each Qt version makes another file name of it, so nobody could rely on meeting anybody.
    for (const key of ["\ud800", "a\udc00", "\udc00\ud800"]) {
      const memory = new SharedMemory(key);
      for (const operation of [() => memory.attach(), () => memory.create(16)]) {
        assert.equal(operation(), false);
        assert.equal(memory.error(), SharedMemoryError.KeyError);
        assert.ok(memory.errorString().includes(` (${JSON.stringify(key)}): `));
        assert.match(memory.errorString(), /lone surrogate.*toWellFormed/);
      }
      const says = { name: "SharedMemoryException", code: "KeyError", key, syscall: undefined };
      assert.throws(() => memory.nativeKey(), says);
    }
    using whole = new SharedMemory("\u{1f600}" + uniqueKey());
    assert.equal(whole.create(16), true, whole.errorString());
  });

  const longest = keyFiles ? 197 : 202;
  test(`a key may have ${longest} letters, which its name has too; more is a KeyError`, () => {
    using fits = new SharedMemory("a".repeat(longest));
    assert.equal(fits.create(16), true, fits.errorString());
    const memory = new SharedMemory("a".repeat(longest + 1));
    const [why, advice] = keyFiles
      ? ["1 bytes over the 255", "use fewer ASCII letters"]
      : ["the name has 261 UTF-16 units; Windows allows 260", "use another native key"];
    assertFailed(memory, "create", memory.create(16), "KeyError", why, advice);
    assertFailed(memory, "attach", memory.attach(), "KeyError", why, advice);
  });

  test("view() of an object that is not attached throws an exception with every field", () => {
    const memory = new SharedMemory("not attached");
    assert.throws(() => memory.view(Int32Array), (error) => {
      assert.ok(error instanceof SharedMemoryException && error instanceof Error);
      assert.equal(error.name, "SharedMemoryException");
      assert.equal(error.code, "NotFound");
      assert.equal(error.error, SharedMemoryError.NotFound);
      assert.equal(error.key, "not attached");
      assert.equal(error.syscall, undefined);
      assert.equal(error.errno, undefined);
      assert.match(error.message, /^SharedMemory\.view \("not attached"\): .*attach\(\) first/);
      return true;
    });
  });

  test("a success clears the error and its text", () => {
    using memory = new SharedMemory(uniqueKey());
    const operations = [
      ...[() => memory.create(16), () => memory.lock(), () => memory.unlock()],
      ...[() => memory.detach(), () => memory.create(16)],
    ];
    for (const operation of operations) {
      const failed = memory.isAttached() ? memory.attach() : memory.detach();
      assert.equal(failed, false);
      assert.notEqual(memory.errorString(), "");
      assert.equal(operation(), true, memory.errorString());
      assert.equal(memory.error(), SharedMemoryError.NoError);
      assert.equal(memory.errorString(), "");
    }
    assert.equal(memory.attach(), false);
    memory.setKey(uniqueKey());
    assert.equal(memory.error(), SharedMemoryError.NoError);
    assert.equal(memory.errorString(), "");
  });
});
