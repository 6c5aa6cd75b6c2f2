/** The other process of `hand_off.ts`, which starts it: `<runtime> hand_off_peer.ts KEY SOCKET`. */
import { connect } from "node:net";
import process from "node:process";
import { SharedMemory } from "../mod.ts";
import { requests, sharedNow, sleepMs, waiters } from "./hand_off_pair.ts";

/** The other's worker is in the kernel, but may be on its way to sleep. */
const asleepNs = 20_000;

const [key, path] = process.argv.slice(2);
if (key === undefined || path === undefined) throw new Error("usage: hand_off_peer.ts KEY SOCKET");
const memory = new SharedMemory(key);
if (!memory.attach()) throw new Error(memory.errorString());
const unlockedAt = memory.view(Float64Array, 0, 1);
const waiting = waiters(memory);
const socket = connect(path);

function lock(): void {
  if (!memory.lock()) throw new Error(memory.errorString());
  socket.write("l");
}

function unlock(): void {
  unlockedAt[0] = sharedNow();
  if (!memory.unlock()) throw new Error(memory.errorString());
}

function spin(condition: () => boolean): void {
  const end = sharedNow() + 10e9;
  while (!condition()) {
    if (sharedNow() > end) throw new Error("the other process does not wait");
  }
}

function unlockWhenAwaited(): void {
  spin(() => waiting() === 1);
  const awake = sharedNow() + asleepNs;
  spin(() => sharedNow() > awake);
  unlock();
}

socket.on("data", (data) => {
  const request = data.toString();
  if (request === requests.echo) {
    socket.write(request);
    return;
  }
  lock();
  if (request === requests.unlockAtOnce) unlockWhenAwaited();
  else setTimeout(unlock, sleepMs);
});
socket.on("close", () => memory.detach());
