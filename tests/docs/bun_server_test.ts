/**
 * `examples/bun_server/`: several Bun servers on one port that share everything, under load from other
 * processes, while servers are killed and replaced.
 */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import {
  bunServerOnly,
  type BunServers,
  startBunServers,
  startCrashingOrder,
} from "../support/bun_servers.ts";
import { inOwnFolder, isAlive, type Program, startExample } from "../support/program.ts";
import { leaveNothingBehind, slow, until, withDeadline } from "../support/support.ts";

interface Report {
  numbers: number[];
  lost: number;
  repeated: number;
  refused: number;
}

/** Lets clients end, and returns what they report together. */
async function reportOf(clients: readonly Program[]): Promise<Report> {
  const total: Report = { numbers: [], lost: 0, repeated: 0, refused: 0 };
  for (const client of clients) client.child.stdin!.end();
  for (const client of clients) {
    const report = JSON.parse((await client.output()).at(-1)!) as Report;
    total.numbers.push(...report.numbers);
    for (const name of ["lost", "repeated", "refused"] as const) total[name] += report[name];
  }
  return total;
}

/** As many numbers, each once, from 1 on: no order is lost, none counted twice. */
function assertEachOnce(numbers: readonly number[]): void {
  const sorted = numbers.toSorted((a, b) => a - b);
  assert.deepEqual(sorted, Array.from(sorted, (_, i) => i + 1));
}

/** A client in the runtime under test, with so many orders at most; it sends them until its input ends. */
function startClient(servers: BunServers, orders = 1e9): Program {
  const args = [servers.url, "4", `${orders}`];
  return startExample("bun_server/client.ts", args, undefined, ["--allow-net"]);
}

describe("several Bun servers on one port", bunServerOnly, () => {
  leaveNothingBehind();
  inOwnFolder();

  test("lose and repeat no order while they are killed and replaced", slow, async () => {
    const servers = await startBunServers(3);
    const clients = [startClient(servers), startClient(servers)];
    const ordered = async (more: number) => {
      const { orders } = await servers.stats();
      await servers.until((stats) => stats.orders >= orders + more, `${more} more orders`);
    };
    await ordered(200);
    const signals = ["SIGKILL", "SIGTERM", "SIGKILL", "SIGTERM", "SIGKILL", "SIGKILL"] as const;
    for (const [i, signal] of signals.entries()) {
      await servers.replace(i % 3, signal);
      await ordered(100);
    }
    const report = await reportOf(clients);
    const stats = await servers.stats();
    assertEachOnce(report.numbers);
    assert.equal(stats.orders, report.numbers.length);
    assert.equal(stats.servers.reduce((sum, { orders }) => sum + orders, 0), stats.orders);
    assert.deepEqual(stats.servers.map(({ restarts }) => restarts), [2, 2, 2]);
    assert.ok(stats.requests >= stats.orders, "whatever was answered was counted before");
    await servers.stop();
  });

  test("have counted every request that was answered", slow, async () => {
    const servers = await startBunServers(2);
    let [answered, lost] = [0, 0];
    let isOver = false;
    const headers = { connection: "close" }; // on one that is used again fetch itself may send it again
    const load = Array.from({ length: 4 }, async () => {
      while (!isOver) {
        try {
          const response = await fetch(`${servers.url}/hello`, { headers });
          await response.text();
          assert.equal(response.status, 200);
          answered++;
        } catch (error) {
          if (error instanceof assert.AssertionError) throw error;
          lost++;
        }
      }
    });
    const more = async () => {
      const before = answered;
      await until(() => answered >= before + 100, "100 answers");
    };
    for (const server of [0, 1]) {
      await more();
      await servers.replace(server, "SIGKILL");
    }
    await more();
    isOver = true;
    await Promise.all(load);
    const { requests } = await servers.stats();
    assert.ok(requests >= answered, `${requests} were counted, ${answered} answered`);
    assert.ok(requests <= answered + lost, `${requests} of ${answered} and at most ${lost}`);
    await servers.stop();
  });

  test("answer what they have taken before a SIGTERM ends them", slow, async () => {
    const servers = await startBunServers(2);
    const { servers: before } = await servers.stats();
    // The kernel chooses the server: so many requests that both have some. Each takes four seconds.
    const ask = () =>
      Promise.all(Array.from({ length: 20 }, async () => {
        const response = await fetch(`${servers.url}/slow?ms=4000`, {
          headers: { connection: "close" },
        });
        return [response.status, await response.text()];
      }));
    let [slowOnes, asked] = [ask(), 20];
    await servers.until(({ active, requests }) => {
      if (requests === asked) { // none is left, as a process stood still meanwhile
        slowOnes = ask();
        asked += 20;
      }
      return active === 20;
    }, "all requests have been taken");
    for (const { pid } of before) process.kill(pid, "SIGTERM");
    for (const [status, text] of await withDeadline(slowOnes, "the answers")) {
      assert.equal(status, 200);
      assert.match(String(text), /^hello from server [12], at last\n$/);
    }
    await servers.until((stats) => stats.restarts === 2, "both are replaced");
    assert.equal((await servers.stats()).requests, asked);
    await servers.stop();
  });

  test("finish the order of one that was killed at any step of it", slow, async () => {
    const servers = await startBunServers(1);
    const id = (step: number) => `00000000-0000-4000-8000-${String(step).padStart(12, "0")}`;
    const place = async (step: number) => {
      const headers = { "idempotency-key": id(step) };
      const response = await fetch(`${servers.url}/orders`, { method: "POST", headers });
      return await response.json() as { number: number; isRepeated: boolean };
    };
    const repeated: boolean[] = [];
    for (let step = 1;; step++) {
      const crashed = startCrashingOrder(id(step), step);
      const how = await withDeadline(crashed.ended, crashed.name);
      if (how === 0) break; // it has no such step any more
      assert.equal(how, "SIGKILL", crashed.stderr);
      const order = await place(step);
      assert.equal(order.number, step);
      repeated.push(order.isRepeated);
      assert.deepEqual(await place(step), { ...order, isRepeated: true });
      const stats = await servers.stats();
      assert.equal(stats.repaired, step);
      assert.equal(stats.orders, step);
      assert.equal(stats.servers[0]!.orders, step);
    }
    // Before the journal was whole nothing had happened, and from then on it was counted.
    const commit = repeated.indexOf(true);
    assert.ok(commit > 3 && commit < repeated.length - 3, `${repeated}`);
    assert.deepEqual(repeated, repeated.map((_, step) => step >= commit));
    await servers.stop();
  });

  test("grant a client no more than its allowance, all together", slow, async () => {
    const servers = await startBunServers(3, { PER_SECOND: "20", BURST: "30" });
    const started = performance.now();
    let [granted, refused] = [0, 0];
    await Promise.all(Array.from({ length: 8 }, async () => {
      for (let i = 0; i < 40; i++) {
        const response = await fetch(`${servers.url}/hello`, { headers: { "x-client": "ada" } });
        await response.text();
        if (response.status === 200) granted++;
        else if (response.status === 429) refused++;
      }
    }));
    const seconds = (performance.now() - started) / 1000;
    assert.equal(granted + refused, 320);
    assert.ok(granted >= 30 && granted <= 30 + 20 * seconds + 1, `${granted} in ${seconds} s`);
    // Another client has an allowance of its own, and one who has waited as told gets on.
    assert.equal((await fetch(`${servers.url}/hello`)).status, 200);
    const report = JSON.parse((await startClient(servers, 60).output()).at(-1)!) as Report;
    assertEachOnce(report.numbers);
    const stats = await servers.stats();
    assert.deepEqual([stats.requests, stats.refused], [
      granted + 1 + report.numbers.length,
      refused + report.refused,
    ]);
    await servers.stop();
  });

  test("end when their supervisor is killed, and the next one begins anew", slow, async () => {
    const servers = await startBunServers(2);
    const { servers: before } = await servers.stats();
    const second = startExample("bun_server/main.ts", ["0", "1"], servers.runtime);
    assert.equal(await withDeadline(second.ended, "a second supervisor"), 1);
    assert.equal(second.stderr, "Another supervisor runs already.\n");
    servers.program.kill("SIGKILL");
    await servers.program.ended;
    await until(() => before.every(({ pid }) => !isAlive(pid)), "the end of the servers");
    const next = await startBunServers(1);
    assert.equal((await next.stats()).requests, 0);
    await next.stop();
  });
});
