/**
 * A pool of workers that send mails. No mail is lost when a worker is killed with `kill -9`, nor when all of them end. In
 * any runtime, and as many workers as you like:
 *
 *     node examples/mail_workers.ts work           # a worker; each mail takes it half a second
 *     bun examples/mail_workers.ts send ann bob    # queues mails
 *     deno run --allow-ffi examples/mail_workers.ts show
 *     node examples/mail_workers.ts stop           # the workers end when all mails are sent
 */
import process from "node:process";
import { setTimeout as pause } from "node:timers/promises";
import { json, SharedQueue } from "../collections/mod.ts";

interface Mail {
  readonly to: string;
}

const mails = SharedQueue.open<Mail>("mails", {
  bytes: 2 ** 20,
  codec: json,
  maxAttempts: 3,
  lifetime: "until-removed", // also if no process runs
});

/** Sends a mail. The sender of real mails would pass `id` on, so that a mail which is sent twice arrives once. */
async function deliver({ to }: Mail, id: number, ms: number): Promise<void> {
  await pause(ms);
  if (to === "nobody") throw new Error("there is no such address");
  console.log(`sent mail ${id} to ${to}`);
}

const [command, ...args] = process.argv.slice(2);
if (command === "work") {
  const ms = Number(args[0] ?? 500);
  const stop = new AbortController();
  process.once("SIGTERM", () => stop.abort()); // what runs is finished, and the rest is for others
  console.log(`worker ${process.pid} waits for mails`);
  await mails.work({
    concurrency: 4,
    signal: stop.signal,
    backoff: (attempt) => 100 * 2 ** attempt,
    onError: (error, { id, attempt }) =>
      console.log(`mail ${id}, attempt ${attempt}: ${(error as Error).message}`),
  }, async ({ value, id, attempt }) => {
    console.log(`sending mail ${id} to ${value.to}, attempt ${attempt}`);
    await deliver(value, id, ms);
  });
} else if (command === "send") {
  for (const to of args) await mails.sendAsync({ to });
  console.log(`${mails.length} mails wait`);
} else if (command === "show") {
  const { ready, delayed, running, acked, returned } = mails.stats();
  console.log(`${ready + delayed} wait, ${running} are being sent, ${acked} sent`);
  console.log(`${returned} came back from workers that were killed`);
  for (const { id, value, attempts } of mails.failed()) {
    console.log(`mail ${id} to ${value.to} has failed ${attempts} times`);
  }
} else if (command === "stop") {
  mails.close();
  mails.remove(); // with its last process
  console.log(`${mails.length} mails wait`);
} else {
  console.error("usage: mail_workers.ts work [MS] | send NAME … | show | stop");
  process.exitCode = 2;
}
mails[Symbol.dispose]();
