/** The dashboard of `examples/bun_server/` in a real browser: what it shows is what was counted. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { Browser, hasChromium } from "../../scripts/browser.ts";
import { bunServerOnly, startBunServers } from "../support/bun_servers.ts";
import { inOwnFolder, startExample } from "../support/program.ts";
import { DEADLINE_MS, isRequired, leaveNothingBehind, slow } from "../support/support.ts";

const needsChromium = hasChromium || isRequired("chromium")
  ? bunServerOnly
  : { skip: "chromium is not installed (Debian: chromium)" };

/** What the page shows, as text. */
const SHOWN = `({
  ...Object.fromEntries(["connection", "rate", "requests", "orders", "refused", "restarts", "repaired",
      "mailsWaiting", "lag", "hitRate"]
    .map((id) => [id, document.getElementById(id).textContent])),
  servers: [...document.querySelectorAll("tr[data-server]")]
    .map((row) => [...row.cells].map((cell) => cell.textContent)),
  curve: document.getElementById("curve").getAttribute("d"),
})`;

interface Shown {
  connection: string;
  rate: string;
  requests: string;
  orders: string;
  refused: string;
  restarts: string;
  repaired: string;
  mailsWaiting: string;
  lag: string;
  hitRate: string;
  servers: string[][];
  curve: string | null;
}

/** Waits until the page shows what it should. */
async function untilShown(browser: Browser, condition: (shown: Shown) => boolean): Promise<Shown> {
  for (const deadline = Date.now() + DEADLINE_MS;;) {
    const shown = await browser.evaluate(SHOWN) as Shown;
    if (condition(shown)) return shown;
    if (Date.now() > deadline) throw new Error(`the page still shows ${JSON.stringify(shown)}`);
    await delay(50);
  }
}

const text = (value: number) => value.toLocaleString("en");

describe("the dashboard in a browser", needsChromium, () => {
  leaveNothingBehind();
  inOwnFolder();

  test("shows what all servers have counted, also when they are replaced", slow, async () => {
    const servers = await startBunServers(3);
    const browser = await Browser.start(1000, 800);
    try {
      await browser.open(servers.url);
      await untilShown(browser, ({ connection }) => /^live, from server [123]$/.test(connection));

      const client = startExample("bun_server/client.ts", [servers.url, "4", "2000"], undefined, [
        "--allow-net",
      ]);
      await servers.until(({ orders }) => orders > 100, "some orders");
      // Not knowing which server the page is connected to: all of them, one after the other.
      for (const signal of ["SIGTERM", "SIGKILL"] as const) {
        for (const server of [0, 1, 2]) await servers.replace(server, signal);
      }
      await client.output();

      // The memory is the same that the servers show as JSON, which the client's report is checked against.
      const stats = await servers.stats();
      assert.equal(stats.orders, 2000);
      const rows = stats.servers.map(({ pid, requests, orders, refused, restarts }, i) => [
        ...[`${i + 1}`, `${pid}`, text(requests), text(orders), text(refused), text(restarts)],
      ]);
      const rowsOf = (shown: Shown) =>
        shown.servers.map(([server, pid, _up, _share, ...counts]) => [server, pid, ...counts]);
      const isCurrent = (shown: Shown) =>
        shown.connection.startsWith("live") && isDeepStrictEqual(rowsOf(shown), rows) &&
        /^M\S+( L\S+)+$/.test(shown.curve ?? "");
      const shown = await untilShown(browser, isCurrent);
      assert.equal(shown.requests, text(stats.requests));
      assert.equal(shown.orders, "2,000");
      assert.equal(shown.restarts, "6");
      assert.equal(shown.refused, "0");
      assert.equal(shown.repaired, text(stats.repaired));
      assert.match(shown.rate, /^[\d,]+$/);
      // All mails are sent and all news have come at last, although servers were killed with some in their hands.
      const idle = await untilShown(
        browser,
        ({ mailsWaiting, lag }) => mailsWaiting + lag === "00",
      );
      const { mailed, hitRate } = await servers.stats();
      // A server that is killed between an order and its mail sends none; one that is killed after a mail sends it again.
      assert.ok(mailed > 1900 && mailed < 2100, `${mailed}`);
      assert.equal(idle.hitRate, `${(100 * hitRate!).toFixed(1)} %`);
      assert.ok(hitRate! > 0.5, `${hitRate}`);
      const colors: unknown[] = [];
      for (const scheme of ["light", "dark"] as const) {
        await browser.setColorScheme(scheme);
        colors.push(await browser.evaluate("getComputedStyle(document.body).backgroundColor"));
      }
      assert.notEqual(colors[0], colors[1]);
      const page = await browser.screenshot();
      assert.deepEqual([...page.subarray(1, 4)], [..."PNG"].map((letter) => letter.charCodeAt(0)));

      // Lost connections are what the browser may complain about, and nothing else.
      const others = browser.problems.filter((problem) => !/net::ERR_/.test(problem));
      assert.deepEqual(others, []);
    } finally {
      await browser.close();
    }
    await servers.stop();
  });
});
