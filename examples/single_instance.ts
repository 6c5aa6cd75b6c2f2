/**
 * A program of which only one is to run: who starts it again wakes the one that runs, and ends. If that
 * is killed, also with `kill -9`, the next start succeeds. Start it twice:
 *
 *     node examples/single_instance.ts
 */
import process from "node:process";
import { SharedMemory, SharedMemoryException } from "../mod.ts";
import { Event } from "../sync/mod.ts";

const KEY = "com.example.editor";
const SIZE = Event.BYTES + 4;

/** The segment that says that we run, or `null` if it is another process's. */
function claim(): SharedMemory | null {
  try {
    return SharedMemory.open(KEY, {
      size: SIZE,
      disposition: "create", // fails if somebody has it; what a killed process left is replaced
      initialize: (bytes) => {
        Event.create(bytes, 0);
        new Int32Array(bytes.buffer, Event.BYTES, 1)[0] = process.pid;
      },
    });
  } catch (error) {
    if (error instanceof SharedMemoryException && error.code === "AlreadyExists") return null;
    throw error;
  }
}

/** Tells the process that runs; `false` if it has ended just now. */
function wakeOther(): boolean {
  try {
    using other = SharedMemory.open(KEY);
    Event.at(other.view(Uint8Array)).notify();
    console.log(
      `process ${other.view(Int32Array, Event.BYTES, 1)[0]} runs already: it comes to the front`,
    );
    return true;
  } catch (error) {
    if (error instanceof SharedMemoryException && error.code === "NotFound") return false;
    throw error;
  }
}

// Ctrl-C and a service manager's SIGTERM: an orderly end gives the segment back. Before there is one, so that no
// signal comes in between.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit());

let memory = claim();
while (memory === null) {
  if (wakeOther()) process.exit();
  memory = claim();
}

const hasBeenStarted = Event.at(memory.view(Uint8Array));
console.log(`process ${process.pid} is the only one`);
for (;;) {
  await hasBeenStarted.waitAsync();
  console.log("I was started once more: here is my window");
}
