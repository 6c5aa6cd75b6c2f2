/** The agents of a run, and others in reserve, as they are often killed and slow to start. */
import { fileURLToPath } from "node:url";
import type { Runtime, RuntimeName } from "../../scripts/runtimes.ts";
import { Agent, runtimes } from "../support/support.ts";
import { AGENTS } from "./steps.ts";

const script = fileURLToPath(new URL("../fixtures/model_agent.ts", import.meta.url));
const FLAGS: Readonly<Record<RuntimeName, readonly string[]>> = {
  deno: ["--v8-flags=--expose-gc"],
  bun: [],
  node: ["--expose-gc"],
  qt: [],
};

function start({ name, command, args }: Runtime): Agent {
  return new Agent(name, command, [...args, ...FLAGS[name], script]);
}

/** An agent of each runtime that is started before it is needed. */
export class Reserve {
  readonly #agents = new Map<Runtime, Agent>();

  take(runtime: Runtime): Agent {
    const agent = this.#agents.get(runtime) ?? start(runtime);
    this.#agents.set(runtime, start(runtime));
    return agent;
  }

  async dismiss(): Promise<void> {
    for (const agent of this.#agents.values()) await agent.kill();
    this.#agents.clear();
  }
}

export class Crew {
  readonly #reserve: Reserve | null;
  readonly #agents: Agent[];

  constructor(reserve: Reserve | null) {
    this.#reserve = reserve;
    this.#agents = Array.from({ length: AGENTS }, (_, who) => this.#start(who));
  }

  #start(who: number): Agent {
    const runtime = runtimes[who % runtimes.length]!;
    return this.#reserve?.take(runtime) ?? start(runtime);
  }

  agent(who: number): Agent {
    return this.#agents[who]!;
  }

  async replace(who: number, how: "kill" | "end"): Promise<unknown> {
    const ending = await this.agent(who)[how]();
    this.#agents[who] = this.#start(who);
    return ending;
  }

  /** Ends them all as programs do normally, one after the other. */
  async end(): Promise<(number | string)[]> {
    const endings: (number | string)[] = [];
    for (const agent of this.#agents) endings.push(await agent.end());
    return endings;
  }

  async kill(): Promise<void> {
    for (const agent of this.#agents) await agent.kill();
  }
}
