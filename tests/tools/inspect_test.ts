/** What is listed, found stale and removed, by agents that look into a folder of their own. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  chownSync,
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import process from "node:process";
import { afterEach, beforeEach, describe, test } from "node:test";
import type {
  CleanupResult,
  Inventory,
  Removal,
  SegmentInfo,
  SemaphoreInfo,
} from "../../inspect.ts";
import { platformSafeName } from "../../backends/native_key.ts";
import { KeyFile, keyFilePath } from "../../backends/systemv/key_file.ts";
import {
  type Agent,
  keyFolder,
  leaveNothingBehind,
  needsQt,
  onceOnly,
  ownRuntime,
} from "../support/support.ts";
import { runtimes, slow, startAgent, startAgentThrough, startQt } from "../support/support.ts";
import { ftok, linuxOnly, systemLibrary, uniqueKey, until } from "../support/support.ts";
import { cannotBeNobody, isolatedOnly, nobody } from "../support/support.ts";
import { type Row, systemVRow } from "../support/systemv_tables.ts";

const IPC_CREAT = 0o1000;
const IPC_RMID = 0;
const SETVAL = 16;

/** Not os.userInfo(), whose name in Bun is that of the environment. */
const thisUser = {
  uid: process.getuid?.() ?? -1,
  name: spawnSync("id", ["-un"], { encoding: "utf8" }).stdout?.trim(),
};

/** What cleanup() removes may be another program's. */
const alone = { ...linuxOnly, ...isolatedOnly };
const once = { ...slow, ...onceOnly };

let folder: string;
let inspector: Agent;

const start = (runtime = ownRuntime) => startAgent(runtime, { TMPDIR: folder });
const segmentFile = (key: string) => `${folder}/${platformSafeName(key, "qipc_sharedmemory_")}`;
const semaphoreFile = (key: string) => `${folder}/${platformSafeName(key, "qipc_systemsem_")}`;
const unfinishedFile = (key: string) => `${folder}/qipc_creating_${segmentFile(key).slice(-40)}`;
const pidOf = (agent: Agent) => agent.child.pid!;

function row(table: "shm" | "sem", path: string): Row | undefined {
  return systemVRow(table, ftok(path));
}

/** What the inspector sees, without the things of others that have no key file. */
async function look(agent = inspector): Promise<Inventory> {
  const seen: Inventory = await agent.request("inspect", { allUsers: true });
  assert.equal(seen.folder, folder);
  return {
    folder,
    segments: seen.segments.filter(({ keyFile }) => keyFile !== null),
    semaphores: seen.semaphores.filter(({ keyFile }) => keyFile !== null),
    keyFiles: seen.keyFiles,
  };
}

async function onlySegment(): Promise<SegmentInfo> {
  const { segments, semaphores, keyFiles } = await look();
  assert.deepEqual([segments.length, semaphores.length, keyFiles.length], [1, 0, 0]);
  return segments[0]!;
}

async function onlySemaphore(): Promise<SemaphoreInfo> {
  const { segments, semaphores, keyFiles } = await look();
  assert.deepEqual([segments.length, semaphores.length, keyFiles.length], [0, 1, 0]);
  return semaphores[0]!;
}

/** What cleanup() says, without the things of others that have no key file. */
async function clean(options?: { dryRun: boolean }, agent = inspector): Promise<CleanupResult> {
  const { removed, failed }: CleanupResult = await agent.request("cleanup", options ?? {});
  const isHere = ({ keyFile }: Removal) => keyFile !== null;
  return { removed: removed.filter(isHere), failed: failed.filter(isHere) };
}

/** Removes a segment without a key file, but nothing that anybody else has left on this machine. */
async function cleanOrphan(id: number): Promise<CleanupResult> {
  const orphans = true;
  const deadline = Date.now() + 5000;
  for (;;) {
    const found: CleanupResult = await inspector.request("cleanup", { orphans, dryRun: true });
    const left = found.removed.filter((one) => one.kind === "segment" && one.id !== id);
    if (left.length === 0) return await inspector.request("cleanup", { orphans });
    if (Date.now() < deadline) continue;
    console.error(`not removed by cleanup(), as others have orphans: ${JSON.stringify(left)}`);
    systemLibrary().c.shmctl(id, IPC_RMID, new Uint8Array(112));
    await inspector.request("cleanup");
    return found;
  }
}

async function assertNothingIsStale(): Promise<void> {
  const before = await look();
  assert.deepEqual(await clean({ dryRun: true }), { removed: [], failed: [] });
  assert.deepEqual(await clean(), { removed: [], failed: [] });
  assert.deepEqual(await look(), before);
}

/** Asserts that just this is found stale, first without and then with removing it. */
async function assertCleans(...expected: Omit<Removal, "reason">[]): Promise<Removal[]> {
  const before = await look();
  const files = readdirSync(folder);
  const dry = await clean({ dryRun: true });
  assert.deepEqual(await look(), before);
  assert.deepEqual(readdirSync(folder), files);
  const wet = await clean();
  assert.deepEqual(wet, dry);
  assert.deepEqual(wet.failed, []);
  assert.deepEqual(wet.removed.map(({ reason: _, ...rest }) => rest), expected);
  return [...wet.removed];
}

async function create(agent: Agent, key: string, size = 5000): Promise<void> {
  await agent.request("memory", "m", key);
  const created = await agent.call("m", "create", size);
  assert.equal(created, true, await agent.call("m", "errorString"));
}

async function attach(agent: Agent, key: string): Promise<void> {
  await agent.request("memory", "m", key);
  assert.equal(await agent.call("m", "attach"), true, await agent.call("m", "errorString"));
}

/** A segment that a process left which was killed; returns its number. */
async function abandon(key: string, runtime = ownRuntime): Promise<number> {
  const agent = start(runtime);
  await create(agent, key);
  await agent.kill();
  return Number(row("shm", segmentFile(key))!["shmid"]);
}

function inFolderOfItsOwn(): void {
  leaveNothingBehind();
  beforeEach(() => {
    folder = realpathSync(mkdtempSync(keyFolder + "inspect-"));
    inspector = start();
  });
  afterEach(() => rmSync(folder, { recursive: true }));
}

describe("a segment", alone, () => {
  inFolderOfItsOwn();

  test(
    "that one process made and another locked: all is listed",
    slow,
    async () => {
      const key = uniqueKey();
      const [creator, user] = [start(), start()];
      await create(creator, key);
      await attach(user, key);
      assert.equal(await user.call("m", "lock"), true);
      const expected: SegmentInfo = {
        kind: "segment",
        type: "systemv",
        orphan: false,
        nativeKey: segmentFile(key),
        keyFile: segmentFile(key),
        id: Number(row("shm", segmentFile(key))!["shmid"]),
        size: 5000,
        owner: thisUser,
        isOwn: true,
        mode: 0o600,
        attached: 2,
        creator: { pid: pidOf(creator), alive: true },
        last: { pid: pidOf(user), alive: true },
        persistent: false,
        unfinished: false,
        lock: {
          id: Number(row("sem", semaphoreFile(key))!["semid"]),
          keyFile: semaphoreFile(key),
          value: 0,
          holder: { pid: pidOf(user), alive: true },
          waiting: 0,
        },
        stale: false,
        reason: "in use",
      };
      const { lock, ...rest } = expected;
      assert.deepEqual(await onlySegment(), expected);
      await assertNothingIsStale();

      const locking = creator.call("m", "lock");
      while ((await onlySegment()).lock!.waiting === 0);
      assert.deepEqual(await onlySegment(), { ...rest, lock: { ...lock, waiting: 1 } });
      assert.equal(await user.call("m", "unlock"), true);
      assert.equal(await locking, true);
      assert.equal(await creator.call("m", "unlock"), true);
      const free = { ...lock, value: 1, holder: null };
      assert.deepEqual(await onlySegment(), { ...rest, lock: free });
      await creator.kill();
      const dead = { pid: pidOf(creator), alive: false };
      assert.deepEqual(await onlySegment(), {
        ...rest,
        attached: 1,
        creator: dead,
        last: dead,
        lock: free,
      });
      await assertNothingIsStale();
      assert.equal(await user.call("m", "detach"), true);
      assert.deepEqual(readdirSync(folder), []);
      assert.deepEqual(await look(), { folder, segments: [], semaphores: [], keyFiles: [] });
    },
  );

  test(
    "whose last process was killed is removed with its lock",
    slow,
    async () => {
      const key = uniqueKey();
      const agent = start();
      await create(agent, key);
      assert.equal(await agent.call("m", "lock"), true);
      await agent.kill();
      const { id, stale, reason, creator, attached, lock } = await onlySegment();
      assert.deepEqual([stale, reason, attached], [true, "no process is attached", 0]);
      assert.deepEqual(creator, { pid: pidOf(agent), alive: false });
      assert.deepEqual([lock!.value, lock!.holder], [1, null]);
      const [removal] = await assertCleans({ kind: "segment", id, keyFile: segmentFile(key) });
      assert.equal(removal!.reason, "no process is attached");
      assert.deepEqual(readdirSync(folder), []);
    },
  );

  test("is seen alike by every runtime, and removed by each", once, async () => {
    const keys = runtimes.map(() => uniqueKey());
    const user = start();
    await create(user, uniqueKey("used"));
    const agents = runtimes.map((runtime) => start(runtime));
    for (const [n, agent] of agents.entries()) {
      const id = await abandon(keys[n]!);
      const views = await Promise.all(agents.map(look));
      for (const view of views) assert.deepEqual(view, views[0]);
      assert.equal(views[0]!.segments.length, 2);
      const removed = [
        { kind: "segment", id, keyFile: segmentFile(keys[n]!), reason: "no process is attached" },
      ];
      assert.deepEqual(await clean(undefined, agent), { removed, failed: [] });
    }
    assert.equal((await onlySegment()).attached, 1);
    assert.equal(await user.call("m", "detach"), true);
  });

  for (const version of [5, 6] as const) {
    test(`of Qt ${version} is listed and removed`, { ...slow, ...needsQt(version) }, async () => {
      const key = uniqueKey();
      const qt = startQt(version, { TMPDIR: folder });
      await create(qt, key);
      assert.equal(await qt.call("m", "lock"), true);
      const { attached, creator, lock, id, stale } = await onlySegment();
      assert.deepEqual([attached, stale], [1, false]);
      assert.deepEqual(creator, { pid: pidOf(qt), alive: true });
      assert.deepEqual(lock!.holder, { pid: pidOf(qt), alive: true });
      await assertNothingIsStale();
      await qt.kill();
      await assertCleans({ kind: "segment", id, keyFile: segmentFile(key) });
      assert.deepEqual(readdirSync(folder), []);
    });
  }

  test("is let alone while a process holds its lock, attached or not", slow, async () => {
    const key = uniqueKey();
    const id = await abandon(key);
    const { c } = systemLibrary();
    const setLock = (value: bigint) =>
      c.semctl(Number(row("sem", semaphoreFile(key))!["semid"]), 0, SETVAL, value);
    setLock(0n); // which says that this process did it
    const { stale, reason, lock } = await onlySegment();
    assert.deepEqual(lock!.holder, { pid: process.pid, alive: true });
    assert.deepEqual([stale, reason], [false, `process ${process.pid} holds its lock`]);
    await assertNothingIsStale();
    setLock(1n);
    await assertCleans({ kind: "segment", id, keyFile: segmentFile(key) });
  });

  test("is let alone while its lock is a process's semaphore as well", slow, async () => {
    const key = uniqueKey();
    const id = await abandon(key);
    const agent = start();
    await agent.request("semaphore", "s", key);
    assert.equal((await onlySegment()).stale, false);
    await assertNothingIsStale();
    await agent.kill();
    await assertCleans({ kind: "segment", id, keyFile: segmentFile(key) });
  });

  test("that its creator was killed over is stale, unlike one being made", slow, async () => {
    const key = uniqueKey();
    const creator = start();
    await create(creator, key);
    renameSync(segmentFile(key), unfinishedFile(key)); // the inode is what matters
    const { id, unfinished, nativeKey, keyFile, stale } = await onlySegment();
    assert.deepEqual([unfinished, nativeKey, keyFile], [true, null, unfinishedFile(key)]);
    assert.equal(stale, false);
    await assertNothingIsStale();
    await creator.kill();
    assert.equal((await onlySegment()).lock!.value, 1);
    await assertCleans({ kind: "segment", id, keyFile: unfinishedFile(key) });
    assert.deepEqual(readdirSync(folder), []);
    assert.equal(systemLibrary().c.shmctl(id, IPC_RMID, new Uint8Array(112)), -1);
  });

  test(
    "that was not finished under its final name is stale, and its key file stays with its users",
    slow,
    async () => {
      const key = uniqueKey();
      // As a process of another container does that has a segment with this key file.
      const file = KeyFile.create(systemLibrary(), keyFilePath(segmentFile(key)));
      assert.equal(file.share(), true);
      const creator = start();
      await creator.run(`
      library.SharedMemory.open(${JSON.stringify(key)}, {
        size: 64,
        initialize() {
          console.log('{ "value": "filling" }'); // this answers the request
          for (;;);
        },
      });`);
      await assertNothingIsStale();
      await creator.kill();
      const { segments: [found] } = await look(); // the note about it is listed too
      await assertCleans({ kind: "segment", id: found!.id, keyFile: segmentFile(key) });
      assert.deepEqual((await look()).segments, []);
      const left = readdirSync(folder).map((name) => `${folder}/${name}`).sort();
      assert.deepEqual(left, [segmentFile(key), semaphoreFile(key)]); // not the note
      for (const path of left) unlinkSync(path);
      file.close();
    },
  );

  test("that is not finished goes without the lock of a complete one", slow, async () => {
    const key = uniqueKey();
    const id = await abandon(key);
    renameSync(segmentFile(key), unfinishedFile(key));
    const user = start();
    await create(user, key);
    await assertCleans({ kind: "segment", id, keyFile: unfinishedFile(key) });
    assert.equal(await user.call("m", "lock"), true);
    assert.equal((await onlySegment()).lock!.holder!.pid, pidOf(user));
    assert.equal(await user.call("m", "detach"), true);
  });

  test("without a key file is listed, and stale only after its creator", slow, async () => {
    const key = uniqueKey();
    const [creator, other] = [start(), start()];
    await create(creator, key);
    await attach(other, key);
    await other.kill(); // the lock was used last by a process that has ended
    const id = Number(row("shm", segmentFile(key))!["shmid"]);
    const file = openSync(segmentFile(key), "r"); // which keeps its inode from another program's file
    const { c } = systemLibrary();
    const leftOver = c.semget(ftok(segmentFile(key)), 1, IPC_CREAT | 0o600); // of an earlier file with this inode
    unlinkSync(segmentFile(key));
    const find = async () => {
      const { segments }: Inventory = await inspector.request("inspect");
      return segments.find((segment) => segment.id === id)!;
    };
    const { keyFile, nativeKey, lock, attached, stale, reason } = await find();
    assert.deepEqual([keyFile, nativeKey, lock, attached], [null, null, null, 1]);
    assert.equal(stale, false);
    assert.match(reason, /^in use, without a key file in .*sharedmemory_.* was deleted$/);
    const semaphore = await onlySemaphore();
    assert.equal(
      semaphore.reason,
      `in use by process ${pidOf(creator)}`,
      "its maker relies on its key file",
    );
    assert.equal(c.semctl(leftOver, 0, IPC_RMID, 0n), 0);
    await inspector.request("cleanup");
    assert.deepEqual(await find(), { ...await find(), attached: 1 });
    assert.deepEqual(await onlySemaphore(), semaphore);

    await creator.kill();
    assert.equal((await find()).stale, true);
    await inspector.request("cleanup");
    assert.equal((await find()).stale, true); // programs with another TMPDIR may want it
    const { removed } = await cleanOrphan(id);
    const reasonOf = (id: number) => removed.find((one) => one.id === id)?.reason;
    assert.equal(
      reasonOf(id),
      "no key file leads to it, no process is attached, and its creator has ended",
    );
    assert.equal(await find(), undefined);
    closeSync(file);
    assert.deepEqual(readdirSync(folder), []);
  });

  test("that comes and goes in four processes is not harmed by cleanup()", once, async () => {
    const key = uniqueKey();
    const counting = start();
    await counting.request("memory", "count", uniqueKey("count"));
    assert.equal(await counting.call("count", "create", 8), true);
    const counterKey = await counting.call("count", "key");
    const agents = [...runtimes, ownRuntime].map((runtime) => start(runtime));
    for (const agent of agents) {
      await agent.request("memory", "m", key);
      await agent.request("memory", "count", counterKey);
      assert.equal(await agent.call("count", "attach"), true);
    }
    const source = `
      const { m, count } = objects;
      const view = count.view(Int32Array);
      let turns = 0;
      for (; view[1] === 0; turns++) {
        for (;;) {
          if (m.create(64)) break;
          if (m.error() !== 4) throw new Error(m.errorString());
          if (m.attach()) break;
          if (m.error() !== 5) throw new Error(m.errorString());
        }
        if (!m.lock()) throw new Error(m.errorString());
        const value = view[0];
        await null;
        view[0] = value + 1;
        if (!m.unlock() || !m.detach()) throw new Error(m.errorString());
      }
      return turns;`;
    const work: Promise<number[]> = Promise.all(agents.map((agent) => agent.run(source)));
    work.catch(() => {}); // if what follows fails, they are killed
    for (let looks = 0; looks < 5; looks++) {
      // In between a look, when nobody happened to be attached, and the removal somebody may come.
      const { failed } = await clean();
      assert.deepEqual(failed.filter(({ reason }) => reason !== "has come into use meanwhile"), []);
    }
    await counting.request("write", "count", 4, [1]);
    const turns = (await work).reduce((sum, count) => sum + count, 0);
    const [total] = await counting.run("return [...objects.count.view(Int32Array)];");
    assert.equal(total, turns);
    for (const agent of [...agents, counting]) assert.equal(await agent.end(), 0);
    assert.deepEqual(readdirSync(folder), []);
  });
});

describe("a semaphore", alone, () => {
  inFolderOfItsOwn();

  test(
    "of killed processes is removed, but not while in use",
    slow,
    async () => {
      const key = uniqueKey();
      const [first, second] = [start(), start()];
      await first.request("semaphore", "s", key, 3);
      await second.request("semaphore", "s", key);
      assert.equal(await second.call("s", "acquire"), true);
      const users = [pidOf(first), pidOf(second)];
      const id = Number(row("sem", semaphoreFile(key))!["semid"]);
      const seen = await onlySemaphore();
      assert.deepEqual({ ...seen, users: [...seen.users].sort(), reason: "" }, {
        kind: "semaphore",
        type: "systemv",
        orphan: false,
        nativeKey: semaphoreFile(key),
        keyFile: semaphoreFile(key),
        id,
        owner: thisUser,
        isOwn: true,
        mode: 0o600,
        value: 2,
        waiting: 0,
        last: { pid: pidOf(second), alive: true },
        users: users.sort(),
        stale: false,
        reason: "",
      });
      await assertNothingIsStale();
      await second.kill();
      const { value, last, reason } = await onlySemaphore();
      assert.deepEqual([value, last!.alive], [3, false]);
      assert.equal(reason, `in use by process ${pidOf(first)}`);
      await assertNothingIsStale();
      assert.equal(await first.call("s", "acquire"), true); // it is still the same
      await first.kill();
      await assertCleans({ kind: "semaphore", id, keyFile: semaphoreFile(key) });
      assert.deepEqual(readdirSync(folder), []);
    },
  );

  test("whose user is only known as the last is kept as long as that lives", slow, async () => {
    // As Qt leaves no trace, nor does the lock of a segment that is being made.
    const path = semaphoreFile(uniqueKey());
    writeFileSync(path, "");
    const { c } = systemLibrary();
    const id = c.semget(ftok(path), 1, IPC_CREAT | 0o600);
    assert.equal((await onlySemaphore()).reason, "the process that used it last is not known");
    await assertNothingIsStale();
    c.semctl(id, 0, SETVAL, 1n);
    const { reason, users } = await onlySemaphore();
    assert.equal(reason, `process ${process.pid}, which used it last, is alive`);
    assert.deepEqual(users, []);
    await assertNothingIsStale();
    assert.equal(c.semctl(id, 0, IPC_RMID, 0n), 0);
  });
});

describe("key files", alone, () => {
  inFolderOfItsOwn();

  test("that lead to nothing are removed, but not at once, and no others", once, async () => {
    const [key, other] = [uniqueKey(), uniqueKey()];
    const paths = [unfinishedFile(key), segmentFile(key), semaphoreFile(other)];
    const strangers = ["qipc_other", "qipc_sharedmemory_short", "file"];
    for (const name of strangers) writeFileSync(`${folder}/${name}`, "");
    mkdirSync(`${folder}/below`);
    // They are new for three seconds. If the looks took longer, as a process stood still, they show nothing.
    const lookAtNew = async () => {
      for (const path of paths) rmSync(path, { force: true });
      for (const path of paths) writeFileSync(path, "");
      const since = Date.now();
      const seen = await look();
      const results = [await clean({ dryRun: true }), await clean()];
      const after = await look();
      return Date.now() - since < 2000 ? { seen, results, after } : null;
    };
    let looks: Awaited<ReturnType<typeof lookAtNew>> = null;
    while (looks === null) looks = await lookAtNew();
    const { segments, semaphores, keyFiles } = looks.seen;
    assert.deepEqual([segments, semaphores], [[], []]);
    assert.deepEqual(keyFiles.map(({ keyFile }) => keyFile), paths);
    for (const { reason } of keyFiles) assert.equal(reason, "created just now");
    for (const result of looks.results) assert.deepEqual(result, { removed: [], failed: [] });
    assert.deepEqual(looks.after, looks.seen);

    while ((await look()).keyFiles.some(({ stale }) => !stale)); // some seconds
    const user = start();
    await user.request("semaphore", "s", key); // whoever has that may be making a segment
    assert.equal((await look()).keyFiles.filter(({ stale }) => stale).length, 1);
    const kind = "key file";
    await assertCleans({ kind, id: null, keyFile: semaphoreFile(other) });
    assert.equal(await user.end(), 0);
    await assertCleans(
      { kind, id: null, keyFile: unfinishedFile(key) },
      { kind, id: null, keyFile: segmentFile(key) },
    );
    assert.deepEqual(readdirSync(folder).sort(), [...strangers, "below"].sort());
  });

  test("of another project id than Qt's that are in use are left alone", slow, async () => {
    const user = start();
    const open = `
      const key = library.SharedMemory.legacyNativeKey(${JSON.stringify(uniqueKey())}, 84);
      objects.m = library.SharedMemory.open(key, { size: 8 });`;
    await user.run(open);
    const files = readdirSync(folder);
    assert.equal(files.length, 2);
    assert.deepEqual((await look()).keyFiles, []);
    await assertNothingIsStale();
    assert.deepEqual(readdirSync(folder), files);
    assert.equal(await user.end(), 0);
    assert.deepEqual(readdirSync(folder), []);
  });

  test("that a process takes in use are no longer stale", once, async () => {
    const key = uniqueKey();
    for (const path of [segmentFile(key), semaphoreFile(key)]) writeFileSync(path, "");
    while ((await look()).keyFiles.some(({ stale }) => !stale));
    const user = start();
    await create(user, key);
    assert.equal((await onlySegment()).attached, 1);
    await assertNothingIsStale();
    assert.equal(await user.end(), 0);
    assert.deepEqual(readdirSync(folder), []);
  });
});

const stranger = cannotBeNobody();

describe(
  "what belongs to another user",
  stranger === undefined ? alone : { skip: stranger },
  () => {
    inFolderOfItsOwn();

    const startAs = (user?: typeof nobody) =>
      startAgentThrough(ownRuntime, [], { TMPDIR: folder }, user);
    beforeEach(() => chownSync(folder, nobody.uid, nobody.gid));

    test("is listed but not removed, not even by root", slow, async () => {
      const key = uniqueKey();
      const other = startAs(nobody);
      await create(other, key);
      await other.request("semaphore", "s", uniqueKey(), 1);
      await other.kill();
      const { segments: [segment], semaphores: [semaphore] } = await look();
      assert.deepEqual([segment!.isOwn, segment!.owner.uid, segment!.stale], [false, 65534, true]);
      assert.deepEqual([semaphore!.isOwn, semaphore!.stale], [false, false]);
      await assertNothingIsStale();
      const owner = startAs(nobody);
      const { removed, failed } = await clean(undefined, owner);
      assert.deepEqual([removed.length, failed], [2, []]);
      assert.deepEqual(readdirSync(folder), []);
    });

    test("is listed with what its owner only may know left out", slow, async () => {
      const key = uniqueKey();
      const [owner, stranger] = [start(), startAs(nobody)];
      await create(owner, key);
      await owner.request("semaphore", "s", uniqueKey(), 1);
      const { segments: [segment], semaphores: [semaphore] } = await look(stranger);
      assert.deepEqual([segment!.isOwn, segment!.attached, segment!.size], [false, 1, 5000]);
      const { value, holder, waiting } = segment!.lock!;
      assert.deepEqual([value, holder, waiting], [null, null, null]);
      assert.deepEqual([semaphore!.value, semaphore!.last], [null, null]);
      assert.equal(semaphore!.stale, false);
      assert.equal(await owner.end(), 0);
    });

    test("keeps what is ours from being removed, which says why", slow, async () => {
      const key = uniqueKey();
      const id = await abandon(key);
      chownSync(segmentFile(key), nobody.uid, nobody.gid);
      const { removed, failed: [failed, ...more] } = await clean();
      assert.deepEqual([removed, more, failed!.id], [[], [], id]);
      assert.match(failed!.reason, /belongs to nobody .*, another user/);
      chownSync(segmentFile(key), 0, 0);
      await assertCleans({ kind: "segment", id, keyFile: segmentFile(key) });
    });
  },
);

test("a folder that is missing is an error that says so", { ...slow, ...linuxOnly }, async () => {
  const agent = startAgent(ownRuntime, { TMPDIR: `${keyFolder}missing ${process.pid}` });
  await assert.rejects(agent.request("inspect"), {
    name: "SharedMemoryException",
    code: "KeyError",
    message: /^inspect: the folder of the key files, .*missing.*create it or set TMPDIR/,
  });
  assert.equal(await agent.end(), 0);
  await until(() => agent.child.exitCode !== null, "the agent's end");
});
