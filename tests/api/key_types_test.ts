/** The cases of Qt's own tests that use native keys, by their names there, for every type of keys. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import process from "node:process";
import { describe, test } from "node:test";
import {
  AccessMode,
  NativeIpcKey,
  NativeIpcKeyType,
  SharedMemory,
  SharedMemoryError,
  SystemSemaphore,
  SystemSemaphoreError,
  SystemSemaphoreMode,
} from "../../mod.ts";
import {
  chosenKey,
  chosenSemaphoreKey,
  isSystemV,
  type KeyType,
  keyTypes,
  kinds,
  sourceOf,
  uniqueName,
  unsupportedType,
} from "../support/key_types.ts";
import { assertCannotDetach, assertDetached, assertUntouched } from "../support/qt_states.ts";
import {
  ipcObjects,
  ipcObjectsSince,
  keyFolder,
  leaveNothingBehind,
  ownRuntime,
  runtimes,
  slow,
  startAgent,
  startAgentThrough,
  uniqueKey,
} from "../support/support.ts";

const { Create } = SystemSemaphoreMode;

/** As Qt's tests go on: the type after this one. */
function after(keyType: KeyType): KeyType {
  return keyTypes[(keyTypes.indexOf(keyType) + 1) % keyTypes.length]!;
}

/** Whether what another type has for a native key is one for this type: a path is no POSIX name. */
function isName({ nativeKey }: NativeIpcKey, { type }: KeyType): boolean {
  return isSystemV({ type }) || nativeKey.lastIndexOf("/") <= 0;
}

const hasSeveral = keyTypes.length > 1 ? {} : { skip: "this system has one type of keys" };

function assertCreated(memory: SharedMemory, size = 64): void {
  assert.equal(memory.create(size), true, memory.errorString());
}

function assertNoError(semaphore: SystemSemaphore): void {
  assert.equal(semaphore.error(), SystemSemaphoreError.NoError, semaphore.errorString());
  assert.equal(semaphore.errorString(), "");
}

for (const keyType of keyTypes) {
  const { name, type } = keyType;

  describe(`Qt's tests of QSharedMemory with native keys: ${name}`, () => {
    leaveNothingBehind();

    for (
      const [row, first, second] of [
        ["null, null", "", ""],
        ["one, null", "one", ""],
        ["null, one", "", "one"],
        ["one, two", "one", "two"],
        ["invalid", "o/e", "|x"],
      ] as const
    ) {
      test(`A2 nativeKey: ${row}: a key is kept as given, whatever its type`, () => {
        const keys = [first, second].map((text) => SharedMemory.platformSafeKey(text, type));
        using memory = new SharedMemory(keys[0]);
        const assertKey = (key: NativeIpcKey) => {
          assert.ok(memory.nativeIpcKey()!.equals(key));
          assert.equal(memory.nativeKey(), key.nativeKey);
          assert.equal(memory.key(), null);
          assertUntouched(memory);
        };
        assertKey(keys[0]!);
        memory.setNativeKey(keys[1]!);
        assertKey(keys[1]!);
        const other = SharedMemory.platformSafeKey(second, after(keyType).type);
        memory.setNativeKey(other);
        assertKey(other);
        assertCannotDetach(memory);
      });
    }

    for (
      const [row, first, second, third] of [
        ["null, null, null", null, null, ""],
        ["one, null, null", "one", null, ""],
        ["null, one, null", null, "one", ""],
        ["null, null, one", null, null, "one"],
        ["one, two, null", "one", "two", ""],
        ["one, null, two", "one", null, "two"],
        ["null, one, two", null, "one", "two"],
        ["one, two, three", "one", "two", "three"],
        ["invalid", "o/e", "t/o", "|x"],
      ] as const
    ) {
      test(`A2 legacyKey: ${row}: the native key of a key tells that key`, () => {
        const legacy = (text: string | null) => SharedMemory.legacyNativeKey(text ?? "", type);
        using memory = new SharedMemory(legacy(first));
        const assertKey = (text: string | null) => {
          assert.equal(memory.key(), text || null);
          assert.equal(memory.nativeKey(), legacy(text).nativeKey);
          assert.ok(memory.nativeIpcKey()!.equals(legacy(text)));
          assert.equal(memory.nativeIpcKey()!.legacyKey, text ?? "");
          assertUntouched(memory);
        };
        assertKey(first);
        memory.setKey(legacy(second));
        assertKey(second);
        memory.setNativeKey(legacy(third));
        assertKey(third);
        assertCannotDetach(memory);
      });
    }

    for (const [row, error] of [["null", "KeyError"], ["doesntexists", "NotFound"]] as const) {
      test(`A5 changeKeyType: ${row}: ${error}, and so with another type`, hasSeveral, () => {
        const key = error === "KeyError" ? new NativeIpcKey("", type) : chosenKey(keyType);
        using memory = new SharedMemory(key);
        assert.equal(memory.attach(), false);
        assert.equal(memory.error(), SharedMemoryError[error], memory.errorString());
        assertDetached(memory);
        const other = after(keyType);
        memory.setNativeKey(new NativeIpcKey(key.nativeKey, other.type));
        assertUntouched(memory);
        assert.equal(memory.attach(), false);
        const expected = isName(key, other) ? error : "KeyError";
        assert.equal(memory.error(), SharedMemoryError[expected], memory.errorString());
      });
    }

    test("A5 changeKeyType: existing: not attached any more, and not found", hasSeveral, () => {
      const key = chosenKey(keyType);
      using existing = new SharedMemory(key);
      assertCreated(existing);
      using memory = new SharedMemory(key);
      assert.equal(memory.attach(), true, memory.errorString());
      const other = after(keyType);
      memory.setNativeKey(new NativeIpcKey(key.nativeKey, other.type));
      assertUntouched(memory);
      assert.equal(memory.attach(), false);
      assertDetached(memory);
      const expected = isName(key, other) ? "NotFound" : "KeyError";
      assert.equal(memory.error(), SharedMemoryError[expected], memory.errorString());
      memory.setNativeKey(key);
      assert.equal(memory.attach(), true, memory.errorString());
    });

    for (const [kind, keyOf] of kinds) {
      test(`A8 emptyMemory: ${kind}: a new segment is filled with zeros`, () => {
        using memory = new SharedMemory(keyOf(keyType));
        assert.equal(memory.create(1024, AccessMode.ReadOnly), true, memory.errorString());
        assert.ok(memory.size() >= 1024);
        assert.deepEqual([...memory.data()!], new Array(memory.size()).fill(0));
      });

      test(`A10 attachBeforeCreate: ${kind}: an attach() that fails leaves nothing in the way`, () => {
        const before = ipcObjects();
        using memory = new SharedMemory(keyOf(keyType));
        assert.equal(memory.attach(), false);
        assert.equal(memory.error(), SharedMemoryError.NotFound, memory.errorString());
        assert.deepEqual(ipcObjectsSince(before), []);
        assertCreated(memory, 100);
        assert.equal(memory.error(), SharedMemoryError.NoError);
      });

      test(`A18 createWithSameKey: ${kind}: the second object can attach again and again`, () => {
        const key = keyOf(keyType);
        using first = new SharedMemory(key);
        assertCreated(first, 100);
        for (let round = 0; round < 2; round++) {
          using second = new SharedMemory(key);
          assert.equal(second.create(100), false);
          assert.equal(second.error(), SharedMemoryError.AlreadyExists, second.errorString());
          assert.equal(second.attach(), true, second.errorString());
        }
      });

      test(`lock(): ${kind}: a NativeIpcKey has a lock, and createOrAttach() and open() work`, () => {
        const key = keyOf(keyType);
        const { LockError } = SharedMemoryError;
        using first = new SharedMemory(key);
        assert.equal(first.createOrAttach(64), true, first.errorString());
        let called = false;
        using second = SharedMemory.open(key, { size: 64, initialize: () => called = true });
        using third = SharedMemory.open(key);
        assert.equal(called, false);
        assert.equal(first.lock(), true, first.errorString());
        assert.equal(second.tryLock(), false);
        assert.equal(second.error(), LockError, second.errorString());
        assert.equal(first.unlock(), true, first.errorString());
        assert.equal(third.tryLock(), true, third.errorString());
        assert.equal(third.unlock(), true, third.errorString());
        assert.equal(first.withLock(() => 5), 5);
      });
    }
  });

  describe(`Qt's tests of QSystemSemaphore with native keys: ${name}`, () => {
    leaveNothingBehind();

    for (
      const [row, first, second] of [
        ["null, null", false, false],
        ["null, one", false, true],
        ["one, two", true, true],
      ] as const
    ) {
      for (const kind of ["nativeKey", "legacyKey"]) {
        test(`B1 ${kind}: ${row}: each key set replaces the one before, and none is no error`, () => {
          const [one, two, three] = [first, second, second].map((isGiven, index) => {
            const typed = index < 2 ? keyType : after(keyType);
            if (!isGiven) return new NativeIpcKey("", typed.type);
            if (kind === "nativeKey") return chosenSemaphoreKey(typed);
            return SystemSemaphore.legacyNativeKey(uniqueKey(), typed.type);
          }) as [NativeIpcKey, NativeIpcKey, NativeIpcKey];
          using semaphore = new SystemSemaphore(one);
          const assertKey = (key: NativeIpcKey) => {
            assert.ok(semaphore.nativeIpcKey()!.equals(key));
            assert.equal(semaphore.nativeKey(), key.nativeKey);
            assert.equal(semaphore.key(), key.legacyKey || null);
            assertNoError(semaphore);
          };
          assertKey(one);
          semaphore.setKey(two);
          assertKey(two);
          semaphore.setNativeKey(three);
          assertKey(three);
        });
      }
    }

    test("B2 changeKeyType: two semaphores that swap their keys go on", () => {
      const [first, second] = [chosenSemaphoreKey(keyType), chosenSemaphoreKey(after(keyType))];
      using one = new SystemSemaphore(first, 1);
      using two = new SystemSemaphore(second, 1);
      one.setNativeKey(second, 1);
      two.setNativeKey(first, 1);
      for (const semaphore of [one, two]) {
        assertNoError(semaphore);
        assert.equal(semaphore.acquire(), true, semaphore.errorString());
        assert.equal(semaphore.tryAcquire(), false);
        assert.equal(semaphore.release(), true, semaphore.errorString());
        assertNoError(semaphore);
      }
    });

    test("B6 twoSemaphores: what one acquires the other releases", () => {
      const key = chosenSemaphoreKey(keyType);
      using one = new SystemSemaphore(key, 1, Create);
      using two = new SystemSemaphore(key);
      for (let turn = 0; turn < 2; turn++) {
        assert.equal(one.acquire(), true, one.errorString());
        assert.equal(two.tryAcquire(), false);
        assert.equal(two.release(), true, two.errorString());
      }
    });
  });
}

describe("what a system has of types of keys", () => {
  for (const Class of [SharedMemory, SystemSemaphore]) {
    test(`${Class.name}.isKeyTypeSupported() knows those of this system, and no others`, () => {
      const windows = process.platform === "win32";
      for (const type of [1, "T".charCodeAt(0), NativeIpcKeyType.SystemV, 200, 255, 0x100]) {
        assert.equal(Class.isKeyTypeSupported(type), !windows, String(type));
      }
      assert.equal(Class.isKeyTypeSupported(NativeIpcKeyType.Windows), windows);
      assert.equal(Class.isKeyTypeSupported(0), false);
      assert.equal(Class.isKeyTypeSupported(unsupportedType), false);
    });

    test(`the default type of ${Class.name}'s keys is one that this system has`, () => {
      assert.ok(Class.isKeyTypeSupported(Class.platformSafeKey("key").type));
      assert.ok(Class.isKeyTypeSupported(Class.legacyNativeKey("key").type));
      const { type } = Class.platformSafeKey("key");
      assert.equal(type, NativeIpcKey.defaultTypeForOs(process.platform));
      const legacy = Class.legacyNativeKey("key");
      assert.equal(legacy.type, NativeIpcKey.legacyDefaultTypeForOs(process.platform));
      assert.equal(legacy.nativeKey, new Class("key").nativeKey());
      assert.ok(legacy.equals(new Class("key").nativeIpcKey()!));
    });

    for (const { name, type } of keyTypes) {
      test(`${Class.name}.platformSafeKey() shows a key, and legacyNativeKey() tells it: ${name}`, () => {
        const prefix = Class === SharedMemory ? "qipc_sharedmemory_" : "qipc_systemsem_";
        const hash = "aa32f2ae22ba5d68ec6b9bc1e24e4aba2be7a3ce"; // sha1("Käse 1")
        const legacy = Class.legacyNativeKey("Käse 1", type);
        assert.equal(legacy.type, type);
        assert.equal(legacy.legacyKey, "Käse 1");
        const safe = Class.platformSafeKey("Käse 1", type);
        assert.equal(safe.type, type);
        assert.equal(safe.legacyKey, "");
        assert.ok(safe.nativeKey.endsWith("Käse 1"), safe.nativeKey);
        const file = `${prefix}Kse`;
        if (isSystemV({ type })) {
          assert.ok(legacy.nativeKey.startsWith(`${keyFolder}${file}`), legacy.nativeKey);
          assert.match(safe.nativeKey, /^\/.*\/Käse 1$/);
          assert.equal(Class.platformSafeKey("/a/path", type).nativeKey, "/a/path");
        } else if (type === NativeIpcKeyType.PosixRealtime && process.platform !== "darwin") {
          assert.ok(legacy.nativeKey.startsWith(`/${file}`), legacy.nativeKey);
          assert.equal(safe.nativeKey, "/Käse 1");
        } else if (type === NativeIpcKeyType.Windows) {
          assert.ok(legacy.nativeKey.startsWith(file), legacy.nativeKey);
          assert.equal(safe.nativeKey, Class === SharedMemory ? "shm_Käse 1" : "sem_Käse 1");
        }
        assert.equal(
          legacy.nativeKey.length,
          legacy.nativeKey.lastIndexOf("Kse") + 3 + hash.length,
        );
        assert.equal(Class.platformSafeKey("", type).isEmpty, true);
        assert.equal(Class.legacyNativeKey("", type).isEmpty, true);
      });
    }

    test(`${Class.name} has empty keys of a type that this system does not have`, () => {
      for (
        const key of [
          Class.platformSafeKey("key", unsupportedType),
          Class.legacyNativeKey("key", unsupportedType),
        ]
      ) {
        assert.equal(key.isEmpty, true);
        assert.equal(key.type, unsupportedType);
      }
      assert.throws(() => Class.platformSafeKey("key", 256.5), TypeError);
      assert.throws(() => Class.legacyNativeKey("key", -1), TypeError);
    });
  }

  test("a segment of another type is a KeyError that says so", () => {
    for (
      const [type, says] of [
        [unsupportedType, /has no objects of type (windows|posix); see SharedMemory\.isKeyTypeSup/],
        [0, /the key has no type; see SharedMemory\.isKeyTypeSupported\(\)$/],
      ] as const
    ) {
      const key = new NativeIpcKey("/name", type);
      using memory = new SharedMemory(key);
      for (const operation of ["create", "attach", "createOrAttach"] as const) {
        const result = operation === "attach" ? memory.attach() : memory[operation](64);
        assert.equal(result, false);
        assert.equal(memory.error(), SharedMemoryError.KeyError);
        assert.match(memory.errorString(), says);
        assert.ok(memory.errorString().startsWith(`SharedMemory.${operation} ("${key}"): `));
      }
      assert.throws(() => SharedMemory.open(key, { size: 9 }), { code: "KeyError" });
      assert.equal(memory.nativeIpcKey(), key);
    }
  });

  test("a semaphore of another type is a KeyError that says so", () => {
    for (const type of [unsupportedType, 0]) {
      using semaphore = new SystemSemaphore(new NativeIpcKey("/name", type), 1);
      for (const operation of ["setKey", "acquire", "release"] as const) {
        if (operation !== "setKey") assert.equal(semaphore[operation](), false);
        assert.equal(semaphore.error(), SystemSemaphoreError.KeyError);
        assert.match(
          semaphore.errorString(),
          /^SystemSemaphore\.\w+ .*(has no objects of type|the key has no type).*; see /,
        );
      }
    }
  });
});

describe("the key of an object", () => {
  leaveNothingBehind();

  const legacyType = NativeIpcKey.legacyDefaultTypeForOs(process.platform);

  for (const Class of [SharedMemory, SystemSemaphore]) {
    test(`nativeIpcKey() of a ${Class.name} is there after every way to set a key`, () => {
      using object = new Class();
      assert.equal(object.nativeIpcKey(), null);
      using constructed = new Class("one");
      assert.ok(constructed.nativeIpcKey()!.equals(Class.legacyNativeKey("one")));
      object.setKey("two");
      assert.ok(object.nativeIpcKey()!.equals(Class.legacyNativeKey("two")));
      object.setKey(null);
      assert.equal(object.nativeIpcKey(), null);
      const path = keyTypes[0]!.type === NativeIpcKeyType.Windows ? "qipc_x" : `${keyFolder}qipc_x`;
      object.setNativeKey(path);
      assert.ok(object.nativeIpcKey()!.equals(new NativeIpcKey(path, legacyType)));
      assert.equal(object.key(), null);
      object.setNativeKey(null);
      assert.equal(object.nativeIpcKey(), null);
      for (const { type } of keyTypes) {
        const key = Class.legacyNativeKey("three", type);
        object.setNativeKey(key);
        assert.equal(object.nativeIpcKey(), key);
        assert.equal(object.key(), "three");
        using other = new Class(key);
        assert.equal(other.nativeIpcKey(), key);
        object.setKey("four");
        assert.ok(object.nativeIpcKey()!.equals(Class.legacyNativeKey("four")));
        object.setKey(key);
        assert.equal(object.nativeIpcKey(), key);
        const told = NativeIpcKey.fromString(String(key))!;
        using distant = new Class(told);
        assert.ok(distant.nativeIpcKey()!.equals(key));
      }
    });
  }

  test("a key, its native key of the same type, and its text are one segment with one lock", () => {
    const key = uniqueKey();
    using first = new SharedMemory(key);
    assertCreated(first);
    using second = new SharedMemory(SharedMemory.legacyNativeKey(key));
    using third = new SharedMemory(NativeIpcKey.fromString(String(first.nativeIpcKey())));
    for (const memory of [second, third]) {
      assert.equal(memory.attach(), true, memory.errorString());
      assert.equal(memory.key(), key);
      assert.equal(first.lock(), true, first.errorString());
      assert.equal(memory.tryLock(), false);
      assert.equal(first.unlock(), true);
      first.data()![3] = 7;
      assert.equal(memory.data()![3], 7);
      first.data()![3] = 0;
    }
  });

  test("a native key that is a string has no lock, and a NativeIpcKey has", () => {
    const key = chosenKey({ type: legacyType });
    using first = new SharedMemory(key);
    assertCreated(first);
    using second = new SharedMemory();
    second.setNativeKey(key.nativeKey);
    assert.equal(second.attach(), true, second.errorString());
    for (const result of [second.lock(), second.tryLock()]) {
      assert.equal(result, false);
      assert.equal(second.error(), SharedMemoryError.LockError);
      assert.match(second.errorString(), /a native key that is a string has no lock/);
    }
    assert.equal(first.lock(), true, first.errorString());
    first.data()![0] = 5;
    assert.equal(second.data()![0], 5);
    assert.equal(second.detach(), true, second.errorString());
    second.setNativeKey(key);
    assert.equal(second.attach(), true, second.errorString());
    assert.equal(second.tryLock(), false);
  });

  test("the same key again does nothing, and another type of the same text detaches", () => {
    for (const { type } of keyTypes) {
      const key = chosenKey({ type });
      using memory = new SharedMemory(key);
      assertCreated(memory);
      const data = memory.data()!;
      memory.setNativeKey(new NativeIpcKey(key.nativeKey, type));
      memory.setKey(NativeIpcKey.fromString(String(key))!);
      assert.equal(memory.data(), data);
      memory.setNativeKey(new NativeIpcKey(key.nativeKey, type, "another legacy key"));
      assertUntouched(memory);
      assert.equal(data.length, 0);
      assert.equal(memory.key(), "another legacy key");
    }
  });
});

const hasSystemV = keyTypes.some(isSystemV) ? {} : { skip: "this system has no System V" };

describe("the key file that a user has chosen", hasSystemV, () => {
  leaveNothingBehind();

  for (const keyType of keyTypes.filter(isSystemV)) {
    test(`is deleted with the segment if it is empty and ours: ${keyType.name}`, () => {
      const key = chosenKey(keyType);
      const memory = new SharedMemory(key);
      assertCreated(memory);
      assert.equal(existsSync(key.nativeKey), true);
      assert.equal(memory.lock(), true, memory.errorString());
      assert.equal(memory.detach(), true, memory.errorString());
      assert.equal(existsSync(key.nativeKey), false);
    });

    test(`with content is used, and stays as it is: ${keyType.name}`, () => {
      const key = chosenKey(keyType);
      const text = "this is somebody's file\n";
      writeFileSync(key.nativeKey, text);
      try {
        for (let turn = 0; turn < 2; turn++) {
          using first = new SharedMemory(key);
          using second = new SharedMemory(key);
          assertCreated(first);
          assert.equal(second.createOrAttach(64), true, second.errorString());
          assert.equal(second.lock() && second.unlock(), true, second.errorString());
          assert.equal(first.detach(), true, first.errorString());
          assert.equal(second.detach(), true, second.errorString());
          using semaphore = new SystemSemaphore(new NativeIpcKey(key.nativeKey, keyType.type), 1);
          assert.equal(semaphore.acquire(), true, semaphore.errorString());
          assert.equal(semaphore.release(), true, semaphore.errorString());
        }
        assert.equal(readFileSync(key.nativeKey, "utf8"), text);
      } finally {
        rmSync(key.nativeKey, { force: true });
      }
    });
  }

  test("is in XDG_RUNTIME_DIR if it is no absolute path", slow, async () => {
    const folder = `${tmpdir()}/${uniqueName()}`;
    mkdirSync(folder, { mode: 0o700 }); // as the XDG specification wants it
    try {
      for (const runtime of runtimes) {
        const agent = startAgent(runtime, { XDG_RUNTIME_DIR: folder });
        const nativeKey = await agent.run(`
          const key = library.SharedMemory.platformSafeKey("a key", 84);
          const memory = objects.m = new library.SharedMemory(key);
          if (!memory.create(9)) throw new Error(memory.errorString());
          return key.nativeKey;`);
        assert.equal(nativeKey, `${folder}/a key`);
        assert.equal(existsSync(`${folder}/a key`), true);
        assert.equal(await agent.end(), 0);
        assert.equal(existsSync(`${folder}/a key`), false);
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe("objects of one text and different types", hasSeveral, () => {
  leaveNothingBehind();

  // What is a path to System V is no POSIX name, unless it is a file in the root folder. Two project ids on
  // one file are not for two programs: as in Qt, the last user of the one deletes it.
  const name = `/${uniqueName().replaceAll(" ", "_")}`;
  const mayUseRoot = process.getuid?.() === 0;
  const pairs = [
    ...(mayUseRoot ? [[keyTypes[0]!, keyTypes.at(-1)!, name] as const] : []),
  ] as const;

  for (const [one, two, text] of hasSeveral.skip ? [] : pairs) {
    const what = `${one.name} and ${two.name}`;

    test(`do not disturb each other: ${what}`, async () => {
      const keys = [one, two].map(({ type }) => new NativeIpcKey(text, type));
      using first = new SharedMemory(keys[0]);
      using second = new SharedMemory(keys[1]);
      assertCreated(first, 100);
      assert.equal(second.attach(), false);
      assert.equal(second.error(), SharedMemoryError.NotFound, second.errorString());
      assertCreated(second, 200);
      first.data()!.fill(1);
      second.data()!.fill(2);
      assert.deepEqual([first.data()![99], second.data()![99]], [1, 2]);

      // One thread may hold both locks, and wait for one while it holds the other.
      assert.equal(first.lock(), true, first.errorString());
      assert.equal(second.lock(), true, second.errorString());
      using third = new SharedMemory(keys[0]);
      using fourth = new SharedMemory(keys[1]);
      assert.equal(third.attach() && fourth.attach(), true);
      const order: string[] = [];
      const waiting = [third, fourth].map(async (memory, index) => {
        const locked = await memory.lockAsync({ timeout: 20_000 });
        order.push(`${index} ${locked}`);
      });
      assert.equal(second.unlock(), true, second.errorString());
      await waiting[1];
      assert.deepEqual(order, ["1 true"]);
      assert.equal(first.unlock(), true, first.errorString());
      await waiting[0];
      assert.deepEqual(order, ["1 true", "0 true"]);
      assert.equal(third.unlock() && fourth.unlock(), true);

      assert.equal(first.detach() && third.detach(), true);
      assert.equal(fourth.data()![199], 2);
      assert.equal(new SharedMemory(keys[0]).attach(), false);
      using fifth = new SharedMemory(keys[1]);
      assert.equal(fifth.attach(), true, fifth.errorString());
      assert.equal(fourth.lock(), true, fourth.errorString());
      assert.equal(fifth.tryLock(), false);
    });

    test(`and semaphores: ${what}`, async () => {
      const keys = [one, two].map(({ type }) => new NativeIpcKey(text, type));
      using first = new SystemSemaphore(keys[0], 1);
      using second = new SystemSemaphore(keys[1], 2);
      assertNoError(first);
      assertNoError(second);
      assert.equal(first.acquire(), true);
      assert.equal(first.tryAcquire(), false);
      const waiting = first.acquireAsync({ timeout: 20_000 });
      assert.equal(await second.acquireAsync(), true, second.errorString());
      assert.equal(second.tryAcquire(), true, second.errorString());
      assert.equal(second.tryAcquire(), false);
      assert.equal(first.release(), true);
      assert.equal(await waiting, true, first.errorString());
      assert.equal(first.release() && second.release(2), true);
    });
  }
});

/** Why memory cannot be limited here, if it cannot. */
function cannotLimit(): string | undefined {
  if (process.getuid?.() !== 0) return "only root may lower the system's limits";
  const script = "echo 1024 > /proc/sys/kernel/shmall && mount -t tmpfs -o size=4m tmpfs /dev/shm";
  const { status } = spawnSync("unshare", ["--ipc", "--mount", "sh", "-c", script]);
  return status === 0 ? undefined : "util-linux cannot make namespaces here";
}

const unlimited = cannotLimit();

describe("A11 useTooMuchMemory", unlimited ? { skip: unlimited } : {}, () => {
  leaveNothingBehind();

  for (const keyType of keyTypes) {
    test(`${keyType.name}: the create() that is too much is an error with all as before`, async () => {
      const script = `echo 1024 > /proc/sys/kernel/shmall &&
        mount -t tmpfs -o size=4m tmpfs /dev/shm && exec "$@"`;
      const command = ["unshare", "--ipc", "--mount", "sh", "-c", script, "sh"];
      const agent = startAgentThrough(ownRuntime, command);
      const keys = Array.from({ length: 6 }, () => chosenKey(keyType));
      const state = await agent.run(`
        const made = objects.made = [];
        for (const key of [${keys.map(sourceOf)}]) {
          const memory = new library.SharedMemory(key);
          if (memory.create(2 ** 20)) {
            memory.data().fill(1);
            made.push(memory);
            continue;
          }
          const texts = [memory.errorString()];
          return {
            made: made.length,
            error: memory.error(),
            texts,
            isAttached: memory.isAttached(),
            size: memory.size(),
            data: memory.data(),
            keeps: memory.nativeIpcKey() === key,
            attach: memory.attach(),
            detach: memory.detach(),
            next: made.pop().detach() && memory.create(2 ** 20) && memory.data()[2 ** 20 - 1],
          };
        }`);
      const { OutOfResources, LockError } = SharedMemoryError;
      assert.ok([OutOfResources, LockError].includes(state.error), state.texts[0]);
      assert.match(state.texts[0], /^SharedMemory\.create \(".*full|shmall.*ENOSPC 28\]$/);
      assert.ok(state.made >= 2 && state.made <= 4, `${state.made} segments of 1 MiB in 4 MiB`);
      const { isAttached, size, data, keeps, attach, detach, next } = state;
      assert.deepEqual([isAttached, size, data, keeps], [false, 0, null, true]);
      assert.deepEqual([attach, detach, next], [false, false, 0]);
      assert.equal(await agent.end(), 0);
      for (const { nativeKey } of keys) assert.equal(existsSync(nativeKey), false);
    });
  }
});
