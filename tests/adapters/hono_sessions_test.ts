/** The store for hono-sessions that docs/adapters.md shows. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { json, SharedMap } from "../../collections/mod.ts";
import { library, needsLibraries } from "../support/libraries.ts";
import { leaveNothingBehind, ownRuntime, slow, uniqueKey } from "../support/support.ts";

// Deno gets it from npm by itself, or from the node_modules folder of the program, which the tests are not.
const skip = ownRuntime.name === "deno"
  ? { skip: "Deno does not require() its modules from another folder" }
  : needsLibraries;

type SessionData = Record<string, unknown>;

function storeOf(sessions: SharedMap<SessionData>) {
  return {
    getSessionById: (id?: string) => id === undefined ? null : sessions.get(id),
    createSession: (id: string, data: SessionData) => void sessions.set(id, data),
    persistSessionData: (id: string, data: SessionData) => void sessions.set(id, data),
    deleteSession: (id: string) => void sessions.delete(id),
  };
}

describe("hono-sessions with sessions in a shared map", { ...slow, ...skip }, () => {
  leaveNothingBehind();

  test("has the same sessions in all apps that open the map", async () => {
    const { Hono } = library("hono");
    const { sessionMiddleware } = library("hono-sessions");
    const key = uniqueKey();
    const open = () =>
      SharedMap.open<SessionData>(key, { bytes: 2 ** 18, codec: json, ttl: 60_000 });
    using first = open();
    using second = open();
    const apps = [first, second].map((sessions) => {
      const app = new Hono();
      app.use("*", sessionMiddleware({ store: storeOf(sessions), expireAfterSeconds: 60 }));
      // deno-lint-ignore no-explicit-any
      app.get("/", (context: any) => {
        const session = context.get("session");
        session.set("visits", (session.get("visits") ?? 0) + 1);
        return context.text(String(session.get("visits")));
      });
      // deno-lint-ignore no-explicit-any
      app.get("/logout", (context: any) => {
        context.get("session").deleteSession();
        return context.text("bye");
      });
      return app;
    });
    let cookie = "";
    const visit = async (
      app: { request: (path: string, init: object) => Promise<Response> },
      path = "/",
    ) => {
      const response = await app.request(path, { headers: { cookie } });
      const [set] = response.headers.getSetCookie();
      if (set !== undefined) cookie = set.split(";")[0]!;
      return await response.text();
    };
    const counts: string[] = [];
    for (let i = 0; i < 4; i++) counts.push(await visit(apps[i % 2]!));
    assert.deepEqual(counts, ["1", "2", "3", "4"]);
    assert.equal(first.size, 1);
    assert.equal(await visit(apps[0]!, "/logout"), "bye");
    assert.equal(second.size, 0);
  });
});
