/**
 * Takes the picture of the dashboard of `examples/bun_server/` for the documentation, after a minute of load in which
 * servers are killed: `node scripts/dashboard_picture.ts docs/dashboard.png [light|dark]`. Needs Bun and Debian's
 * chromium.
 */
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { Browser } from "./browser.ts";
import { findRuntime } from "./runtimes.ts";

const SECONDS = 62;
const TICK_MS = 50;
/** When a server is killed, in seconds after the begin, and which. */
const KILLS = new Map([[12, 1], [27, 3], [41, 0], [56, 1]]);

const [file = "dashboard.png", scheme = "light"] = process.argv.slice(2);
const bun = findRuntime("bun");
if ("missing" in bun) throw new Error(bun.missing);
const main = path.join(path.dirname(import.meta.dirname!), "examples/bun_server/main.ts");

const supervisor = spawn(bun.command, [main, "0", "4"], {
  stdio: ["ignore", "pipe", "inherit"],
  env: { ...process.env, PER_SECOND: "90", BURST: "120" },
});
let url = "";
for await (const line of createInterface({ input: supervisor.stdout! })) {
  url = /http:\S+/.exec(line)?.[0] ?? "";
  if (url) break;
}

/** One request of one of many clients, of which some ask more than they may. */
async function request(): Promise<void> {
  const client = Math.random() < 0.25 ? "greedy" : `client ${Math.floor(Math.random() * 20)}`;
  const headers = { "x-client": client, connection: "close" };
  const isOrder = Math.random() < 0.6;
  try {
    const response = isOrder
      ? await fetch(`${url}/orders`, {
        method: "POST",
        headers: { ...headers, "idempotency-key": crypto.randomUUID() },
      })
      : await fetch(`${url}/hello`, { headers });
    await response.text();
  } catch {
    // The server has been killed.
  }
}

const browser = await Browser.start(1000, 770, 1.5);
try {
  await browser.setColorScheme(scheme === "dark" ? "dark" : "light");
  await browser.open(url);
  const pending: Promise<void>[] = [];
  const started = performance.now();
  for (let tick = 0; tick * TICK_MS < SECONDS * 1000; tick++) {
    const second = tick * TICK_MS / 1000;
    const perSecond = 320 + 140 * Math.sin(second / 7) + 60 * Math.sin(second / 1.7);
    for (let i = 0; i < perSecond * TICK_MS / 1000; i++) pending.push(request());
    const killed = KILLS.get(second);
    if (killed !== undefined) {
      const { servers } = await (await fetch(`${url}/stats`)).json() as {
        servers: { pid: number }[];
      };
      process.kill(servers[killed]!.pid, "SIGKILL");
    }
    await delay(Math.max(0, started + (tick + 1) * TICK_MS - performance.now()));
  }
  writeFileSync(file, await browser.screenshot());
  await Promise.all(pending);
} finally {
  await browser.close();
  supervisor.kill("SIGTERM");
}
