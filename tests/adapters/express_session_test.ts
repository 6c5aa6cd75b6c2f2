/** The store for express-session: its methods, and servers of several processes whose sessions it keeps. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { promisify } from "node:util";
import { sharedSessionStore, type StoredSession } from "../../adapters/express_session.ts";
import { json, SharedMap } from "../../collections/mod.ts";
import { librariesFolder, library, needsLibraries, startImporting } from "../support/libraries.ts";
import { endAll, leaveNothingBehind, runtimes, slow, uniqueKey } from "../support/support.ts";

const BYTES = 2 ** 18;
const session = library("express-session");
const adapter = new URL("../../adapters/express_session.ts", import.meta.url).href;
const pause = () => new Promise((resolve) => setTimeout(resolve, 1));
const options = { ...slow, ...needsLibraries };

/** A store, and its methods as functions that return promises. */
function openStore(key = uniqueKey(), ttl?: number) {
  const Store = sharedSessionStore<object>(session);
  const store = new Store(key, { bytes: BYTES, ttl });
  return {
    store,
    get: (id: string) => promisify(store.get.bind(store))(id),
    set: (id: string, session: object) =>
      promisify(store.set.bind(store))(id, session as StoredSession),
    touch: (id: string, session: object) =>
      promisify(store.touch.bind(store))(id, session as StoredSession),
    destroy: promisify(store.destroy.bind(store)),
    all: promisify(store.all.bind(store)),
    length: promisify(store.length.bind(store)),
    clear: promisify(store.clear.bind(store)),
    [Symbol.dispose]: () => store[Symbol.dispose](),
  };
}

const cookie = (ms: number) => ({ expires: new Date(Date.now() + ms), originalMaxAge: ms });

describe("a store for express-session", options, () => {
  leaveNothingBehind();

  test("is one of the library's stores", () => {
    using open = openStore();
    assert.ok(open.store instanceof session.Store);
  });

  test("gives back a session as it was stored, until it is destroyed", async () => {
    using store = openStore();
    assert.equal(await store.get("a"), undefined);
    const stored = { cookie: cookie(60_000), user: { name: "ann" }, visits: 1 };
    await store.set("a", stored);
    assert.deepEqual(await store.get("a"), JSON.parse(JSON.stringify(stored)));
    await store.set("a", { ...stored, visits: 2 });
    assert.equal((await store.get("a") as typeof stored | undefined)?.visits, 2);
    await store.destroy("a");
    await store.destroy("a");
    assert.equal(await store.get("a"), undefined);
  });

  test("lists, counts and clears its sessions", async () => {
    using store = openStore();
    assert.deepEqual([await store.all(), await store.length()], [[], 0]);
    for (const user of ["ann", "bob"]) await store.set(user, { cookie: {}, user });
    const users = (await store.all() as unknown as { user: string }[]).map(({ user }) => user);
    assert.deepEqual(users.sort(), ["ann", "bob"]);
    assert.equal(await store.length(), 2);
    await store.clear();
    assert.equal(await store.length(), 0);
  });

  test("lets a session live as long as its cookie, or for the ttl of its options", async () => {
    const key = uniqueKey();
    using store = openStore(key, 100);
    using map = SharedMap.open(key, { bytes: BYTES, codec: json });
    await store.set("expired", { cookie: cookie(-1) });
    assert.equal(await store.get("expired"), undefined);
    await store.set("short", { cookie: cookie(50) });
    await store.set("long", { cookie: cookie(60_000) });
    await store.set("ends with the browser", { cookie: { expires: null } });
    await store.set("touched", { cookie: cookie(60_000) });
    await store.touch("touched", { cookie: cookie(600_000) });
    assert.ok(map.ttl("touched")! > 500_000);
    await store.touch("none", { cookie: cookie(60_000) });
    while (await store.get("short") || await store.get("ends with the browser")) await pause();
    assert.equal(await store.length(), 2);
    assert.ok(await store.get("long") && await store.get("touched"));
    await store.touch("long", { cookie: cookie(-1) });
    assert.equal(await store.get("long"), undefined);
    // As a text, which is what a session that was loaded may have.
    const { expires } = cookie(60_000);
    await store.set("text", { cookie: { expires: expires.toISOString() } });
    assert.ok(await store.get("text"));
  });

  test("answers after its methods have returned, and with what went wrong", async () => {
    using store = openStore();
    const large = { cookie: {}, text: "x".repeat(BYTES) };
    await assert.rejects(store.set("large", large), { code: "InvalidSize" });
    let isAnswered = false;
    store.store.get("a", () => isAnswered = true);
    assert.equal(isAnswered, false);
    await pause();
    assert.equal(isAnswered, true);
    store.store[Symbol.dispose]();
    await assert.rejects(store.get("a"), { code: "NotAttached" });
  });
});

/** A server of the agent, with a counter in the session; returns its port. */
function serverSource(key: string, isExpress: boolean): string {
  return `
    const { createRequire } = await import("node:module");
    const { sharedSessionStore } = await import(${JSON.stringify(adapter)});
    const require = createRequire(${JSON.stringify(`${librariesFolder}package.json`)});
    const session = require("express-session");
    const SharedStore = sharedSessionStore(session);
    const store = objects.store = new SharedStore(${JSON.stringify(key)}, { bytes: ${BYTES} });
    const secret = "not a secret";
    const withSession = session({
      store, secret, resave: false, saveUninitialized: false, cookie: { maxAge: 60_000 },
    });
    const answer = (request, response) => {
      if (request.url === "/logout") {
        request.session.destroy(() => response.end("bye"));
        return;
      }
      if (request.url === "/login") {
        request.session.regenerate(() => {
          request.session.visits = 100;
          response.end("100");
        });
        return;
      }
      request.session.visits = (request.session.visits ?? 0) + 1;
      response.end(String(request.session.visits));
    };
    let server;
    if (${isExpress}) {
      const app = require("express")();
      app.use(withSession, answer);
      server = app.listen(0, "127.0.0.1");
    } else {
      const { createServer } = await import("node:http");
      server = createServer((request, response) =>
        withSession(request, response, () => answer(request, response))
      ).listen(0, "127.0.0.1");
    }
    objects.server = server;
    await new Promise((resolve) => server.once("listening", resolve));
    return server.address().port;`;
}

describe("servers with express-session in several processes", options, () => {
  leaveNothingBehind();

  for (
    const [what, isExpress, names] of [
      ["Express, in Node and Bun", true, ["node", "bun", "node"]],
      ["node:http, in all runtimes", false, ["deno", "bun", "node"]],
    ] as const
  ) {
    test(`have the same sessions, and keep them when one is killed: ${what}`, async () => {
      const key = uniqueKey();
      const started = names.flatMap((name) => runtimes.filter((runtime) => runtime.name === name));
      const agents = started.map((runtime) =>
        startImporting(runtime, ["--allow-env", "--allow-net", "--allow-sys"])
      );
      const ports: number[] = await Promise.all(
        agents.map((agent) => agent.run(serverSource(key, isExpress))),
      );
      let cookie = "";
      const visit = async (port: number, path = "/") => {
        const response = await fetch(`http://127.0.0.1:${port}${path}`, {
          headers: { cookie, connection: "close" },
        });
        const [set] = response.headers.getSetCookie();
        if (set !== undefined) cookie = set.split(";")[0]!;
        return await response.text();
      };
      const counts: string[] = [];
      for (let i = 0; i < 6; i++) counts.push(await visit(ports[i % ports.length]!));
      assert.deepEqual(counts, ["1", "2", "3", "4", "5", "6"]);
      await agents[0]!.kill();
      assert.equal(await visit(ports[1]!), "7");
      const old = cookie;
      assert.equal(await visit(ports[1]!, "/login"), "100");
      assert.notEqual(cookie, old);
      assert.equal(await visit(ports.at(-1)!), "101");
      assert.equal(await visit(ports[1]!, "/logout"), "bye");
      assert.equal(await visit(ports.at(-1)!), "1", "a new session");
      const others = agents.slice(1);
      for (const agent of others) {
        await agent.run(`
          objects.server.close();
          objects.server.closeAllConnections?.();
          objects.store[Symbol.dispose]();`);
      }
      await endAll(others);
    });
  }
});
