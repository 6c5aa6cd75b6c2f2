/** A C program sends to a shared queue and receives from it, by what docs/collections.md says of its bytes. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { utf8 } from "../../collections/mod.ts";
import { beginAt, openQueue, type QueuePlace } from "../support/queues.ts";
import {
  ftok,
  leaveNothingBehind,
  LOCK_MS,
  slow,
  systemLibrary,
  withDeadline,
} from "../support/support.ts";
import { compileC, cOnly } from "../support/sync_peer.ts";

const peerOnly = process.platform === "linux" && process.arch === "x64"
  ? { ...cOnly, ...slow }
  : { skip: "the C program is for Linux on x64" };

const OPTIONS = { bytes: 16_384, codec: utf8, lockTimeout: LOCK_MS } as const;

/** A C program that uses a queue. */
class Peer {
  readonly child: ChildProcess;
  readonly lines: string[] = [];
  /** The exit code or the signal's name. */
  readonly ended: Promise<number | string>;
  stderr = "";

  constructor(program: string, { memory }: QueuePlace<string>, args: readonly string[]) {
    const segment = systemLibrary().c.shmget(ftok(memory.nativeKey()!), 0n, 0);
    this.child = spawn(program, [String(segment), ...args]);
    this.child.stderr!.on("data", (data) => this.stderr += data);
    createInterface({ input: this.child.stdout! })
      .on("line", (line) => this.lines.push(JSON.parse(line)));
    this.ended = new Promise((resolve) => {
      this.child.on("close", (code, signal) => resolve(signal ?? code!));
    });
  }

  async end(): Promise<void> {
    assert.deepEqual([await withDeadline(this.ended, "the C program"), this.stderr], [0, ""]);
  }
}

describe("a C program that shares a queue", peerOnly, () => {
  leaveNothingBehind();
  let folder = "";
  let program = "";
  before(() => {
    if ("skip" in peerOnly && peerOnly.skip !== undefined) return;
    folder = mkdtempSync(path.join(tmpdir(), "queue-peer-"));
    program = compileC("queue_peer", folder);
  });
  after(() => {
    if (folder !== "") rmSync(folder, { recursive: true });
  });

  for (const position of [0, -300, 2 ** 31 - 300]) {
    test(`sends and receives beside this process, from position ${position} on`, async () => {
      using place = openQueue(OPTIONS);
      beginAt(place.queue, position);
      const { queue } = place;
      const receiver = new Peer(program, place, ["receive", "2"]);
      for (const text of ["from", "here"]) await queue.sendAsync(text);
      await receiver.end();
      assert.deepEqual(receiver.lines, ["1 from", "2 here"]);

      const COUNT = 1000;
      const senders = [1, 2].map((me) =>
        new Peer(program, place, ["send", String(me), String(COUNT), String(me * 40)])
      );
      const next = [1, 1];
      for (let i = 0; i < 2 * COUNT; i++) {
        using job = await queue.take({ timeout: 25_000, ref: true });
        assert.ok(job !== undefined, `${i} were received`);
        const [me, number, rest] = job.value.split(" ") as [string, string, string];
        assert.equal(Number(number), next[Number(me) - 1]!++);
        assert.match(rest, /^x*$/);
        assert.equal(job.ack(), true);
      }
      for (const sender of senders) await sender.end();
      const { sent, received, acked, ready, recovered } = queue.stats();
      assert.deepEqual([sent, received, acked, ready, recovered], [
        2 * COUNT + 2,
        2,
        2 * COUNT,
        0,
        0,
      ]);
    });
  }

  test("may be killed at any moment: what it has sent is there, and the sums are exact", async () => {
    using place = openQueue(OPTIONS);
    const { queue } = place;
    let last = 0;
    for (let i = 1; i <= 10; i++) {
      const sender = new Peer(program, place, ["send", String(i), "1000000", "50"]);
      for (let left = 200; left > 0; left--) {
        const value = await queue.receiveAsync({ timeout: 25_000, ref: true });
        const [me, number] = value!.split(" ").map(Number) as [number, number];
        if (me !== i) continue;
        assert.equal(number, last + 1);
        last = number;
      }
      sender.child.kill("SIGKILL");
      assert.equal(await withDeadline(sender.ended, "the death of the C program"), "SIGKILL");
      for (let value = queue.receive(); value !== undefined; value = queue.receive()) last++;
      const { sent, received } = queue.stats();
      assert.equal(sent, received);
      last = 0;
    }
    assert.equal(queue.trySend("after"), true);
  });
});
