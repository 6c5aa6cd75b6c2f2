/** What processes of the same user can do to each other, and what those of other users can: as docs/security.md says. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  chownSync,
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import process from "node:process";
import { afterEach, beforeEach, describe, test } from "node:test";
import { json, SharedMap, SharedQueue, SharedTopic, structured } from "../../collections/mod.ts";
import { compilers } from "../support/posix_names.ts";
import {
  type Agent,
  isolatedOnly,
  keyFolder,
  leaveNothingBehind,
  linuxOnly,
  onceOnly,
  ownRuntime,
  slow,
  startAgent,
  startAgentThrough,
  systemVRows,
  uniqueKey,
} from "../support/support.ts";

const isRoot = process.getuid?.() === 0;
const canUnshare = linuxOnly.skip === undefined && isRoot &&
  spawnSync("unshare", ["--mount", "--ipc", "true"]).status === 0;
const namespaces = canUnshare ? slow : { skip: "needs root and the namespaces of Linux" };
const options = { ...slow, ...linuxOnly };

let folder: string;
beforeEach(() => folder = mkdtempSync(`${keyFolder}trust-`));
afterEach(() => rmSync(folder, { recursive: true }));

/** Starts a command of another user, without a name. */
const asUser = (uid: number) => ["setpriv", `--reuid=${uid}`, `--regid=${uid}`, "--clear-groups"];

/** An agent with a segment, in which it has written a text. */
async function startOwner(key: string, command: readonly string[] = []): Promise<Agent> {
  const agent = command.length === 0
    ? startAgent(ownRuntime, { TMPDIR: folder })
    : startAgentThrough(ownRuntime, command, { TMPDIR: folder });
  await agent.run(`
    objects.m = library.SharedMemory.open(${JSON.stringify(key)}, { size: 4096 });
    objects.m.bytes.set(new TextEncoder().encode("a secret"));`);
  return agent;
}

describe("a process of the same user", options, () => {
  leaveNothingBehind();

  test("reads the segment in another's memory (ptrace), and one of another user does not", {
    ...options,
    ...(isRoot ? {} : { skip: "only root can start processes of other users" }),
  }, async (context) => {
    const file = "/proc/sys/kernel/yama/ptrace_scope";
    if (existsSync(file) && Number(readFileSync(file, "utf8")) > 0) {
      return context.skip("Yama restricts ptrace to descendants here");
    }
    chownSync(folder, 54321, 54321);
    const agent = await startOwner(uniqueKey(), asUser(54321));
    const { pid } = agent.child;
    const line = readFileSync(`/proc/${pid}/maps`, "utf8").split("\n").find((line) =>
      line.includes("/SYSV")
    );
    const address = parseInt(line!, 16);
    const read = (uid: number) => {
      const [command, ...args] = asUser(uid);
      const dd = [
        "dd",
        `if=/proc/${pid}/mem`,
        "bs=8",
        "count=1",
        "iflag=skip_bytes",
        `skip=${address}`,
        "status=none",
      ];
      return spawnSync(command!, [...args, ...dd], { encoding: "utf8" });
    };
    assert.equal(read(54321).stdout, "a secret");
    const { stdout, stderr } = read(54322);
    assert.equal(stdout, "");
    assert.match(stderr, /Permission denied/);
    assert.equal(await agent.end(), 0);
  });

  test("can remove a segment and the lock that another holds, and that process goes on", {
    ...options,
    ...isolatedOnly,
  }, async () => {
    const key = uniqueKey();
    const [segments, sets] = [systemVRows("shm"), systemVRows("sem")];
    const agent = await startOwner(key);
    assert.equal(await agent.call("m", "lock"), true);
    const isNew = (old: typeof sets, id: string) => (row: typeof sets[number]) =>
      old.every((other) => other[id] !== row[id]);
    const segment = systemVRows("shm").find(isNew(segments, "shmid"))!["shmid"]!;
    const set = systemVRows("sem").find(isNew(sets, "semid"))!["semid"]!;
    assert.equal(spawnSync("ipcrm", ["-m", segment, "-s", set]).status, 0);
    assert.equal(
      await agent.run(`return new TextDecoder().decode(objects.m.bytes.slice(0, 8));`),
      "a secret",
    );
    const newcomer = startAgent(ownRuntime, { TMPDIR: folder });
    await newcomer.request("memory", "m", key);
    assert.equal(await newcomer.call("m", "attach"), false);
    assert.equal(await newcomer.call("m", "errorReason"), "NotFound");
    assert.equal(await agent.call("m", "unlock"), true, await agent.call("m", "errorString"));
    assert.equal(await agent.call("m", "detach"), true, await agent.call("m", "errorString"));
    assert.equal(await agent.end(), 0);
    assert.equal(await newcomer.end(), 0);
  });

  test(
    "that makes a POSIX object shorter ends those that touch it, with SIGBUS",
    options,
    async () => {
      const name = `qipc_trust ${uniqueKey()}`.replaceAll(" ", "_");
      const agent = startAgent(ownRuntime, { TMPDIR: folder });
      await agent.run(`
      const { NativeIpcKey, NativeIpcKeyType: { PosixRealtime } } = library;
      objects.m = library.SharedMemory.open(new NativeIpcKey("/${name}", PosixRealtime), { size: 65536 });`);
      assert.equal(spawnSync("truncate", ["-s", "0", `/dev/shm/${name}`]).status, 0);
      await assert.rejects(
        agent.run("objects.m.bytes.fill(1);"),
        /ended \((SIGBUS|SIGSEGV|SIGILL|SIGABRT|13\d)\)/,
      );
      for (const file of [name, `sem.${name}`, `${name}_sem`]) {
        rmSync(`/dev/shm/${file}`, { force: true });
      }
    },
  );

  test(
    "can put any bytes where values are: an error of the call that decodes them, and no more",
    options,
    () => {
      const raw = (name: string, bytes: number[]) => ({
        name,
        encode: () => Uint8Array.from(bytes),
        decode: () => undefined,
      });
      const forged = {
        json: { codec: json, bytes: [123, 34], error: { name: "SyntaxError" } },
        structured: {
          codec: structured,
          bytes: [11, 200],
          error: { name: "SyncError", code: "Damaged" },
        },
      };
      for (const [name, { codec, bytes, error }] of Object.entries(forged)) {
        const key = uniqueKey();
        using map = SharedMap.open<unknown>(`${key}m`, { bytes: 65_536, codec });
        using queue = SharedQueue.open<unknown>(`${key}q`, { bytes: 65_536, codec });
        using topic = SharedTopic.open<unknown>(`${key}t`, { bytes: 65_536, codec });
        const reader = topic.reader({ from: "oldest" });
        map.set("good", 1);
        queue.send("good");
        {
          const hostile = { bytes: 65_536, codec: raw(name, bytes) };
          using badMap = SharedMap.open<unknown>(`${key}m`, hostile);
          using badQueue = SharedQueue.open<unknown>(`${key}q`, hostile);
          using badTopic = SharedTopic.open<unknown>(`${key}t`, hostile);
          badMap.set("bad", "x");
          badQueue.send("x");
          badTopic.publish("x");
        }
        topic.publish("good");
        assert.throws(() => map.get("bad"), error);
        assert.equal(map.get("good"), 1);
        assert.equal(map.delete("bad"), true);
        assert.equal(queue.receive(), "good");
        const job = queue.tryTake()!;
        assert.throws(() => job.value, error);
        assert.equal(job.ack(), true);
        assert.throws(() => reader.next(), error);
        assert.equal(reader.next()?.value, "good");
      }
      // An object gets what JSON says as properties of its own; its prototype stays.
      const parsed = json.decode<{ admin?: boolean }>(
        new TextEncoder().encode('{"__proto__":{"admin":true}}'),
      );
      assert.equal(parsed.admin, undefined);
      const cloned = structured.decode<{ admin?: boolean }>(structured.encode(parsed));
      assert.deepEqual([cloned.admin, Object.keys(cloned)], [undefined, ["__proto__"]]);
    },
  );
});

describe("another user", namespaces, () => {
  leaveNothingBehind();

  test(
    "can use up segments, semaphores and /dev/shm, which are shared; the error says what to raise",
    {
      ...namespaces,
      ...onceOnly,
    },
    async () => {
      const cases = [
        ["shmmni", "echo 4 > /proc/sys/kernel/shmmni", "ipcmk -M 1", "kernel.shmmni"],
        ["sem", "echo 32000 1024000000 500 4 > /proc/sys/kernel/sem", "ipcmk -S 1", "kernel.sem"],
      ] as const;
      for (const [name, limit, make, advice] of cases) {
        const user = asUser(54322).join(" ");
        const script = `${limit}; while ${user} ${make} >/dev/null 2>&1; do :; done; exec "$@"`;
        const command = ["unshare", "--ipc", "--mount", "sh", "-c", script, "sh"];
        const agent = startAgentThrough(ownRuntime, command, { TMPDIR: folder });
        await assert.rejects(
          agent.run(`library.SharedMemory.open("key", { size: 16 });`),
          ({ reason, message }) => {
            assert.equal(reason, "OutOfResources", name);
            assert.ok(message.includes(advice), message);
            return true;
          },
        );
        assert.equal(await agent.end(), 0);
      }
      const fill = `mount -t tmpfs -o size=1m,mode=1777 tmpfs /dev/shm;
      ${
        asUser(54322).join(" ")
      } sh -c "head -c 2M /dev/zero > /dev/shm/full" 2>/dev/null; exec "$@"`;
      const agent = startAgentThrough(ownRuntime, ["unshare", "--mount", "sh", "-c", fill, "sh"], {
        TMPDIR: folder,
      });
      await assert.rejects(
        agent.run(`
        const { NativeIpcKey, NativeIpcKeyType: { PosixRealtime } } = library;
        library.SharedMemory.open(new NativeIpcKey("/qipc_full", PosixRealtime), { size: 16 });`),
        { reason: "OutOfResources", message: /\/dev\/shm is full/ },
      );
      assert.equal(await agent.end(), 0);
    },
  );
});

const compiler = compilers.find((name) => spawnSync(name, ["--version"]).status === 0);
const pattern = linuxOnly.skip ?? readFileSync("/proc/sys/kernel/core_pattern", "utf8").trim();
const dumps = compiler !== undefined && pattern === "core" ? { ...slow, ...onceOnly } : {
  skip: "needs a C compiler, and a system that writes core dumps into the folder of the process",
};

test("a core dump contains System V segments, and not POSIX ones", dumps, () => {
  const file = path.join(folder, "dumper");
  writeFileSync(
    `${file}.c`,
    `#include <fcntl.h>
    #include <stdlib.h>
    #include <string.h>
    #include <sys/ipc.h>
    #include <sys/mman.h>
    #include <sys/shm.h>
    #include <unistd.h>
    static void mark(char *bytes, char kind) { for (int i = 0; i < 16; i++) bytes[i] = kind + i % 2; }
    int main(void) {
      int id = shmget(IPC_PRIVATE, 4096, 0600);
      char *systemV = shmat(id, 0, 0);
      shmctl(id, IPC_RMID, 0);
      int fd = shm_open("/qipc_dumped", O_RDWR | O_CREAT, 0600);
      if (ftruncate(fd, 4096) != 0) return 1;
      char *posix = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
      mark(systemV, 'K');
      mark(posix, 'X');
      abort();
    }`,
  );
  const built = spawnSync(compiler!, [`${file}.c`, "-o", file, "-lrt"]);
  assert.equal(built.status, 0, `${built.stderr}`);
  const run = (limit: string) =>
    spawnSync("sh", ["-c", `ulimit -c ${limit}; exec ${file}`], { cwd: folder });
  assert.equal(run("0").signal, "SIGABRT");
  const names = () =>
    spawnSync("sh", ["-c", "ls | grep ^core"], { cwd: folder, encoding: "utf8" }).stdout.trim();
  assert.equal(names(), "");
  run("unlimited");
  const core = openSync(path.join(folder, names()), "r");
  const bytes = new Uint8Array(2 ** 24);
  const text = new TextDecoder("latin1").decode(bytes.subarray(0, readSync(core, bytes)));
  closeSync(core);
  assert.deepEqual([text.includes("KL".repeat(8)), text.includes("XY".repeat(8))], [true, false]);
  rmSync("/dev/shm/qipc_dumped", { force: true });
});
