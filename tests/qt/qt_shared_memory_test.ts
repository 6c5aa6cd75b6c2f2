/** The cases of Qt's own `tst_qsharedmemory`, by their names there: keys and states. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { describe, test } from "node:test";
import { SharedMemory, SharedMemoryError } from "../../mod.ts";
import {
  assertCannotDetach,
  assertDetached,
  assertNoSemaphore,
  assertUntouched,
} from "../support/qt_states.ts";
import { leaveNothingBehind, segmentFile, sizeOf, uniqueKey } from "../support/support.ts";

describe("Qt's tests of QSharedMemory: keys", () => {
  leaveNothingBehind();

  test("A1 constructor: an object without a key has no segment, no data and no error", () => {
    using memory = new SharedMemory();
    assertUntouched(memory);
    assert.equal(memory.key(), null); // Qt: a null string
    assert.equal(memory.nativeKey(), null);
  });

  for (
    const [row, constructorKey, setKey, setNativeKey] of [
      ["null, null, null", null, null, null],
      ["one, null, null", "one", null, null],
      ["null, one, null", null, "one", null],
      ["null, null, one", null, null, "one"],
      ["one, two, null", "one", "two", null],
      ["one, null, two", "one", null, "two"],
      ["null, one, two", null, "one", "two"],
      ["one, two, three", "one", "two", "three"],
      ["invalid", "o/e", "t/o", "|x"],
    ] as const
  ) {
    test(`A2 legacyKey: ${row}: each key set replaces the one before, and a native key is kept as given`, () => {
      using memory = new SharedMemory(constructorKey);
      assert.equal(memory.key(), constructorKey);
      assert.equal(memory.nativeKey(), constructorKey && segmentFile(constructorKey));
      assertUntouched(memory);
      memory.setKey(setKey);
      assert.equal(memory.key(), setKey);
      assert.equal(memory.nativeKey(), setKey && segmentFile(setKey));
      assertUntouched(memory);
      memory.setNativeKey(setNativeKey);
      assert.equal(memory.key(), null);
      assert.equal(memory.nativeKey(), setNativeKey);
      assertUntouched(memory);
      assertCannotDetach(memory);
    });
  }

  test("A2 legacyKey: the same key again does nothing, not even to an attached object", () => {
    // Qt since 6.6 detaches; the reference says that it returns without doing anything.
    const key = uniqueKey();
    using memory = new SharedMemory(key);
    assert.equal(memory.create(16), true, memory.errorString());
    const data = memory.data()!;
    memory.setKey(key);
    assert.equal(memory.isAttached(), true);
    assert.equal(memory.data(), data);
    assert.equal(data.length, sizeOf(16));
    memory.setKey(uniqueKey("another"));
    assertUntouched(memory);
    assert.equal(data.length, 0);
  });

  for (
    const [one, two] of [
      [null, null],
      ["key", "key"],
      ["key1", "key1"],
      ["key", "key1"],
      ["ke1y", "key1"],
      ["key1", "key2"],
      ["Noël", "Nol"],
    ] as const
  ) {
    const same = one === two;
    test(`A17 uniqueKey: ${one} and ${two} are ${same ? "the same" : "different"} keys and native keys`, () => {
      using first = new SharedMemory(one);
      using second = new SharedMemory(two);
      assert.equal(first.key() === second.key(), same);
      assert.equal(first.nativeKey() === second.nativeKey(), same);
    });
  }
});

describe("Qt's tests of QSharedMemory: create, attach, detach", () => {
  leaveNothingBehind();

  for (
    const [row, hasKey, exists, size, error] of [
      ["null key", false, false, 1024, "KeyError"],
      ["-1 size", true, false, -1, "InvalidSize"],
      ["nor size", true, false, 1024, "NoError"],
      ["already exists", true, true, 1024, "AlreadyExists"],
    ] as const
  ) {
    test(`A3 create: ${row}: ${error}`, () => {
      const key = hasKey ? uniqueKey("create") : null;
      using existing = new SharedMemory(exists ? key : uniqueKey("existing"));
      assert.equal(existing.create(1024), true, existing.errorString());
      using memory = new SharedMemory(key);
      assert.equal(memory.create(size), error === "NoError");
      assert.equal(memory.error(), SharedMemoryError[error]);
      assert.equal(memory.key(), key);
      if (error === "NoError") {
        assert.equal(memory.errorString(), "");
        assert.equal(memory.data()!.length, sizeOf(size));
        assert.equal(memory.size(), sizeOf(size));
      } else {
        assert.match(memory.errorString(), /^SharedMemory\.create /);
        assertDetached(memory);
        if (key !== null && !exists) assertNoSemaphore(key);
      }
    });
  }

  for (
    const [row, hasKey, exists, error] of [
      ["null key", false, false, "KeyError"],
      ["doesntexists", true, false, "NotFound"],
      ["existing", true, true, "NoError"],
    ] as const
  ) {
    test(`A4 attach: ${row}: ${error}`, () => {
      const key = hasKey ? uniqueKey("attach") : null;
      using existing = new SharedMemory(exists ? key : uniqueKey("existing"));
      assert.equal(existing.create(1024), true, existing.errorString());
      using memory = new SharedMemory(key);
      assert.equal(memory.attach(), exists);
      assert.equal(memory.isAttached(), exists);
      assert.equal(memory.error(), SharedMemoryError[error]);
      assert.equal(memory.key(), key);
      if (exists) {
        for (const again of [true, false]) {
          assert.equal(memory.data()!.length, sizeOf(1024));
          assert.equal(memory.size(), sizeOf(1024));
          assert.equal(memory.errorString(), "");
          assert.equal(memory.detach(), true);
          if (again) assert.equal(memory.attach(), true, memory.errorString());
        }
        assertUntouched(memory);
      } else {
        assert.match(memory.errorString(), /^SharedMemory\.attach /);
        assertDetached(memory);
        assertCannotDetach(memory);
        if (key !== null) assertNoSemaphore(key);
      }
    });
  }

  test("A7 removeWhileAttached: the segment is gone with the last object, not with its creator", () => {
    const key = uniqueKey();
    const one = new SharedMemory(key);
    assert.equal(one.create(1024), true, one.errorString());
    const two = new SharedMemory(key);
    assert.equal(two.attach(), true, two.errorString());
    one[Symbol.dispose]();
    // Qt does not look at what is between.
    using between = new SharedMemory(key);
    assert.equal(between.attach(), true, between.errorString());
    assert.equal(between.detach(), true);
    two[Symbol.dispose]();
    using three = new SharedMemory(key);
    assert.equal(three.attach(), false);
    assert.equal(three.error(), SharedMemoryError.NotFound);
    assert.equal(existsSync(segmentFile(key)), false);
    assertNoSemaphore(key);
  });
});
