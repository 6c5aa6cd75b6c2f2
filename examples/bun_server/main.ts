/**
 * Several Bun servers on one port, which share everything through memory, and a supervisor that replaces
 * those that end:
 *
 *     bun examples/bun_server/main.ts 8000 4        # port and number of servers
 *     open http://localhost:8000                    # a dashboard
 *     bun examples/bun_server/client.ts http://localhost:8000
 *
 * Kill servers as you like, with SIGTERM or SIGKILL: no order is lost or counted twice.
 */
import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { SharedMemoryException } from "../../mod.ts";
import "../bun.ts"; // says so if this is not Bun
import { State } from "./state.ts";

const [wantedPort = 8000, count = 4] = process.argv.slice(2).map(Number);
const SERVER = fileURLToPath(new URL("server.ts", import.meta.url));
/** A server that ends sooner is replaced after a pause: it may do so again and again. */
const SHORT_LIFE_MS = 1000;
const STOP_MS = 10_000;

function create(): State {
  try {
    return State.create(count);
  } catch (error) {
    if (!(error instanceof SharedMemoryException) || error.code !== "AlreadyExists") throw error;
    console.error("Another supervisor runs already.");
    process.exit(1);
  }
}

/** The segment is there as long as the supervisor is, whatever happens to the servers. */
const state = create();
const children = new Map<number, ChildProcess>();
let isStopping = false;
let isUp = false;

/** Starts a server, and again when it has ended; resolves to its port once it is ready. */
function start(server: number, port: number): Promise<number> {
  const started = Date.now();
  const child = spawn(process.execPath, [SERVER, `${server}`, `${port}`], {
    // When the supervisor is gone, their input ends, and so do they.
    stdio: ["pipe", "pipe", "inherit"],
  });
  children.set(server, child);
  const { promise, resolve } = Promise.withResolvers<number>();
  createInterface({ input: child.stdout! }).on("line", (line) => {
    const ready = /^ready (\d+)$/.exec(line)?.[1];
    if (ready) resolve(Number(ready));
  });
  child.on("exit", async (code, signal) => {
    children.delete(server);
    const numbers = state.of(server);
    numbers.pid.set(0);
    if (isStopping) return;
    if (!isUp) process.exit(1); // as when the port is taken: the server has said why
    console.log(`server ${server} (process ${child.pid}) ended with ${signal ?? code}`);
    numbers.restarts.add();
    if (Date.now() - started < SHORT_LIFE_MS) await sleep(SHORT_LIFE_MS / 2);
    if (!isStopping) start(server, port).then(resolve);
  });
  return promise;
}

async function stop(): Promise<void> {
  if (isStopping) return;
  isStopping = true;
  const ended = [...children.values()].map((child) =>
    new Promise((resolve) => child.on("exit", resolve))
  );
  for (const child of children.values()) child.kill("SIGTERM");
  const timer = setTimeout(() => {
    for (const child of children.values()) child.kill("SIGKILL");
  }, STOP_MS);
  await Promise.all(ended);
  clearTimeout(timer);
  process.exit();
}

for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, stop);

// With port 0 the first server gets a free one, which the others then share.
const port = await start(1, wantedPort);
await Promise.all(Array.from({ length: count - 1 }, (_, i) => start(i + 2, port)));
isUp = true;
console.log(`${count} servers on http://127.0.0.1:${port}`);

let [before, last] = [state.summary().requests, performance.now()];
setInterval(() => {
  const [requests, now] = [state.summary().requests, performance.now()];
  state.remember((requests - before) / (now - last) * 1000);
  [before, last] = [requests, now];
}, 1000);
