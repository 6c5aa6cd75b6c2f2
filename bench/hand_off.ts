/**
 * The time from another process's `unlock()` to what follows `await lockAsync()`, and beside it that of
 * a round trip on a Unix socket between the same two processes: `<runtime> hand_off.ts KEY FOLDER ROUNDS`
 * prints the medians in ns as one line of JSON.
 *
 * Each is measured at once and after a sleep of both processes, from which to wake up is what takes most
 * of the time.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer, type Socket } from "node:net";
import { join } from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { SharedMemory } from "../mod.ts";
import { requests, segmentBytes, sharedNow, sleepMs } from "./hand_off_pair.ts";
import { median } from "./timing.ts";

const warmUp = 0.15;
/** Of a round, one after the other. */
const echoes = 20;

/** The other process, and what it is asked. */
class Peer {
  readonly #socket: Socket;
  #answered = () => {};

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", () => this.#answered());
  }

  ask(request: string): Promise<void> {
    const answer = new Promise<void>((resolve) => this.#answered = resolve);
    this.#socket.write(request);
    return answer;
  }

  async end(): Promise<void> {
    this.#socket.end();
    await once(this.#socket, "close");
  }
}

async function startPeer(key: string, path: string): Promise<Peer> {
  const server = createServer().listen(path);
  const program = fileURLToPath(new URL("./hand_off_peer.ts", import.meta.url));
  const runtimeArgs = process.versions["deno"] ? ["run", "--quiet", "--allow-all"] : [];
  const child = spawn(process.execPath, [...runtimeArgs, program, key, path], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  child.on("exit", (code) => {
    if (code !== 0) throw new Error(`the other process ended: ${code}`);
  });
  const [socket] = await once(server, "connection");
  server.close();
  return new Peer(socket);
}

async function roundTrip(peer: Peer): Promise<number> {
  const start = sharedNow();
  await peer.ask(requests.echo);
  return sharedNow() - start;
}

async function handOff(memory: SharedMemory, peer: Peer, request: string): Promise<number> {
  const unlockedAt = memory.view(Float64Array, 0, 1);
  unlockedAt[0] = 0;
  await peer.ask(request);
  const locked = await memory.lockAsync();
  const end = sharedNow();
  const start = unlockedAt[0]!;
  if (!locked || !memory.unlock()) throw new Error(memory.errorString());
  if (start === 0) throw new Error("locked before the other process unlocked");
  return end - start;
}

async function measure(key: string, path: string, rounds: number): Promise<Record<string, number>> {
  const memory = new SharedMemory(key);
  if (!memory.create(segmentBytes) || !memory.lock() || !memory.unlock()) {
    throw new Error(memory.errorString());
  }
  const peer = await startPeer(key, path);
  const times: Record<string, number[]> = {};
  const note = (name: string, ns: number) => (times[name] ??= []).push(ns);
  for (let round = -Math.ceil(warmUp * rounds); round < rounds; round++) {
    if (round === 0) { for (const name of Object.keys(times)) delete times[name]; }
    note("hand-off", await handOff(memory, peer, requests.unlockAtOnce));
    for (let i = 0; i < echoes; i++) note("hand-off (socket)", await roundTrip(peer));
    note("hand-off to sleeper", await handOff(memory, peer, requests.unlockAfterSleep));
    await delay(sleepMs);
    note("hand-off to sleeper (socket)", await roundTrip(peer));
  }
  await peer.end();
  memory.detach();
  return Object.fromEntries(Object.entries(times).map(([name, ns]) => [name, median(ns)]));
}

const [key, folder, rounds] = process.argv.slice(2);
if (key === undefined || folder === undefined || rounds === undefined) {
  throw new Error("usage: hand_off.ts KEY FOLDER ROUNDS");
}
console.log(JSON.stringify(await measure(key, join(folder, "socket"), Number(rounds))));
