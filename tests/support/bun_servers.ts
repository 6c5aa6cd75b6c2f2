/** The servers of `examples/bun_server/`, for tests. */
import assert from "node:assert/strict";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { State } from "../../examples/bun_server/state.ts";
import type { Runtime } from "../../scripts/runtimes.ts";
import { isAlive, Program, startExample } from "./program.ts";
import { crewOnly, DEADLINE_MS, linuxOnly, runtimes, until } from "./support.ts";

type Stats = ReturnType<State["summary"]>;

const bun = runtimes.find(({ name }) => name === "bun");

/** They are Bun's, whatever runtime looks on; only Linux shares a port's connections out. */
export const bunServerOnly: { skip?: string } = bun
  ? { ...crewOnly, ...linuxOnly }
  : { skip: "bun is not installed" };

export class BunServers {
  readonly runtime: Runtime = bun!;
  readonly program: Program;
  readonly url: string;

  constructor(program: Program, url: string) {
    this.program = program;
    this.url = url;
  }

  /** From whichever server answers; one may be killed just then. */
  async stats(): Promise<Stats> {
    for (const deadline = Date.now() + DEADLINE_MS;;) {
      try {
        const headers = { connection: "close" };
        return await (await fetch(`${this.url}/stats`, { headers })).json() as Stats;
      } catch (error) {
        if (Date.now() > deadline) throw error;
      }
    }
  }

  async until(condition: (stats: Stats) => boolean, what: string): Promise<void> {
    for (const deadline = Date.now() + DEADLINE_MS;;) {
      const stats = await this.stats();
      if (condition(stats)) return;
      if (Date.now() > deadline) throw new Error(`not in time: ${what}: ${JSON.stringify(stats)}`);
      await delay(10);
    }
  }

  /** Ends a server, and waits for the one that replaces it. */
  async replace(server: number, signal: NodeJS.Signals): Promise<void> {
    await this.until(({ servers }) => servers[server]!.pid !== 0, `server ${server}`);
    const { pid, restarts } = (await this.stats()).servers[server]!;
    process.kill(pid, signal);
    const isReplaced = ({ servers }: Stats) =>
      servers[server]!.restarts === restarts + 1 && servers[server]!.pid !== 0;
    await this.until(isReplaced, `another server in place of ${server}`);
    const how = signal === "SIGTERM" ? 0 : signal;
    await this.program.line(new RegExp(`\\(process ${pid}\\) ended with ${how}$`));
  }

  /** Ends all of it, and looks whether the processes are gone and the port is free. */
  async stop(): Promise<void> {
    const { servers } = await this.stats();
    this.program.kill("SIGTERM");
    await this.program.output();
    await until(() => servers.every(({ pid }) => pid === 0 || !isAlive(pid)), "the servers' end");
    await assert.rejects(fetch(this.url));
  }
}

export async function startBunServers(count: number, env?: NodeJS.ProcessEnv): Promise<BunServers> {
  const unlimited = { PER_SECOND: "1000000", BURST: "1000000" };
  const args = ["0", `${count}`];
  const program = startExample("bun_server/main.ts", args, bun, [], { ...unlimited, ...env });
  const [, url] = await program.line(/^\d+ servers on (http:.*)$/);
  return new BunServers(program, url!);
}

/** A process that places an order as a server does, and is killed before the given store of it. */
export function startCrashingOrder(id: string, step: number): Program {
  const fixture = fileURLToPath(new URL("../fixtures/crashing_order.ts", import.meta.url));
  return new Program(bun!.command, [fixture, id, `${step}`]);
}
