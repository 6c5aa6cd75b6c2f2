/** One worker of the demonstration, in Deno, Bun or Node: `worker.ts <key> <slot> <seconds> <lock>` */
import process from "node:process";
import { setTimeout } from "node:timers/promises";
import { SharedMemory } from "../../mod.ts";
import { countWord, Phase, PHASE_WORD, pidWord, TOTAL_WORD } from "./layout.ts";

const GATE_TIMEOUT_MS = 90_000;

function check(done: boolean, memory: SharedMemory): void {
  if (!done) throw new Error(memory.errorString());
}

async function passGate(words: BigUint64Array): Promise<void> {
  const timeout = performance.now() + GATE_TIMEOUT_MS;
  // Nothing can block on the word (`Atomics.wait` refuses such memory): it is looked at every millisecond.
  while (Atomics.load(words, PHASE_WORD) === Phase.Waiting) {
    if (performance.now() > timeout) throw new Error("the start gate did not open");
    await setTimeout(1);
  }
}

async function work(key: string, slot: number, seconds: number, locked: boolean) {
  using memory = new SharedMemory(key);
  check(memory.attach(), memory);
  const words = memory.view(BigUint64Array);
  const mine = countWord(slot);
  Atomics.store(words, pidWord(slot), BigInt(process.pid));
  await passGate(words);

  let count = 0;
  const start = performance.now();
  const end = start + seconds * 1000;
  while (performance.now() < end && words[PHASE_WORD] === Phase.Running) {
    if (locked) check(memory.lock(), memory);
    // Not atomic on purpose: only the lock keeps two processes from reading the same total.
    const total = words[TOTAL_WORD]!;
    words[TOTAL_WORD] = total + 1n;
    words[mine] = words[mine]! + 1n;
    if (locked) check(memory.unlock(), memory);
    count++;
  }
  const elapsed = (performance.now() - start) / 1000;
  check(memory.detach(), memory);
  return { count, seconds: elapsed };
}

// On Windows Ctrl-C reaches every process of the console; the parent stops us through the segment.
if (process.platform === "win32") process.on("SIGINT", () => {});

const [key = "", slot, seconds, lock] = process.argv.slice(2);
try {
  const report = await work(key, Number(slot), Number(seconds), lock === "lock");
  console.log(JSON.stringify(report));
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
