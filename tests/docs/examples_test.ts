/** The examples, started as their comments say, in the runtime under test. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  inOwnFolder,
  isAlive,
  type Program,
  startExample,
  startPythonExample,
} from "../support/program.ts";
import {
  crewOnly,
  leaveNothingBehind,
  linuxOnly,
  needsPython,
  needsQt,
  ownRuntime,
  qtVersions,
  runtimes,
  slow,
  staleOnly,
  uniqueKey,
  until,
} from "../support/support.ts";

const SHOWN = { deno: "Deno", bun: "Bun", node: "Node", qt: "" }[ownRuntime.name];
const bun = runtimes.find(({ name }) => name === "bun");
const NET = ["--allow-net"];

/** The page's text. */
async function get(url: string): Promise<string> {
  const response = await fetch(url, { headers: { connection: "close" } });
  assert.equal(response.status, 200);
  return await response.text();
}

describe("examples of two programs", linuxOnly, () => {
  leaveNothingBehind();
  inOwnFolder();

  test("hello.ts: two programs get each other's text", slow, async () => {
    const first = startExample("hello.ts");
    await first.line(/^I am the first one: start me once more/);
    const second = startExample("hello.ts");
    const says = (other: Program) =>
      `The other one says: hello from ${SHOWN}, process ${other.pid}`;
    assert.deepEqual(await second.output(), [says(first)]);
    assert.deepEqual((await first.output()).slice(1), [says(second)]);
  });

  test("producer.ts and consumer.ts: every message arrives, in order", slow, async () => {
    // Whoever is first waits for the other one; and a ring of 4 KiB does not hold them all.
    for (const names of [["producer.ts", "consumer.ts"], ["consumer.ts", "producer.ts"]]) {
      const [first, second] = names.map((name) => startExample(name, ["3000"])) as [
        Program,
        Program,
      ];
      const lines = [...await first.output(), ...await second.output()].sort();
      assert.deepEqual(lines, [
        `received 3000 messages, ${messageBytes(3000)} bytes, all in order`,
        "sent 3000 messages",
      ]);
    }
  });

  test("typed_views.ts: three processes do each chunk once", slow, async () => {
    const programs = Array.from({ length: 3 }, () => startExample("typed_views.ts", ["3"]));
    const lines = (await Promise.all(programs.map((program) => program.output()))).flat();
    const done = lines.flatMap((line) => /^I did (\d+) of 500 chunks$/.exec(line)?.[1] ?? []);
    assert.equal(done.length, 3);
    assert.equal(done.reduce((sum, count) => sum + Number(count), 0), 500);
    assert.deepEqual(lines.filter((line) => line.startsWith("pi")), ["pi is about 3.1415926536"]);
  });

  test("cross_runtime.ts: no runtime loses what another one added", slow, async () => {
    const program = startExample("cross_runtime.ts", [], ownRuntime, [
      "--allow-env",
      "--allow-run",
    ]);
    const lines = await program.output();
    const expected = (["deno", "bun", "node"] as const).map((name) =>
      runtimes.some((runtime) => runtime.name === name)
        ? `${name.padEnd(5)} added 20000`
        : `${name.padEnd(5)} is not installed`
    );
    assert.deepEqual(lines, [...expected, `total ${20_000 * runtimes.length}`]);
  });

  const newestQt = qtVersions.includes(6) ? 6 : 5;
  test(
    "qt_peer.ts: a Qt program gets every reading",
    { ...needsQt(newestQt), ...slow },
    async () => {
      const ours = startExample("qt_peer.ts");
      await ours.line(/^waiting for the Qt program$/);
      const theirs = startPythonExample("qt_peer.py");
      assert.deepEqual(await theirs.output(), [
        "reading 1: 20.5 °C",
        "reading 2: 21.25 °C",
        "reading 3: 22.0 °C",
      ]);
      const taken = [20.5, 21.25, 22].map((celsius) => `the Qt program has taken ${celsius} °C`);
      assert.deepEqual((await ours.output()).slice(1), taken);
    },
  );

  test(
    "python_peer.ts: Python counts under the same lock",
    { ...needsPython, ...slow },
    async () => {
      const name = uniqueKey("qipc_example").replaceAll(" ", "_");
      const ours = startExample("python_peer.ts", [name]);
      await ours.line(/^waiting for Python: posix:\/qipc_example/);
      const theirs = startPythonExample("python_peer.py", [name]);
      assert.deepEqual(await theirs.output(), ["Python added 20000"]);
      assert.deepEqual((await ours.output()).slice(1), ["Python and I counted to 40000"]);
    },
  );
});

describe("examples of servers and services", linuxOnly, () => {
  leaveNothingBehind();
  inOwnFolder();

  test(
    "single_instance.ts: only one runs, until it ends or is killed",
    { ...staleOnly, ...slow },
    async () => {
      let first = startExample("single_instance.ts");
      for (const signal of ["SIGKILL", "SIGTERM"] as const) {
        await first.line(new RegExp(`^process ${first.pid} is the only one$`));
        const second = startExample("single_instance.ts");
        assert.deepEqual(await second.output(), [
          `process ${first.pid} runs already: it comes to the front`,
        ]);
        await first.line(/^I was started once more: here is my window$/);
        first.kill(signal);
        assert.equal(await first.ended, signal === "SIGKILL" ? signal : 0);
        if (signal === "SIGKILL") first = startExample("single_instance.ts");
      }
    },
  );

  test("hot_config.ts: those that run follow, with whole records", slow, async () => {
    const programs = [startExample("hot_config.ts"), startExample("hot_config.ts")];
    const all = async (config: object) => {
      const line = new RegExp(`^running with ${JSON.stringify(config).replace(/[{}]/g, "\\$&")}$`);
      for (const program of programs) await program.line(line);
    };
    await all({ greeting: "hello", perSecond: 10, isOpen: true });
    const change = startExample("hot_config.ts", ["greeting=Grüß Gott", "perSecond=50"]);
    const config = { greeting: "Grüß Gott", perSecond: 50, isOpen: true };
    assert.deepEqual(await change.output(), [`published ${JSON.stringify(config)}`]);
    await all(config);
    // One after the other, each keeps what the other one has changed.
    await startExample("hot_config.ts", ["isOpen=false"]).output();
    await all({ ...config, isOpen: false });
    for (const program of programs) program.kill("SIGTERM");
    for (const program of programs) await program.output();
  });

  test("feature_flags.ts: those that run follow, also after one was killed", slow, async () => {
    const programs = [1, 2, 3].map(() => startExample("feature_flags.ts"));
    const all = async (text: string) => {
      for (const program of programs) {
        await program.line(new RegExp(`^process ${program.pid}: ${text}$`));
      }
    };
    const run = async (...args: string[]) =>
      (await startExample("feature_flags.ts", args).output())[0];
    await all("old checkout, light");
    assert.equal(await run("set", "dark=true"), 'version 2: {"checkout":"old","dark":true}');
    await all("old checkout, dark");
    const killed = programs.pop()!;
    killed.kill("SIGKILL");
    await killed.ended;
    await Promise.all([run("set", "checkout=new"), run("set", "dark=false")]);
    await all("new checkout, light");
    assert.equal(await run("show"), 'version 4: {"checkout":"new","dark":false}');
    for (const program of programs) program.kill("SIGTERM");
    for (const program of programs) await program.output();
  });

  test("prometheus.ts: each process shows the requests to all", slow, async () => {
    const programs = [1, 2].map(() => startExample("prometheus.ts", ["0"], ownRuntime, NET));
    const urls: string[] = [];
    for (const program of programs) urls.push((await program.line(/^(http:.*)\/metrics$/))[1]!);
    for (let i = 0; i < 10; i++) {
      assert.equal(await get(urls[i % 2]!), `hello from ${ownRuntime.name}\n`);
    }
    for (const url of urls) {
      const lines = (await get(`${url}/metrics`)).split("\n");
      assert.ok(lines.includes(`http_requests_total{runtime="${ownRuntime.name}"} 10`), `${lines}`);
      for (const line of lines.filter((line) => line !== "")) {
        assert.match(line, /^(# TYPE \w+ (counter|gauge)|\w+(\{\w+="\w+"\})? [\d.e+-]+)$/);
      }
      const types = lines.filter((line) => line.startsWith("#"));
      assert.deepEqual(types, [
        "# TYPE http_busy_seconds_total counter",
        "# TYPE http_last_request_seconds gauge",
        "# TYPE http_requests_total counter",
      ]);
    }
    // One that is killed takes none of the numbers with it.
    programs[0]!.kill("SIGKILL");
    await programs[0]!.ended;
    assert.match(await get(`${urls[1]}/metrics`), /^http_requests_total\{\w+="\w+"\} 10$/m);
    programs[1]!.kill("SIGTERM");
    await programs[1]!.output();
  });

  test("sessions.ts: sessions outlive all processes, and no visit is lost", slow, async () => {
    const run = async (...args: string[]) => (await startExample("sessions.ts", args).output())[0]!;
    const id = await run("login", "ann");
    await Promise.all([1, 2, 3].map(() => run("visit", id)));
    assert.equal(await run("visit", id), "ann, visit 4");
    assert.equal(await run("visit", "none"), "there is no such session");
    const other = await run("login", "bob");
    assert.equal(await run("logout", other), "logged out");
    assert.equal(await run("visit", other), "there is no such session");
    assert.equal(await run("stop"), "1 sessions ended");
    assert.equal(await run("visit", id), "there is no such session");
    assert.equal(await run("stop"), "0 sessions ended");
  });

  test("mail_workers.ts: a mail whose worker is killed is sent by another one", slow, async () => {
    const run = async (...args: string[]) => await startExample("mail_workers.ts", args).output();
    const hanging = startExample("mail_workers.ts", ["work", "600000"]);
    await hanging.line(/^worker \d+ waits for mails$/);
    await run("send", "ann");
    await hanging.line(/^sending mail 1 to ann, attempt 1$/);
    hanging.kill("SIGKILL");
    await hanging.ended;
    assert.deepEqual(await run("send", "bob", "nobody"), ["2 mails wait"]);
    const worker = startExample("mail_workers.ts", ["work", "5"]);
    await worker.line(/^sent mail 1 to ann$/);
    await worker.line(/^mail 3, attempt 3: there is no such address$/);
    // The worker says that a mail is sent before the queue knows.
    let shown: string[] = [];
    const isSent = async () => {
      shown = await run("show");
      return shown[0] === "0 wait, 0 are being sent, 2 sent";
    };
    await until(isSent, "both mails are sent");
    assert.deepEqual(shown, [
      "0 wait, 0 are being sent, 2 sent",
      "1 came back from workers that were killed",
      "mail 3 to nobody has failed 3 times",
    ]);
    assert.deepEqual(await run("stop"), ["0 mails wait"]);
    const lines = await worker.output();
    for (const line of ["sending mail 1 to ann, attempt 2", "sent mail 2 to bob"]) {
      assert.ok(lines.includes(line), lines.join("\n"));
    }
  });

  const needsBun = bun ? crewOnly : { skip: "bun is not installed" };
  test(
    "shared_cache.ts: two servers make a page once, and have it if its maker is killed",
    { ...needsBun, ...slow },
    async () => {
      const first = startExample("shared_cache.ts", ["0"], bun);
      const second = startExample("shared_cache.ts", ["0"], bun);
      const urls: string[] = [];
      for (const program of [first, second]) {
        urls.push((await program.line(/^http:\/\/127\.0\.0\.1:\d+$/))[0]);
      }
      const asked = [0, 1, 0, 1].map((i) => get(`${urls[i]}/a/page`));
      const pages = new Set(await Promise.all(asked));
      assert.equal(pages.size, 1, [...pages].join());
      const [page] = pages as Set<string>;
      const maker = page!.includes(`process ${first.pid}\n`) ? 0 : 1;
      const programs = [first, second];
      programs[maker]!.kill("SIGKILL");
      await programs[maker]!.ended;
      assert.equal(await get(`${urls[1 - maker]}/a/page`), page);
      programs[1 - maker]!.kill("SIGTERM");
      await programs[1 - maker]!.output();
    },
  );

  test(
    "rate_limited_server.ts: two servers grant no more than one",
    { ...needsBun, ...slow },
    async () => {
      const first = startExample("rate_limited_server.ts", ["0"], bun);
      const url = (await first.line(/^http:\/\/127\.0\.0\.1:(\d+)$/))[0];
      const second = startExample("rate_limited_server.ts", [new URL(url).port], bun);
      await second.line(/^http:/);
      const started = performance.now();
      const answeredBy = new Set<string>();
      let [granted, refused] = [0, 0];
      // The kernel deals the connections out at random: until both have answered, and each was asked often enough.
      for (let i = 0; i < 60 || answeredBy.size < 2 && i < 1000; i++) {
        const response = await fetch(url, { headers: { connection: "close" } });
        const text = await response.text();
        if (response.status === 200) {
          granted++;
          answeredBy.add(/\d+/.exec(text)![0]);
        } else {
          refused++;
          assert.equal(response.status, 429);
          assert.equal(response.headers.get("retry-after"), "1");
        }
      }
      const seconds = (performance.now() - started) / 1000;
      assert.equal(answeredBy.size, 2);
      assert.ok(granted >= 10, `${granted}`);
      assert.ok(granted <= 10 + 5 * seconds + 1, `${granted} in ${seconds} s`);
      assert.ok(refused > 0);
      for (const program of [first, second]) {
        program.kill("SIGTERM");
        await program.output();
        assert.equal(isAlive(program.pid), false);
      }
    },
  );
});

/** How many bytes the producer's messages have. */
function messageBytes(count: number): number {
  let bytes = 0;
  for (let id = 1; id <= count; id++) {
    bytes += JSON.stringify({ id, text: "x".repeat(id % 50) }).length;
  }
  return bytes;
}
