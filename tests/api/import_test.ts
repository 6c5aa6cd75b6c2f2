import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import process from "node:process";
import { afterEach, beforeEach, describe, test } from "node:test";
import { systemV } from "../../backends/systemv/mod.ts";
import type { Ffi } from "../../ffi/types.ts";
import { UnsupportedError } from "../../mod.ts";
import type { Runtime } from "../../scripts/runtimes.ts";
import {
  DEADLINE_MS,
  keyFolder,
  leaveNothingBehind,
  ownRuntime,
  runtimes,
  systemVOnly,
} from "../support/support.ts";

const module = JSON.stringify(new URL("../../mod.ts", import.meta.url).href);

let folder: string;

/** Runs a program of its own; returns what it printed: values on stdout, warnings on stderr. */
function run(runtime: Runtime, source: string, args: readonly string[] = runtime.args) {
  const script = `${folder}/script.ts`;
  writeFileSync(script, source);
  const { status, stdout, stderr } = spawnSync(runtime.command, [...args, script], {
    encoding: "utf8",
    env: { ...process.env, TMPDIR: folder, NO_COLOR: "1" },
    timeout: DEADLINE_MS,
  });
  assert.equal(status, 0, stderr + stdout);
  rmSync(script);
  const lines = stdout.trim().split("\n").map((line) => JSON.parse(line));
  // What Bun says in Wine, whatever it runs.
  return { lines, stderr: stderr.replace(/^Internal error: directory mismatch .*\n/m, "") };
}

function withFolder(): void {
  leaveNothingBehind();
  beforeEach(() => {
    folder = mkdtempSync(keyFolder + "import-");
  });
  afterEach(() => rmSync(folder, { recursive: true }));
}

/** `{ skip: reason }` and any runtime, if the wanted one is not installed. */
function find(name: Runtime["name"]): [Runtime, { skip?: string }] {
  const runtime = runtimes.find((runtime) => runtime.name === name);
  return runtime ? [runtime, {}] : [ownRuntime, { skip: `${name} is not installed` }];
}

/** Source: records every way to get at the FFI, before the module is imported. */
const RECORD = `
import process from "node:process";
const used = [];
const { getBuiltinModule } = process;
process.getBuiltinModule = (name) => {
  used.push(name);
  return getBuiltinModule.call(process, name);
};
if (globalThis.Deno) {
  const { dlopen } = Deno;
  Deno.dlopen = (...args) => {
    used.push(args[0]);
    return dlopen(...args);
  };
}
const exitListeners = process.listenerCount("exit");
`;

describe("importing the module", () => {
  withFolder();

  test("and constructing objects loads no library and installs nothing", () => {
    const { lines, stderr } = run(
      ownRuntime,
      `${RECORD}
      const { SharedMemory, SystemSemaphore } = await import(${module});
      const memory = new SharedMemory("key");
      const objects = [new SharedMemory(), new SystemSemaphore()];
      console.log(JSON.stringify([memory.key(), memory.size(), memory.data(), memory.isAttached()]));
      console.log(JSON.stringify([used, process.listenerCount("exit") - exitListeners]));
      const isCreated = memory.create(1);
      const libraries = used.filter((name) => name !== "node:crypto"); // for the name of the key
      console.log(JSON.stringify([isCreated, libraries.length, memory.detach()]));`,
    );
    const [state, afterImport, afterUse] = lines;
    assert.deepEqual(state, ["key", 0, null, false]);
    assert.deepEqual(afterImport, [[], 0]);
    assert.deepEqual(afterUse, [true, 1, true]); // the recording works: one look-up, on first use
    assert.equal(stderr, "");
    assert.deepEqual(readdirSync(folder), []);
  });

  const [node, needsNode] = find("node");
  test("warns of nothing in Node; only its first use does", needsNode, () => {
    const { lines, stderr } = run(
      node,
      `import process from "node:process";
      import { SharedMemory } from ${module};
      import { setImmediate } from "node:timers/promises";
      const warnings = [];
      process.on("warning", ({ name, message }) => warnings.push(name + ": " + message));
      const memory = new SharedMemory("key");
      await setImmediate();
      console.log(JSON.stringify(warnings));
      memory.create(1) && memory.detach();
      await setImmediate();
      console.log(JSON.stringify(warnings));`,
      [], // and so with its warnings
    );
    assert.deepEqual(lines[0], []);
    // Node's own, as long as its FFI is experimental; nothing of ours.
    for (const warning of lines[1]) assert.match(warning, /^ExperimentalWarning: FFI /);
    assert.equal(/Warning/.test(stderr), lines[1].length > 0, stderr);
  });

  const [deno, needsDeno] = find("deno");
  test("and constructing needs no permission in Deno, and use throws NotCapable", needsDeno, () => {
    const { lines, stderr } = run(
      deno,
      `import { SharedMemory, SystemSemaphore } from ${module};
      const memory = new SharedMemory("key");
      console.log(JSON.stringify([memory.key(), memory.isAttached(), memory.lock(), memory.error()]));
      const uses = [
        () => memory.create(1),
        () => memory.attach(),
        () => memory.nativeKey(),
        () => new SystemSemaphore("key"),
      ];
      for (const use of uses) {
        try {
          console.log(JSON.stringify(use()));
        } catch (error) {
          const { name, message } = error;
          console.log(JSON.stringify([name, error instanceof Deno.errors.NotCapable, message]));
        }
      }
      memory[Symbol.dispose]();`,
      ["run", "--no-prompt", "--quiet"],
    );
    const [state, ...thrown] = lines;
    assert.deepEqual(state, ["key", false, false, 6]);
    assert.equal(thrown.length, 4);
    for (const [name, isDenos, message] of thrown) {
      assert.equal(name, "NotCapable");
      assert.equal(isDenos, true);
      assert.match(message, /ffi/);
    }
    assert.equal(stderr, "");
  });

  test("and everything else needs only --allow-ffi in Deno", needsDeno, () => {
    const denied = ["read", "write", "env", "net", "run", "sys"].map((name) => `--deny-${name}`);
    const { lines, stderr } = run(
      deno,
      `import { SharedMemory, SystemSemaphore } from ${module};
      const [first, second] = [new SharedMemory("key"), new SharedMemory("key")];
      const semaphore = new SystemSemaphore("key", 1);
      console.log(JSON.stringify([
        first.create(8), second.attach(0), first.lock(), first.unlock(), second.detach(),
        first.view(Int32Array).length >= 2, semaphore.acquire(), semaphore.release(),
      ]));
      console.log(JSON.stringify([first.nativeKey(), first.errorString(), first.attach()]));`,
      ["run", "--no-prompt", "--quiet", "--allow-ffi", ...denied],
    );
    const [results, [nativeKey, errorString, attachedAgain]] = lines;
    assert.deepEqual(results, Array(8).fill(true));
    const place = systemVOnly.skip === undefined ? `${folder}/` : "";
    assert.ok(nativeKey.startsWith(`${place}qipc_sharedmemory_key`), nativeKey);
    assert.deepEqual([errorString, attachedAgain], ["", false]);
    assert.equal(stderr, "");
    assert.deepEqual(readdirSync(folder), []); // the end of the program has detached
  });
});

describe("what is not supported", () => {
  withFolder();

  /** Source: what the first uses of the module throw, in a process that `prepare` has changed. */
  const firstUses = (prepare: string) => `
    import process from "node:process";
    ${prepare}
    const { SharedMemory, SystemSemaphore, UnsupportedError } = await import(${module});
    const memory = new SharedMemory("key");
    for (const use of [() => memory.create(1), () => memory.create(1), () => memory.nativeKey(),
      () => new SystemSemaphore("key")]) {
      try {
        console.log(JSON.stringify(use()));
      } catch (error) {
        console.log(JSON.stringify([error instanceof UnsupportedError, error.name, error.message]));
      }
    }`;

  function assertUnsupported(lines: [boolean, string, string][], says: RegExp): void {
    assert.equal(lines.length, 4);
    for (const [isOurs, name, message] of lines) {
      assert.equal(isOurs, true, message);
      assert.equal(name, "UnsupportedError");
      assert.match(message, says);
    }
  }

  const [node, needsNode] = find("node");
  /** Source: a `process` of another version, in which there are no built-in modules. */
  const pretend = (versions: string) => `
    Object.defineProperty(process, "versions", { value: ${versions} });
    process.getBuiltinModule = undefined;`;

  test("a Node without node:ffi throws on use and names the version to use", needsNode, () => {
    for (const version of ["20.11.1", "26.8.2"]) {
      const { lines, stderr } = run(node, firstUses(pretend(`{ node: "${version}" }`)));
      assertUnsupported(lines as never, new RegExp(`node:ffi.*Node ${version}.*use Node 26\\.9`));
      assert.equal(stderr, "");
    }
  });

  test("a Node whose FFI is switched off throws on use and names the option", needsNode, () => {
    const { lines } = run(node, firstUses(""), ["--no-experimental-ffi"]);
    const says =
      `switched off in this Node ${node.version}; start it without --no-experimental-ffi`;
    assertUnsupported(lines as never, new RegExp(says));
  });

  test("what is none of the runtimes throws on use and says which have an FFI", needsNode, () => {
    const { lines } = run(node, firstUses(pretend("{}")));
    assertUnsupported(lines as never, /needs the FFI of Deno, Bun or Node; a browser .* has none/);
  });

  test("a Node that permits no FFI throws on use and names the option", needsNode, () => {
    const denied = ["--permission", "--allow-fs-read=*"];
    const { lines } = run(node, firstUses(""), denied);
    assert.equal(lines.length, 4);
    for (const [, name, message] of lines) {
      assert.match(`${name}: ${message}`, /^Error: .*--allow-ffi/);
    }
    const { lines: [created] } = run(node, firstUses(""), [...denied, "--allow-ffi"]);
    assert.equal(created, true);
  });

  test("an operating system or processor throws on use and is named", () => {
    const prepare = `Object.defineProperty(process, "platform", { value: "sunos" });
      Object.defineProperty(process, "arch", { value: "sparc" });`;
    const { lines } = run(ownRuntime, firstUses(prepare));
    assertUnsupported(lines as never, /not supported on sunos sparc/);
  });

  test("is found out before any library is loaded", () => {
    const ffi = {
      load: () => assert.fail("a library was loaded"),
      arrayBuffer: () => assert.fail("memory was touched"),
      maxBufferBytes: 1,
    } as unknown as Ffi;
    for (const [os, arch] of [["sunos", "x64"], ["linux", "s390x"], ["linux", "ia32"]] as const) {
      assert.throws(() => systemV(ffi, { os, arch }), (error) => {
        assert.ok(error instanceof UnsupportedError);
        assert.ok(error.message.includes(`${os} ${arch}`), error.message);
        return true;
      });
    }
  });
});
