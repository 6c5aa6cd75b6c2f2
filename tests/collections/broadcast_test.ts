/** `SharedBroadcastChannel` does between processes what `BroadcastChannel` does between threads. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import { type BroadcastMessage, SharedBroadcastChannel } from "../../collections/mod.ts";
import {
  cpuTime,
  crewOnly,
  endAll,
  leaveNothingBehind,
  LOCK_MS,
  ownRuntime,
  slow,
  startAgent,
  startMany,
  uniqueKey,
  until,
  withDeadline,
} from "../support/support.ts";
import { Thread } from "../support/threads.ts";
import { SharedMemory } from "../../mod.ts";

/** A channel of either kind. */
interface AnyChannel {
  readonly name: string;
  onmessage: ((event: BroadcastMessage) => void) | null;
  postMessage(message: unknown): void;
  addEventListener(type: string, listener: unknown, options?: unknown): void;
  removeEventListener(type: string, listener: unknown): void;
  close(): void;
}
type ChannelType = new (name: string) => AnyChannel;

/** Of channels to which several processes post. */
const OPTIONS = { lockTimeout: LOCK_MS } as const;

/** JavaScript of an agent: a new channel of a name. */
const opening = (name: string) =>
  `new collections.SharedBroadcastChannel(${JSON.stringify(name)}, ${JSON.stringify(OPTIONS)})`;

describe("a shared broadcast channel", () => {
  leaveNothingBehind();

  const types: [string, ChannelType][] = [
    ["SharedBroadcastChannel", SharedBroadcastChannel as unknown as ChannelType],
    ["BroadcastChannel of the runtime", BroadcastChannel as unknown as ChannelType],
  ];
  for (const [what, Channel] of types) {
    test(`brings messages to other channels of its name, but not to itself: ${what}`, async () => {
      const name = uniqueKey();
      const [one, two, other] = [
        new Channel(name),
        new Channel(name),
        new Channel(`${name} other`),
      ];
      const log: unknown[] = [];
      one.onmessage = ({ data }: BroadcastMessage) => void log.push(["one", data]);
      other.onmessage = () => void log.push("other");
      const listener = (event: BroadcastMessage) => {
        log.push(["two", event.data, event.type, event.target === two]);
      };
      two.addEventListener("message", listener);
      two.addEventListener("message", { handleEvent: () => void log.push("object") }, {
        once: true,
      });
      assert.equal(two.name, name);
      const value = { when: new Date(5), list: new Set([1, undefined]) };
      one.postMessage(value);
      value.list.add(2); // too late
      assert.equal(log.length, 0);
      await until(() => log.length === 2, "the first message");
      two.postMessage("reply");
      await until(() => log.length === 3, "the reply");
      two.removeEventListener("message", listener);
      one.postMessage("nobody listens");
      one.onmessage = null;
      two.postMessage("nobody either");
      two.onmessage = ({ data }: BroadcastMessage) => void log.push(["handler", data]);
      one.postMessage("last");
      await until(() => JSON.stringify(log).includes("last"), "the last message");
      const known = log.filter((entry) => !JSON.stringify(entry).includes("nobody listens"));
      assert.deepEqual(known, [
        ["two", { when: new Date(5), list: new Set([1, undefined]) }, "message", true],
        "object",
        ["one", "reply"],
        ["handler", "last"],
      ]);
      assert.throws(() => one.postMessage(() => {}), { name: "DataCloneError" });
      for (const channel of [one, two, other]) channel.close();
      one.close();
      assert.throws(() => one.postMessage(1), { name: "InvalidStateError" });
      const Loose = Channel as unknown as new (name?: unknown) => { postMessage(): void };
      assert.throws(() => new Loose(), TypeError);
      assert.throws(() => new Loose(Symbol(name)), TypeError);
      assert.throws(() => (one as unknown as { postMessage(): void }).postMessage(), TypeError);
    });
  }

  test("brings structured values from each runtime to all others, in one order", {
    ...slow,
    ...crewOnly,
  }, async () => {
    const name = uniqueKey();
    const agents = startMany(3);
    using own = new SharedBroadcastChannel(name, OPTIONS);
    const seen: unknown[] = [];
    own.onmessage = ({ data }) => void seen.push(data);
    await Promise.all(agents.map((agent) =>
      agent.run(`
        const channel = objects.channel = ${opening(name)};
        objects.seen = [];
        channel.onmessage = ({ data }) => objects.seen.push([...data.from][0] + " " + data.count + " " + data.at.getTime());`)
    ));
    await Promise.all(agents.map((agent, me) =>
      agent.run(`
        for (let count = 0n; count < 100n; count++) {
          objects.channel.postMessage({ from: new Set([${me}]), count, at: new Date(7) });
        }`)
    ));
    await until(() => seen.length === 300, "all messages");
    const order = seen.map((data) => {
      const { from, count, at } = data as { from: Set<number>; count: bigint; at: Date };
      return `${[...from][0]} ${count} ${at.getTime()}`;
    });
    for (const [me, agent] of agents.entries()) {
      let texts: string[] = [];
      while (texts.length < 200) texts = await agent.run("return objects.seen;");
      assert.deepEqual(texts, order.filter((text) => !text.startsWith(`${me} `)));
      await agent.run("objects.channel.close();");
    }
    await endAll(agents);
  });

  test("reaches the threads of a process", slow, async () => {
    const name = uniqueKey();
    const key = uniqueKey();
    using _memory = SharedMemory.open(key, { size: 8 });
    using own = new SharedBroadcastChannel(name);
    const seen: unknown[] = [];
    own.onmessage = ({ data }) => void seen.push(data);
    const thread = new Thread(
      key,
      `
      const channel = new collections.SharedBroadcastChannel(${JSON.stringify(name)});
      channel.onmessage = ({ data }) => {
        channel.postMessage("thread got " + data);
        channel.close();
      };
      tell("ready");`,
    );
    assert.equal(await thread.next(), "ready");
    own.postMessage("hello");
    await until(() => seen.length === 1, "the answer");
    assert.deepEqual(seen, ["thread got hello"]);
    assert.equal(await thread.end(), 0);
  });

  test("keeps its program alive until close() or unref()", slow, async () => {
    const name = uniqueKey();
    using own = new SharedBroadcastChannel(name, OPTIONS);
    let answers = 0;
    own.onmessage = () => void answers++;
    const [closed, free] = [startAgent(ownRuntime), startAgent(ownRuntime)];
    for (const [agent, what] of [[closed, "close"], [free, "unref"]] as const) {
      await agent.run(`
        const channel = objects.channel = ${opening(name)};
        channel.onmessage = ({ data }) => {
          if (data === "end") channel.${what}();
          else if (typeof data === "number") channel.postMessage("still here");
        };`);
      agent.child.stdin!.write('["end"]\n');
      agent.child.stdin!.end();
    }
    own.postMessage(1);
    await until(() => answers === 2, "both to answer");
    assert.deepEqual([closed.child.exitCode, free.child.exitCode], [null, null]);
    own.postMessage("end");
    assert.equal(await withDeadline(closed.ended, "its end"), 0);
    assert.equal(await withDeadline(free.ended, "its end"), 0);
  });

  test("tells a channel that was too slow what it has lost, by messageerror", async () => {
    const name = uniqueKey();
    using fast = new SharedBroadcastChannel(name, { bytes: 4096 });
    using slowOne = new SharedBroadcastChannel(name, { bytes: 4096 });
    const errors: unknown[] = [];
    const numbers: unknown[] = [];
    slowOne.onmessageerror = ({ data }) => void errors.push(data);
    slowOne.onmessage = ({ data }) => void numbers.push(data);
    for (let i = 1; i <= 1000; i++) fast.postMessage(i);
    await until(() => numbers.at(-1) === 1000, "the last message");
    const [error] = errors as [{ code: string; message: string }];
    assert.equal(errors.length, 1);
    assert.equal(error.code, "Full");
    const lost = Number(/: (\d+) messages were overwritten/.exec(error.message)?.[1]);
    assert.equal(lost + numbers.length, 1000);
    assert.throws(() => fast.postMessage("x".repeat(2000)), { code: "InvalidSize" });
    assert.throws(() => new SharedBroadcastChannel(name, { bytes: 8192 }), Error);
  });

  test("brings undefined and null as what they are", async () => {
    const name = uniqueKey();
    using one = new SharedBroadcastChannel(name);
    using two = new SharedBroadcastChannel(name);
    const data: unknown[] = [];
    two.onmessage = (event) => void data.push(event.data);
    one.postMessage(undefined);
    one.postMessage(null);
    await until(() => data.length === 2, "both messages");
    assert.deepEqual(data, [undefined, null]);
  });

  test("takes no longer for a message the more its channel has posted", slow, async () => {
    const name = uniqueKey();
    using poster = new SharedBroadcastChannel(name, { bytes: 2 ** 25 });
    using other = new SharedBroadcastChannel(name, { bytes: 2 ** 25 });
    const errors: unknown[] = [];
    let count = 0;
    let isSum = true;
    for (const channel of [poster, other]) {
      channel.onmessageerror = ({ data }) => void errors.push(data);
    }
    other.onmessage = ({ data }) => void (isSum &&= data === ++count);
    const begin = cpuTime();
    for (let i = 1; i <= 400_000; i++) poster.postMessage(i);
    const posted = cpuTime();
    await until(() => count === 400_000 || cpuTime() - posted > 8 * (posted - begin), "all");
    assert.deepEqual([count, isSum, errors], [400_000, true, []]);
  });

  test("throws what a listener throws where nobody catches it, and goes on", {
    ...slow,
    skip: process.platform === "win32" ? "needs the exit code" : false,
  }, async () => {
    const name = uniqueKey();
    using own = new SharedBroadcastChannel(name, OPTIONS);
    const agent = startAgent(ownRuntime);
    let answers = 0;
    own.onmessage = () => void answers++;
    await agent.run(`
      objects.channel = ${opening(name)};
      objects.errors = [];
      process.on("uncaughtException", (error) => objects.errors.push(error.message));
      objects.channel.addEventListener("message", () => { throw new Error("of a listener"); });
      objects.channel.addEventListener("message", () => objects.channel.postMessage("here"));`);
    own.postMessage(1);
    own.postMessage(2);
    await until(() => answers === 2, "the answers");
    await agent.run("objects.channel.close();");
    await agent.end();
  });
});
