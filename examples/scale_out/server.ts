/**
 * A service that keeps everything outside of its processes: a cache of pages, sessions, a rate limit, jobs, news and
 * prices. On one machine, as many processes as you like:
 *
 *     node examples/scale_out/server.ts 8001
 *     bun examples/scale_out/server.ts 8002
 *     curl localhost:8001/page/front              # slow once; then any process has it
 *     curl -c jar -b jar -X POST "localhost:8001/login?user=ann"
 *     curl -c jar -b jar localhost:8002/me        # the same session
 *     curl -b jar -X POST "localhost:8001/mails?to=bob"    # five in an hour; any process sends it
 *     curl localhost:8002/news                    # what this process has heard of mails that were sent
 *     curl -X PUT "localhost:8001/prices/tea?price=3"
 *
 * On many machines with Redis or Valkey:
 *
 *     STORE=redis://10.0.0.1:6379 node examples/scale_out/server.ts 8001
 *
 * Deno: `deno run --allow-ffi --allow-read --allow-env --allow-net --allow-sys`. The libraries lie where libraries.ts says.
 */
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import process from "node:process";
import { setTimeout as pause } from "node:timers/promises";
import { type Refusal, type RequestWithSession, session } from "./libraries.ts";
import { type News, openStores } from "./stores.ts";

/** How long a page and a mail take here, in ms, which stand for a database and for a mail server. */
const PAGE_MS = 50;
const MAIL_MS = Number(process.env["MAIL_MS"] ?? 50);
const MINUTE_MS = 60_000;

const stop = new AbortController();
// Before the stores are opened, so that no signal comes in between.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => stop.abort());

const { cache, sessions, limiter, mails, news, prices, close } = await openStores(
  process.env["STORE"],
);
cache.on("error", ({ message }) => console.error(`cache: ${message}`));
const withSession = session({
  store: sessions,
  secret: process.env["SECRET"] ?? "all processes need the same one",
  resave: false,
  saveUninitialized: false,
  cookie: { maxAge: 30 * MINUTE_MS },
});
const heard: News[] = [];

interface Answer {
  readonly status?: number;
  readonly headers?: Record<string, string>;
  readonly body: unknown;
}

type Handler = (request: RequestWithSession, url: URL) => Promise<Answer>;

async function page(_request: RequestWithSession, { pathname }: URL): Promise<Answer> {
  const found = await cache.get(pathname);
  if (found !== undefined) return { body: found, headers: { "x-cache": "hit" } };
  await pause(PAGE_MS);
  const made = `page ${pathname} by process ${process.pid}`;
  await cache.set(pathname, made, 10 * MINUTE_MS);
  return { body: made, headers: { "x-cache": "miss" } };
}

function login({ session }: RequestWithSession, { searchParams }: URL): Promise<Answer> {
  session.user = searchParams.get("user") ?? "nobody";
  session.visits = 0;
  return Promise.resolve({ body: `hello ${session.user}` });
}

function me({ session }: RequestWithSession): Promise<Answer> {
  if (session.user === undefined) return Promise.resolve({ status: 401, body: "log in first" });
  session.visits = (session.visits ?? 0) + 1;
  return Promise.resolve({ body: { user: session.user, visits: session.visits } });
}

async function logout({ session }: RequestWithSession): Promise<Answer> {
  await new Promise<void>((resolve, reject) =>
    session.destroy((error) => error ? reject(error) : resolve())
  );
  return { body: "bye" };
}

async function send(
  { session, socket }: RequestWithSession,
  { searchParams }: URL,
): Promise<Answer> {
  try {
    await limiter.consume(session.user ?? socket.remoteAddress ?? "unknown");
  } catch (error) {
    if (error instanceof Error) throw error; // the store cannot be reached, or is full
    const seconds = Math.ceil((error as Refusal).msBeforeNext / 1000);
    return { status: 429, headers: { "retry-after": `${seconds}` }, body: "too many mails" };
  }
  await mails.send({ to: searchParams.get("to") ?? "nobody" });
  return { status: 202, body: "it will be sent" };
}

async function price(
  { method }: RequestWithSession,
  { pathname, searchParams }: URL,
): Promise<Answer> {
  const item = pathname.slice("/prices/".length);
  if (method === "PUT") {
    const price = Number(searchParams.get("price") ?? NaN);
    if (!Number.isFinite(price)) return { status: 400, body: "a price is a number" };
    await prices.set(item, price);
  }
  return { body: await prices.get(item) };
}

const routes: readonly (readonly [pattern: RegExp, handler: Handler])[] = [
  [/^GET \/page\//, page],
  [/^POST \/login$/, login],
  [/^GET \/me$/, me],
  [/^POST \/logout$/, logout],
  [/^POST \/mails$/, send],
  [/^GET \/news$/, () => Promise.resolve({ body: heard })],
  [/^(GET|PUT) \/prices\/./, price],
];

async function answer(request: RequestWithSession, response: ServerResponse): Promise<void> {
  const url = new URL(request.url ?? "/", "http://localhost");
  const [, handler] =
    routes.find(([pattern]) => pattern.test(`${request.method} ${url.pathname}`)) ?? [];
  const { status = 200, headers = {}, body } = handler === undefined
    ? { status: 404, body: "there is no such page" }
    : await handler(request, url);
  response.writeHead(status, { ...headers, "x-process": `${process.pid}` });
  response.end(typeof body === "string" ? body : JSON.stringify(body));
}

const server = createServer((request, response) => {
  const fail = (error: unknown) => {
    console.error(error);
    response.writeHead(503).end("try again");
  };
  withSession(request, response, (error) => {
    if (error) return fail(error);
    answer(request as RequestWithSession, response).catch(fail);
  });
});

await news.subscribe((value) => {
  heard.push(value);
  if (heard.length > 100) heard.shift();
});
const working = mails.work(async ({ id, value: { to }, attempt }) => {
  console.log(`sending mail ${id} to ${to}, attempt ${attempt}`);
  await pause(MAIL_MS);
  if (to === "nobody") throw new Error("there is no such address");
  await news.publish({ mail: id, to, attempt, by: process.pid });
}, stop.signal);
server.listen(Number(process.argv[2] ?? 8000), "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
});

await working; // until a signal; the mail in hand is sent
await new Promise((resolve) => server.close(resolve)); // and the requests in hand are answered
close();
process.exit();
