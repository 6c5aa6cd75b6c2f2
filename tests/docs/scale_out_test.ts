/**
 * `examples/scale_out/`: one service, as several processes of one machine that share memory, and on several machines,
 * which are IPC namespaces here, that share a server of Redis.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { describe, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import type { News } from "../../examples/scale_out/stores.ts";
import type { Runtime } from "../../scripts/runtimes.ts";
import { library, needsLibraries } from "../support/libraries.ts";
import {
  inOwnFolder,
  type Program,
  startExample,
  startExampleThrough,
} from "../support/program.ts";
import { needsRedis, RedisServer } from "../support/redis.ts";
import {
  crewOnly,
  DEADLINE_MS,
  keyFolder,
  leaveNothingBehind,
  linuxOnly,
  runtimes,
  stop,
  until,
} from "../support/support.ts";

const PERMISSIONS = ["--allow-read", "--allow-env", "--allow-net", "--allow-sys"];
/** No mail is ever sent by such a process. */
const HANGING = { MAIL_MS: "600000" };
const LIMIT = 5;
const options = {
  timeout: 4 * DEADLINE_MS,
  ...linuxOnly,
  ...crewOnly,
  ...needsLibraries,
};
const needsNamespaces = spawnSync("unshare", ["--ipc", "true"]).status === 0
  ? {}
  : { skip: "only root can create IPC namespaces" };

/** A process of the service that has begun to answer. */
class Server {
  readonly program: Program;
  readonly url: string;

  private constructor(program: Program, url: string) {
    this.program = program;
    this.url = url;
  }

  static async ready(program: Program): Promise<Server> {
    return new Server(program, (await program.line(/^http:\/\/127\.0\.0\.1:\d+$/))[0]);
  }

  /** On this machine. */
  static start(runtime: Runtime, env: NodeJS.ProcessEnv = {}): Promise<Server> {
    const file = "scale_out/server.ts";
    return Server.ready(
      startExample(file, ["0"], runtime, PERMISSIONS, { STORE: undefined, ...env }),
    );
  }

  async ask(method: string, path: string, cookie = ""): Promise<Response & { body: string }> {
    const response = await fetch(this.url + path, {
      method,
      headers: { cookie, connection: "close" },
    });
    const { status, headers } = response;
    return { status, headers, body: await response.text() } as Response & { body: string };
  }

  async news(): Promise<News[]> {
    return JSON.parse((await this.ask("GET", "/news")).body);
  }

  async price(item: string): Promise<{ price?: number; from: string }> {
    return JSON.parse((await this.ask("GET", `/prices/${item}`)).body);
  }

  async kill(): Promise<void> {
    this.program.kill("SIGKILL");
    await this.program.ended;
  }

  /** Ends it in order, without a word about any error. */
  async end(): Promise<void> {
    this.program.kill("SIGTERM");
    await this.program.output();
  }
}

/** Logs in; returns the cookie. */
async function login(server: Server, user: string): Promise<string> {
  const { status, headers } = await server.ask("POST", `/login?user=${user}`);
  assert.equal(status, 200);
  return headers.getSetCookie()[0]!.split(";")[0]!;
}

/** The visits of a session that each of the servers counts one after the other. */
async function visits(servers: readonly Server[], cookie: string): Promise<number[]> {
  const counts: number[] = [];
  for (const server of servers) {
    counts.push(JSON.parse((await server.ask("GET", "/me", cookie)).body).visits);
  }
  return counts;
}

/** Sends mails through all servers at once; returns how many were accepted. */
async function sendMails(servers: readonly Server[], cookie: string, count: number) {
  const answers = await Promise.all(
    Array.from(
      { length: count },
      (_, i) => servers[i % servers.length]!.ask("POST", `/mails?to=bob${i}`, cookie),
    ),
  );
  for (const { status, headers } of answers) {
    assert.ok(
      status === 202 || status === 429 && Number(headers.get("retry-after")) > 0,
      `${status}`,
    );
  }
  return answers.filter(({ status }) => status === 202).length;
}

/** Checks that the processes have one cache, one set of sessions and limits, and the same news of jobs that are done once. */
async function checkTogether(servers: readonly Server[]): Promise<{ ann: string }> {
  const [first] = servers as [Server];
  const page = await first.ask("GET", "/page/front");
  assert.equal(page.headers.get("x-cache"), "miss");
  assert.equal(page.body, `page /page/front by process ${first.program.pid}`);
  for (const server of servers) {
    const again = await server.ask("GET", "/page/front");
    assert.deepEqual([again.headers.get("x-cache"), again.body], ["hit", page.body]);
  }

  assert.equal((await first.ask("GET", "/me")).status, 401);
  const ann = await login(first, "ann");
  assert.deepEqual(await visits(servers, ann), servers.map((_, i) => i + 1));
  const bob = await login(servers.at(-1)!, "bob");

  assert.equal(await sendMails(servers, ann, 4 * LIMIT), LIMIT, "whatever process is asked");
  assert.equal(await sendMails(servers, bob, 1), 1, "another client has a limit of its own");
  assert.equal(await sendMails(servers, ann, servers.length), 0);
  for (const server of servers) {
    await until(async () => (await server.news()).length === LIMIT + 1, "all news");
  }
  const heard = await Promise.all(servers.map((server) => server.news()));
  const mails = heard.map((news) => news.map(({ mail }) => mail).sort());
  assert.equal(new Set(mails[0]).size, LIMIT + 1, "each mail is sent once");
  for (const others of mails) assert.deepEqual(others, mails[0]);
  assert.deepEqual(new Set(heard[0]!.map(({ attempt }) => attempt)), new Set([1]));

  await first.ask("POST", "/mails?to=nobody", bob);
  const failed = () =>
    servers.flatMap(({ program }) => program.lines)
      .flatMap((line) => /^job \S+, attempt (\d): there is no such address$/.exec(line)?.[1] ?? []);
  await until(() => failed().length === 3, "three attempts");
  assert.deepEqual(failed().sort(), ["1", "2", "3"]);

  await first.ask("POST", "/logout", bob);
  assert.equal((await servers.at(-1)!.ask("GET", "/me", bob)).status, 401);
  return { ann };
}

/** Sends mails until a process that hangs has one in its hands; returns the id of that. */
async function untilSending(servers: readonly Server[], hanging: Server): Promise<string> {
  const sending = /^sending mail (\S+) to /;
  const deadline = Date.now() + DEADLINE_MS;
  for (let user = 0; !hanging.program.lines.some((line) => sending.test(line)); user++) {
    assert.ok(Date.now() < deadline, "it gets no mail");
    const cookie = await login(servers[0]!, `user ${user}`);
    for (let i = 0; i < LIMIT; i++) await sendMails(servers, cookie, 1);
    await delay(100);
  }
  return (await hanging.program.line(sending))[1]!;
}

/** Waits until a process has heard of so many attempts to send a mail that have ended, and returns them. */
async function attempts(server: Server, mail: string, count: number): Promise<number[]> {
  const found = async () => (await server.news()).filter((news) => news.mail === mail);
  await until(async () => (await found()).length >= count, `mail ${mail} is sent`);
  return (await found()).map(({ attempt }) => attempt);
}

/** Checks that sessions, limits and pages are as before. */
async function checkAfterKill(servers: readonly Server[], ann: string) {
  const [before] = await visits(servers.slice(0, 1), ann);
  assert.deepEqual(await visits(servers, ann), servers.map((_, i) => before! + 1 + i));
  assert.equal(await sendMails(servers, ann, servers.length), 0);
  const page = await servers[0]!.ask("GET", "/page/front");
  assert.equal(page.headers.get("x-cache"), "hit");
  assert.equal(await sendMails(servers, await login(servers[0]!, "eve"), 2 * LIMIT), LIMIT);
}

describe("a service on one machine, in shared memory", options, () => {
  leaveNothingBehind();
  inOwnFolder();

  test("has one state in processes of all runtimes, and loses none of it when one is killed", {
    timeout: options.timeout,
  }, async () => {
    const servers = await Promise.all(runtimes.map((runtime) => Server.start(runtime)));
    const { ann } = await checkTogether(servers);
    assert.equal((await servers[0]!.ask("PUT", "/prices/tea?price=3")).status, 200);
    for (const server of servers) {
      assert.deepEqual(await server.price("tea"), { price: 3, from: "machine" });
    }
    const hanging = await Server.start(runtimes[0]!, HANGING);
    const mail = await untilSending(servers, hanging);
    await hanging.kill();
    for (const server of servers) assert.deepEqual(await attempts(server, mail, 1), [2]);
    await checkAfterKill(servers, ann);
    for (const server of servers) await server.end();
  });
});

/** A machine of the tests: an IPC namespace, and a folder for its key files. */
class Machine implements Disposable {
  readonly #folder = mkdtempSync(`${keyFolder}machine-`);
  readonly #store: string;
  readonly servers: Server[] = [];

  constructor(store: string) {
    this.#store = store;
  }

  async start(runtime: Runtime, env: NodeJS.ProcessEnv = {}): Promise<Server> {
    const [first] = this.servers;
    const command = first === undefined
      ? ["unshare", "--ipc"]
      : ["nsenter", `--ipc=/proc/${first.program.pid}/ns/ipc`];
    const all = { STORE: this.#store, TMPDIR: this.#folder, ...env };
    const file = "scale_out/server.ts";
    const program = startExampleThrough(command, file, ["0"], runtime, PERMISSIONS, all);
    const server = await Server.ready(program);
    this.servers.push(server);
    return server;
  }

  get keyFiles(): string[] {
    return readdirSync(this.#folder).filter((name) => name.startsWith("qipc_"));
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** A client of Redis that is connected. */
async function clientOf(redis: RedisServer) {
  const client = library("@redis/client").createClient({ url: redis.url });
  await client.connect();
  return client;
}

/** Waits until all know a price. */
async function untilPrice(servers: readonly Server[], price: number): Promise<void> {
  for (const server of servers) {
    await until(async () => (await server.price("tea")).price === price, `price ${price}`);
  }
}

const onRedis = { ...options, ...needsRedis, ...needsNamespaces };
describe("the same service on several machines, with Redis", onRedis, () => {
  leaveNothingBehind();
  inOwnFolder();

  test("has one state on all machines, and goes on when one of them is killed", {
    timeout: options.timeout,
  }, async () => {
    using redis = await RedisServer.start();
    using a = new Machine(redis.url);
    using b = new Machine(redis.url);
    using c = new Machine(redis.url);
    const runtime = (i: number) => runtimes[i % runtimes.length]!;
    for (const [i, machine] of [a, b, a, b].entries()) await machine.start(runtime(i));
    const servers = [...a.servers, ...b.servers];
    const { ann } = await checkTogether(servers);

    // The cache in front of Redis: a change on one machine reaches all processes of both.
    for (const [i, server] of [a.servers[0]!, b.servers[1]!, a.servers[1]!].entries()) {
      await server.ask("PUT", `/prices/tea?price=${i + 1}`);
      assert.equal((await server.price("tea")).price, i + 1, "at once where it was made");
      await untilPrice(servers, i + 1);
    }
    // Each machine asks Redis once, and each process its machine once.
    const client = await clientOf(redis);
    await client.set("prices:coffee", "7");
    client.destroy();
    for (const machine of [a, b]) {
      const [first, second] = machine.servers as [Server, Server];
      const from: string[] = [];
      for (const server of [first, second, second, first, first]) {
        const found = await server.price("coffee");
        assert.equal(found.price, 7);
        from.push(found.from);
      }
      assert.deepEqual(from, ["redis", "machine", "process", "machine", "process"]);
    }

    // A whole machine is killed, with a mail in its hands, and a process of another one is stopped for longer than a lease.
    const hanging = await c.start(runtime(0), HANGING);
    const stopped = await b.start(runtime(1), { MAIL_MS: "8000" });
    const lost = await untilSending(servers, hanging);
    await hanging.kill();
    const twice = await untilSending(servers, stopped);
    await stop(stopped.program.pid);
    for (const server of servers) {
      assert.deepEqual(await attempts(server, lost, 1), [2]);
      assert.deepEqual(await attempts(server, twice, 1), [2]);
    }
    stopped.program.kill("SIGCONT");
    assert.deepEqual(await attempts(servers[0]!, twice, 2), [2, 1], "at least once");
    await checkAfterKill(servers, ann);

    // The process that listens for its machine is stopped: that machine does not hear of changes, until another one listens.
    const [listening, other] = a.servers as [Server, Server];
    await stop(listening.program.pid);
    await b.servers[0]!.ask("PUT", "/prices/tea?price=10");
    await untilPrice(b.servers, 10);
    assert.equal((await other.price("tea")).price, 3);
    await listening.kill();
    const left = [other, ...b.servers];
    await untilPrice(left, 10);
    await b.servers[0]!.ask("PUT", "/prices/tea?price=11");
    await untilPrice(left, 11);
    assert.equal((await visits(left, ann)).length, left.length);

    for (const server of left) await server.end();
    assert.deepEqual([...a.keyFiles, ...b.keyFiles], []);
  });

  test("goes on when Redis is started again, with what Redis still knows", {
    timeout: options.timeout,
  }, async () => {
    using redis = await RedisServer.start();
    using machine = new Machine(redis.url);
    const servers = [await machine.start(runtimes[0]!), await machine.start(runtimes.at(-1)!)];
    const ann = await login(servers[0]!, "ann");
    await servers[0]!.ask("PUT", "/prices/tea?price=1");
    await untilPrice(servers, 1);
    await redis.kill();
    assert.equal((await servers[1]!.price("tea")).price, 1, "from the memory of the machine");
    const waiting = servers.map((server) => server.ask("GET", "/me", ann));
    await redis.start();
    for (const { status } of await Promise.all(waiting)) {
      assert.equal(status, 401, "it has waited, and this Redis has saved nothing");
    }
    for (const server of servers) {
      const isForgotten = async () => (await server.price("tea")).price === undefined;
      await until(isForgotten, "what may have changed in the meantime is forgotten");
    }
    const again = await login(servers[0]!, "ann");
    assert.deepEqual(await visits(servers, again), [1, 2]);
    await servers[1]!.ask("PUT", "/prices/tea?price=2");
    await untilPrice(servers, 2);
    // A process receives news only after it has connected to the news channel again.
    const client = await clientOf(redis);
    await until(
      async () => (await client.pubSubNumSub(["news"]))["news"] === servers.length,
      "all hear news",
    );
    client.destroy();
    assert.equal(await sendMails(servers, again, 2 * LIMIT), LIMIT);
    for (const server of servers) {
      await until(async () => (await server.news()).length === LIMIT, "all mails are sent");
    }
    for (const { program } of servers) {
      program.kill("SIGTERM");
      assert.equal(await program.ended, 0, program.stderr);
      assert.match(program.stderr, /^((Redis|cache): .*\n)+$/);
    }
    assert.deepEqual(machine.keyFiles, []);
  });
});
