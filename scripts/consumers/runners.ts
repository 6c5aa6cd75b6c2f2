/** Vitest and Jest as docs/testing.md shows them: its test file passes, and what they leave is what the page says. */
import { stripTypeScriptTypes } from "node:module";
import { blocksOf } from "../markdown.ts";
import type { Project } from "./project.ts";

interface Runner {
  readonly module: string;
  readonly run: (project: Project, folder: string) => void;
  readonly config: Readonly<Record<string, string>>;
  /** Whether a segment stays behind that a test file never detaches. */
  readonly leaves: boolean;
}

function vitest(pool: string, leaves: boolean): Runner {
  const setup = pool.endsWith("orks") ? `setupFiles: ["./vitest.setup.js"]` : "";
  return {
    module: "vitest",
    run: (project, folder) => void project.run(folder, "vitest/vitest.mjs", "run"),
    config: { "vitest.config.js": `export default { test: { pool: "${pool}", ${setup} } };` },
    leaves,
  };
}

export const RUNNERS: Readonly<Record<string, Runner>> = {
  "vitest-forks": vitest("forks", false),
  "vitest-vmForks": vitest("vmForks", false),
  "vitest-threads": vitest("threads", true),
  "vitest-vmThreads": vitest("vmThreads", true),
  jest: {
    module: "@jest/globals",
    run: (project, folder) =>
      void project.runWith(["--experimental-vm-modules"], folder, "jest/bin/jest.js"),
    config: {},
    leaves: false,
  },
};

/** A test file of node:test for another runner. */
function translated(source: string, module: string): string {
  const imports = `import { afterAll as after, beforeAll as before, test } from "${module}";`;
  return stripTypeScriptTypes(source.replace(/^import .* from "node:test";.*$/m, imports));
}

/** Opens a segment, and never detaches it. */
const CARELESS = `
import { test } from "node:test";
import { SharedMemory } from "@shared-memory/shared-memory";
const memory = SharedMemory.open("careless", { size: 64 });
test("is attached", () => {
  if (!memory.isAttached()) throw new Error("not attached");
});
`;

/** Throws unless a runner runs the test file of the page twice, and leaves what the page says. */
export function checkRunner(project: Project, name: string, page: string): string {
  const { module, run, config, leaves } = RUNNERS[name]!;
  const blocks = blocksOf(page);
  const cart = blocks.find(({ file }) => file === "cart.test.ts")!.text;
  const setup = blocks.find(({ text }) => text.includes("vitest.setup.js"))!.text;
  const files = { ...config, "vitest.setup.js": setup };
  const check = (kind: string, source: string, expected: number) => {
    const test = `${kind}.test.mjs`;
    const folder = project.write(`${name}-${kind}`, {
      ...files,
      [test]: translated(source, module),
    });
    for (let time = 0; time < 2; time++) run(project, folder);
    const left = project.cleanUp();
    if (left !== expected) throw new Error(`${test} left ${left} segments, not ${expected}`);
  };
  check("cart", cart, 0);
  check("careless", CARELESS, leaves ? 1 : 0);
  return `passes; ${leaves ? "leaves" : "detaches"} what a test does not detach`;
}
