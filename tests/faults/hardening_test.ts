/**
 * How services are hardened, with the kernel's own means: what docs/security.md says about systemd and Docker, neither of
 * which is run here.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, chownSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { compilers } from "../support/posix_names.ts";
import {
  type Agent,
  DEADLINE_MS,
  keyFolder,
  leaveNothingBehind,
  linuxOnly,
  ownRuntime,
  slow,
  startAgent,
  startAgentThrough,
  uniqueKey,
} from "../support/support.ts";

/** JavaScript that uses System V keys, POSIX keys, primitives and collections, and waits in each way; returns "all". */
const EVERYTHING = `
  const { NativeIpcKeyType: { PosixRealtime }, SharedMemory, SystemSemaphore } = library;
  const ok = (value, what) => { if (!value) throw new Error("not " + what); };
  const name = "hardened " + process.pid;
  const keys = [name, SharedMemory.platformSafeKey("qipc_" + name, PosixRealtime)];
  const semaphoreKeys = [name + "s", SystemSemaphore.platformSafeKey("qipc_s" + name, PosixRealtime)];
  for (const [i, key] of keys.entries()) {
    const memory = SharedMemory.open(key, { size: 4096, initialize: (bytes) => bytes.fill(0) });
    const other = SharedMemory.open(key);
    ok(memory.lock(), "locked");
    ok(!other.tryLock(20), "excluded");
    const waiting = other.lockAsync({ timeout: 20_000 });
    await new Promise((resolve) => setTimeout(resolve, 100));
    memory.unlock();
    ok(await waiting, "awaited");
    other.unlock();
    const semaphore = new SystemSemaphore(semaphoreKeys[i], 1);
    ok(semaphore.acquire() && semaphore.release(), "released: " + semaphore.errorString());
    semaphore[Symbol.dispose]();
    const mutex = sync.Mutex.create(memory.bytes);
    mutex.lock();
    mutex.unlock();
    const event = sync.Event.create(memory.bytes, 64);
    const seen = event.waitAsync({ timeout: 20_000 });
    setTimeout(() => event.notify(), 50);
    ok(await seen, "notified");
    other.detach();
    memory.detach();
  }
  const { json, RateLimiter, SharedMap, SharedQueue, SharedTopic, SharedValue } = collections;
  const options = { bytes: 65_536, codec: json };
  const map = SharedMap.open(name + "m", options);
  map.set("a", 1);
  ok(await map.getOrSet("b", () => 2) === 2, "computed");
  const queue = SharedQueue.open(name + "q", options);
  setTimeout(() => queue.send(1), 50);
  ok((await queue.take({ timeout: 20_000, ref: true })).ack(), "acked");
  const topic = SharedTopic.open(name + "t", options);
  const told = new Promise((resolve) => topic.subscribe(resolve));
  topic.publish(1);
  await told;
  const value = SharedValue.open(name + "v", { maxBytes: 100, codec: json });
  value.set(1);
  const limiter = RateLimiter.open(name + "r", { limit: 1, window: 1000, keys: 100 });
  ok(limiter.take("a").allowed, "allowed");
  for (const object of [map, queue, topic, value, limiter]) object[Symbol.dispose]();
  return "all";`;

const isRoot = process.getuid?.() === 0;
/** A C compiler that has the headers of the kernel: that of musl has none. */
const compiler = compilers.find((name) => {
  const args = ["-fsyntax-only", "-include", "linux/filter.h", "-x", "c", "/dev/null"];
  return spawnSync(name, args).status === 0;
});
const fixtures = fileURLToPath(new URL("../fixtures/", import.meta.url));
const canUnshare = linuxOnly.skip === undefined && isRoot &&
  spawnSync("unshare", ["--mount", "--ipc", "--pid", "--fork", "true"]).status === 0;
const namespaces = canUnshare ? slow : { skip: "needs root and the namespaces of Linux" };

let folder: string;
beforeEach(() => folder = mkdtempSync(`${keyFolder}hardening-`));
afterEach(() => rmSync(folder, { recursive: true }));

/** Asserts that an agent can use everything and ends well. */
async function assertWorks(agent: Agent): Promise<void> {
  assert.equal(await agent.run(EVERYTHING), "all");
  assert.equal(await agent.end(), 0);
}

/** Starts an agent through commands of a shell that end with `exec "$@"`. */
function startBehind(unshare: readonly string[], script: string, TMPDIR = folder): Agent {
  const command = ["unshare", ...unshare, "sh", "-ec", `${script}; exec "$@"`, "sh"];
  return startAgentThrough(ownRuntime, command, { TMPDIR });
}

/** The names of the calls in a group of systemd, with those of the groups in it. */
function callsOf(group: string): string[] {
  const { stdout } = spawnSync("systemd-analyze", ["syscall-filter", group], { encoding: "utf8" });
  const lines = stdout.split("\n").slice(1).map((line) => line.trim());
  const names = lines.filter((line) => line !== "" && !line.startsWith("#"));
  return names.flatMap((name) => name.startsWith("@") ? callsOf(name) : [name]);
}

function cannotFilter(): string | undefined {
  if (linuxOnly.skip !== undefined) return linuxOnly.skip;
  if (compiler === undefined) return "no C compiler with the headers of the kernel";
  const { status } = spawnSync("systemd-analyze", ["syscall-filter", "@system-service"]);
  return status === 0 ? undefined : "needs systemd-analyze, which knows the groups of calls";
}

const cannot = cannotFilter();
const filtered = cannot === undefined ? slow : { skip: cannot };

describe("under SystemCallFilter=@system-service", filtered, () => {
  let programs: string;
  leaveNothingBehind();
  before(() => programs = mkdtempSync(`${keyFolder}only-`));
  after(() => rmSync(programs, { recursive: true }));

  /** Builds the program that allows calls alone. */
  function build(name: string, calls: readonly string[]): string {
    const list = path.join(programs, `${name}.h`);
    const program = path.join(programs, name);
    writeFileSync(list, calls.map((call) => `#ifdef SYS_${call}\nSYS_${call},\n#endif\n`).join(""));
    const args = ["-Wall", "-Werror", `-DALLOWED="${list}"`, `${fixtures}seccomp_only.c`];
    const { status, stderr } = spawnSync(compiler!, [...args, "-o", program]);
    assert.equal(status, 0, `${stderr}`);
    return program;
  }

  test(
    "everything works, also with RestrictNamespaces= and without network",
    filtered,
    async () => {
      const refused = ["unshare", "setns", "clone3", "personality", "socket", "connect", "bind"];
      const calls = callsOf("@system-service");
      assert.ok(calls.length > 300);
      for (
        const [name, list] of [["all", calls], ["less", calls.filter((c) => !refused.includes(c))]]
      ) {
        const program = build(name as string, list as string[]);
        const command = [program, "EPERM"];
        await assertWorks(startAgentThrough(ownRuntime, command, { TMPDIR: folder }));
      }
    },
  );

  test("without @ipc the error names the filter, and POSIX keys work", filtered, async () => {
    const ipc = callsOf("@ipc").filter((name) => /^(shm|sem|msg)/.test(name));
    const program = build("without", callsOf("@system-service").filter((c) => !ipc.includes(c)));
    const agent = startAgentThrough(ownRuntime, [program, "EPERM"], { TMPDIR: folder });
    await assert.rejects(agent.run(`library.SharedMemory.open("key", { size: 16 });`), {
      reason: "PermissionDenied",
      message: /by a seccomp filter.*POSIX keys.*EPERM 1\]$/,
    });
    const attached = await agent.run(`
      const { NativeIpcKeyType: { PosixRealtime }, SharedMemory } = library;
      const memory = SharedMemory.open(SharedMemory.platformSafeKey("qipc_f" + process.pid, PosixRealtime), { size: 9 });
      return [memory.lock(), memory.unlock(), memory.detach()];`);
    assert.deepEqual(attached, [true, true, true]);
    assert.equal(await agent.end(), 0);
  });

  test(
    "which kills a process that makes another call, Deno needs @pkey too",
    filtered,
    async () => {
      const calls = callsOf("@system-service");
      const enough = ownRuntime.name === "deno" ? [...calls, ...callsOf("@pkey")] : calls;
      const command = [build("enough", enough), "kill"];
      await assertWorks(startAgentThrough(ownRuntime, command, { TMPDIR: folder }));
      if (ownRuntime.name !== "deno") return;
      const { signal } = spawnSync(build("few", calls), ["kill", ownRuntime.command, "eval", "1"]);
      assert.equal(signal, "SIGSYS");
    },
  );

  test("of @ipc, docs/security.md names what is needed", filtered, async () => {
    const page = readFileSync(new URL("../../docs/security.md", import.meta.url), "utf8");
    const row = page.split("\n").find((line) => line.startsWith("| System V keys "))!;
    const named = [...row.matchAll(/`(\w+)`/g)].map(([, name]) => name!);
    assert.equal(named.length, 8);
    const ipc = callsOf("@ipc").filter((name) => !/^(pipe|memfd)/.test(name));
    const others = callsOf("@system-service").filter((name) => !ipc.includes(name));
    const program = build("named", [...others, ...named]);
    await assertWorks(startAgentThrough(ownRuntime, [program, "EPERM"], { TMPDIR: folder }));
  });

  test("MemoryDenyWriteExecute= needs --jitless, and Bun says that it cannot", filtered, () => {
    const program = build("denied", callsOf("@system-service"));
    const run = (args: readonly string[]) =>
      spawnSync(program, ["MDWE", ownRuntime.command, ...args], {
        encoding: "utf8",
        timeout: DEADLINE_MS,
        env: { ...process.env, TMPDIR: folder },
      });
    const { status } = run([ownRuntime.name === "deno" ? "eval" : "-e", "1"]);
    assert.equal(status === 0, ownRuntime.name === "bun", "the others end when they start");
    if (ownRuntime.name === "node") { // Node strips no types without WebAssembly, so this is about its FFI alone
      const call = `require("node:ffi").dlopen("libc.so.6", {
        getpid: { arguments: [], return: "i32" } }).functions.getpid() === process.pid`;
      const { stdout, stderr } = run(["--jitless", "-p", call]);
      assert.equal(stdout, "true\n", stderr);
      return;
    }
    const file = path.join(folder, "program.ts");
    const module = JSON.stringify(new URL("../../mod.ts", import.meta.url));
    writeFileSync(
      file,
      `import process from "node:process";
      import { SharedMemory } from ${module};
      const memory = SharedMemory.open("denied " + process.pid, { size: 8 });
      console.log(memory.lock(), memory.unlock(), memory.detach());`,
    );
    const flags = ownRuntime.name === "deno" ? ["--v8-flags=--jitless", "--allow-read"] : [];
    const { stdout, stderr } = run([...ownRuntime.args, ...flags, file]);
    if (ownRuntime.name === "deno") assert.equal(stdout, "true true true\n", stderr);
    else assert.match(stderr, /requires the JIT.*MemoryDenyWriteExecute=yes.*--jitless/);
  });
});

describe("a service or container", namespaces, () => {
  leaveNothingBehind();
  const mount = ["--mount", "--propagation", "private"];
  const readOnly =
    "mount -o remount,bind,ro /; if touch /hardening 2>&-; then rm /hardening; exit 9; fi";

  test(
    "with a read-only root needs a TMPDIR to write, and the error says so",
    namespaces,
    async () => {
      const writable = `mount -t tmpfs tmpfs "$TMPDIR"`;
      const without = startBehind(
        mount,
        `${readOnly}; mount --bind "$TMPDIR" "$TMPDIR"; mount -o remount,bind,ro "$TMPDIR"`,
        folder,
      );
      await assert.rejects(without.run(`library.SharedMemory.open("key", { size: 16 });`), {
        reason: "PermissionDenied",
        message: /the file system is read-only; set TMPDIR to a writable folder/,
      });
      assert.equal(await without.end(), 0);
      await assertWorks(startBehind(mount, `${readOnly}; ${writable}`));
    },
  );

  test("with PrivateIPC=, PrivateTmp= and pids of its own works, alone", namespaces, async () => {
    const all = [...mount, "--ipc", "--pid", "--fork", "--mount-proc", "--kill-child"];
    const script = `mount -t tmpfs tmpfs "$TMPDIR"; mount -t tmpfs -o size=64m tmpfs /dev/shm`;
    const agent = startBehind(all, script);
    const key = uniqueKey();
    const outside = startAgent(ownRuntime, { TMPDIR: folder });
    await outside.request("memory", "m", key);
    assert.equal(await outside.call("m", "create", 16), true);
    await agent.request("memory", "m", key);
    assert.equal(await agent.call("m", "attach"), false);
    assert.equal(await agent.call("m", "errorReason"), "NotFound");
    await assertWorks(agent);
    assert.equal(await outside.end(), 0);
  });

  test("as a user without a name, capabilities and new privileges works", namespaces, async () => {
    const command = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups"];
    chownSync(folder, 54321, 54321);
    const less = ["--no-new-privs", "--bounding-set", "-all", "--inh-caps", "-all"];
    await assertWorks(startAgentThrough(ownRuntime, [...command, ...less], { TMPDIR: folder }));
  });

  test("as root without capabilities works (--cap-drop=ALL)", namespaces, async () => {
    const command = ["setpriv", "--no-new-privs", "--bounding-set", "-all", "--inh-caps", "-all"];
    await assertWorks(startAgentThrough(ownRuntime, command, { TMPDIR: folder }));
  });

  test("with ProcSubset=pid works, and inspect() says what is missing", namespaces, async () => {
    const agent = startBehind(
      [...mount, "--pid", "--fork", "--kill-child"],
      "mount -t proc -o subset=pid proc /proc",
    );
    await assert.rejects(agent.request("inspect"), {
      reason: "Unsupported",
      message: /no \/proc\/sysvipc/,
    });
    await assertWorks(agent);
  });

  test("with UMask=0777 gives others what permissions say all the same", namespaces, async () => {
    chmodSync(folder, 0o777);
    const agent = startBehind([], "umask 0777");
    const key = uniqueKey();
    await agent.run(
      `objects.m = library.SharedMemory.open(${
        JSON.stringify(key)
      }, { size: 8, permissions: 0o666 });`,
    );
    const other = startAgentThrough(ownRuntime, [
      "setpriv",
      "--reuid",
      "65534",
      "--regid",
      "65534",
      "--clear-groups",
    ], { TMPDIR: folder });
    await other.run(`
      const memory = library.SharedMemory.open(${JSON.stringify(key)}, { permissions: 0o666 });
      memory.withLock(() => memory.bytes[0] = 7);`);
    assert.deepEqual(await agent.request("read", "m", 0, 1), [7]);
    assert.equal(await other.end(), 0);
    assert.equal(await agent.end(), 0);
  });
});
