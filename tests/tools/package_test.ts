/** The npm package: built, installed into an empty folder, and used from there in every runtime. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  globSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import process from "node:process";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { SharedMemory } from "../../mod.ts";
import { Counter } from "../../sync/mod.ts";
import { blocksOf, linksOf } from "../../scripts/markdown.ts";
import { MANIFEST, PACKAGE_FIELDS } from "../../scripts/package_fields.ts";
import { packagePage } from "../../scripts/package_pages.ts";
import type { Runtime } from "../../scripts/runtimes.ts";
import { sourceFiles } from "../../scripts/sources.ts";
import { librariesFolder, needsLibraries } from "../support/libraries.ts";
import {
  crewOnly,
  keyFolder,
  leaveNothingBehind,
  ownRuntime,
  runtimes,
  slow,
} from "../support/support.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const fixtures = fileURLToPath(new URL("../fixtures/consumer", import.meta.url));
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
    writeFileSync(path.join(consumer, "package.json"), '{ "private": true, "type": "module" }');
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

    test(`has its classes under their names in ${runtime.name}`, options, () => {
      const [json, ...logged] = use(runtime, "names.mjs").split("\n");
      const { names, stacks } = JSON.parse(json!);
      const classes = ["SharedMemory", "SystemSemaphore", "NativeIpcKey", "SharedMemoryException"];
      const primitives = ["Mutex", "Event", "Counter", "Gauge", "CounterBlock", "Snapshot"];
      const collections = ["SharedMap", "RateLimiter", "SharedTopic", "SharedBroadcastChannel"];
      for (
        const name of [...classes, ...primitives, ...collections, "RecordSnapshot", "SyncError"]
      ) {
        assert.ok(name in names, `${name} is no class`);
      }
      for (const [name, own] of Object.entries(names)) assert.deepEqual(own, [name, name]);
      for (const stack of stacks) {
        assert.match(
          stack,
          /Shared(Memory|Map)|SystemSemaphore|NativeIpcKey|Mutex|Counter|Snapshot/,
        );
        assert.doesNotMatch(stack, /\b_[A-Z]/);
      }
      const text = "SharedMemory { key: *orders*, size: 0, attached: false, locked: false }";
      assert.equal(logged.join("\n").trim().replace(/["']/g, "*"), text);
    });

    test(`has the command in ${runtime.name}`, options, () => {
      const output = use(runtime, "node_modules/.bin/shared-memory", "list", "--json");
      const parts = ["folder", "segments", "semaphores", "keyFiles"];
      assert.deepEqual(Object.keys(JSON.parse(output)), parts);
    });
  }

  const starters: Readonly<Record<string, readonly string[]>> = {
    "deno run npm:": ["deno", "run", "--allow-ffi", "--no-prompt", `npm:${name}`],
    bunx: ["bunx", "--bun", "shared-memory"],
    npx: ["npx", "--offline", "--no", "shared-memory"],
  };
  for (const [how, [starter, ...args]] of Object.entries(starters)) {
    test(`shows what lies in a segment by ${how}, and the live view`, options, () => {
      const key = `package ${process.pid} ${how.slice(0, 3)}`;
      using memory = SharedMemory.open(key, { size: Counter.BYTES });
      const counter = Counter.create(memory.view(Uint8Array));
      counter.add(7);
      // npx starts the first Node of the PATH, which is the one that the tests use.
      const folders = runtimes.map(({ command }) => path.dirname(command));
      const PATH = [...folders, process.env["PATH"]].join(path.delimiter);
      const start = (...more: string[]) => {
        const env = { ...process.env, NO_COLOR: "1", PATH };
        const child = spawnSync(starter!, [...args, ...more], {
          cwd: consumer,
          env,
          encoding: "utf8",
        });
        assert.equal(
          child.status,
          0,
          `${how} ${more}: ${child.error}${child.stdout}${child.stderr}`,
        );
        return child.stdout;
      };
      assert.match(start("show", key), /^ +0 +24 +- +Counter +value 7$/m);
      assert.match(start("top", "--once", "--interval", "0.1"), /^ +package\w* .* Counter$/m);
      assert.equal(counter.get(), 7n);
    });
  }

  for (const runtime of runtimes) {
    test(`has the metrics in ${runtime.name}`, options, () => {
      const script = path.join(consumer, "metrics.mjs");
      writeFileSync(
        script,
        `import { metrics } from "${name}/metrics"; console.log((await metrics()).split("\\n")[1]);`,
      );
      assert.equal(use(runtime, "metrics.mjs"), "# TYPE shared_memory_segments gauge\n");
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

  const compilers = { newest: "typescript", oldest: "typescript-oldest" } as const;
  const resolutions = {
    nodenext: { module: "nodenext" },
    bundler: { module: "esnext", moduleResolution: "bundler" },
    node10: { module: "commonjs", moduleResolution: "node10" },
  } as const;

  /** Type-checks files of the consumer's folder, and all declarations, without those of Node. */
  function compile(
    compiler: keyof typeof compilers,
    resolution: keyof typeof resolutions,
    lib: readonly string[],
    files: readonly string[],
  ): void {
    const compilerOptions = {
      ...resolutions[resolution],
      ...{ target: "es2022", lib, types: [], noEmit: true },
      ...{ strict: true, exactOptionalPropertyTypes: true, skipLibCheck: false },
    };
    const project = path.join(consumer, "tsconfig.json");
    writeFileSync(project, JSON.stringify({ compilerOptions, files }));
    // Both packages have a .bin/tsc.
    const tsc = path.join(root, "node_modules", compilers[compiler], "bin/tsc");
    run(tsc, ["--project", project], consumer);
  }

  for (
    const [compiler, resolution, extra] of [
      ["newest", "nodenext", ["types_newest.ts"]],
      ["newest", "bundler", ["types_newest.ts"]],
      ["oldest", "nodenext", []],
      ["oldest", "bundler", []],
      ["oldest", "node10", []], // which the newest does not have any more
    ] as const
  ) {
    test(`has types that the ${compiler} TypeScript accepts with ${resolution}`, options, () => {
      compile(compiler, resolution, ["es2022", "dom"], ["types.ts", "types_dom.ts", ...extra]);
    });
  }

  for (const compiler of ["newest", "oldest"] as const) {
    test(`has types that need no DOM, with the ${compiler} TypeScript`, options, () => {
      compile(compiler, "bundler", ["es2022"], ["types.ts"]);
    });
  }

  // Not those libraries' own declarations: with some, skipLibCheck is needed.
  test("has types that fit those of the libraries in docs/adapters.md", {
    ...options,
    ...(reason === undefined ? needsLibraries : {}),
  }, () => {
    const typed = path.join(folder, "typed");
    const modules = path.join(typed, "node_modules");
    mkdirSync(modules, { recursive: true });
    const [libraries, own] = [`${librariesFolder}node_modules`, `${consumer}/node_modules`];
    for (const from of [libraries, own]) {
      for (const entry of readdirSync(from).filter((entry) => !entry.startsWith("."))) {
        symlinkSync(path.join(from, entry), path.join(modules, entry));
      }
    }
    writeFileSync(path.join(typed, "package.json"), '{ "private": true, "type": "module" }');
    const page = readFileSync(path.join(root, "docs/adapters.md"), "utf8");
    const blocks = blocksOf(page).filter(({ language }) => language === "ts");
    assert.equal(blocks.length, 5);
    const files = blocks.map(({ text }, i) => {
      writeFileSync(path.join(typed, `${i}.ts`), text);
      return `${i}.ts`;
    });
    for (const exactOptionalPropertyTypes of [true, false]) {
      const compilerOptions = {
        ...{ module: "nodenext", target: "es2022", strict: true, noEmit: true },
        ...{ exactOptionalPropertyTypes, skipLibCheck: true, types: ["node"] },
      };
      const project = path.join(typed, "tsconfig.json");
      writeFileSync(project, JSON.stringify({ compilerOptions, files }));
      run(path.join(root, "node_modules/typescript/bin/tsc"), ["--project", project], typed);
    }
  });

  test("says in its README which TypeScript is the oldest that works", options, () => {
    const { devDependencies } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"));
    const [, oldest] = /typescript@(\d+\.\d+)/.exec(devDependencies[compilers.oldest])!;
    const readme = readFileSync(path.join(root, "README.md"), "utf8");
    assert.match(readme, new RegExp(`TypeScript ${oldest!.replace(".", "\\.")}\\b`));
  });

  test("has no any in its declarations, and each comment above its member", options, () => {
    const installed = path.join(consumer, "node_modules", name);
    for (const file of globSync("**/*.d.ts", { cwd: installed })) {
      const text = readFileSync(path.join(installed, file), "utf8");
      assert.doesNotMatch(text.replace(/\/\*[^]*?\*\//g, ""), /\bany\b/, file);
      assert.doesNotMatch(text, /\S[ \t]*\/\*\*|\*\/[ \t]*\S/, file);
    }
  });

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

  // What is never called is what makes sure that there is stack: see stack.ts.
  test("needs stack for its locks also if it was minified", options, () => {
    const bundles = ["minified_esbuild.mjs", "minified_bun.mjs"] as const;
    const args = ["use.mjs", "--minify", "--format=esm"];
    tool("esbuild", ...args, "--bundle", "--platform=node", `--outfile=${bundles[0]}`);
    if (bun) {
      run(bun.command, ["build", ...args, "--target=node", `--outfile=${bundles[1]}`], consumer);
    }
    for (const bundle of bundles.slice(0, bun ? 2 : 1)) {
      const script = readFileSync(path.join(consumer, bundle), "utf8");
      const calls = script.match(/new new\.target\([0,\s]{6000,}\)/g);
      assert.equal(calls?.length, 2, bundle);
      for (const runtime of users([deno, bun, node])) assert.equal(use(runtime, bundle), USED);
    }
  });

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

  test(
    "has no link in its pages that leads nowhere, and only links to its version",
    options,
    () => {
      const installed = path.join(consumer, "node_modules", name);
      for (const page of ["README.md", "CHANGELOG.md"]) {
        for (const { target } of linksOf(readFileSync(path.join(installed, page), "utf8"))) {
          if (/^[a-z][a-z+.-]*:/i.test(target)) continue;
          const file = path.join(installed, target.replace(/#.*/, ""));
          assert.ok(existsSync(file), `${page}: ${target}`);
        }
      }
      const repository = "https://github.com/someone/something";
      const { version } = MANIFEST;
      const page = packagePage("README.md", repository);
      for (const source of linksOf(readFileSync(path.join(root, "README.md"), "utf8"))) {
        const { target } = source;
        if (/^[a-z][a-z+.-]*:|^#|^CHANGELOG\.md/i.test(target)) continue;
        const kind = /\.(?:svg|png)$/.test(target) ? "raw" : "blob";
        assert.ok(page.includes(`](${repository}/${kind}/v${version}/${target})`), target);
      }
      assert.deepEqual(
        linksOf(page).map(({ target }) => target).filter((target) => !/:|^#/.test(target)),
        ["CHANGELOG.md"],
      );
    },
  );

  test("has a README that imports what it has, by the names that it has", options, () => {
    const readme = readFileSync(path.join(consumer, "node_modules", name, "README.md"), "utf8");
    const imports = blocksOf(readme).filter(({ language }) => language === "ts")
      .flatMap(({ text }) => [...text.matchAll(/^import .* from "([^"]+)"/gm)]);
    const own = imports.filter(([, module]) => !module!.startsWith("node:"));
    assert.ok(own.length > 1);
    for (const [, module] of own) assert.ok(module!.startsWith(name), module);
    assert.doesNotMatch(readme, /RingBuffer/);
  });

  test(
    "declares nothing at a module's top that is called as what CommonJS has there",
    options,
    () => {
      const sources = sourceFiles();
      assert.ok(sources.length > 50);
      const names = "(?:require|module|exports|__dirname|__filename)";
      const declared = new RegExp(
        `^(?:export )?(?:async )?(?:function|class|const|let|var) ${names}\\b|^import .*\\b${names}\\b.* from`,
        "m",
      );
      for (const file of sources) {
        assert.doesNotMatch(readFileSync(path.join(root, file), "utf8"), declared, file);
      }
    },
  );

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
    for (
      const file of [
        "README.md",
        "mod.d.ts",
        "sync.js",
        "sync.d.ts",
        "collections.js",
        "metrics.d.ts",
      ]
    ) {
      assert.ok(files.includes(file), file);
    }
    assert.ok(existsSync(path.join(installed, "LICENSE")));
    const script = `console.log(JSON.stringify(require("${name}/package.json")))`;
    writeFileSync(path.join(consumer, "manifest.cjs"), script);
    const manifest = JSON.parse(use(ownRuntime, "manifest.cjs"));
    const { description, keywords, engines } = PACKAGE_FIELDS;
    const expected = { name, license: "MIT", type: "module", sideEffects: false };
    for (const [field, value] of Object.entries({ ...expected, description, keywords, engines })) {
      assert.deepEqual(manifest[field], value, field);
    }
    assert.deepEqual(
      Object.keys(manifest.exports),
      [
        ...[".", "./inspect", "./metrics", "./sync", "./collections"],
        ...["./keyv", "./unstorage", "./rate-limiter-flexible", "./express-session", "./testing"],
        "./package.json",
      ],
    );
    assert.deepEqual(manifest.bin, { "shared-memory": "./cli.js" });
    assert.equal(manifest.dependencies, undefined);
  });
});
