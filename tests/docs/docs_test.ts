/** The documentation: the links, the reference, the map. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync } from "node:fs";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { anchorsOf, linksOf, markdownFiles, problemsOf } from "../../scripts/markdown.ts";
import { sourceFiles } from "../../scripts/sources.ts";
import { crewOnly, keyFolder, ownRuntime, runtimes, slow } from "../support/support.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));

describe("the documentation", () => {
  test("is looked through for links that lead nowhere", () => {
    const folder = mkdtempSync(`${keyFolder}links-`);
    try {
      mkdirSync(`${folder}/docs`);
      mkdirSync(`${folder}/node_modules`);
      writeFileSync(`${folder}/node_modules/foreign.md`, "[lost](lost.md)");
      writeFileSync(
        `${folder}/README.md`,
        [
          ...[
            "# What `x()` is, in short",
            "## Same",
            "## Same",
            "[a](docs/a.md#one-two)",
            "[b](#same-1)",
          ],
          ...[
            "[c](docs/)",
            "[d](https://example.com/lost)",
            "`[e](lost.md)`",
            "```",
            "[f](lost.md)",
          ],
          ...[
            "# not a heading",
            "```",
            "[g](lost.md)",
            "[h](docs/a.md#lost)",
            "[i](#not-a-heading)",
          ],
          ...["[j](../out.md)", "![k](lost.svg)", "`here_test.ts` `lost_test.ts`", "[l]: lost.md"],
        ].join("\n"),
      );
      writeFileSync(`${folder}/docs/a.md`, "# One, two!\n[up](../README.md#what-x-is-in-short)\n");
      assert.deepEqual(markdownFiles(folder), ["README.md", "docs/a.md"]);
      assert.deepEqual(problemsOf(folder, "docs/a.md", new Set()), []);
      assert.deepEqual(problemsOf(folder, "README.md", new Set(["here_test.ts"])).sort(), [
        "README.md:13: lost.md: is not there",
        "README.md:14: docs/a.md#lost: has no heading #lost",
        "README.md:15: #not-a-heading: has no heading #not-a-heading",
        "README.md:16: ../out.md: leads out of the repository",
        "README.md:17: lost.svg: is not there",
        "README.md:18: there is no test lost_test.ts",
        "README.md:19: lost.md: is not there",
      ]);
    } finally {
      rmSync(folder, { recursive: true });
    }
    assert.deepEqual(linksOf("[a](b.md) and <img src='x' alt=''> `[c](d.md)`"), [
      { target: "b.md", line: 1 },
    ]);
    assert.deepEqual([...anchorsOf("# A\n## A\n## `b()`, c!")], ["a", "a-1", "b-c"]);
  });

  test("has every file of the sources in its map", () => {
    const map = readFileSync(path.join(root, "docs/internals.md"), "utf8");
    assert.deepEqual(sourceFiles().filter((file) => !map.includes(`\`${file}\``)), []);
    const named = [...map.matchAll(/`((?:\w+\/)*\w+\.ts)`/g)].map(([, name]) => name!);
    assert.deepEqual(named.filter((name) => !existsSync(path.join(root, name))), []);
  });

  const deno = runtimes.some(({ name }) => name === "deno");
  const withDeno = deno ? { ...slow, ...crewOnly } : { skip: "Deno makes the reference" };
  test("of the API has a page for each class and function", withDeno, async () => {
    const folder = mkdtempSync(`${keyFolder}api-`);
    try {
      const { command, name } = ownRuntime;
      const script = path.join(root, "scripts/docs.ts");
      const args = name === "deno" ? ["run", "-A", script, folder] : [script, folder];
      const { status, stderr } = spawnSync(command, args, { encoding: "utf8" });
      assert.equal(status, 0, stderr);
      const missing: string[] = [];
      for (
        const [page, file] of [["~", "mod.ts"], ["inspect/~", "inspect.ts"], [
          "sync/~",
          "sync/mod.ts",
        ], ["collections/~", "collections/mod.ts"]]
      ) {
        const exports = Object.keys(await import(`../../${file}`));
        assert.ok(exports.length > 0);
        for (const name of exports) {
          if (!existsSync(path.join(folder, page!, `${name}.html`))) {
            missing.push(`${page}/${name}`);
          }
        }
      }
      assert.deepEqual(missing, []);
      const text = readFileSync(path.join(folder, "~/SharedMemory.html"), "utf8");
      for (const word of ["createOrAttach", "withLockAsync", "Symbol.dispose"]) {
        assert.ok(text.includes(word), word);
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
