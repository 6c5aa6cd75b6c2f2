/** Keys: the native key of every key is Qt's, so that the same text is the same segment. */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, realpathSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { describe, test } from "node:test";
import {
  SharedMemory,
  SharedMemoryError,
  SystemSemaphore,
  SystemSemaphoreError,
} from "../../mod.ts";
import { expectTrue, pairs, versions, withQt } from "../support/qt_pairs.ts";
import {
  type Agent,
  endAll,
  leaveNothingBehind,
  ownRuntime,
  segmentFile,
  semaphoreFile,
  slow,
  startAgent,
  startQt,
  systemVOnly,
  uniqueKey,
} from "../support/support.ts";

/** The letters and the hash that real Qt made of these keys. */
const vectors: readonly (readonly [key: string, name: string])[] = [
  ["TestKey1", "TestKey40f8c56cfb3d001fd0aae44600b4ae0ee5510f50"],
  ["StraceKey", "StraceKey1c4026d5d7a043245091e0d50ec02c2344568de4"],
  ["my key1", "mykey43b6746c6c164652ecddf07422dc0985956bfc42"],
  ["123", "40bd001563085fc35165329ea1ff5c5ecbdbbeef"],
  ["/:1", "29f60c7ce4780f64d219e19d3c88d31b073f3d24"],
  ["No\u00EBl", "Nolf74a492d6bd59d7591144462d27aa3e29d1701c1"],
  ["\u00E9", "bf15be717ac1b080b4f1c456692825891ff5073d"],
  ["e\u0301", "e7e3fbcf1b6a69221cd8eef7442ef3b51a253bb49"],
  ["\u{1F600}", "9c533688a979a858cbd6a43c9f91aba624651f18"],
  ["a\0b", "ab4a3dec2d1f8245280855c42db0ee4239f917fdb8"],
  ["\uFEFFk", "kf0255e42dc8a4f9216553a4d07354e646865a97d"],
  ["\u212A", "be474d20cc9fdac59d4682ef5636c50eb5e478df"], // the Kelvin sign is no letter
  ["\uFF21", "aadfbd6ef576c85111c8373a7c0e22e231967c49"], // nor is the fullwidth A
];

/** What else could be encoded, folded, escaped or cut in two ways. */
const oddKeys: readonly string[] = [
  ...vectors.map(([key]) => key),
  " ",
  "\0",
  "\0\0a",
  "tab\tand\nnew line\r\n",
  "../../etc/passwd",
  "quotes \"' and \\ back",
  "%41%00",
  "Straße und Übermut",
  "ÀÉÎõü",
  "\u017F long s, \u0130 dotted I, \u0131 dotless i",
  "\uFEFF",
  "BOM at the end\uFEFF",
  "\uFFFD\uFFFE\uFFFF",
  "\u200B\u00AD\u2028\u2029",
  "日本語 テスト 한국어",
  "👩‍👩‍👧‍👦 family",
  "\u{10FFFF}\u{10000}",
  "🇩🇪Z",
  "0123456789".repeat(50),
  "ü".repeat(300),
  "A".repeat(197),
  "A".repeat(198),
  "z".repeat(5000),
];

/** Qt's and ours of the same text. */
async function nativeKey(agent: Agent, key: string): Promise<string> {
  await agent.request("memory", "k", key);
  assert.equal(await agent.call("k", "key"), key);
  return await agent.call("k", "nativeKey");
}

const { KeyError, NotFound } = SharedMemoryError;

describe("keys as Qt has them", () => {
  leaveNothingBehind();

  test(
    `${ownRuntime.name} makes the recorded native keys`,
    { ...slow, ...systemVOnly },
    async () => {
      const agent = startAgent(ownRuntime, { TMPDIR: undefined });
      for (const [key, name] of vectors) {
        assert.equal(await nativeKey(agent, key), `/tmp/qipc_sharedmemory_${name}`);
      }
      assert.equal(await agent.end(), 0);
    },
  );

  test(`${ownRuntime.name} makes the recorded key files`, { ...slow, ...systemVOnly }, async () => {
    const folder = mkdtempSync(`${tmpdir()}/keys `);
    try {
      const agent = startAgent(ownRuntime, { TMPDIR: folder });
      for (const [key, name] of vectors) {
        await agent.request("memory", "m", key);
        await expectTrue(agent, "create", 1);
        assert.equal(existsSync(`${folder}/qipc_sharedmemory_${name}`), true);
        assert.equal(existsSync(`${folder}/qipc_systemsem_${name}`), true);
        await expectTrue(agent, "detach");
        await agent.request("semaphore", "s", key, 1);
        assert.equal(existsSync(`${folder}/qipc_systemsem_${name}`), true);
        await agent.request("dispose", "s");
      }
      assert.equal(await agent.end(), 0);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test(
    `${ownRuntime.name} has no native key where TMPDIR is no folder`,
    { ...slow, ...systemVOnly },
    async () => {
      // Qt 5.15 and 6.4 would put the key files into the root folder.
      const agent = startAgent(ownRuntime, { TMPDIR: `${tmpdir()}/missing/folder` });
      await agent.request("memory", "m", "k");
      await assert.rejects(agent.call("m", "nativeKey"), { code: "KeyError" });
      assert.equal(await agent.call("m", "create", 1), false);
      assert.equal(await agent.call("m", "error"), KeyError);
      assert.equal(await agent.end(), 0);
    },
  );

  for (const version of versions) {
    test(
      `key files are where Qt ${version} has them, however TMPDIR is spelled`,
      withQt(version),
      async () => {
        const folder = mkdtempSync(`${tmpdir()}/grüße `);
        const link = `${folder}-link`;
        symlinkSync(folder, link);
        try {
          for (const TMPDIR of [`${link}/.//`, "", "/", undefined]) {
            const qt = startQt(version, { TMPDIR });
            const agent = startAgent(ownRuntime, { TMPDIR });
            // In the root folder Qt has a second slash, which changes nothing.
            const expected = (await nativeKey(qt, "k")).replace(/^\/\//, "/");
            if (TMPDIR?.startsWith(link)) {
              assert.equal(expected.startsWith(`${realpathSync(folder)}/`), true);
            }
            assert.equal(await nativeKey(agent, "k"), expected);
            await endAll([qt, agent]);
          }
        } finally {
          rmSync(link);
          rmSync(folder, { recursive: true });
        }
      },
    );

    test(`the native key of any text is that of Qt ${version}`, withQt(version), async () => {
      const qt = startQt(version);
      for (const key of oddKeys) {
        assert.equal(new SharedMemory(key).nativeKey(), await nativeKey(qt, key), key);
      }
      for (const key of ["", null]) {
        assert.equal(new SharedMemory(key).nativeKey(), null);
        await qt.request("memory", "k", key);
        assert.equal((await qt.call("k", "nativeKey")) || null, null); // PyQt: None or ""
      }
      assert.equal(await qt.end(), 0);
    });

    test(
      `a segment may have 197 letters in its key, as in Qt ${version}`,
      withQt(version),
      async () => {
        const start = uniqueKey(); // digits and spaces cost nothing
        const letters = start.replace(/[^A-Za-z]/g, "").length;
        const longest = start + "x".repeat(197 - letters);
        const qt = startQt(version);
        using memory = new SharedMemory(longest);
        assert.equal(memory.create(16), true, memory.errorString());
        await qt.request("memory", "m", longest);
        await expectTrue(qt, "attach");
        await expectTrue(qt, "detach");
        assert.equal(memory.detach(), true);
        for (const excess of ["x", "Xy", "xxx", "x".repeat(1000)]) {
          memory.setKey(longest + excess);
          await qt.request("memory", "m", longest + excess);
          assert.equal(await qt.call("m", "create", 16), false);
          assert.equal(await qt.call("m", "error"), KeyError);
          assert.equal(memory.create(16), false);
          assert.equal(memory.error(), KeyError);
          assert.equal(await qt.call("m", "attach"), false);
          // Up to 200 letters Qt says that there is no such file. We say that there cannot be one.
          assert.equal(await qt.call("m", "error"), excess.length > 3 ? KeyError : NotFound);
          assert.equal(memory.attach(), false);
          assert.equal(memory.error(), KeyError);
        }
        assert.equal(await qt.end(), 0);
      },
    );

    test(
      `a semaphore may have 200 letters in its key, as in Qt ${version}`,
      withQt(version),
      async () => {
        const start = uniqueKey();
        const letters = start.replace(/[^A-Za-z]/g, "").length;
        const longest = start + "x".repeat(200 - letters);
        const qt = startQt(version);
        using semaphore = new SystemSemaphore(longest, 1);
        assert.equal(semaphore.error(), SystemSemaphoreError.NoError, semaphore.errorString());
        await qt.request("semaphore", "s", longest);
        assert.equal(await qt.call("s", "acquire"), true);
        assert.equal(await qt.call("s", "release"), true);
        using longer = new SystemSemaphore(longest + "x", 1);
        assert.equal(longer.error(), SystemSemaphoreError.KeyError);
        assert.equal(longer.acquire(), false);
        await qt.request("semaphore", "s", longest + "x", 1);
        assert.equal(await qt.call("s", "acquire"), false);
        assert.equal(await qt.end(), 0);
      },
    );
  }

  for (const { first, second, options } of pairs) {
    test(
      `${second.name} finds what ${first.name} made under keys of any text`,
      options,
      async () => {
        const [creator, joiner] = [first.start(), second.start()];
        const texts = [
          "my key 1",
          "Käse & Grüße",
          "😀 emoji",
          "a\0b",
          "\uFEFFk",
          "\u212A\uFF21",
          "/:1",
        ];
        for (const [index, text] of texts.entries()) {
          const key = text + uniqueKey("");
          await creator.request("memory", "m", key);
          await joiner.request("memory", "m", key);
          await expectTrue(creator, "create", 4);
          await creator.request("write", "m", 0, [index + 1]);
          await expectTrue(joiner, "attach");
          assert.deepEqual(await joiner.request("read", "m", 0, 1), [index + 1]);
          assert.equal(existsSync(segmentFile(key)), true);
          assert.equal(existsSync(semaphoreFile(key)), true);
          const [qt, ours] = first.isQt ? [creator, joiner] : [joiner, creator];
          await expectTrue(qt, "detach");
          await qt.request("dispose", "m");
          await expectTrue(ours, "detach");
        }
        assert.equal(await joiner.end(), 0);
        assert.equal(await creator.end(), 0);
      },
    );
  }
});
