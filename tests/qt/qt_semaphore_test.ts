/** SystemSemaphore and real Qt's QSystemSemaphore: one value for both. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { describe, test } from "node:test";
import { SystemSemaphore, SystemSemaphoreMode } from "../../mod.ts";
import { type Pair, pairs, versions, withQt } from "../support/qt_pairs.ts";
import {
  type Agent,
  leaveNothingBehind,
  semaphoreFile,
  semaphoreValue,
  startQt,
  uniqueKey,
  untilBlocked,
} from "../support/support.ts";
import { semaphoreRow } from "../support/systemv_tables.ts";

const { Open, Create } = SystemSemaphoreMode;

/** Both processes with a semaphore `s`: the first makes it with `value`, the second opens it. */
async function startOpen({ first, second }: Pair, key: string, value: number, own = 9) {
  const [maker, opener] = [first.start(), second.start()];
  await maker.request("semaphore", "s", key, value);
  assert.equal(semaphoreValue(key), value);
  await opener.request("semaphore", "s", key, own);
  return [maker, opener] as const;
}

async function expectTrue(agent: Agent, method: string, ...args: unknown[]) {
  assert.equal(await agent.call("s", method, ...args), true);
  assert.equal(await agent.call("s", "error"), 0);
}

describe("semaphores of Qt and ours", () => {
  leaveNothingBehind();

  for (const pair of pairs) {
    const { first, second, options } = pair;

    test(`${second.name} counts with the semaphore of ${first.name}`, options, async () => {
      const key = uniqueKey();
      const [maker, opener] = await startOpen(pair, key, 2);
      assert.equal(semaphoreValue(key), 2); // the opener's own initial value counts for nothing
      await expectTrue(opener, "acquire");
      assert.equal(semaphoreValue(key), 1);
      await expectTrue(maker, "acquire");
      assert.equal(semaphoreValue(key), 0);
      await expectTrue(opener, "release");
      assert.equal(semaphoreValue(key), 1);
      await expectTrue(maker, "release", 3);
      assert.equal(semaphoreValue(key), 4);
      await expectTrue(opener, "release", 32763);
      assert.equal(semaphoreValue(key), 32767);
      for (const agent of [maker, opener]) {
        assert.equal(await agent.call("s", "release"), false);
        assert.equal(await agent.call("s", "error"), 5); // OutOfResources
      }
      assert.equal(semaphoreValue(key), 32767);
      assert.equal(await opener.end(), 0);
      assert.equal(await maker.end(), 0); // it made it and removes it
      assert.equal(existsSync(semaphoreFile(key)), false);
    });

    test(`${second.name} waits in acquire() until ${first.name} releases`, options, async () => {
      const key = uniqueKey();
      const [maker, opener] = await startOpen(pair, key, 0);
      let got = false;
      const acquired = opener.call("s", "acquire").then((result) => got = result);
      await untilBlocked(key);
      assert.equal(got, false);
      await expectTrue(maker, "release", 3);
      assert.equal(await acquired, true);
      assert.equal(semaphoreValue(key), 2);
      await expectTrue(opener, "acquire");
      await expectTrue(opener, "acquire");
      const again = opener.call("s", "acquire");
      await untilBlocked(key);
      await expectTrue(maker, "release");
      assert.equal(await again, true);
      assert.equal(semaphoreValue(key), 0);
      assert.equal(await opener.end(), 0);
      assert.equal(await maker.end(), 0);
    });

    test(`${first.name} gets back what ${second.name} had when it dies`, options, async () => {
      const key = uniqueKey();
      const [maker, opener] = await startOpen(pair, key, 2);
      await expectTrue(opener, "acquire");
      await expectTrue(opener, "acquire");
      const acquired = maker.call("s", "acquire");
      await untilBlocked(key);
      await opener.kill();
      assert.equal(await acquired, true);
      assert.equal(semaphoreValue(key), 1);
      await expectTrue(maker, "release");
      // The kernel likewise takes back what a process released, even at its normal end.
      const releaser = second.start();
      await releaser.request("semaphore", "s", key);
      await expectTrue(releaser, "release", 4);
      assert.equal(semaphoreValue(key), 6);
      assert.equal(await releaser.end(), 0);
      assert.equal(semaphoreValue(key), 2);
      assert.equal(await maker.end(), 0);
    });

    test(
      `${second.name} takes over the semaphore of ${first.name} with Create, and removes it`,
      options,
      async () => {
        const key = uniqueKey();
        const [maker, opener] = [first.start(), second.start()];
        await maker.request("semaphore", "s", key, 5, Open);
        const { semid } = semaphoreRow(key);
        await opener.request("semaphore", "s", key, 2, Create);
        assert.equal(semaphoreValue(key), 2);
        assert.equal(semaphoreRow(key)["semid"], semid);
        await expectTrue(maker, "release");
        assert.equal(semaphoreValue(key), 3);
        await opener.request("dispose", "s");
        assert.equal(existsSync(semaphoreFile(key)), false);
        await expectTrue(maker, "release"); // made again, with the initial value of who needs it
        assert.equal(semaphoreValue(key), 6);
        assert.notEqual(semaphoreRow(key)["semid"], semid);
        assert.equal(await opener.end(), 0);
        assert.equal(await maker.end(), 0);
      },
    );

    test(
      `${second.name} waits in acquire() and makes the semaphore again that ${first.name} removes`,
      options,
      async () => {
        const key = uniqueKey();
        const [maker, opener] = await startOpen(pair, key, 0, 3);
        const { semid } = semaphoreRow(key);
        const acquired = opener.call("s", "acquire");
        await untilBlocked(key);
        assert.equal(await maker.end(), 0);
        assert.equal(await acquired, true);
        assert.notEqual(semaphoreRow(key)["semid"], semid);
        assert.equal(semaphoreValue(key), 2);
        assert.equal(await opener.end(), 0);
      },
    );
  }

  for (const version of versions) {
    test(
      `this process wakes Qt ${version} up, and takes what it releases`,
      withQt(version),
      async () => {
        const key = uniqueKey();
        using semaphore = new SystemSemaphore(key, 0);
        const qt = startQt(version);
        await qt.request("semaphore", "s", key, 1);
        const acquired = qt.call("s", "acquire");
        await untilBlocked(key);
        assert.equal(semaphore.release(2), true, semaphore.errorString());
        assert.equal(await acquired, true);
        assert.equal(semaphore.acquire(), true, semaphore.errorString());
        await expectTrue(qt, "release");
        assert.equal(semaphore.acquire(), true, semaphore.errorString());
        assert.equal(semaphoreValue(key), 0);
        await qt.request("dispose", "s");
        await qt.request("semaphore", "s", key, 4, Create);
        assert.equal(semaphore.acquire(), true, semaphore.errorString());
        assert.equal(semaphoreValue(key), 3);
        assert.equal(await qt.end(), 0); // Qt owned it since, and removed it
        assert.equal(existsSync(semaphoreFile(key)), false);
        assert.equal(semaphore.release(), true, semaphore.errorString());
        assert.equal(semaphoreValue(key), 1);
      },
    );
  }
});
