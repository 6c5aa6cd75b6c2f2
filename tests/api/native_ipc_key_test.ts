/** NativeIpcKey: the cases of Qt's tst_qnativeipckey, C1 to C10, and texts that real Qt made. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  type NativeIpcKeyPlace,
  platformSafeName,
  SHARED_MEMORY_PREFIX,
  SYSTEM_SEMAPHORE_PREFIX,
} from "../../backends/native_key.ts";
import {
  legacyNativeKey,
  NativeIpcKey,
  NativeIpcKeyType,
  platformSafeKey,
} from "../../native_ipc_key.ts";

const { SystemV, PosixRealtime, Windows } = NativeIpcKeyType;

const linux: NativeIpcKeyPlace = { os: "linux", object: "SharedMemory", folder: "/tmp" };
const macOs: NativeIpcKeyPlace = { ...linux, os: "darwin" };
const windows: NativeIpcKeyPlace = { ...linux, os: "win32", folder: "" };
const semaphore = { object: "SystemSemaphore" } as const;

const prefixes: readonly (readonly [prefix: string, type: NativeIpcKeyType])[] = [
  ["systemv", SystemV],
  ["posix", PosixRealtime],
  ["windows", Windows],
  ["systemv-1", 1],
  ["systemv-84", "T".charCodeAt(0)],
  ["systemv-255", 255],
];

/** Qt's rows of C8: keys, and what follows the colon. */
const texts: readonly (readonly [name: string, key: string, encoded: string])[] = [
  ["empty", "", ""],
  ["text", "foobar", "foobar"],
  ["pathlike", "/sometext", "/sometext"],
  ["objectlike", "Global\\sometext", "Global\\sometext"],
  ["colon-slash", ":/", ":/"],
  ["slash-colon", "/:", "/:"],
  ["percent", "%", "%25"],
  ["question-hash", "?#", "%3F%23"],
  ["hash-question", "#?", "%23%3F"],
  ["double-slash", "//", "/%2F"],
  ["triple-slash", "///", "/%2F/"],
  ["non-ascii", "\u00E9", "\u00E9"],
  ["non-utf8", "\u00A0\u00FF", "\u00A0\u00FF"],
  ["non-latin1", "\u0100.\u2000.\u{10000}", "\u0100.\u2000.\u{10000}"],
];

/** What QUrl of Qt makes of `key` as native and as legacy key. */
const urls: readonly (readonly [key: string, text: string])[] = [
  ["//%", "posix:/%2F%25?legacyKey=//%25"],
  ["a//b", "posix:a//b?legacyKey=a//b"],
  ["%zz%41", "posix:%25zz%2541?legacyKey=%25zz%2541"],
  ["?legacyKey=x", "posix:%3FlegacyKey=x?legacyKey=?legacyKey%3Dx"],
  ["//h@:1", "posix:/%2Fh@:1?legacyKey=//h@:1"],
  ["./..", "posix:./..?legacyKey=./.."],
  ["a b+c&d=e", "posix:a b+c&d=e?legacyKey=a b+c%26d%3De"],
  ["\0\x01\t\r\n\x1F\x7F", "posix:%00%01%09%0D%0A%1F%7F?legacyKey=%00%01%09%0D%0A%1F%7F"],
  [
    "~-._!$&'()*+,;=:@[]{}|^`<>\"",
    "posix:~-._!$&'()*+,;=:@[]{}|^`<>\"?legacyKey=~-._!$%26'()*+,;%3D:@[]{}|^`<>\"",
  ],
  [
    "\x80\u00AD\u200E\uFDD0\uFFFD",
    "posix:\x80\u00AD\u200E\uFDD0\uFFFD?legacyKey=\x80\u00AD\u200E\uFDD0\uFFFD",
  ],
];

function assertSame(actual: NativeIpcKey | null, expected: NativeIpcKey): void {
  assert.deepEqual(actual, expected);
  assert.equal(actual!.equals(expected), true);
  assert.equal(expected.equals(actual!), true);
}

function assertDifferent(a: NativeIpcKey, b: NativeIpcKey): void {
  assert.equal(a.equals(b), false);
  assert.equal(b.equals(a), false);
}

describe("Qt's cases of native keys", () => {
  test("C1: a key equals itself and what has the same parts", () => {
    const key = new NativeIpcKey("key", PosixRealtime);
    assertSame(key, key);
    assertSame(new NativeIpcKey("key", PosixRealtime), key);
  });

  test("C2: the types have Qt's numbers, and the defaults are Qt's", () => {
    assert.deepEqual(NativeIpcKeyType, { SystemV: 0x51, PosixRealtime: 0x100, Windows: 0x101 });
    assert.equal(SystemV, "Q".charCodeAt(0));
    assert.equal(NativeIpcKey.defaultTypeForOs("win32"), Windows);
    assert.equal(NativeIpcKey.legacyDefaultTypeForOs("win32"), Windows);
    for (const os of ["linux", "darwin", "freebsd"]) {
      assert.equal(NativeIpcKey.defaultTypeForOs(os), PosixRealtime);
      assert.equal(NativeIpcKey.legacyDefaultTypeForOs(os), SystemV);
    }
  });

  test("C3: type 0 is invalid, an empty key is valid and empty, a key keeps its parts", () => {
    const invalid = new NativeIpcKey("", 0);
    assert.deepEqual([invalid.isValid, invalid.isEmpty], [false, true]);
    assert.equal(new NativeIpcKey("something else", 0).isValid, false);
    for (const [, type] of prefixes) {
      const empty = new NativeIpcKey("", type);
      assert.deepEqual([empty.isValid, empty.isEmpty], [true, true]);
      assert.deepEqual([empty.type, empty.nativeKey, empty.legacyKey], [type, "", ""]);
      const key = new NativeIpcKey("dummy", type);
      assert.deepEqual([key.isValid, key.isEmpty], [true, false]);
      assert.deepEqual([key.type, key.nativeKey, key.legacyKey], [type, "dummy", ""]);
    }
  });

  test("C4: another type or native key is another object, and neither can be set", () => {
    const key = new NativeIpcKey("key1", Windows);
    assertDifferent(new NativeIpcKey(key.nativeKey, SystemV), key);
    assertDifferent(new NativeIpcKey("key2", key.type), key);
    for (const name of ["type", "nativeKey", "legacyKey", "isValid", "isEmpty"]) {
      assert.throws(() => Object.assign(key, { [name]: 1 }), TypeError, name);
    }
    assert.deepEqual([key.type, key.nativeKey], [Windows, "key1"]);
  });

  test("C5: keys differ by native key, by type and by legacy key", () => {
    const key = new NativeIpcKey("key1", PosixRealtime);
    assertDifferent(key, new NativeIpcKey("", PosixRealtime));
    assertDifferent(key, new NativeIpcKey("", 0));
    assertDifferent(key, new NativeIpcKey("key1", 0));
    assertSame(new NativeIpcKey("key1", PosixRealtime), key);
    const legacy = legacyNativeKey("key1", PosixRealtime, linux);
    assertDifferent(legacy, key);
    assertSame(legacyNativeKey("key1", PosixRealtime, linux), legacy);
    assertDifferent(legacy, new NativeIpcKey(legacy.nativeKey, legacy.type));
    assertSame(new NativeIpcKey(legacy.nativeKey, legacy.type, "key1"), legacy);
  });

  test("C6: equal keys have the same text, to look them up by", () => {
    const keys = new Map([[new NativeIpcKey("key1", PosixRealtime).toString(), 1]]);
    assert.equal(keys.get(`${new NativeIpcKey("key1", PosixRealtime)}`), 1);
    assert.equal(keys.get(`${new NativeIpcKey("key1", SystemV)}`), undefined);
  });

  test("C7: keys that are swapped keep their types and legacy keys", () => {
    const one = legacyNativeKey("key1", PosixRealtime, linux);
    const two = new NativeIpcKey("key2", Windows);
    const [first, second] = [two, one];
    assert.deepEqual([first.type, first.nativeKey, first.legacyKey], [Windows, "key2", ""]);
    assert.deepEqual([second.type, second.legacyKey], [PosixRealtime, "key1"]);
  });

  test("C8: an invalid key has no text", () => {
    assert.equal(new NativeIpcKey("", 0).toString(), "");
    assert.equal(new NativeIpcKey("key", 0, "legacy").toString(), "");
  });

  for (const [prefix, type] of prefixes) {
    test(`C8, C9: ${prefix} keys become Qt's texts, and those become the keys`, () => {
      for (const [name, nativeKey, encoded] of texts) {
        const key = new NativeIpcKey(nativeKey, type);
        const text = `${prefix}:${encoded}`;
        assert.equal(key.toString(), text, name);
        assertSame(NativeIpcKey.fromString(text), key);
      }
    });

    test(`C9: ${prefix} without a colon, with junk or as a path is no key`, () => {
      for (const text of [prefix, `${prefix}junk`, `${prefix}junk:`, `junk:${prefix}:`]) {
        assert.equal(NativeIpcKey.fromString(text), null, text);
      }
    });
  }

  test("C9: the project id of a System V key is a decimal number from 1 to 255", () => {
    assertSame(NativeIpcKey.fromString("systemv-81:"), new NativeIpcKey("", SystemV));
    assertSame(NativeIpcKey.fromString("systemv-009:"), new NativeIpcKey("", 9));
    for (
      const text of [
        "81",
        "-81",
        "invalidprefix:",
        "systemv255",
        "systemv255:",
        "systemv--255:",
        "systemv+255",
        "systemv+255:",
        "systemv-0x01:",
        "systemv-:",
        "systemv-0:",
        "systemv-256",
        "systemv-256:",
        "systemv-32769:",
        "systemv-65537:",
        "systemv-2147483649:",
        "systemv-4294967297:",
        "",
        ":",
        ":/foo",
      ]
    ) assert.equal(NativeIpcKey.fromString(text), null, text);
  });

  test("C9: percent codes are decoded, as UTF-8", () => {
    const key = new NativeIpcKey("/foo", PosixRealtime);
    assertSame(NativeIpcKey.fromString("posix:%2f%66o%6f"), key);
    assertSame(
      NativeIpcKey.fromString("posix:%C4%80.%E2%80%80.%F0%90%80%80"),
      new NativeIpcKey("\u0100.\u2000.\u{10000}", PosixRealtime),
    );
  });

  test("C9: a fragment is ignored, a query that is not the legacy key is refused", () => {
    const key = new NativeIpcKey("/foo", PosixRealtime);
    assertSame(NativeIpcKey.fromString("posix:/foo#bar"), key);
    assertSame(NativeIpcKey.fromString("posix:/foo#bar?baz"), key);
    assert.equal(NativeIpcKey.fromString("posix:/foo?bar"), null);
    assert.equal(NativeIpcKey.fromString("posix:/foo?bar#baz"), null);
  });

  for (const place of [linux, macOs, windows]) {
    for (const type of [SystemV, PosixRealtime, Windows]) {
      const { os } = place;
      test(`C10: type ${type} legacy keys of ${os} come back from their text`, () => {
        const supported = (type === Windows) === (os === "win32");
        for (const [name, text, encoded] of texts) {
          const key = legacyNativeKey(text, type, place);
          assert.equal(key.type, type, name);
          assert.equal(key.legacyKey, supported ? text : "", name);
          assertSame(NativeIpcKey.fromString(key.toString()), key);
          // In the query neither question marks nor slashes are encoded.
          const query = encoded.replace("%3F", "?").replace("%2F", "/");
          const expected = supported && text !== "" ? `?legacyKey=${query}` : "";
          assert.equal(key.toString().replace(/^[^?]*/, ""), expected, name);
        }
      });
    }
  }
});

describe("native keys as text", () => {
  test("are encoded as by Qt's QUrl, and decoded to what they were", () => {
    for (const [key, text] of urls) {
      const both = new NativeIpcKey(key, PosixRealtime, key);
      assert.equal(both.toString(), text);
      assertSame(NativeIpcKey.fromString(text), both);
      const alone = new NativeIpcKey(key, PosixRealtime);
      assertSame(NativeIpcKey.fromString(alone.toString()), alone);
    }
    assert.equal(new NativeIpcKey("//abs/path", PosixRealtime).toString(), "posix:/%2Fabs/path");
  });

  test("keep every character, whether it is encoded or not", () => {
    for (let code = 0; code <= 0x10FFFF; code += code < 0x3000 ? 1 : 0x1FF) {
      if (code >= 0xD800 && code <= 0xDFFF) continue;
      const text = String.fromCodePoint(code);
      const key = new NativeIpcKey(text, SystemV, text + text);
      assertSame(NativeIpcKey.fromString(key.toString()), key);
      const escaped = encodeURIComponent(text);
      assertSame(NativeIpcKey.fromString(`systemv:${escaped}?legacyKey=${escaped}${escaped}`), key);
    }
    const marked = new NativeIpcKey("\uFEFFk", SystemV, "\uFEFFk\uFFFE");
    assertSame(NativeIpcKey.fromString(marked.toString()), marked);
    assertSame(NativeIpcKey.fromString("systemv:%EF%BB%BFk"), new NativeIpcKey("\uFEFFk", SystemV));
  });

  for (
    const [text, nativeKey, legacyKey] of [
      // A percent sign that starts no code makes all of its part stand for itself.
      ["posix:%", "%", ""],
      ["posix:%4", "%4", ""],
      ["posix:%zz%41", "%zz%41", ""],
      ["posix:%41?legacyKey=%zz", "A", "%zz"],
      ["posix:%zz?legacyKey=%41", "%zz", "A"],
      ["posix:a?legacyKey=%41%2", "a", "%41%2"],
      // Once decoded is decoded.
      ["posix:%2525?legacyKey=%2525", "%25", "%25"],
      ["posix:/%2F", "//", ""],
      ["posix:%2F%2Fa", "//a", ""],
      ["posix:a%23b%3Fc", "a#b?c", ""],
      ["posix:%01%7f%00", "\x01\x7F\0", ""],
      // Nothing is trimmed or normalised, except the case of the type.
      ["POSIX:/Foo ", "/Foo ", ""],
      ["posix:\n", "\n", ""],
      ["posix:/a/../b", "/a/../b", ""],
      ["posix::@/a", ":@/a", ""],
      ["posix:1:2/3", "1:2/3", ""],
      ["posix:[a", "[a", ""],
      // An authority may be there if it is empty.
      ["posix://", "", ""],
      ["posix:///", "/", ""],
      ["posix:///a", "/a", ""],
      ["posix:////", "//", ""],
      ["posix://@/a", "/a", ""],
      ["posix://:/a", "/a", ""],
      ["posix://@:/a", "/a", ""],
      ["posix://?legacyKey=a", "", "a"],
      // Queries.
      ["posix:?", "", ""],
      ["posix:a?legacyKey", "a", ""],
      ["posix:a?legacyKey=", "a", ""],
      ["posix:a?legacyKey=&", "a", ""],
      ["posix:a?legacyKey==", "a", "="],
      ["posix:a?legacyKey=a=b", "a", "a=b"],
      ["posix:a?legacyKey=a?b", "a", "a?b"],
      ["posix:a?legacyKey=a#b?c", "a", "a"],
      ["posix:a?legacyKey=%26%3D%23%2B+", "a", "&=#++"],
      ["posix:a?legacyKey=a&legacyKey=b", "a", "b"],
      ["posix:a?legacy%4Bey=a", "a", "a"],
    ] as const
  ) {
    test(`${JSON.stringify(text)} is read as Qt reads it`, () => {
      const expected = new NativeIpcKey(nativeKey, PosixRealtime, legacyKey);
      assertSame(NativeIpcKey.fromString(text), expected);
    });
  }

  for (
    const text of [
      " posix:/a",
      "posix :a",
      "p%6fsix:a",
      "\uFEFFposix:a",
      "posix://a/b",
      "posix://u@/a",
      "posix://:@/a",
      "posix://:p@/a",
      "posix://@@/a",
      "posix://:80/a",
      "posix://%/a",
      "posix:a?legacykey=a",
      "posix:a?legacyKey%3Da",
      "posix:a?=",
      "posix:a?&",
      "posix:a?&legacyKey=a",
      "posix:a?legacyKey=a&&",
      "posix:a?legacyKey=a&b",
      "posix:a?legacyKey=a&x=",
      "systemv- 9:",
      "systemv-9 :",
      "systemv-+9:",
      "systemv-\u0669:",
      "\u017Fystemv:",
    ]
  ) {
    test(`${JSON.stringify(text)} is no key, as in Qt`, () => {
      assert.equal(NativeIpcKey.fromString(text), null);
    });
  }

  test("are no keys where Qt would put replacement characters into them", () => {
    for (const code of ["%ff", "%C4", "%C0%80", "%E2%82a", "%ED%A0%80", "%F4%90%80%80", "\uD800"]) {
      assert.equal(NativeIpcKey.fromString(`posix:${code}`), null, code);
      assert.equal(NativeIpcKey.fromString(`posix:a?legacyKey=${code}`), null, code);
    }
  });
});

describe("NativeIpcKey", () => {
  test("refuses lone surrogates, which Qt's versions encode differently", () => {
    for (const text of ["\uD800", "a\uDC00b", "\uDE00\uD83D"]) {
      const surrogate = { name: "TypeError", message: /lone surrogate/ };
      assert.throws(() => new NativeIpcKey(text, SystemV), surrogate);
      assert.throws(() => new NativeIpcKey("", SystemV, text), surrogate);
      for (const type of [SystemV, PosixRealtime]) {
        assert.throws(() => platformSafeKey(text, type, linux), surrogate);
        assert.throws(() => legacyNativeKey(text, type, linux), surrogate);
      }
    }
  });

  test("refuses types that are none, and keys that are no text", () => {
    for (const type of [-1, 1.5, NaN, 256.5, 0x102, 0xFFFF, 65537, "81", null, undefined, 81n]) {
      const expected = { name: "TypeError", message: /type must be a NativeIpcKeyType, not / };
      assert.throws(() => new NativeIpcKey("key", type as number), expected);
    }
    for (const key of [null, undefined, 1, {}]) {
      const expected = { name: "TypeError", message: /must be a string, not / };
      assert.throws(() => new NativeIpcKey(key as string, SystemV), expected);
      assert.throws(() => NativeIpcKey.fromString(key as string), expected);
      if (key === undefined) continue;
      assert.throws(() => new NativeIpcKey("", SystemV, key as string), expected);
    }
  });
});

describe("platformSafeKey()", () => {
  /** The native key, of a key without a legacy key. */
  function safe(text: string, type: NativeIpcKeyType, place: NativeIpcKeyPlace): string {
    const key = platformSafeKey(text, type, place);
    assert.deepEqual([key.type, key.legacyKey], [type, ""]);
    return key.nativeKey;
  }

  test("puts a slash before POSIX names", () => {
    assert.equal(safe("key 1", PosixRealtime, linux), "/key 1");
    assert.equal(safe("/abs/path", PosixRealtime, linux), "//abs/path");
    assert.equal(safe("x".repeat(500), PosixRealtime, linux), "/" + "x".repeat(500));
  });

  test("cuts POSIX names to 30 on macOS, with the slash", () => {
    assert.equal(safe("k".repeat(29), PosixRealtime, macOs), "/" + "k".repeat(29));
    assert.equal(safe("k".repeat(29) + "rest", PosixRealtime, macOs), "/" + "k".repeat(29));
    const split = "k".repeat(28) + "\u{1F600}";
    assert.throws(() => platformSafeKey(split, PosixRealtime, macOs), TypeError);
  });

  test("puts System V key files into the folder, but leaves absolute paths", () => {
    const place = { ...linux, folder: "/run/user/1000" };
    for (const type of [SystemV, 1, 84, 255]) {
      assert.equal(safe("key/1", type, place), "/run/user/1000/key/1");
      assert.equal(safe("/abs/path", type, place), "/abs/path");
    }
  });

  test("puts shm_ or sem_ into Windows names, after the namespace", () => {
    const sem = { ...windows, ...semaphore };
    assert.equal(safe("key", Windows, windows), "shm_key");
    assert.equal(safe("key", Windows, sem), "sem_key");
    assert.equal(safe("Local\\key", Windows, windows), "Local\\shm_key");
    assert.equal(safe("Global\\key", Windows, sem), "Global\\sem_key");
    assert.equal(safe("global\\key", Windows, windows), "shm_global\\key");
    assert.equal(safe("Local\\Global\\key", Windows, windows), "Local\\shm_Global\\key");
    assert.equal(safe("Global\\" + "x".repeat(300), Windows, windows).length, 260);
    assert.equal(safe("x".repeat(256), Windows, windows), "shm_" + "x".repeat(256));
  });

  test("is empty without a key, and where there are no such objects", () => {
    for (const place of [linux, macOs, windows]) {
      for (const [, type] of prefixes) {
        assert.equal(safe("", type, place), "");
        if ((type === Windows) !== (place.os === "win32")) assert.equal(safe("k", type, place), "");
      }
      assert.equal(safe("key", 0, place), "");
    }
  });
});

describe("legacyNativeKey()", () => {
  test("makes the native keys and texts that real Qt made", () => {
    const key = legacyNativeKey("k", SystemV, linux);
    const name = "qipc_sharedmemory_k13fbd79c3d390e5d6585a21e11ff5ec1970cff0c";
    assert.equal(key.toString(), `systemv:/tmp/${name}?legacyKey=k`);
    assertSame(NativeIpcKey.fromString(key.toString()), key);

    const hash = "StraceKey1c4026d5d7a043245091e0d50ec02c2344568de4";
    const of = (place: NativeIpcKeyPlace) => legacyNativeKey("StraceKey", SystemV, place).nativeKey;
    assert.equal(of(linux), `/tmp/qipc_sharedmemory_${hash}`);
    assert.equal(of({ ...linux, ...semaphore }), `/tmp/qipc_systemsem_${hash}`);
  });

  test("makes the platform-safe name: in the folder, after a slash, or as it is", () => {
    for (const text of ["TestKey1", "my key1", "123", "/:1", "No\u00EBl", "\u{1F600}", "a\0b"]) {
      for (
        const [object, prefix] of [
          ["SharedMemory", SHARED_MEMORY_PREFIX],
          ["SystemSemaphore", SYSTEM_SEMAPHORE_PREFIX],
        ] as const
      ) {
        const name = platformSafeName(text, prefix);
        const of = (type: NativeIpcKeyType, place: NativeIpcKeyPlace) => {
          const key = legacyNativeKey(text, type, { ...place, object });
          assert.deepEqual([key.type, key.legacyKey], [type, text]);
          return key.nativeKey;
        };
        assert.equal(of(SystemV, linux), `/tmp/${name}`);
        assert.equal(of(84, { ...linux, folder: "/my folder" }), `/my folder/${name}`);
        assert.equal(of(SystemV, { ...linux, folder: "" }), `/${name}`);
        assert.equal(of(SystemV, macOs), `/tmp/${name}`);
        assert.equal(of(PosixRealtime, linux), `/${name}`);
        assert.equal(of(Windows, windows), name);
      }
    }
  });

  test("has room for 29 digits of the hash in a POSIX name of macOS", () => {
    for (const object of ["SharedMemory", "SystemSemaphore"] as const) {
      const key = legacyNativeKey("TestKey1", PosixRealtime, { ...macOs, object });
      assert.equal(key.nativeKey, "/40f8c56cfb3d001fd0aae44600b4a");
      assert.equal(key.nativeKey.length, 30);
      assert.equal(key.legacyKey, "TestKey1");
    }
  });

  test("is empty without a key, and where there are no such objects", () => {
    for (const place of [linux, macOs, windows]) {
      for (const [, type] of prefixes) {
        const none = new NativeIpcKey("", type);
        assertSame(legacyNativeKey("", type, place), none);
        if ((type === Windows) === (place.os === "win32")) continue;
        assertSame(legacyNativeKey("key", type, place), none);
      }
      const invalid = legacyNativeKey("key", 0, place);
      assert.deepEqual([invalid.isValid, invalid.isEmpty], [false, true]);
    }
  });
});
