/** Agents of all runtimes that are killed at random moments. */
import assert from "node:assert/strict";
import process from "node:process";
import { setImmediate as turn } from "node:timers/promises";
import type { Random } from "../../scripts/random.ts";
import { type Agent, crewOnly, DEADLINE_MS, runtimes, startAgent } from "./support.ts";

/** The longest time that a kill takes on a busy machine, in ms. */
const KILL_MS = 3000;
/** With more kills than in a usual run, the test says after so many how it goes. */
const NEWS = 500;

/** How many agents a test kills, and the options of this test. */
interface Kills {
  readonly kills: number;
  readonly options: typeof crewOnly & { readonly timeout: number };
}

/** @param variable the environment variable that may say how many are killed instead of `usual` */
export function killsOf(variable: string, usual: number): Kills {
  const kills = Number(process.env[variable] ?? usual);
  return { kills, options: { ...crewOnly, timeout: 2 * DEADLINE_MS + kills * KILL_MS } };
}

interface Killing {
  readonly kills: number;
  /** So many agents run at a time, each in a lane with a number. */
  readonly lanes: number;
  /** Is in the text of errors. */
  readonly seed: number;
  /** Lets an agent begin what it does until it is killed. Each agent has another number, from 1 on. */
  begin(agent: Agent, lane: number, number: number): Promise<unknown>;
  /** Returns when the agent is to be killed. */
  live(agent: Agent, number: number): Promise<unknown>;
  /** Checks what must be true after a kill. */
  check(): void;
  /** Returns how it goes. */
  news(): string;
}

/** Starts agents of all runtimes in each lane, one after the other, and kills them. */
export async function killOneByOne(
  { kills, lanes, seed, begin, live, check, news }: Killing,
): Promise<void> {
  let started = 0;
  const killInLane = async (lane: number) => {
    while (started < kills) {
      const number = ++started;
      const agent = startAgent(runtimes[(lane + number) % runtimes.length]!);
      await begin(agent, lane, number);
      await live(agent, number);
      await agent.kill();
      assert.equal(await agent.ended, "SIGKILL", `seed ${seed}: ${agent.stderr}`);
      check();
      if (number % NEWS === 0) console.log(`${number} kills, ${news()}`);
    }
  };
  await Promise.all(Array.from({ length: lanes }, (_, lane) => killInLane(lane)));
}

/** Calls `check` again and again for a random time between `least` and `most` ms; other lanes go on meanwhile. */
export async function checkFor(
  random: Random,
  least: number,
  most: number,
  check: () => void,
): Promise<void> {
  const until = performance.now() + least + random.number() * (most - least);
  while (performance.now() < until) {
    check();
    await turn();
  }
}
