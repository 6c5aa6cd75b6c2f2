/** The check that holds the rules by which the sources depend on each other. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { problemsOfLayers } from "../../scripts/check_layers.ts";
import { sourceFiles } from "../../scripts/sources.ts";

const root = new URL("../../", import.meta.url);

describe("the rules of the layers", () => {
  test("hold", () => {
    const sources = sourceFiles().map((file) =>
      [file, readFileSync(new URL(file, root), "utf8")] as const
    );
    assert.deepEqual(problemsOfLayers(new Map(sources)), []);
  });

  const cases: [name: string, sources: Record<string, string>, problem: RegExp][] = [
    [
      "an import of a higher storey",
      { "ffi/deno.ts": 'import { x } from "../core/waiter.ts";' },
      /^ffi\/deno\.ts: imports core\/waiter\.ts: "the FFI" is a lower storey than/,
    ],
    [
      "a type from a higher storey",
      { "backends/unix/libc.ts": 'import type { X } from "../types.ts";' },
      /^backends\/unix\/libc\.ts: imports backends\/types\.ts: .* is a lower storey than/,
    ],
    [
      "an import that spans lines",
      { "sync/slot.ts": 'import {\n  x,\n} from "../mod.ts";' },
      /^sync\/slot\.ts: imports mod\.ts/,
    ],
    [
      "a dynamic import",
      { "core/waiter.ts": 'await import("../shared_memory.ts");' },
      /^core\/waiter\.ts: imports shared_memory\.ts/,
    ],
    [
      "one mechanism that imports another",
      { "backends/posix/lock.ts": 'export { x } from "../systemv/key_file.ts";' },
      /^backends\/posix\/lock\.ts: imports backends\/systemv\/key_file\.ts: folders of one storey/,
    ],
    [
      "Unix and Windows that know each other",
      { "backends/win32/errors.ts": 'import { x } from "../unix/errno.ts";' },
      /folders of one storey/,
    ],
    [
      "a circle",
      {
        "core/waiter.ts": 'import { x } from "./stack.ts";',
        "core/stack.ts": 'import { y } from "./waiter.ts";',
      },
      /^core\/waiter\.ts imports core\/stack\.ts imports core\/waiter\.ts: a circle$/,
    ],
    [
      "a class that knows the runtime",
      { "shared_memory.ts": "if (Deno.build) x();" },
      /^shared_memory\.ts: says Deno\.b: only ffi\/ knows a runtime$/,
    ],
    [
      "a primitive that knows the system",
      { "sync/mutex.ts": "if (process.platform === x) y();" },
      /^sync\/mutex\.ts: says process\.platform: only backends\/ knows a system$/,
    ],
    [
      "a class that goes past the interfaces of the backends",
      { "core/attachment.ts": 'import { EAGAIN } from "../backends/unix/errno.ts";' },
      /^core\/attachment\.ts: imports backends\/unix\/errno\.ts: only backends\/ knows the calls/,
    ],
  ];
  for (const [name, sources, problem] of cases) {
    test(`forbid ${name}`, () => {
      const problems = problemsOfLayers(new Map(Object.entries(sources)));
      assert.equal(problems.length, 1, problems.join("\n"));
      assert.match(problems[0]!, problem);
    });
  }

  test("allow what comments show, and files of one folder", () => {
    const sources = new Map([
      ["core/waiter.ts", '/** import { x } from "../mod.ts"; Deno.exit() */\n// from "../cli.ts"'],
      ["core/stack.ts", 'import { x } from "./waiter.ts";'],
    ]);
    assert.deepEqual(problemsOfLayers(sources), []);
  });

  test("have a place for every file", () => {
    const stray = new Map([["stray.ts", 'import { x } from "./mod.ts";']]);
    assert.throws(() => problemsOfLayers(stray), /stray\.ts belongs to no storey/);
  });
});
