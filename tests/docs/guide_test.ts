/** The server of docs/guide.md, taken from that page: several processes, restarts, kills, another version. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import process from "node:process";
import { createInterface } from "node:readline";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { freePort } from "../../scripts/free_port.ts";
import type { Runtime } from "../../scripts/runtimes.ts";
import { blocksOfPage, runnable } from "../support/pages.ts";
import {
  DEADLINE_MS,
  keyFolder,
  leaveNothingBehind,
  linuxOnly,
  ownRuntime,
  runtimes,
  slow,
  withDeadline,
} from "../support/support.ts";

const options = { ...slow, ...linuxOnly };
let programs = "";
let TMPDIR = "";
const servers = new Set<Server>();

class Server {
  readonly ended: Promise<number | string>;
  readonly listening: Promise<unknown>;
  stderr = "";
  readonly #child: ChildProcess;
  readonly #port: number;

  constructor(runtime: Runtime, port: number, file = "server.ts") {
    const flags = runtime.name === "deno" ? ["--allow-net"] : [];
    const args = [...runtime.args, ...flags, `${programs}/${file}`, `${port}`];
    this.#port = port;
    this.#child = spawn(runtime.command, args, { env: { ...process.env, TMPDIR } });
    this.#child.stderr!.on("data", (data) => this.stderr += data);
    this.listening = once(createInterface({ input: this.#child.stdout! }), "line");
    this.ended = new Promise((resolve) => {
      this.#child.on("close", (code, signal) => {
        servers.delete(this);
        resolve(signal ?? code!);
      });
    });
    servers.add(this);
  }

  /** The number of an order. On a busy machine the server gives up the lock after a second, and is asked again. */
  async order(): Promise<number> {
    const deadline = Date.now() + DEADLINE_MS;
    for (;;) {
      const response = await fetch(`http://localhost:${this.#port}/`);
      const text = await response.text();
      const isBusy = response.status === 503 && text.includes("timed out after 1000 ms");
      if (isBusy && Date.now() < deadline) continue;
      assert.equal(response.status, 200, text);
      return Number(/^order (\d+)\n$/.exec(text)![1]);
    }
  }

  async end(signal: NodeJS.Signals): Promise<number | string> {
    process.kill(this.#child.pid!, signal);
    return await withDeadline(this.ended, `the end of a server by ${signal}`);
  }
}

async function start(runtime = ownRuntime, file?: string): Promise<Server> {
  const server = new Server(runtime, await freePort(), file);
  const gone = server.ended.then((how) => {
    throw new Error(`the server ended (${how}): ${server.stderr}`);
  });
  gone.catch(() => {});
  await withDeadline(Promise.race([server.listening, gone]), "a server that listens");
  return server;
}

describe("the server of docs/guide.md", options, () => {
  leaveNothingBehind();

  before(() => {
    programs = mkdtempSync(`${keyFolder}guide-`);
    for (const { file, text } of blocksOfPage("docs/guide.md")) {
      if (file === "") continue;
      const program = runnable(text);
      const next = program.replace("const VERSION = 1;", "const VERSION = 2;")
        .replaceAll("./orders.ts", "./next_orders.ts");
      writeFileSync(`${programs}/${file}`, program);
      writeFileSync(`${programs}/next_${file}`, next);
    }
  });
  after(() => rmSync(programs, { recursive: true }));
  beforeEach(() => TMPDIR = mkdtempSync(`${keyFolder}guide-keys-`));
  afterEach(async () => {
    for (const server of servers) await server.end("SIGKILL");
    rmSync(TMPDIR, { recursive: true });
  });

  test(
    "gives each order one number, whichever process takes it, also when one is killed",
    options,
    async () => {
      const all = await Promise.all(runtimes.map((runtime) => start(runtime)));
      const take = (count: number) =>
        Promise.all(Array.from({ length: count }, (_, i) => all[i % all.length]!.order()));
      const numbers = await take(30);
      assert.equal(await all.pop()!.end("SIGKILL"), "SIGKILL");
      all.push(await start());
      numbers.push(...await take(30));
      assert.deepEqual(numbers.sort((a, b) => a - b), numbers.map((_, i) => i + 1));
      for (const server of all) assert.equal(await server.end("SIGTERM"), 0);
      assert.deepEqual(readdirSync(TMPDIR), []);
    },
  );

  test("begins anew after the last one has ended, or all were killed", options, async () => {
    for (const signal of ["SIGINT", "SIGKILL", "SIGTERM"] as const) {
      const server = await start();
      assert.equal(await server.order(), 1);
      assert.equal(await server.end(signal), signal === "SIGKILL" ? signal : 0);
    }
    assert.deepEqual(readdirSync(TMPDIR), []);
  });

  test("refuses to start beside another version, and starts after it", options, async () => {
    const old = await start();
    await assert.rejects(start(ownRuntime, "next_server.ts"), /has layout 1, not 2/);
    assert.equal(await old.order(), 1);
    assert.equal(await old.end("SIGTERM"), 0);
    const next = await start(ownRuntime, "next_server.ts");
    assert.equal(await next.end("SIGTERM"), 0);
  });

  const node = runtimes.find(({ name }) => name === "node");
  const withNode = node === undefined ? { skip: "Node is not installed" } : options;
  test("is started by node:cluster as well", withNode, async () => {
    writeFileSync(
      `${programs}/cluster.ts`,
      `import cluster from "node:cluster";
      // The primary says that both listen, not each of itself.
      const stdio = ["ignore", "ignore", "inherit", "ipc"] as const;
      cluster.setupPrimary({ exec: ${JSON.stringify(`${programs}/server.ts`)}, stdio: [...stdio] });
      let listening = 0;
      cluster.on("listening", () => ++listening === 2 && console.log("listening"));
      let ended = 0;
      cluster.on("exit", () => ++ended === 2 && process.exit());
      cluster.fork();
      cluster.fork();
      process.once("SIGTERM", () => {
        for (const worker of Object.values(cluster.workers!)) worker!.process.kill("SIGTERM");
      });`,
    );
    const all = await start(node, "cluster.ts");
    const numbers: number[] = [];
    for (let i = 1; i <= 10; i++) numbers.push(await all.order());
    assert.deepEqual(numbers, numbers.map((_, i) => i + 1));
    assert.equal(await all.end("SIGTERM"), 0);
    assert.deepEqual(readdirSync(TMPDIR), []);
  });
});
