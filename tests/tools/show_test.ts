/** What is seen of a segment from outside, and that looking changes nothing. */
import assert from "node:assert/strict";
import { chmodSync, statSync } from "node:fs";
import process from "node:process";
import { spawnSync } from "node:child_process";
import { beforeEach, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { peekAt } from "../../backends/peek.ts";
import { contentsText } from "../../cli_contents.ts";
import {
  f64,
  layout,
  RateLimiter,
  SharedMap,
  SharedQueue,
  SharedTopic,
  SharedValue,
} from "../../collections/mod.ts";
import { belongsTo, cleanup, inspect, type SegmentInfo } from "../../inspect.ts";
import { type NativeIpcKey, NativeIpcKeyType, SharedMemory } from "../../mod.ts";
import { AttachedPeek } from "../../observe/attached_peek.ts";
import { atOnce, type Contents, contentsOf, contentsSeenBy } from "../../observe/observer.ts";
import type { Part } from "../../observe/types.ts";
import { Random } from "../../scripts/random.ts";
import {
  Counter,
  CounterBlock,
  Event,
  Gauge,
  Mutex,
  RecordSnapshot,
  Snapshot,
} from "../../sync/mod.ts";
import {
  cannotBeNobody,
  isolatedOnly,
  leaveNothingBehind,
  linuxOnly,
  needsQt,
  nobody,
  onceOnly,
  ownRuntime,
  slow,
  startAgent,
  startQt,
  uniqueKey,
  until,
} from "../support/support.ts";
import { segmentRow } from "../support/systemv_tables.ts";

const cli = fileURLToPath(new URL("../../cli.ts", import.meta.url));

function segmentOf(key: string): SegmentInfo {
  const found = inspect().segments.filter((segment) => belongsTo(segment, key));
  assert.equal(found.length, 1, key);
  return found[0]!;
}

const look = (key: string): Contents => atOnce(contentsOf(segmentOf(key)));

/** What is known of the only part of a kind, or of the part with a name. */
function part(contents: Contents, kind: string, name?: string): Part {
  const found = contents.parts.filter((one) =>
    one.kind === kind && (name === undefined || one.name === name)
  );
  assert.equal(found.length, 1, JSON.stringify(contents.parts.map((one) => [one.kind, one.name])));
  return found[0]!;
}

/** A System V key that is a string, and a POSIX key. */
const keysOfTypes: readonly (readonly [type: string, key: () => string | NativeIpcKey])[] = [
  ["System V", () => uniqueKey("show")],
  ["POSIX", () => SharedMemory.platformSafeKey(uniqueKey("show"), NativeIpcKeyType.PosixRealtime)],
];
const textOf = (key: string | NativeIpcKey) => typeof key === "string" ? key : key.toString();

const Inner = layout({
  visits: Counter,
  slots: RateLimiter.of({ keys: 50, limit: 1, window: 1000 }),
});
const Shape = layout({
  hits: Counter,
  load: Gauge,
  state: Mutex,
  changed: Event,
  names: CounterBlock.of(10),
  config: RecordSnapshot.of({ limit: "u32" }),
  raw: Snapshot.of(12),
  table: f64(10),
  cache: SharedMap.of({ bytes: 70_000 }),
  inner: Inner,
});

describe("what lies in a segment", linuxOnly, () => {
  leaveNothingBehind();

  for (const [type, keyOfType] of keysOfTypes) {
    test(`is named by its layout, with all values, in a ${type} segment`, () => {
      const key = keyOfType();
      using shared = Shape.open(key);
      shared.hits.add(41);
      shared.load.set(2.5);
      shared.names.counter("orders").add(7);
      shared.names.gauge("heat").set(-1.5);
      shared.config.publish({ limit: 3 });
      shared.config.publish({ limit: 4 });
      shared.changed.notify();
      shared.cache.set("ada", new Uint8Array(100));
      shared.cache.set("bob", new Uint8Array(100));
      shared.cache.delete("bob");
      shared.inner.slots.take("ada");
      const contents = look(textOf(key));
      assert.deepEqual([contents.problem, contents.searched], [null, shared.memory.size()]);
      const facts = (name: string) => contents.parts.find((one) => one.name === name)?.facts;
      assert.deepEqual(facts("hits"), { value: 41n });
      assert.deepEqual(facts("load"), { value: 2.5 });
      assert.deepEqual(facts("changed"), { notifications: 1 });
      assert.deepEqual(facts("names"), { names: 2, room: 10 });
      assert.deepEqual(facts("config"), { recordBytes: 4, version: 2 });
      assert.deepEqual(facts("raw"), { recordBytes: 12, version: 0 });
      const { entries, bytes, capacity, evicted, expired, recovered } = shared.cache.stats();
      const changes = facts("cache")!["changes"];
      assert.equal(changes, 2);
      assert.deepEqual(facts("cache"), {
        ...{ entries, bytes, capacity, changes, evicted, expired, recovered },
      });
      const stats = shared.inner.slots.stats();
      assert.equal(facts("inner.slots")!["names"], 1);
      assert.equal(facts("inner.slots")!["bytes"], stats.bytes);
      assert.deepEqual(facts("inner.visits"), { value: 0n });
      assert.deepEqual(part(contents, "CounterBlock").values, { orders: 7n, heat: -1.5 });
      assert.deepEqual(part(contents, "Mutex").facts, { state: "free" });
      // The places are those at which the members are: one that is changed there shows another value.
      const { offset } = contents.parts.find((one) => one.name === "hits")!;
      Counter.at(shared.memory.view(Uint8Array), offset).add(1);
      assert.equal(shared.hits.get(), 42n);
      const table = contents.parts.find((one) => one.name === "table")!;
      assert.deepEqual([table.kind, table.bytes], ["f64[10]", 80]);
      assert.ok(contents.parts.every((one) => one.problem === undefined));
    });

    test(`is found without a layout, between other bytes, in a ${type} segment`, () => {
      const key = keyOfType();
      using memory = SharedMemory.open(key, { size: 400_000 });
      const bytes = memory.view(Uint8Array);
      bytes.fill(0xa5, 0, 100_000);
      const counter = Counter.create(bytes, 100_000 & ~7);
      counter.add(5);
      SharedMap.create(bytes, 128_000, { bytes: 70_000 }).set("a", 1);
      const begin = 300_032;
      Mutex.create(bytes, begin);
      const contents = look(textOf(key));
      assert.deepEqual(
        contents.parts.map(({ kind, offset, facts }) => [kind, offset, facts["content"] ?? ""]),
        [
          ["other bytes", 0, "not of this module"],
          ["Counter", 100_000, ""],
          ["other bytes", 100_024, "zeros"],
          ["SharedMap", 128_000, ""],
          ["other bytes", contents.parts[4]!.offset, "zeros"],
          ["Mutex", begin, ""],
          ["other bytes", begin + Mutex.BYTES, "zeros"],
        ],
      );
      assert.deepEqual(part(contents, "Counter").facts, { value: 5n });
      assert.equal(part(contents, "SharedMap").facts["entries"], 1);
      assert.equal(counter.get(), 5n);
    });

    test(`shows topics, queues and values as their stats do, in a ${type} segment`, async () => {
      const News = layout({
        news: SharedTopic.of({ bytes: 4096 }),
        jobs: SharedQueue.of({ bytes: 65_536 }),
        flags: SharedValue.of({ maxBytes: 1000 }),
      });
      const key = keyOfType();
      using shared = News.open(key);
      const seen = () => look(textOf(key));
      const factsOf = (kind: string) => part(seen(), kind).facts;
      assert.deepEqual(
        [factsOf("SharedTopic")["published"], factsOf("SharedTopic")["messages"]],
        [0, 0],
      );
      for (let i = 0; i < 300; i++) shared.news.publish(new Uint8Array(i % 90));
      const { first, last, bytes, capacity, waiters, recovered } = shared.news.stats();
      assert.ok(first > 1, "old messages have gone");
      assert.deepEqual(factsOf("SharedTopic"), {
        published: last,
        messages: last - first + 1,
        ...{ bytes, capacity, waiters, recovered },
      });

      for (let i = 0; i < 5; i++) shared.jobs.send(new Uint8Array(100));
      shared.jobs.send(new Uint8Array(1), { delay: 60_000 });
      shared.jobs.receive();
      const job = await shared.jobs.take();
      const { maxJobs: _, oldestRun: __, members, ...stats } = shared.jobs.stats();
      assert.deepEqual([stats.ready, stats.delayed, stats.running, members], [3, 1, 1, 1]);
      assert.deepEqual(factsOf("SharedQueue"), { ...stats, members: 1, closed: "no" });
      assert.equal(part(seen(), "SharedQueue").members?.[0]?.pid, process.pid);
      job!.ack();

      shared.flags.set(new Uint8Array(77));
      shared.flags.set(new Uint8Array(78));
      assert.deepEqual(factsOf("SharedValue"), {
        version: 2,
        bytes: 78,
        capacity: 1000,
        recovered: 0,
      });
    });
  }

  test(
    "names the holder of a mutex while it runs, is stopped, and when it was killed",
    slow,
    async () => {
      const key = uniqueKey("show");
      const Held = layout({ state: Mutex });
      using shared = Held.open(key);
      const agent = startAgent(ownRuntime);
      await agent.run(`
      objects.shared = collections.layout({ state: sync.Mutex }).open(${JSON.stringify(key)});
      objects.shared.state.lock();`);
      const { pid } = agent.child;
      const mutex = () => part(look(key), "Mutex");
      const [holder] = mutex().holders!;
      assert.deepEqual([holder!.pid, holder!.state], [pid, "running"]);
      assert.match(holder!.command!, /agent\.ts/);
      process.kill(pid!, "SIGSTOP");
      await until(() => mutex().holders![0]?.state === "stopped", "the agent is stopped");
      await agent.kill();
      await until(() => mutex().facts["abandoned"] !== undefined, "the mutex is abandoned");
      assert.deepEqual([mutex().facts["state"], mutex().holders], ["free", []]);
      shared.state.lock();
      assert.equal(mutex().holders![0]!.pid, process.pid);
      shared.state.unlock();
      assert.deepEqual(mutex().facts, { state: "free" });
    },
  );

  test(
    "names the process that is stopped while it changes a map, and tells of a killed one",
    slow,
    async () => {
      const key = uniqueKey("show");
      using map = SharedMap.open(key, { bytes: 70_000, lockTimeout: 50 });
      const agent = startAgent(ownRuntime);
      await agent.run(`
      const map = objects.map = collections.SharedMap.open(${
        JSON.stringify(key)
      }, { bytes: 70_000 });
      setTimeout(() => map.core.locks[0].change("set", 1000, () => { for (;;); }));`);
      const seen = () => part(look(key), "SharedMap");
      await until(() => (seen().holders ?? []).length === 1, "the agent changes the map");
      const { pid } = agent.child;
      process.kill(pid!, "SIGSTOP");
      await until(() => seen().holders![0]?.state === "stopped", "the agent is stopped");
      assert.equal(seen().holders![0]!.pid, pid);
      await agent.kill();
      await until(() => seen().problem !== undefined, "the agent has ended");
      assert.match(seen().problem!, /^a process was killed while it changed 1 of its parts/);
      for (let i = 0; i < 100; i++) map.set(`${i}`, i); // each stripe is changed, and repaired
      assert.equal(seen().problem, undefined);
      assert.equal(seen().facts["recovered"], map.stats().recovered);
    },
  );

  test("is described whatever anybody writes there, and never read beyond its end", slow, () => {
    const key = uniqueKey("show");
    const Small = layout({
      hits: Counter,
      names: CounterBlock.of(3),
      raw: Snapshot.of(12),
      state: Mutex,
      cache: SharedMap.of({ bytes: 20_000 }),
      jobs: SharedQueue.of({ bytes: 40_000 }),
      news: SharedTopic.of({ bytes: 1000 }),
      flags: SharedValue.of({ maxBytes: 100 }),
      inner: layout({ visits: Counter }),
    });
    using shared = Small.open(key);
    const words = shared.memory.view(Int32Array);
    const whole = words.slice();
    const segment = segmentOf(key);
    const random = new Random(process.pid);
    for (let round = 0; round < 300; round++) {
      words.set(whole);
      for (let i = 0; i <= round % 20; i++) {
        const at = random.below(round % 2 === 0 ? 2048 : words.length);
        words[at] = [
          0,
          -1,
          2 ** 31 - 1,
          1 << random.below(31),
          random.below(2 ** 31),
        ][random.below(5)]!;
      }
      const { parts, problem } = atOnce(contentsOf(segment));
      assert.equal(problem, null);
      for (const { offset, bytes } of parts) {
        assert.ok(offset >= 0 && bytes >= 0, `round ${round}`);
      }
      contentsText({ parts, problem, searched: segment.size }, segment.size, {
        color: false,
        width: 80,
      });
    }
    words.set(whole);
    const places = atOnce(contentsOf(segment)).parts;
    const hits = places.find(({ name }) => name === "hits")!;
    words[hits.offset / 4] = 7;
    const damaged = atOnce(contentsOf(segment)).parts.find(({ name }) => name === "hits")!;
    assert.deepEqual([damaged.kind, damaged.problem], [
      "Counter",
      "its header has been overwritten",
    ]);
    words.set(whole);
  });

  test("is told apart from what a process is only creating, and from bytes that look like much", () => {
    const key = uniqueKey("show");
    using memory = SharedMemory.open(key, { size: 8 * 40_000 });
    const words = memory.view(Int32Array);
    words[0] = 0x3f6e7973; // "sync" while it is being created
    words[1] = 3 | 1 << 8;
    for (let i = 1000; i + 1 < words.length; i += 2) {
      words[i] = 0x316e7973;
      words[i + 1] = 8 | 1 << 8; // layouts without a text
    }
    const { parts } = look(key);
    assert.deepEqual([parts[0]!.kind, parts[1]!.kind], ["Counter", "other bytes"]);
    assert.match(parts[0]!.problem!, /creating it, or was killed/);
    assert.equal(parts.length, 2);
    for (let i = 1001; i + 1 < words.length; i += 2) words[i] = 2 | 1 << 8; // events, one in each 16 bytes
    const many = look(key);
    assert.ok(many.parts.length <= 1001, `${many.parts.length}`);
  });
});

describe("a look at a segment", linuxOnly, () => {
  leaveNothingBehind();
  let key = "";
  beforeEach(() => {
    key = uniqueKey("look");
  });
  const attached = () => segmentOf(key).attached;

  test("leaves no attachment behind, and between two reads there is none", () => {
    using memory = SharedMemory.open(key, { size: 100_000 });
    const peek = peekAt(segmentOf(key));
    assert.equal(attached(), 1);
    peek.read(0, 10);
    assert.equal(attached(), 2);
    peek.rest();
    assert.equal(attached(), 1);
    assert.equal(peek.read(99_990, 100).length, 10);
    peek.rest();
    look(key);
    assert.equal(attached(), 1);
    assert.ok(memory.isAttached());
  });

  test(
    "removes the segment if its last user has left meanwhile, as that user would have done",
    slow,
    async () => {
      const agent = startAgent(ownRuntime);
      await agent.request("memory", "m", key);
      assert.equal(await agent.call("m", "create", 5000), true);
      const peek = peekAt(segmentOf(key));
      peek.read(0, 1);
      assert.equal(await agent.call("m", "detach"), true);
      assert.equal(attached(), 1, "the agent has left the removal to the process that looks");
      peek.rest();
      assert.equal(inspect().segments.some((segment) => belongsTo(segment, key)), false);
      assert.equal(await agent.end(), 0);
    },
  );

  test(
    "does not remove a segment that is kept on purpose, or that a crash has left",
    slow,
    async () => {
      const kept = uniqueKey("kept");
      {
        using memory = SharedMemory.open(kept, { size: 100, lifetime: "until-removed" });
        Counter.create(memory.view(Uint8Array)).add(3);
      }
      assert.deepEqual(part(look(kept), "Counter").facts, { value: 3n });
      assert.equal(segmentOf(kept).attached, 0);
      const agent = startAgent(ownRuntime);
      await agent.request("memory", "m", key);
      await agent.call("m", "create", 5000);
      await agent.kill();
      await until(() => attached() === 0, "the agent has gone");
      const before = cleanup({ dryRun: true, keys: [key, kept] });
      assert.equal(before.removed.length, 1);
      look(key);
      look(kept);
      assert.deepEqual(cleanup({ dryRun: true, keys: [key, kept] }), before);
      assert.equal(cleanup({ keys: [key, kept], persistent: true }).removed.length, 2);
    },
  );

  test(
    "holds the lock of a segment that nobody uses, so that nobody counts on it as a user",
    slow,
    async () => {
      {
        using _memory = SharedMemory.open(key, { size: 100, lifetime: "until-removed" });
      }
      const peek = peekAt(segmentOf(key));
      peek.read(0, 1);
      assert.equal(segmentOf(key).lock!.value, 0);
      const agent = startAgent(ownRuntime);
      const opened = agent.run(`
      let adopted = false;
      objects.m = library.SharedMemory.open(${JSON.stringify(key)}, {
        size: 100, lifetime: "until-removed", adopt: () => { adopted = true; },
      });
      return adopted;`);
      await until(() => segmentOf(key).lock!.waiting === 1, "the agent waits");
      peek.rest();
      assert.equal(await opened, true, "the agent is the first user");
      assert.equal(segmentOf(key).lock!.value, 1);
      await agent.run("objects.m.remove()");
      assert.equal(await agent.end(), 0);
    },
  );

  test("does not touch a segment that its creator is filling", () => {
    let seen: Contents | null = null;
    using memory = SharedMemory.open(key, {
      size: 100,
      initialize: () => {
        const segment = inspect().segments.find((one) => one.unfinished)!;
        seen = atOnce(contentsOf(segment));
        assert.equal(inspect().segments.find((one) => one.unfinished)!.attached, 1);
      },
    });
    assert.equal((seen as Contents | null)?.problem, "its creator is filling it");
    assert.ok(memory.isAttached());
  });

  test("takes no memory for bytes that nobody has touched", slow, () => {
    using memory = SharedMemory.open(key, { size: 50_000_000 });
    Counter.create(memory.view(Uint8Array), 32_000_000).add(4);
    const resident = () => Number(segmentRow(key)["rss"]);
    const before = resident();
    const contents = look(key);
    assert.equal(part(contents, "Counter").offset, 32_000_000);
    assert.ok(resident() - before <= 2 * 65_536, `${before} and then ${resident()} bytes`);
    assert.ok(memory.isAttached());
  });
});

describe("an attachment that this process has", () => {
  leaveNothingBehind();

  test("is read as a segment of another process is", () => {
    using shared = Shape.open(uniqueKey("own"));
    shared.hits.add(9);
    const peek = new AttachedPeek(shared.memory);
    assert.deepEqual([...peek.read(peek.size - 1, 9)].length, 1);
    const contents = atOnce(contentsSeenBy(peek));
    assert.equal(contents.problem, null);
    assert.equal(contents.parts.find(({ name }) => name === "hits")!.facts["value"], 9n);
    assert.equal(contents.parts.find(({ name }) => name === "state")!.facts["state"], "free");
    shared.memory.detach();
    assert.equal(peek.read(0, 8).length, 0);
  });
});

describe("a segment of another program or user", linuxOnly, () => {
  leaveNothingBehind();

  for (const version of [5, 6] as const) {
    test(
      `is shown as other bytes if Qt ${version} has filled it`,
      { ...slow, ...needsQt(version) },
      async () => {
        const key = uniqueKey("qt");
        const qt = startQt(version);
        await qt.request("memory", "m", key);
        assert.equal(await qt.call("m", "create", 3000), true);
        await qt.request("write", "m", 10, [1, 2, 3]);
        const { parts } = look(key);
        assert.deepEqual(parts.map(({ kind, facts }) => [kind, facts["content"]]), [
          ["other bytes", "not of this module"],
        ]);
        assert.equal(await qt.end(), 0);
        assert.equal(inspect().segments.some((segment) => belongsTo(segment, key)), false);
      },
    );
  }

  const reason = cannotBeNobody();
  const needsNobody = reason === undefined ? slow : { skip: reason };
  test("is shown if this user may read it, and otherwise the command says so", {
    ...needsNobody,
    ...onceOnly,
    ...isolatedOnly,
  }, () => {
    const key = SharedMemory.platformSafeKey(uniqueKey("show"), NativeIpcKeyType.PosixRealtime);
    using memory = SharedMemory.open(key, { size: Counter.BYTES });
    Counter.create(memory.view(Uint8Array)).add(6);
    const show = () =>
      spawnSync(ownRuntime.command, [
        ...ownRuntime.args,
        cli,
        "show",
        key.toString(),
        "--all-users",
      ], {
        ...nobody,
        env: { ...process.env, HOME: "/tmp", DENO_DIR: "/tmp/nobody-deno" },
        encoding: "utf8",
      });
    assert.match(show().stdout, /its mode does not let this user read it/);
    const { keyFile } = segmentOf(key.toString());
    chmodSync(keyFile!, statSync(keyFile!).mode & 0o7777 | 0o044);
    const { stdout, stderr } = show();
    assert.match(stdout, /Counter +value 6/, stderr);
    assert.ok(memory.isAttached());
  });
});

describe("the text of the contents", () => {
  const parts: Part[] = [
    { name: null, kind: "Layout", offset: 0, bytes: 1096, facts: { members: 4 } },
    { name: "hits", kind: "Counter", offset: 320, bytes: 24, facts: { value: 12n ** 12n } },
    {
      name: "state",
      kind: "Mutex",
      offset: 384,
      bytes: 64,
      facts: { state: "held" },
      holders: [{ pid: 4711, command: "node server.js --port 80", state: "stopped" }],
      waiting: null,
    },
    {
      name: "shop.names.of.customers",
      kind: "CounterBlock",
      offset: 448,
      bytes: 128,
      facts: { names: 1, room: 1 },
      values: { 'a"\x1b': 3n },
    },
    {
      name: "cache",
      kind: "SharedMap",
      offset: 576,
      bytes: 520,
      facts: {
        ...{ entries: 10, bytes: 480, capacity: 4096, changes: 12, evicted: 2 },
        ...{ expired: 0, recovered: 0 },
      },
      holders: [],
      waiting: 0,
      problem: "a process was killed while it changed 1 of its parts; the next one repairs that",
    },
    { name: null, kind: "other bytes", offset: 1096, bytes: 3000, facts: { content: "zeros" } },
  ];
  const contents: Contents = { parts, searched: 4096, problem: null };

  test("fits a terminal of 80 columns", () => {
    const text = contentsText(contents, 5000, { color: false, width: 80 });
    assert.deepEqual(text.split("\n"), [
      "contents",
      "  OFFSET  BYTES  NAME                     KIND",
      "       0   1096  -                        Layout        members 4",
      "     320     24  hits                     Counter       value 8916100448256",
      "     384     64  state                    Mutex         held by process 4711",
      "                                                        (node server.js --port",
      "                                                        80), stopped,",
      "                                                        threads wait",
      "     448    128  shop.names.of.customers  CounterBlock  names 1, room 1",
      '                                                        "a\\"\\u001b" 3',
      "     576    520  cache                    SharedMap     entries 10,",
      "                                                        480 B of 4 KiB,",
      "                                                        changes 12, evicted 2",
      "                                                        a process was killed",
      "                                                        while it changed 1 of",
      "                                                        its parts; the next one",
      "                                                        repairs that",
      "    1096   3000  -                        other bytes   zeros",
      "  The first 4 KiB were searched for parts.",
    ]);
  });

  test("fits narrower and wider terminals too, and has colors on request only", () => {
    for (const width of [48, 60, 80, 100, 132]) {
      const lines = contentsText(contents, 4096, { color: false, width }).split("\n");
      assert.deepEqual(lines.filter((line) => line.length > width), [], `${width}`);
      const painted = contentsText(contents, 4096, { color: true, width });
      assert.ok(painted.includes("\x1b["));
      // deno-lint-ignore no-control-regex
      assert.equal(painted.replaceAll(/\x1b\[\d+m/g, ""), lines.join("\n"));
    }
    const wide = contentsText(contents, 4096, { color: false, width: Infinity }).split("\n");
    assert.equal(wide.length, 2 + parts.length + 2);
  });

  test("says why the bytes could not be read", () => {
    const text = contentsText({ parts: [], searched: 0, problem: "gone" }, 10, {
      color: false,
      width: 80,
    });
    assert.deepEqual(text.split("\n"), ["contents", "  gone"]);
  });
});
