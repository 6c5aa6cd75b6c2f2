/**
 * Deno, Bun and Node count on one number, under one lock. Each of the three can start it:
 *
 *     deno run --allow-ffi --allow-env --allow-run examples/cross_runtime.ts
 *     bun examples/cross_runtime.ts
 *     node examples/cross_runtime.ts
 */
import { spawn } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { SharedMemory } from "../mod.ts";

const TURNS = 20_000;
const RUNTIMES: readonly (readonly string[])[] = [
  ["deno", "run", "--allow-ffi"],
  ["bun"],
  ["node", "--disable-warning=ExperimentalWarning"],
];

/** What each of the three does, in a process of its own. */
function count(): void {
  using memory = SharedMemory.open("cross runtime"); // without a size: it must be there
  const total = memory.view(BigInt64Array);
  for (let i = 0; i < TURNS; i++) {
    memory.withLock(() => {
      total[0]! += 1n; // read, add, write: three steps, which the lock makes one
    });
  }
}

/** Starts this file in a runtime, and waits for its end; returns what became of it. */
function run([command, ...args]: readonly string[]): Promise<string> {
  const child = spawn(command!, [...args, fileURLToPath(import.meta.url), "count"], {
    stdio: "inherit",
  });
  return new Promise((resolve) => {
    child.on("error", () => resolve("is not installed"));
    child.on(
      "exit",
      (code, signal) => resolve(code === 0 ? `added ${TURNS}` : `ended with ${signal ?? code}`),
    );
  });
}

if (process.argv[2] === "count") {
  count();
} else {
  using memory = SharedMemory.open("cross runtime", { size: 8 });
  const total = memory.view(BigInt64Array);
  const outcomes = await Promise.all(RUNTIMES.map(run)); // all at once
  RUNTIMES.forEach(([name], i) => console.log(`${name!.padEnd(5)} ${outcomes[i]}`));
  console.log(`total ${total[0]}`);
}
