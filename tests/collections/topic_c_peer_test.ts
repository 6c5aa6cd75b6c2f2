/** A C program publishes to a shared topic and receives from it, by what docs/collections.md says of its bytes. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { utf8 } from "../../collections/mod.ts";
import { compileC, cOnly } from "../support/sync_peer.ts";
import {
  ftok,
  leaveNothingBehind,
  LOCK_MS,
  slow,
  systemLibrary,
  until,
  withDeadline,
} from "../support/support.ts";
import { beginAt, openTopic, type TopicPlace } from "../support/topics.ts";

const peerOnly = process.platform === "linux" && process.arch === "x64"
  ? { ...cOnly, ...slow }
  : { skip: "the C program is for Linux on x64" };

const OPTIONS = { bytes: 4096, codec: utf8, lockTimeout: LOCK_MS } as const;

/** A C program that uses a topic. */
class Peer {
  readonly child: ChildProcess;
  readonly lines: string[] = [];
  /** The exit code or the signal's name. */
  readonly ended: Promise<number | string>;
  stderr = "";

  constructor(program: string, { memory }: TopicPlace<string>, args: readonly string[]) {
    const segment = systemLibrary().c.shmget(ftok(memory.nativeKey()!), 0n, 0);
    this.child = spawn(program, [String(segment), ...args]);
    this.child.stderr!.on("data", (data) => this.stderr += data);
    createInterface({ input: this.child.stdout! }).on("line", (line) => this.lines.push(line));
    this.ended = new Promise((resolve) => {
      this.child.on("close", (code, signal) => resolve(signal ?? code!));
    });
  }

  async end(): Promise<void> {
    assert.deepEqual([await withDeadline(this.ended, "the C program"), this.stderr], [0, ""]);
  }
}

describe("a C program that shares a topic", peerOnly, () => {
  leaveNothingBehind();
  let folder = "";
  let program = "";
  before(() => {
    if ("skip" in peerOnly && peerOnly.skip !== undefined) return;
    folder = mkdtempSync(path.join(tmpdir(), "topic-peer-"));
    program = compileC("topic_peer", folder);
  });
  after(() => {
    if (folder !== "") rmSync(folder, { recursive: true });
  });

  for (const position of [0, -300, 2 ** 31 - 300]) {
    test(`publishes and receives beside this process, from position ${position} on`, async () => {
      using place = openTopic(OPTIONS);
      beginAt(place, position, 2 ** 32 - 100);
      const { topic } = place;
      const first = 2 ** 32 - 99;
      const received: string[] = [];
      let lost = 0;
      using _subscription = topic.subscribe((message) => {
        assert.equal(message.sequence, first + received.length + lost + message.lost);
        lost += message.lost;
        received.push(message.value);
      });
      const receiver = new Peer(program, place, ["receive", String(first), "1"]);
      await delay(20);
      assert.equal(topic.publish("from here"), first);
      await receiver.end(); // it was woken, or has found it
      assert.deepEqual(receiver.lines, [`"${first} 0 9 from here"`]);

      const count = 3000;
      const publishers = [1, 2].map((me) =>
        new Peer(program, place, ["publish", String(me), String(count), String(me * 20)])
      );
      const last: [number, number] = [0, 0];
      let own = 0;
      while (publishers.some(({ child }) => child.exitCode === null)) {
        topic.publish(`3 ${++own} y`);
        await delay(0);
      }
      for (const publisher of publishers) await publisher.end();
      const total = 1 + 2 * count + own;
      assert.equal(topic.stats().last, first - 1 + total);
      await until(() => received.length + lost === total, "the last message");
      for (const text of received.slice(1)) {
        const [me, number, rest] = text.split(" ") as [string, string, string];
        if (me === "3") continue;
        assert.ok(Number(number) > last[Number(me) - 1]!);
        last[Number(me) - 1] = Number(number);
        assert.match(rest, /^x*$/);
        assert.ok(text.length >= Number(me) * 20);
      }
      const { first: oldest } = topic.stats();
      const rest = new Peer(program, place, [
        "receive",
        String(first),
        String(first + total - oldest),
      ]);
      await rest.end();
      assert.match(rest.lines[0]!, new RegExp(`^"${oldest} ${oldest - first} `));
      assert.equal(rest.lines.length, first + total - oldest);
      assert.equal(topic.stats().recovered, 0);
    });
  }

  test("is killed while it publishes, and the others go on", async () => {
    using place = openTopic(OPTIONS);
    const { topic } = place;
    const reader = topic.reader();
    let next = 1;
    for (let i = 0; i < 30; i++) {
      const peer = new Peer(program, place, ["publish", "1", "100000000", String(i * 10)]);
      await until(() => peer.lines.length > 0, "its first message");
      await delay(i % 5);
      process.kill(peer.child.pid!, "SIGKILL");
      assert.equal(await peer.ended, "SIGKILL");
      const sequence = topic.publish("2 after x");
      for (let message; (message = reader.next()) !== undefined; next = message.sequence + 1) {
        assert.equal(message.sequence, next + message.lost);
        assert.match(message.value, /^[12] (\d+|after) x*$/);
      }
      assert.equal(next, sequence + 1);
    }
  });
});
