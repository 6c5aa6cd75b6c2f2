/**
 * One of the servers, which `main.ts` starts: `bun server.ts NUMBER PORT`. All listen on the same port, and it does
 * not matter which of them a client gets, since they have everything in common.
 */
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { file, serve, type Server } from "../bun.ts";
import { State } from "./state.ts";

const [number, port] = process.argv.slice(2).map(Number) as [number, number];
const DRAIN_MS = 8000;
const EVENT_MS = 500;

// Not `using`: that would let go of the memory at the end of this file, where a server only begins.
const state = State.join();
const numbers = state.of(number);
const dashboard = await file(new URL("dashboard.html", import.meta.url)).text();

/** Aborted when this server is to end. */
const draining = new AbortController();

/** What the dashboard shows. */
function summary(): string {
  return JSON.stringify({ ...state.summary(), answeredBy: number });
}

/** The summary again and again, as server-sent events: a browser that loses the connection makes another one. */
function events(): Response {
  const encoder = new TextEncoder();
  let timer: ReturnType<typeof setInterval>;
  const end = (controller: ReadableStreamDefaultController) => {
    clearInterval(timer);
    controller.close();
  };
  let onDrain: () => void;
  const body = new ReadableStream({
    start(controller) {
      const send = () => controller.enqueue(encoder.encode(`data: ${summary()}\n\n`));
      controller.enqueue(encoder.encode("retry: 200\n"));
      send();
      timer = setInterval(send, EVENT_MS);
      onDrain = () => end(controller);
      draining.signal.addEventListener("abort", onDrain);
    },
    cancel() {
      clearInterval(timer);
      draining.signal.removeEventListener("abort", onDrain);
    },
  });
  return new Response(body, {
    headers: { "content-type": "text/event-stream", "cache-control": "no-store" },
  });
}

/** `POST /orders` with a UUID as `Idempotency-Key`. */
function order(request: Request): Response {
  const order = state.orders.place(request.headers.get("idempotency-key") ?? "", number);
  if (order === null) {
    return new Response("Idempotency-Key has to be a UUID\n", { status: 400 });
  }
  if (!order.isRepeated) state.beside.tell(order);
  return Response.json({ ...order, price: state.beside.price(order.number), answeredBy: number });
}

/** What the rate limiter allows, and how often it was answered. */
async function counted(request: Request, client: string, url: URL): Promise<Response> {
  const { pathname } = url;
  const { allowed, retryAfter } = state.limiter.take(client);
  if (!allowed) {
    numbers.refused.add();
    const seconds = Math.ceil(retryAfter / 1000);
    const headers = { "retry-after": `${seconds}`, "x-wait-ms": `${retryAfter}` };
    return new Response("too many requests\n", { status: 429, headers });
  }
  let response = new Response("there is no such page\n", { status: 404 });
  numbers.active.add();
  if (pathname === "/orders" && request.method === "POST") {
    response = order(request);
  } else if (pathname === "/hello") {
    response = new Response(`hello from server ${number}\n`);
  } else if (pathname === "/slow") {
    await sleep(Math.min(Number(url.searchParams.get("ms") ?? 500), DRAIN_MS / 2));
    response = new Response(`hello from server ${number}, at last\n`);
  }
  numbers.active.add(-1);
  numbers.requests.add(); // before the client has the answer: what was answered is counted
  return response;
}

async function answer(request: Request, server: Server): Promise<Response> {
  const url = new URL(request.url);
  switch (url.pathname) {
    case "/":
      return new Response(dashboard, { headers: { "content-type": "text/html; charset=utf-8" } });
    case "/stats":
      return new Response(summary(), { headers: { "content-type": "application/json" } });
    case "/events":
      server.timeout(request, 0);
      return events();
    default: {
      const client = request.headers.get("x-client") ?? server.requestIP(request)?.address ?? "";
      return await counted(request, client, url);
    }
  }
}

const server = serve({
  port,
  hostname: "127.0.0.1",
  reusePort: true,
  development: false, // no page about an error
  async fetch(request, server) {
    const response = await answer(request, server);
    // The client's next request then goes to another server.
    if (draining.signal.aborted) response.headers.set("connection", "close");
    return response;
  },
});

/** Takes no more connections, answers what it has taken, and ends. */
async function drain(): Promise<void> {
  if (draining.signal.aborted) return;
  draining.abort();
  const late = sleep(DRAIN_MS, undefined, { ref: false });
  await Promise.race([Promise.all([server.stop(), mails]), late]);
  process.exit();
}

process.on("SIGTERM", drain);
process.on("SIGINT", () => {}); // Ctrl-C is for the supervisor, which stops the servers
process.stdin.on("end", drain).resume(); // the supervisor is gone, however it ended

state.beside.follow(numbers.seen, draining.signal);
const mails = state.beside.sendMails(draining.signal);
numbers.active.set(0); // what one that was killed has left
numbers.pid.set(process.pid);
numbers.since.set(Date.now());
console.log(`ready ${server.port}`);
