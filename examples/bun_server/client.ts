/**
 * Sends orders to the servers as fast as they are answered, and loses none: what got no answer, since a server was
 * killed, is sent again with the same id. In any runtime:
 *
 *     node examples/bun_server/client.ts http://localhost:8000 8 10000    # connections, orders
 *
 * Its last line is a report as JSON. It ends sooner if its input ends (Ctrl-D).
 */
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";

const [url = "http://localhost:8000", connections = "8", orders = "10000"] = process.argv.slice(2);
/** For one answer. */
const ANSWER_MS = 5000;
/** For one order, with all that is sent again. */
const ORDER_MS = 30_000;
const PAUSE_MS = 20;

const report = {
  /** The numbers that the orders got. */
  numbers: [] as number[],
  /** How often there was no answer. */
  lost: 0,
  /** Orders that were counted already when they were sent again. */
  repeated: 0,
  /** How often it was told that it sends too many. */
  refused: 0,
};
let left = Number(orders);

/** Sends an order until it is answered. */
async function place(id: string): Promise<void> {
  for (const deadline = Date.now() + ORDER_MS; Date.now() < deadline;) {
    let response: Response;
    let text: string;
    try {
      response = await fetch(`${url}/orders`, {
        method: "POST",
        headers: { "idempotency-key": id },
        signal: AbortSignal.timeout(ANSWER_MS),
      });
      text = await response.text(); // may be cut off, too
    } catch {
      report.lost++; // whether it was counted nobody can tell: the id can
      await sleep(PAUSE_MS);
      continue;
    }
    if (response.status === 429) {
      report.refused++;
      await sleep(Number(response.headers.get("x-wait-ms") ?? PAUSE_MS));
      continue;
    }
    if (!response.ok) throw new Error(`${response.status}: ${text}`);
    const { number, isRepeated } = JSON.parse(text) as { number: number; isRepeated: boolean };
    report.numbers.push(number);
    if (isRepeated) report.repeated++;
    return;
  }
  throw new Error(`order ${id} got no answer for ${ORDER_MS} ms`);
}

process.stdin.on("end", () => left = 0).resume();
await Promise.all(Array.from({ length: Number(connections) }, async () => {
  while (left-- > 0) await place(crypto.randomUUID());
}));
console.log(JSON.stringify(report));
process.exit(); // the input may still be open
