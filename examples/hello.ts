/**
 * Two programs say hello to each other. Start it in two terminals, in whatever runtimes:
 *
 *     deno run --allow-ffi examples/hello.ts
 *     bun examples/hello.ts
 *     node examples/hello.ts
 */
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { SharedMemory } from "../mod.ts";

const { versions } = process;
const runtime = versions["deno"] ? "Deno" : versions["bun"] ? "Bun" : "Node";

// 128 bytes that every program finds under the name "hello". Whoever comes first makes them, filled with
// zeros, and gets to initialize them; the others find them ready.
let isFirst = false;
using memory = SharedMemory.open("hello", {
  size: 128,
  initialize: () => {
    isFirst = true;
  },
});

// The bytes, as an array like any other: what one program stores in it, the other one sees at once.
const bytes = memory.view(Uint8Array);
const [mine, theirs] = isFirst ? [0, 64] : [64, 0];

// Text takes more than one store. With the lock held nobody sees half of it.
memory.withLock(() => {
  new TextEncoder().encodeInto(
    `hello from ${runtime}, process ${process.pid}`,
    bytes.subarray(mine),
  );
});

function read(): string {
  return memory.withLock(() => {
    const half = bytes.subarray(theirs, theirs + 64);
    return new TextDecoder().decode(half.slice(0, half.indexOf(0)));
  });
}

if (isFirst) console.log("I am the first one: start me once more in another terminal.");
while (read() === "") await sleep(20);
console.log(`The other one says: ${read()}`);

// Here `using` lets go of the memory; the last program to do that removes it.
