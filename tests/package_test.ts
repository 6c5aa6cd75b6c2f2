/** The npm package: built, installed into an empty folder, and used from there in every runtime. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  cpSync,
  globSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import process from "node:process";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { PACKAGE_FIELDS } from "../scripts/package_fields.ts";
import type { Runtime } from "../scripts/runtimes.ts";
import { crewOnly, keyFolder, leaveNothingBehind, ownRuntime, runtimes, slow } from "./support.ts";

const root = fileURLToPath(new URL("../", import.meta.url));
const fixtures = fileURLToPath(new URL("./fixtures/consumer", import.meta.url));
const name = "@shared-memory/shared-memory";

/** What the programs in `fixtures` print. */
const USED = "1 segment, count 2\n";

/** Why the package cannot be built here, if it cannot. */
function cannotBuild(): string | undefined {
  if (process.platform === "win32") return "npm is a batch file there";
  if (process.env["SHARED_MEMORY_TEST_DENO"]) return "the package is the same on every platform";
  if (runtimes.every(({ name }) => name !== "deno")) return "Deno builds it, and is not installed";
  return spawnSync("npm", ["--version"]).status === 0 ? undefined : "npm is not installed";
}

const reason = crewOnly.skip ?? cannotBuild();
const options = reason === undefined ? slow : { skip: reason };

function run(command: string, args: readonly string[], cwd: string): string {
  const env = { ...process.env, NO_COLOR: "1" };
  const { status, stdout, stderr } = spawnSync(command, args, { cwd, env, encoding: "utf8" });
  assert.equal(status, 0, `${command} ${args.join(" ")}: ${stdout}${stderr}`);
  return stdout;
}

/** A Node on the PATH that has no FFI, beside the one of the development dependencies. */
function oldNode(): string | undefined {
  const all = (process.env["PATH"] ?? "").split(":").map((folder) => path.join(folder, "node"));
  return all.find((command) => {
    const { stdout } = spawnSync(command, ["--version"], { encoding: "utf8" });
    const [, major] = /^v(\d+)\./.exec(stdout ?? "") ?? [];
    return major !== undefined && Number(major) < 26;
  });
}

/** A command of the development dependencies, none of which needs the network. */
function tool(command: string, ...args: string[]): string {
  return run(path.join(root, "node_modules/.bin", command), args, consumer);
}

let folder = "";
let tarball = "";
let consumer = "";

describe("the npm package", () => {
  leaveNothingBehind();

  before(() => {
    if (reason !== undefined) return;
    folder = mkdtempSync(`${keyFolder}package-`);
    consumer = path.join(folder, "consumer");
    console.log(run("node", ["scripts/pack.ts", folder], root).trim());
    tarball = path.join(folder, readdirSync(folder).find((file) => file.endsWith(".tgz"))!);
    cpSync(fixtures, consumer, { recursive: true });
    writeFileSync(path.join(consumer, "package.json"), '{ "private": true }');
    run("npm", ["install", "--offline", "--no-audit", "--no-fund", tarball], consumer);
  });

  after(() => {
    if (folder !== "") rmSync(folder, { recursive: true });
  });

  /** Runs a program in the consumer's folder. */
  function use(runtime: Runtime, script: string, ...args: string[]): string {
    return run(runtime.command, [...runtime.args, script, ...args], consumer);
  }

  for (const runtime of runtimes) {
    test(`is imported by its names in ${runtime.name}`, options, () => {
      assert.equal(use(runtime, "use.mjs"), USED);
    });

    test(`is required by its names in ${runtime.name}`, options, () => {
      assert.equal(use(runtime, "use.cjs"), USED);
    });

    test(`is the same classes, imported and required in ${runtime.name}`, options, () => {
      assert.equal(use(runtime, "both.mjs"), "same\n");
    });

    test(`has the command in ${runtime.name}`, options, () => {
      const output = use(runtime, "node_modules/.bin/shared-memory", "list", "--json");
      const parts = ["folder", "segments", "semaphores", "keyFiles"];
      assert.deepEqual(Object.keys(JSON.parse(output)), parts);
    });
  }

  const old = reason === undefined ? oldNode() : undefined;
  const needsOld = old === undefined ? { skip: reason ?? "no older Node is installed" } : options;
  test("says in an older Node which one is needed", needsOld, () => {
    const command = path.join(consumer, "node_modules/.bin/shared-memory");
    const { status, stderr } = spawnSync(old!, [command, "list"], { encoding: "utf8" });
    assert.equal(status, 1, stderr);
    assert.match(
      stderr,
      /^shared-memory: .*Node \d+\S+ does not provide; use Node 26\.9 or newer.*: bunx --bun shared-memory, or deno run --allow-ffi npm:/,
    );
  });

  for (const runtime of runtimes.filter(({ name }) => name !== "node")) {
    test(
      `runs in ${runtime.name}, if that started it, where its first line finds an older Node`,
      needsOld,
      () => {
        const command = path.join(consumer, "node_modules/.bin/shared-memory");
        const agent = `${runtime.name}/1.0.0 npm/? node/v26.3.0 linux x64`;
        const env = { ...process.env, npm_config_user_agent: agent, npm_execpath: runtime.command };
        const list = spawnSync(old!, [command, "list", "--json"], { env, encoding: "utf8" });
        assert.deepEqual([list.status, list.stderr], [0, ""]);
        assert.ok("segments" in JSON.parse(list.stdout));
        const wrong = spawnSync(old!, [command, "show", "none"], { env, encoding: "utf8" });
        assert.equal(wrong.status, 1, wrong.stderr);
      },
    );
  }

  for (
    const [resolution, settings] of [
      ["nodenext", { module: "nodenext" }],
      ["bundler", { module: "esnext", moduleResolution: "bundler" }],
    ] as const
  ) {
    test(`has types that TypeScript accepts with ${resolution}`, options, () => {
      const compilerOptions = {
        ...settings,
        ...{ target: "esnext", lib: ["esnext", "dom"], types: [], noEmit: true },
        ...{ strict: true, exactOptionalPropertyTypes: true, skipLibCheck: false },
      };
      const project = path.join(consumer, "tsconfig.json");
      writeFileSync(project, JSON.stringify({ compilerOptions, files: ["types.ts"] }));
      tool("tsc", "--project", project);
    });
  }

  const [deno, bun, node] = (["deno", "bun", "node"] as const).map((name) =>
    runtimes.find((runtime) => runtime.name === name)
  );
  const users = (names: (Runtime | undefined)[]) => names.filter((one) => one !== undefined);

  for (const [format, extension] of [["esm", "mjs"], ["cjs", "cjs"]] as const) {
    test(`is bundled by esbuild as ${format}, and works`, options, () => {
      const bundle = `esbuild.${extension}`;
      const args = ["--bundle", "--platform=node", `--format=${format}`, `--outfile=${bundle}`];
      tool("esbuild", "use.mjs", ...args, "--log-level=warning");
      for (const runtime of users([deno, bun, node])) assert.equal(use(runtime, bundle), USED);
    });
  }

  for (const target of ["bun", "node"]) {
    const needsBun = bun === undefined ? { skip: "Bun is not installed" } : options;
    test(`is bundled by bun build for ${target}, and works`, needsBun, () => {
      const bundle = `bun_${target}.mjs`;
      run(
        bun!.command,
        ["build", "use.mjs", `--target=${target}`, `--outfile=${bundle}`],
        consumer,
      );
      const others = target === "bun" ? [bun] : [bun, node];
      for (const runtime of users(others)) assert.equal(use(runtime, bundle), USED);
    });
  }

  test("leaves nothing in a bundle of what is not used", options, () => {
    const script = path.join(consumer, "unused.mjs");
    writeFileSync(script, `import { SharedMemory } from "${name}"; console.log("nothing else");`);
    tool("esbuild", script, "--bundle", "--platform=node", "--format=esm", "--outfile=unused.js");
    const { size } = statSync(path.join(consumer, "unused.js"));
    assert.ok(size < 200, `${size} bytes`);
  });

  test("is clean for publint", options, () => {
    tool("publint", "--strict", tarball);
  });

  // What is ignored: that `require` gets an ES module. Each Node that has node:ffi can do that, and the
  // tests above do. That old ways of resolution fail is not ignored.
  test("is clean for attw", options, () => {
    tool("attw", tarball, "--ignore-rules", "cjs-resolves-to-esm");
  });

  test("installs nothing but itself", options, () => {
    const modules = path.join(consumer, "node_modules");
    const packages = globSync(["*", "@*/*"], { cwd: modules });
    assert.deepEqual(packages.sort(), ["@shared-memory", name]);
  });

  test("has what npm shows, and no tests, sources or source maps", options, () => {
    const installed = path.join(consumer, "node_modules", name);
    const files = globSync("**/*.*", { cwd: installed });
    const odd = files.filter((file) =>
      !/(\.js|\.d\.ts|^package\.json|^README\.md|^CHANGELOG\.md)$/.test(file)
    );
    assert.deepEqual(odd, []);
    assert.ok(files.includes("README.md") && files.includes("mod.d.ts"));
    const script = `console.log(JSON.stringify(require("${name}/package.json")))`;
    writeFileSync(path.join(consumer, "manifest.cjs"), script);
    const manifest = JSON.parse(use(ownRuntime, "manifest.cjs"));
    const { description, keywords, engines } = PACKAGE_FIELDS;
    const expected = { name, license: "MIT", type: "module", sideEffects: false };
    for (const [field, value] of Object.entries({ ...expected, description, keywords, engines })) {
      assert.deepEqual(manifest[field], value, field);
    }
    assert.deepEqual(Object.keys(manifest.exports), [".", "./inspect", "./sync", "./package.json"]);
    assert.deepEqual(manifest.bin, { "shared-memory": "./cli.js" });
    assert.equal(manifest.dependencies, undefined);
  });
});
