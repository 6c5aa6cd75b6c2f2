/** Several copies of this package in one process: two versions, or a bundle beside the package. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import {
  DEADLINE_MS,
  ipcObjects,
  ipcObjectsSince,
  keyFolder,
  ownRuntime,
} from "../support/support.ts";
import { leaveNothingBehind, slow, uniqueKey } from "../support/support.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));

let folder: string;

/** Copies the sources, as another version of the package that is installed too has files of its own. */
function copyTo(name: string): void {
  const target = `${folder}/${name}/`;
  mkdirSync(target);
  for (const file of readdirSync(root)) {
    if (file.endsWith(".ts")) cpSync(root + file, target + file);
  }
  for (const part of ["backends", "core", "ffi", "sync"]) {
    cpSync(root + part, target + part, { recursive: true });
  }
}

/** Runs a program with the copies `a`, `b` and a bundle `c`, which gets a key; returns what it printed. */
function run(source: string, key = uniqueKey()): unknown[] {
  const script = `${folder}/script.ts`;
  writeFileSync(
    script,
    `import assert from "node:assert/strict";
    import process from "node:process";
    const key = ${JSON.stringify(key)};
    const listeners = process.listenerCount("exit");
    const print = (value) => console.log(JSON.stringify(value));
    const [a, b, c] = await Promise.all(
      ["./a/mod.ts", "./b/mod.ts", "./c.js"].map((path) => import(path)),
    );
    const [syncA, syncB] = await Promise.all(
      ["./a/sync/mod.ts", "./b/sync/mod.ts"].map((path) => import(path)),
    );
    const open = (copy, options = { size: 256 }) => copy.SharedMemory.open(key, options);
    const isDeadlock = (copy, act) => assert.throws(act, (error) => {
      assert.ok(error instanceof copy.SharedMemoryException, error);
      assert.equal(error.code, "LockError");
      return true;
    });
    ${source}`,
  );
  const { command, args } = ownRuntime;
  const read = ownRuntime.name === "deno" ? ["--allow-read", "--no-config"] : [];
  const { status, signal, stdout, stderr } = spawnSync(command, [...args, ...read, script], {
    encoding: "utf8",
    timeout: DEADLINE_MS,
  });
  assert.deepEqual([status, signal], [0, null], stderr + stdout);
  return stdout.trim().split("\n").filter((line) => line !== "").map((line) => JSON.parse(line));
}

describe("copies of the package in one process", slow, () => {
  leaveNothingBehind();

  before(() => {
    folder = mkdtempSync(`${keyFolder}copies-`);
    writeFileSync(`${folder}/package.json`, '{ "type": "module" }');
    for (const name of ["a", "b"]) copyTo(name);
    const esbuild = `${root}node_modules/esbuild/bin/esbuild`;
    const bundle = [`${root}mod.ts`, "--bundle", "--minify", "--platform=node"];
    for (const [format, file] of [["esm", "c.js"], ["cjs", "c.cjs"]]) {
      const args = [...bundle, `--format=${format}`, `--outfile=${folder}/${file}`];
      const { status, stderr } = spawnSync(esbuild, args, { encoding: "utf8" });
      assert.equal(status, 0, stderr);
    }
  });
  after(() => rmSync(folder, { recursive: true }));

  test("refuse the deadlock of a thread with itself, as one copy does", () => {
    const lines = run(`
      const [x, y, z] = [a, b, c].map((copy) => open(copy));
      for (const [one, other, copy] of [[x, y, b], [y, z, c], [z, x, a]]) {
        assert.equal(one.lock(), true);
        assert.equal(other.lock(), false);
        assert.match(other.errorString(), /another object of this thread holds the lock/);
        assert.equal(other.tryLock(Infinity), false);
        isDeadlock(copy, () => other.withLock(() => {}));
        assert.equal(other.tryLock(10), false);
        assert.match(other.errorString(), /timed out/);
        assert.equal(one.unlock(), true);
        assert.equal(other.lock() && other.unlock(), true);
      }
      print("done");`);
    assert.deepEqual(lines, ["done"]);
  });

  test("do not wait for an asynchronous wait of each other", () => {
    const lines = run(`
      const [x, y] = [open(a), open(b)];
      assert.equal(x.lock(), true);
      const waiting = y.lockAsync();
      assert.equal(x.unlock(), true);
      assert.equal(x.lock(), false);
      assert.match(x.errorString(), /an asynchronous call waits for it/);
      assert.equal(await waiting, true);
      const next = x.lockAsync({ timeout: 10_000 });
      assert.equal(y.unlock(), true);
      assert.equal(await next, true);
      assert.equal(x.unlock(), true);
      assert.equal(y.lock() && y.unlock(), true);

      const [s, t] = [a, b].map((copy) => new copy.SystemSemaphore(key + " units", 1));
      assert.equal(s.acquire(), true);
      const unit = t.acquireAsync();
      assert.equal(s.acquire(), false);
      assert.match(s.errorString(), /an asynchronous call waits for it/);
      assert.equal(s.release(), true);
      assert.equal(await unit, true);
      assert.equal(t.release(), true);
      print("done");`);
    assert.deepEqual(lines, ["done"]);
  });

  test("refuse to open a segment that this thread is filling", () => {
    const lines = run(`
      const memory = a.SharedMemory.open(key, { size: 64, initialize: () => {
        for (const copy of [a, b, c]) {
          const other = new copy.SharedMemory(key);
          assert.equal(other.create(64), false);
          assert.match(other.errorString(), /initialize or adopt of the same segment is running/);
          isDeadlock(copy, () => open(copy));
        }
      } });
      print(memory.isAttached());`);
    assert.deepEqual(lines, [true]);
  });

  test("use the primitives of each other's segments, and end with them", () => {
    const lines = run(`
      const [x, y] = [open(a, { size: 1024 }), open(b, { size: 1024 })];
      const mutex = syncB.Mutex.create(x.data());
      const counter = syncB.Counter.create(x.view(Uint8Array, 64));
      counter.add(2n);
      assert.equal(syncA.Counter.at(y.view(Uint8Array, 64)).get(), 2n);
      const event = syncB.Event.create(x.view(Uint8Array, 128));
      const snapshot = syncB.Snapshot.create(x.view(Uint8Array, 256), 0, 8);
      snapshot.publish(new Uint8Array(8).fill(7));
      assert.deepEqual([...syncA.Snapshot.at(y.view(Uint8Array, 256)).read()], Array(8).fill(7));

      mutex.lock();
      assert.throws(() => syncA.Mutex.at(y.data()).lock(), { name: "SyncError", code: "Deadlock" });
      const waiting = event.waitAsync();
      assert.equal(x.detach(), true);
      await assert.rejects(waiting, { code: "NotAttached" });
      assert.equal(mutex.isHeld, false);
      const next = syncA.Mutex.at(y.data());
      next.lock();
      print(next.wasAbandoned);
      next.unlock();
      assert.throws(() => mutex.lock(), { code: "NotAttached" });
      assert.throws(() => counter.add(1n), { code: "NotAttached" });`);
    assert.deepEqual(lines, [true]);
  });

  test("have one exit hook, which lets go of what all of them have", () => {
    const before = ipcObjects();
    const lines = run(`
      const memories = [a, b, c].map((copy, i) => {
        const memory = copy.SharedMemory.open(key + i, { size: 8 });
        memory.lock();
        return memory;
      });
      const semaphores = [a, b, c].map((copy) => new copy.SystemSemaphore(key + " units", 1));
      print(process.listenerCount("exit") - listeners);
      process.on("exit", () => {
        print([...memories.map((memory) => memory.isAttached())]);
        print(open.length && new b.SharedMemory(key).create(8));
      });`);
    assert.deepEqual(lines, [1, [false, false, false], false]);
    assert.deepEqual(ipcObjectsSince(before), []);
  });

  // As Jest does it, whose `process` never calls a listener.
  const isNode = { skip: ownRuntime.name === "node" ? false : "is about Node's contexts" };
  test("in a context of their own, end with the thread's exit hook", isNode, () => {
    const before = ipcObjects();
    const lines = run(`
      const vm = process.getBuiltinModule("node:vm");
      const { readFileSync } = process.getBuiltinModule("node:fs");
      const code = readFileSync(new URL("./c.cjs", import.meta.url), "utf8");
      const inContext = () => {
        const own = Object.assign(Object.create(process), { on: () => {} });
        const given = { TextEncoder, TextDecoder, performance, process: own, setTimeout };
        const load = vm.runInContext(\`(function (require, module) { \${code} })\`, vm.createContext(given));
        const module = { exports: {} };
        load((name) => /process/.test(name) ? own : process.getBuiltinModule(name), module);
        return module.exports;
      };
      const [d, e] = [inContext(), inContext()];
      const [x, y] = [open(d), open(e)];
      print([x.isAttached() && y.isAttached(), process.listenerCount("exit") - listeners]);
      print([x.lock(), y.lock(), /another object of this thread/.test(y.errorString())]);`);
    assert.deepEqual(lines, [[true, 1], [true, false, true]]);
    assert.deepEqual(ipcObjectsSince(before), []);
  });
});
