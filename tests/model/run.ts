/** One sequence in the model and in the agents, compared after every step. */
import assert from "node:assert/strict";
import { readdirSync, rmSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { SharedMemory, SystemSemaphore, SystemSemaphoreMode } from "../../mod.ts";
import { ftok, keyFolder, semaphoreFile, systemLibrary } from "../support/support.ts";
import { Crew, type Reserve } from "./crew.ts";
import { MEMORY_KEYS, Names, SEMAPHORE_KEYS } from "./names.ts";
import { apply } from "./rules.ts";
import { type AgentState, expectedState, learnErrors } from "./state.ts";
import type { Outcome, Step } from "./steps.ts";
import { actualSystem, expectedSystem } from "./system.ts";
import { World } from "./world.ts";

/** How long the kernel may take to end a process, and the library to notice the collector. */
const SETTLE_MS = 5000;
const IPC_RMID = 0;

/** A step after which the world is not what the model says. */
export class Mismatch extends Error {
  readonly steps: readonly Step[];

  constructor(
    steps: readonly Step[],
    cause: unknown,
    when = `after ${JSON.stringify(steps.at(-1))}`,
  ) {
    const text = cause instanceof Error ? cause.message : String(cause);
    super(`${when}: ${text}`, { cause });
    this.steps = steps;
  }
}

export class Run {
  readonly world = new World();
  readonly steps: Step[] = [];
  readonly #names = new Names();
  readonly #crew: Crew;

  constructor(reserve: Reserve | null = null) {
    this.#crew = new Crew(reserve);
  }

  /** `false` if there is no rule for the step. */
  async step(step: Step): Promise<boolean> {
    const expected = apply(this.world, step);
    if (expected === null) return false;
    this.steps.push(step);
    try {
      await this.#perform(step, expected);
      const takesTime = step[1] === "process" || step[2] === "forget";
      await this.#checkSystem(takesTime ? SETTLE_MS : 0);
    } catch (error) {
      throw new Mismatch([...this.steps], error);
    }
    return true;
  }

  /** That everybody's objects are as the model says, and nothing is left when they have ended. */
  async finish(): Promise<void> {
    try {
      for (const [who, process] of this.world.processes.entries()) {
        const { state } = await this.#crew.agent(who).request("state", "");
        assert.deepEqual(state, expectedState(process, this.#names), `the state of ${who}`);
      }
      assert.deepEqual(await this.#crew.end(), this.world.processes.map(() => 0));
      this.world.processes.forEach((_, who) => apply(this.world, [who, "process", "end"]));
      await this.#checkSystem(SETTLE_MS);
    } catch (error) {
      throw new Mismatch([...this.steps], error, "at the end");
    }
  }

  /** Ends the agents, and removes what the killed have left. */
  async close(): Promise<void> {
    await this.#crew.kill();
    for (const key of SEMAPHORE_KEYS) {
      new SystemSemaphore(this.#names.full(key), 0, SystemSemaphoreMode.Create)[Symbol.dispose]();
    }
    // Nobody is left for whom they count.
    const notes = readdirSync(keyFolder).filter((name) => name.startsWith("qipc_inherited_"));
    for (const name of notes) rmSync(`${keyFolder}${name}`);
    for (const key of MEMORY_KEYS) this.#remove(new SharedMemory(this.#names.full(key)));
    for (const path of this.#names.ownPaths()) {
      const memory = new SharedMemory();
      memory.setNativeKey(path);
      this.#remove(memory);
      rmSync(path, { force: true });
    }
  }

  #remove(memory: SharedMemory): void {
    if (!memory.attach()) memory.create(1);
    memory.detach();
  }

  async #perform([who, object, call, ...args]: Step, expected: Outcome): Promise<void> {
    if (object === "system") return this.#removeSemaphore(args[0] as string);
    if (object === "process") {
      const ending = await this.#crew.replace(who, call as "kill" | "end");
      if (call === "end") assert.equal(ending, 0, "how it ended");
      return;
    }
    const full = args.map((arg) => this.#names.full(arg));
    const agent = this.#crew.agent(who);
    const answer: { outcome: Outcome; state: AgentState } = await agent.request(
      object,
      call,
      ...full,
    );
    assert.deepEqual(answer.outcome, expected, "what it came to");
    const process = this.world.processes[who]!;
    learnErrors(process, answer.state);
    assert.deepEqual(answer.state, expectedState(process, this.#names), "the state of the objects");
  }

  async #checkSystem(ms: number): Promise<void> {
    const expected = expectedSystem(this.world);
    const deadline = performance.now() + ms;
    for (;;) {
      const actual = actualSystem(this.world, this.#names);
      try {
        return assert.deepEqual(actual, expected, "the system");
      } catch (error) {
        if (performance.now() > deadline) throw error;
      }
      await delay(5);
    }
  }

  /** As Qt does it. */
  #removeSemaphore(key: string): void {
    const { c } = systemLibrary();
    const path = semaphoreFile(this.#names.full(key));
    assert.equal(c.semctl(c.semget(ftok(path), 0, 0), 0, IPC_RMID, 0n), 0);
    rmSync(path);
  }
}
