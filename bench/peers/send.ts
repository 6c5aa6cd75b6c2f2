/** `process.send`: a child, forked with a channel for structured clones, has the number and does what it is asked. */
import { fork } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import type { Connection } from "./jobs.ts";
import { requireStamped } from "./mib.ts";

interface Message {
  kind: "increment" | "total" | "echo" | "bytes";
  bytes?: Uint8Array;
}

if (process.send !== undefined && process.argv[2] === "child") {
  let total = 0;
  let number = 0;
  process.on("message", ({ kind, bytes }: Message) => {
    if (kind === "increment") total++;
    if (kind === "bytes") requireStamped(bytes!, ++number);
    process.send!(total);
  });
  process.send("ready");
}

export async function open(): Promise<{ connection: Connection }> {
  const child = fork(import.meta.filename!, ["child"], {
    serialization: "advanced",
    stdio: ["ignore", "ignore", "inherit", "ipc"],
  });
  let answered: (total: number) => void = () => {};
  await once(child, "message");
  child.on("message", (total) => answered(total as number));
  const ask = (message: Message) => {
    const answer = new Promise<number>((resolve) => answered = resolve);
    child.send(message);
    return answer;
  };
  return {
    connection: {
      increment: async () => void await ask({ kind: "increment" }),
      total: () => ask({ kind: "total" }),
      roundTrip: async () => void await ask({ kind: "echo" }),
      handOver: async (bytes) => void await ask({ kind: "bytes", bytes }),
      async close() {
        child.disconnect();
        await once(child, "exit");
      },
    },
  };
}
