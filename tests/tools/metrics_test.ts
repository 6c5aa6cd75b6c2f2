/** The metrics for Prometheus, and that they disturb neither the event loop nor the segments. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import {
  layout,
  RateLimiter,
  SharedMap,
  SharedQueue,
  SharedTopic,
  SharedValue,
} from "../../collections/mod.ts";
import { belongsTo, cleanup, inspect } from "../../inspect.ts";
import { metrics } from "../../metrics.ts";
import { NativeIpcKeyType, SharedMemory } from "../../mod.ts";
import { Observer } from "../../observe/observer.ts";
import { expositionOf } from "../../observe/prometheus.ts";
import { type Loop, sliced } from "../../observe/sliced.ts";
import { Counter, CounterBlock, Event, Gauge, Mutex, Snapshot } from "../../sync/mod.ts";
import {
  isolatedOnly,
  leaveNothingBehind,
  linuxOnly,
  ownRuntime,
  slow,
  startAgent,
  uniqueKey,
} from "../support/support.ts";

interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const NAME = "[a-zA-Z_:][a-zA-Z0-9_:]*";
const LABEL = `([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\\\\n]|\\\\["\\\\n])*)"`;

/** Reads the text as Prometheus does: each line must be what the format allows, and each metric stands together. */
function parse(text: string): Sample[] {
  assert.ok(text.endsWith("\n"));
  const samples: Sample[] = [];
  const seen = new Set<string>();
  let family = "";
  for (const [i, line] of text.slice(0, -1).split("\n").entries()) {
    const help = new RegExp(`^# HELP (${NAME}) (.+)$`).exec(line);
    if (help !== null) {
      assert.ok(!seen.has(help[1]!), `${help[1]} comes twice`);
      seen.add(family = help[1]!);
      continue;
    }
    if (line.startsWith("#")) {
      const type = family.endsWith("_total") ? "counter" : "gauge";
      assert.equal(line, `# TYPE ${family} ${type}`);
      continue;
    }
    const [, name, list = "", value] =
      new RegExp(`^(${NAME})(?:\\{((?:${LABEL},?)*)\\})? (\\S+)$`).exec(line)?.filter((_, at) =>
        [0, 1, 2].includes(at) || at === 5
      ) ?? [];
    assert.equal(name, family, `line ${i}: ${line}`);
    const labels = Object.fromEntries(
      [...list.matchAll(new RegExp(LABEL, "g"))].map(([, label, text]) => {
        const raw = text!.replace(/\\(.)/g, (_, one) => one === "n" ? "\n" : one);
        return [label!, raw];
      }),
    );
    assert.match(value!, /^([+-]?\d+(\.\d+)?(e[+-]?\d+)?|NaN|[+-]Inf)$/);
    samples.push({ name: name!, labels, value: Number(value!.replace("Inf", "Infinity")) });
  }
  return samples;
}

/** A loop whose clock goes on by `ms` with each look, so that the steps of a slice can be counted. */
function countedLoop(ms: number, between: () => void): Loop & { slices: number } {
  let time = 0;
  const loop = {
    slices: 0,
    now: () => time += ms,
    later: (next: () => void) => {
      if (loop.slices++ > 0) between();
      setTimeout(next);
    },
  };
  return loop;
}

/** Names of counters which the format or JavaScript treats in a special way. */
const NAMES = ['say "\\" and\nmore', "__proto__", "constructor"];

describe("metrics()", linuxOnly, () => {
  leaveNothingBehind();

  test("has each fact of each kind under a name that does not change", async () => {
    const key = uniqueKey("metrics");
    const Shape = layout({
      hits: Counter,
      load: Gauge,
      state: Mutex,
      changed: Event,
      names: CounterBlock.of(10),
      raw: Snapshot.of(12),
      cache: SharedMap.of({ bytes: 70_000 }),
      slots: RateLimiter.of({ keys: 50, limit: 1, window: 1000 }),
      news: SharedTopic.of({ bytes: 4096 }),
      jobs: SharedQueue.of({ bytes: 65_536 }),
      flags: SharedValue.of({ maxBytes: 100 }),
    });
    using shared = Shape.open(key);
    shared.hits.add(41);
    shared.load.set(-Infinity);
    for (const name of NAMES) shared.names.counter(name).add(2);
    shared.cache.set("a", 1);
    shared.news.publish(new Uint8Array(5));
    shared.jobs.send(new Uint8Array(5));
    shared.flags.set(new Uint8Array(5));
    shared.state.lock();
    const samples = parse(await metrics({ keys: [key] }));
    shared.state.unlock();
    const values = new Map(
      samples.filter(({ labels }) => labels["key"] === key && labels["state"] === undefined)
        .map(({ name, labels, value }) => [
          `${name.replace("shared_memory_", "")} ${labels["member"] ?? ""}`.trim(),
          value,
        ]),
    );
    const expected = {
      segment_bytes: shared.memory.size(),
      segment_attached: 1,
      segment_unreadable: 0,
      segment_lock_held: 0,
      segment_lock_waiting: 0,
      "counter_value hits": 41,
      "gauge_value load": -Infinity,
      "lock_waited_for state": 0,
      "event_notifications_total changed": 0,
      "counter_block_names names": NAMES.length,
      "counter_block_capacity names": 10,
      "counter_block_value names": 2,
      "snapshot_version raw": 0,
      "map_entries cache": 1,
      "map_changes_total cache": 1,
      "map_evicted_total cache": 0,
      "limiter_names slots": 0,
      "limiter_no_room_total slots": 0,
      "topic_published_total news": 1,
      "topic_messages news": 1,
      "queue_ready jobs": 1,
      "queue_sent_total jobs": 1,
      "queue_acked_total jobs": 0,
      "queue_members jobs": 0,
      "value_version flags": 1,
      "value_used_bytes flags": 5,
    };
    for (const [name, value] of Object.entries(expected)) {
      assert.equal(values.get(name), value, name);
    }
    const named = samples.filter(({ name }) => name === "shared_memory_counter_block_value");
    assert.deepEqual(named.map(({ labels }) => labels["name"]), NAMES);
    const running = samples.find(({ name, labels }) =>
      name === "shared_memory_lock_holders" && labels["member"] === "state" &&
      labels["state"] === "running"
    );
    assert.equal(running?.value, 1);
    assert.equal(samples.find(({ name }) => name === "shared_memory_segments")?.value, 1);
  });

  test("tells of stopped holders of a mutex and of the lock of a segment", slow, async () => {
    const [key, other] = [uniqueKey("metrics"), uniqueKey("metrics")];
    using shared = layout({ state: Mutex }).open(key);
    using memory = SharedMemory.open(other, { size: 100 });
    const agent = startAgent(ownRuntime);
    await agent.run(`
      objects.shared = collections.layout({ state: sync.Mutex }).open(${JSON.stringify(key)});
      objects.shared.state.lock();
      objects.m = library.SharedMemory.open(${JSON.stringify(other)}, { size: 100 });
      objects.m.lock();`);
    process.kill(agent.child.pid!, "SIGSTOP");
    const stopped = async () =>
      parse(await metrics({ keys: [key, other] })).filter(({ name, labels }) =>
        name === "shared_memory_lock_holders" && labels["state"] === "stopped"
      ).reduce((sum, { value }) => sum + value, 0);
    const deadline = Date.now() + 20_000;
    while (await stopped() !== 2 && Date.now() < deadline);
    assert.equal(await stopped(), 2);
    await agent.kill();
    assert.ok(shared.memory.isAttached() && memory.isAttached());
  });

  test("goes on with the event loop after each small piece of 100 segments", {
    ...slow,
    ...isolatedOnly,
  }, async () => {
    const keys = Array.from({ length: 100 }, () => uniqueKey("many"));
    const memories = keys.map((key, i) => {
      const posix = SharedMemory.platformSafeKey(key, NativeIpcKeyType.PosixRealtime);
      return SharedMemory.open(i % 2 === 0 ? key : posix, {
        size: Counter.BYTES,
        initialize: (bytes) => void Counter.create(bytes).add(i),
      });
    });
    const attachments = () => inspect().segments.map(({ attached }) => attached).join();
    const before = attachments();
    let looked = 0;
    let pauses = 0;
    // Each piece takes as long as a slice, so each slice has one. Of the pauses, some are looked at.
    const loop = countedLoop(1, () => {
      if (pauses++ % 40 !== 0) return;
      looked++;
      assert.equal(attachments(), before, "nothing is attached while other code runs");
    });
    let asked = 0; // about how many segments in this piece
    let most = 0;
    const isWanted = () => ++asked > 0;
    const counting = countedLoop(1, () => {
      most = Math.max(most, asked);
      asked = 0;
    });
    assert.equal((await sliced(new Observer().look(isWanted), counting)).length, 100);
    assert.equal(most, 1, "each segment is compared with the keys in a piece of its own");
    const observed = await sliced(new Observer().look(), loop);
    assert.equal(observed.length, 100);
    assert.ok(loop.slices > 400, `${loop.slices}`);
    assert.ok(looked > 5);
    const text = countedLoop(1, () => {});
    const samples = parse(await sliced(expositionOf(observed), text));
    assert.ok(text.slices > 100, `${text.slices}`); // one for each segment
    const counters = samples.filter(({ name }) => name === "shared_memory_counter_value");
    assert.deepEqual(counters.map(({ value }) => value).sort((a, b) => a - b), [...keys.keys()]);
    assert.equal(parse(await metrics())[0]!.value, 100);
    assert.equal(attachments(), before);
    for (const memory of memories) memory.detach();
  });

  test("keeps no segment, and does not look into one that nobody uses", slow, async () => {
    const [key, kept] = [uniqueKey("metrics"), uniqueKey("kept")];
    {
      using memory = SharedMemory.open(key, { size: 100 });
      await metrics();
      assert.ok(memory.isAttached());
    }
    assert.equal(inspect().segments.some((segment) => belongsTo(segment, key)), false);
    {
      using memory = SharedMemory.open(kept, { size: 100, lifetime: "until-removed" });
      Counter.create(memory.view(Uint8Array));
    }
    const plan = () => cleanup({ dryRun: true, persistent: true, keys: [kept] });
    const before = [inspect().segments, plan()];
    const names = parse(await metrics({ keys: [kept] })).map(({ name }) => name);
    assert.deepEqual([inspect().segments, plan()], before);
    assert.ok(names.includes("shared_memory_segment_bytes"));
    assert.ok(!names.includes("shared_memory_counter_value"));
    cleanup({ persistent: true, keys: [kept] });
  });

  test("notices what is created later, and that a segment was replaced", async () => {
    const key = uniqueKey("metrics");
    const counters = async () =>
      parse(await metrics({ keys: [key] }))
        .filter(({ name }) => name === "shared_memory_counter_value").map(({ value }) => value);
    using memory = SharedMemory.open(key, { size: 100 });
    assert.deepEqual(await counters(), []);
    Counter.create(memory.view(Uint8Array)).add(3);
    assert.deepEqual(await counters(), [3]);
    memory.view(Uint8Array).fill(0);
    await counters();
    Counter.create(memory.view(Uint8Array), 8).add(4);
    assert.deepEqual(await counters(), [4]);
    memory.detach();
    using again = SharedMemory.open(key, { size: 200 });
    Counter.create(again.view(Uint8Array), 16).add(5);
    assert.deepEqual(await counters(), [5]);
  });

  test("checks its options, and says what it cannot read", async () => {
    for (
      const [keys, message] of [
        ["orders", "metrics: keys must be an array, not string"],
        [[1], "metrics: a key must be a string, not number"],
        [[""], "metrics: a key is empty; leave keys out for all"],
      ] as const
    ) {
      const options = { keys } as unknown as { keys: string[] };
      await assert.rejects(metrics(options), { name: "TypeError", message });
    }
  });
});
