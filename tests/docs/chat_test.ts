/** `examples/chat.ts` in real browsers: pages of different processes get all messages, also when a process is killed. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { Browser, hasChromium } from "../../scripts/browser.ts";
import { bunServerOnly } from "../support/bun_servers.ts";
import { inOwnFolder, type Program, startExample } from "../support/program.ts";
import { DEADLINE_MS, isRequired, leaveNothingBehind, runtimes, slow } from "../support/support.ts";

const needsChromium = hasChromium || isRequired("chromium")
  ? bunServerOnly
  : { skip: "chromium is not installed (Debian: chromium)" };
const bun = runtimes.find(({ name }) => name === "bun");

const SHOWN = `({
  server: Number(/process (\\d+)/.exec(document.getElementById("state").textContent)?.[1] ?? 0),
  messages: [...document.querySelectorAll("li")].map((item) =>
    item.querySelector("b").textContent + ": " + item.lastChild.textContent),
})`;

interface Shown {
  /** The process to which the page is connected, 0 if it is not. */
  readonly server: number;
  readonly messages: string[];
}

/** Waits until a page shows what it should. */
async function untilShown(browser: Browser, condition: (shown: Shown) => boolean): Promise<Shown> {
  for (const deadline = Date.now() + DEADLINE_MS;;) {
    const shown = await browser.evaluate(SHOWN) as Shown;
    if (condition(shown)) return shown;
    if (Date.now() > deadline) throw new Error(`the page still shows ${JSON.stringify(shown)}`);
    await delay(50);
  }
}

/** Writes a message, as a user does. */
async function say(browser: Browser, name: string, text: string): Promise<void> {
  await untilShown(browser, ({ server }) => server !== 0);
  await browser.evaluate(`{
    document.getElementById("name").value = ${JSON.stringify(name)};
    document.getElementById("text").value = ${JSON.stringify(text)};
    document.getElementById("send").click();
  }`);
}

/** Opens the page until it is connected to another process than `other`; returns to which. */
async function connect(browser: Browser, url: string, other: number): Promise<number> {
  for (const deadline = Date.now() + DEADLINE_MS; Date.now() < deadline;) {
    await browser.open(url);
    const { server } = await untilShown(browser, ({ server }) => server !== 0);
    if (server !== other) return server;
  }
  throw new Error("all pages are connected to one process");
}

describe("the chat in browsers", needsChromium, () => {
  leaveNothingBehind();
  inOwnFolder();

  test("brings each message to the pages of all processes, in one order, once", slow, async () => {
    const first = startExample("chat.ts", ["0"], bun);
    const [url] = await first.line(/^http:\/\/127\.0\.0\.1:\d+$/);
    const second = startExample("chat.ts", [new URL(url).port], bun);
    await second.line(/^http:/);
    const programs = [first, second];
    const browsers = [await Browser.start(500, 700), await Browser.start(500, 700)] as const;
    try {
      const [ann, bob] = browsers;
      const annServer = await connect(ann, url, 0);
      const bobServer = await connect(bob, url, annServer);
      assert.deepEqual([annServer, bobServer].sort(), [first.pid, second.pid].sort());

      await say(ann, "ann", "hello <b>bob</b>");
      const expected = ["ann: hello <b>bob</b>"];
      for (const page of browsers) {
        const { messages } = await untilShown(page, ({ messages }) => messages.length === 1);
        assert.deepEqual(messages, expected);
      }
      for (const [page, name] of [[bob, "bob"], [ann, "ann"]] as const) {
        for (const text of ["one", "two 😀"]) await say(page, name, text);
      }
      const shown = await Promise.all(
        browsers.map((page) => untilShown(page, ({ messages }) => messages.length === 5)),
      );
      assert.deepEqual(shown[0]!.messages, shown[1]!.messages);

      // Ann's process is killed: her page finds the other one, and knows what it has shown.
      const killed: Program = annServer === first.pid ? first : second;
      killed.kill("SIGKILL");
      await killed.ended;
      await say(bob, "bob", "are you there?");
      await untilShown(ann, ({ server }) => server === bobServer);
      await say(ann, "ann", "yes");
      const both = await Promise.all(
        browsers.map((page) => untilShown(page, ({ messages }) => messages.length === 7)),
      );
      assert.deepEqual(both[0]!.messages, both[1]!.messages);
      assert.deepEqual(both[0]!.messages.slice(-2), ["bob: are you there?", "ann: yes"]);
      // A page that is opened now gets what was said before.
      await ann.open(url);
      const { messages } = await untilShown(ann, ({ messages }) => messages.length === 7);
      assert.deepEqual(messages, both[1]!.messages);
      // All servers end, and the messages with them. The pages that are still open show what is said from then on.
      const last = killed === first ? second : first;
      last.kill("SIGTERM");
      await last.output();
      const third = startExample("chat.ts", [new URL(url).port], bun);
      programs.push(third);
      await third.line(/^http:/);
      await untilShown(bob, ({ server }) => server === third.pid);
      await say(bob, "bob", "anew");
      for (const page of browsers) {
        await untilShown(page, ({ messages }) => messages.at(-1) === "bob: anew");
      }
      for (const page of browsers) {
        assert.deepEqual(
          page.problems.filter((problem) => !/net::ERR_|WebSocket/.test(problem)),
          [],
        );
      }
    } finally {
      for (const browser of browsers) await browser.close();
    }
    for (const program of programs.filter(({ hasEnded }) => !hasEnded)) {
      program.kill("SIGTERM");
      await program.output();
    }
  });
});
