/** Processes and threads publish to one topic and read it, or are stopped in the middle. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import vm from "node:vm";
import { utf8 } from "../../collections/mod.ts";
import { joining, MESSAGES, numberOf, openTopic, valueOf } from "../support/topics.ts";
import {
  crewOnly,
  DEADLINE_MS,
  endAll,
  leaveNothingBehind,
  LOCK_MS,
  ownRuntime,
  runtimes,
  slow,
  startAgent,
  startMany,
  until,
  withDeadline,
} from "../support/support.ts";
import { Thread } from "../support/threads.ts";

const OPTIONS = { bytes: 2 ** 16, lockTimeout: LOCK_MS } as const;
const SHOWN = JSON.stringify(OPTIONS);

describe("a shared topic of several processes", () => {
  leaveNothingBehind();

  test("brings all messages of all publishers to all subscribers, in one order", {
    ...slow,
    ...crewOnly,
  }, async () => {
    using place = openTopic(OPTIONS);
    const agents = startMany(3);
    const count = 3000;
    await Promise.all(agents.map((agent) =>
      agent.run(`
        ${joining(place.key, SHOWN)}
        ${MESSAGES}
        const seen = objects.seen = [];
        let lost = 0;
        objects.done = new Promise((resolve) => {
          objects.subscription = objects.topic.subscribe((message) => {
            lost += message.lost;
            seen.push([message.sequence, ...numberOf(message.value)]);
            if (message.sequence >= ${3 * count}) resolve(lost);
          });
        });`)
    ));
    await Promise.all(agents.map((agent, me) =>
      agent.run(`
        ${MESSAGES}
        for (let i = 1; i <= ${count}; i++) {
          objects.topic.publish(valueOf(${me}, i, i % 50));
          if (i % 50 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
        }`)
    ));
    const results: [number, number, number][][] = await Promise.all(
      agents.map((agent) =>
        agent.run(`
        const lost = await objects.done;
        objects.subscription.close();
        return objects.seen.length + lost === ${3 * count} ? objects.seen : ["wrong sum", lost];`)
      ),
    );
    const messages = new Map<number, string>();
    for (const seen of results) {
      const last = [0, 0, 0];
      let sequence = 0;
      for (const [number, me, i] of seen) {
        assert.ok(number > sequence && i > last[me]!);
        sequence = number;
        last[me] = i;
        const text = `${me} ${i}`;
        assert.equal(messages.get(number) ?? text, text);
        messages.set(number, text);
      }
      assert.equal(sequence, 3 * count);
    }
    await endAll(agents);
  });

  test("wakes subscribers that sleep, in each runtime, and one thread sleeps for each process", {
    ...slow,
    ...crewOnly,
  }, async () => {
    using place = openTopic({ ...OPTIONS, codec: utf8 });
    const { topic } = place;
    const agents = startMany(runtimes.length);
    await Promise.all(agents.map((agent) =>
      agent.run(`
        ${joining(place.key, `{ ...${SHOWN}, codec: collections.utf8 }`)}
        const { topic } = objects;
        objects.counts = [0, 0, 0, 0];
        objects.subscriptions = objects.counts.map((_, i) =>
          topic.subscribe(() => void objects.counts[i]++));
        objects.next = (async () => {
          for await (const { value } of topic.subscribe({ ref: true })) return value;
        })();`)
    ));
    await until(() => topic.stats().waiters === agents.length, "all to sleep");
    topic.publish("wake up");
    const texts = await Promise.all(agents.map((agent) => agent.run("return await objects.next;")));
    assert.deepEqual(texts, agents.map(() => "wake up"));
    await until(() => topic.stats().waiters === agents.length, "all to sleep again");
    for (const agent of agents) {
      assert.deepEqual(await agent.run("return objects.counts"), [1, 1, 1, 1]);
    }
    // Nobody is left who counts as asleep.
    await Promise.all(
      agents.map((agent) => agent.run("for (const one of objects.subscriptions) one.close();")),
    );
    await until(() => topic.stats().waiters === 0, "nobody to sleep");
    await endAll(agents);
  });

  test("lets a process end that only waits for messages, unless it asks to be kept", {
    ...slow,
  }, async () => {
    using place = openTopic({ ...OPTIONS, codec: utf8 });
    const join = joining(place.key, `{ ...${SHOWN}, codec: collections.utf8 }`);
    const [idle, kept] = [startAgent(ownRuntime), startAgent(ownRuntime)];
    for (const [agent, ref] of [[idle, false], [kept, true]] as const) {
      await agent.run(`
        ${join}
        objects.subscription = objects.topic.subscribe(
          ({ value }) => value === "end" && objects.subscription.unref(), { ref: ${ref} });`);
    }
    assert.equal(await idle.end(), 0);
    kept.child.stdin!.write('["end"]\n');
    kept.child.stdin!.end();
    await until(() => place.topic.stats().waiters > 0, "the wait");
    place.topic.publish("go on");
    await until(() => place.topic.stats().waiters > 0, "the wait");
    assert.equal(kept.child.exitCode, null);
    place.topic.publish("end");
    assert.equal(await withDeadline(kept.ended, "its end"), 0);
  });

  test("lets a process end after for await has ended with an error, whatever its ref is", {
    ...slow,
  }, async () => {
    using place = openTopic({ ...OPTIONS, codec: utf8 });
    const agent = startAgent(ownRuntime);
    await agent.run(`
      const codec = { ...collections.utf8, decode() { throw new Error("of the codec"); } };
      ${joining(place.key, `{ ...${SHOWN}, codec }`)}
      objects.iteration = (async () => {
        for await (const _ of objects.topic.subscribe({ ref: true }));
      })().catch((error) => error.message);`);
    place.topic.publish("a");
    assert.equal(await agent.run("return await objects.iteration;"), "of the codec");
    assert.equal(await agent.end(), 0);
  });

  test("is read while a publisher is stopped in the middle; the next one learns by whom", {
    ...slow,
    ...crewOnly,
  }, async () => {
    for (const runtime of runtimes) {
      using place = openTopic({ ...OPTIONS, codec: utf8 });
      const { topic } = place;
      const agent = startAgent(runtime);
      await agent.run(joining(place.key, `{ ...${SHOWN}, codec: collections.utf8 }`));
      const seen: string[] = [];
      using _subscription = topic.subscribe(({ value }) => void seen.push(value));
      const reader = topic.reader();
      topic.publish("before");
      await agent.run(`setTimeout(() => {
        const { store } = Atomics;
        Atomics.store = (...args) => {
          store(...args);
          if (args[1] === 16) for (;;); // the tail: the message is in the log
        };
        objects.topic.publish("its last one");
      })`);
      await until(() => seen.length >= 1, "the first message");
      await until(() => reader.hasNext && topic.stats().last === 2, "the second one");
      if (process.platform !== "win32") process.kill(agent.child.pid!, "SIGSTOP");
      const brief = place.join({ lockTimeout: 100 });
      const isBusy = (method: string, ms = 100) => ({
        name: "SyncError",
        code: "Busy",
        message: new RegExp(
          `^SharedTopic.${method}: process ${agent.child.pid} .*has been changing the topic for ${ms} ms`,
        ),
      });
      assert.throws(() => brief.publish("x"), isBusy("publish"));
      await assert.rejects(brief.publishAsync("x"), isBusy("publishAsync"));
      const first = brief.publishAsync("first", { timeout: 1000 });
      for (const timeout of [0, 50]) { // they wait for the first call, and do not come to look at the lock
        await assert.rejects(brief.publishAsync("x", { timeout }), isBusy("publishAsync", timeout));
      }
      await assert.rejects(first, isBusy("publishAsync", 1000));
      assert.deepEqual([reader.next()?.value, reader.next()?.value], ["before", "its last one"]);
      assert.equal(topic.reader({ from: "oldest" }).next()?.value, "before");
      assert.equal(topic.reader({ from: 2 }).next()?.value, "its last one");
      const late = topic.reader();
      const waiting = brief.publishAsync("after", { timeout: 20_000 });
      await agent.kill();
      assert.equal(await waiting, 3);
      assert.deepEqual([reader.next()?.value, late.next()], [
        "after",
        { value: "after", sequence: 3, lost: 0 },
      ]);
      await until(() => seen.length === 3, "all messages");
      assert.deepEqual(seen, ["before", "its last one", "after"]);
      assert.equal(topic.stats().recovered, 1);
    }
  });

  for (const isBefore of [true, false]) {
    const when = isBefore ? "before" : "after";
    test(`goes on if a publisher is killed ${when} each atomic operation of a publication`, {
      ...slow,
      ...crewOnly,
    }, async () => {
      // The ring is full, so that space is freed too.
      const options = { bytes: 512, lockTimeout: LOCK_MS } as const;
      for (const [nth, name] of [[1, "store"], [1, "exchange"], [2, "store"]] as const) {
        using place = openTopic(options);
        const { topic } = place;
        for (let i = 1; i <= 40; i++) topic.publish(valueOf(1, i, i % 20));
        const reader = topic.reader();
        const agent = startAgent(runtimes[nth % runtimes.length]!);
        await agent.run(joining(place.key, JSON.stringify(options)));
        await agent.run(`setTimeout(() => {
          ${MESSAGES}
          const original = Atomics.${name};
          const isOfLog = (array) => array.length === 48;
          let left = ${nth};
          const message = valueOf(2, 1, 50);
          Atomics.${name} = (...args) => {
            if (!isOfLog(args[0]) || --left !== 0) return original(...args);
            if (!${isBefore}) original(...args);
            args[0][40] = 1; // a word of the third line that nobody uses
            for (;;);
          };
          objects.topic.publish(message);
        })`);
        // The second store never comes: the log is stored to once.
        const isThere = () => place.words[40] === 1 || (nth === 2 && topic.stats().last === 41);
        await until(isThere, "the moment");
        await agent.kill();
        const { last } = topic.stats();
        assert.ok(last === 40 || last === 41, `${last}`);
        assert.equal(topic.publish(valueOf(3, 1, 100)), last + 1);
        const numbers: number[] = [];
        for (let expected = 41;; expected++) {
          const message = reader.next();
          if (message === undefined) break;
          assert.deepEqual([message.sequence, message.lost], [expected, 0]);
          numbers.push(numberOf(message.value)[0]);
        }
        assert.deepEqual(numbers, last === 40 ? [3] : [2, 3]);
      }
    });
  }

  test("is published to by code that a timeout of node:vm stops anywhere", {
    ...slow,
    skip: ownRuntime.name === "node" ? false : "only Node ends code in the middle of a loop",
  }, () => {
    using place = openTopic({ bytes: 512, codec: utf8, lockTimeout: 50 });
    const { topic } = place;
    Object.assign(globalThis, { topicOfTest: topic });
    try {
      const endless = new vm.Script('for (;;) topicOfTest.publish("text");');
      for (let i = 0; i < 200; i++) {
        const reader = topic.reader();
        const { last } = topic.stats();
        assert.throws(() => endless.runInThisContext({ timeout: 1 }), /timed out/);
        const own = topic.publish("after");
        for (let expected = last + 1; expected <= own;) {
          const message = reader.next()!;
          assert.equal(message.sequence, expected + message.lost);
          assert.equal(message.value, message.sequence === own ? "after" : "text");
          expected = message.sequence + 1;
        }
      }
    } finally {
      Reflect.deleteProperty(globalThis, "topicOfTest");
    }
  });

  test("is used by threads of one process, each with its own subscriptions", slow, async () => {
    using place = openTopic({ ...OPTIONS, codec: utf8 });
    const { topic } = place;
    const threads = [1, 2, 3].map((me) =>
      new Thread(
        place.key,
        `
        const topic = collections.SharedTopic.at(memory.bytes, 0, {
          codec: collections.utf8, lockTimeout: ${LOCK_MS} });
        const own = [];
        const subscription = topic.subscribe(({ value }) => {
          own.push(value);
          if (own.length === 300) {
            tell(own);
            subscription.close();
          }
        }, { ref: true });
        tell("ready");
        await next();
        for (let i = 0; i < 100; i++) topic.publish(${me} + " " + i);`,
      )
    );
    for (const thread of threads) assert.equal(await thread.next(), "ready");
    for (const thread of threads) thread.tell("go");
    const results: string[][] = [];
    for (const thread of threads) results.push(await thread.next());
    for (const texts of results) assert.deepEqual(texts, results[0]);
    assert.equal(new Set(results[0]).size, 300);
    assert.equal(topic.stats().last, 300);
    for (const thread of threads) assert.equal(await thread.end(), 0);
  });

  test(
    "is not held up by a subscriber that does not come to read",
    { ...slow, ...crewOnly },
    async () => {
      using place = openTopic({ bytes: 2 ** 14 });
      const { topic } = place;
      const agent = startAgent(runtimes[0]!);
      await agent.run(`
      ${joining(place.key, JSON.stringify({ bytes: 2 ** 14 }))}
      objects.lost = objects.count = 0;
      objects.topic.subscribe(({ lost }) => {
        objects.lost += lost;
        objects.count++;
      });`);
      await until(() => topic.stats().waiters === 1, "the wait");
      if (process.platform !== "win32") process.kill(agent.child.pid!, "SIGSTOP");
      const begun = performance.now();
      for (let i = 0; i < 10_000; i++) topic.publish(new Uint8Array(100));
      assert.ok(performance.now() - begun < DEADLINE_MS / 2);
      if (process.platform !== "win32") process.kill(agent.child.pid!, "SIGCONT");
      let [lost, count] = [0, 0];
      while (lost + count < 10_000) {
        [lost, count] = await agent.run("return [objects.lost, objects.count];");
      }
      assert.equal(lost + count, 10_000);
      assert.ok(process.platform === "win32" || lost > 9000);
      await agent.end();
    },
  );
});
