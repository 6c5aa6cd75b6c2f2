/** Random calls on all primitives, in several processes and objects, do what a small model of them says. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import type { SharedMemory } from "../../mod.ts";
import { Random } from "../../scripts/random.ts";
import {
  Counter,
  CounterBlock,
  Event,
  Gauge,
  Mutex,
  RecordSnapshot,
  Snapshot,
} from "../../sync/mod.ts";
import {
  CAPACITY,
  OBJECTS,
  PLACES,
  PROCESSES,
  RECORD,
  RECORD_BYTES,
  type Step,
  SyncWorld,
} from "../model/sync_world.ts";
import {
  type Agent,
  crewOnly,
  DEADLINE_MS,
  leaveNothingBehind,
  runtimes,
  startAgent,
} from "../support/support.ts";
import { attach, created } from "../support/sync_places.ts";

/** The same calls again with `MODEL_SEED=…`, which a failure names. */
const given = process.env["MODEL_SEED"];
const STEPS = 400;
const [KILLS, DETACHES] = [0.01, 0.03];

const LAYOUT = { id: "u32", name: "text:8", isOpen: "bool" } as const;

/** JavaScript of an agent: `join(memory)` has an object of every primitive. */
const JOIN = `
  objects.join = (memory) => {
    const view = memory.view(Uint8Array);
    return {
      memory,
      mutex: sync.Mutex.at(view, ${PLACES.mutex}),
      counter: sync.Counter.at(view, ${PLACES.counter}),
      gauge: sync.Gauge.at(view, ${PLACES.gauge}),
      event: sync.Event.at(view, ${PLACES.event}),
      block: sync.CounterBlock.at(view, ${PLACES.block}),
      snapshot: sync.Snapshot.at(view, ${PLACES.snapshot}),
      record: sync.RecordSnapshot.at(view, ${RECORD}, ${JSON.stringify(LAYOUT)}),
      waits: [],
    };
  };`;

function makeAll(memory: SharedMemory): void {
  const view = memory.view(Uint8Array);
  Mutex.create(view, PLACES.mutex);
  Counter.create(view, PLACES.counter);
  Gauge.create(view, PLACES.gauge);
  Event.create(view, PLACES.event);
  CounterBlock.create(view, PLACES.block, CAPACITY);
  Snapshot.create(view, PLACES.snapshot, RECORD_BYTES);
  RecordSnapshot.create(view, RECORD, LAYOUT);
}

/** A process that has joined everything, `OBJECTS` times. */
async function start(memory: SharedMemory, who: number): Promise<Agent> {
  const agent = startAgent(runtimes[who % runtimes.length]!);
  await attach(agent, memory);
  await agent.run(`
    ${JOIN}
    objects.all = Array.from({ length: ${OBJECTS} }, () => {
      const memory = new library.SharedMemory(${JSON.stringify(memory.key())});
      if (!memory.attach()) throw new Error(memory.errorString());
      return objects.join(memory);
    });`);
  return agent;
}

/** Makes a call, and returns what came of it: a value, or the code of an error. */
function perform(agent: Agent, { object, call }: Step): Promise<unknown> {
  return agent.run(`
    const { mutex, counter, gauge, event, block, snapshot, record, waits } = objects.all[${object}];
    try {
      const result = await (${call});
      return typeof result === "bigint" ? result + "n" : result;
    } catch (error) {
      if (error.code === undefined) throw error;
      return { thrown: error.code };
    }`);
}

/** How the waits of an object have ended: values, or codes of errors. */
function endsOf(agent: Agent, object: number): Promise<unknown[]> {
  return agent.run(`return await Promise.all(objects.all[${object}].waits.splice(0));`);
}

async function play(seed: number): Promise<void> {
  const random = new Random(seed);
  const world = new SyncWorld();
  using memory = created();
  makeAll(memory);
  const agents = await Promise.all(
    Array.from({ length: PROCESSES }, (_, who) => start(memory, who)),
  );
  const done: string[] = [];
  const note = (text: string) => {
    done.push(text);
    return `MODEL_SEED=${seed}, step ${done.length}:\n${done.slice(-30).join("\n")}`;
  };

  const checkWaits = async (who: number, object: number, end: unknown, when: string) => {
    const count = world.waits[who]![object]!;
    if (count === 0) return;
    world.waits[who]![object] = 0;
    assert.deepEqual(await endsOf(agents[who]!, object), Array(count).fill(end), when);
  };

  for (let n = 0; n < STEPS; n++) {
    const [who, object] = [random.below(PROCESSES), random.below(OBJECTS)];
    if (random.chance(KILLS)) {
      note(`${who} is killed`);
      await agents[who]!.kill();
      world.leave(who, null);
      world.waits[who]!.fill(0);
      agents[who] = await start(memory, who);
    } else if (random.chance(DETACHES)) {
      const when = note(`${who}.${object} detaches, and attaches again`);
      await agents[who]!.run(`objects.all[${object}].memory.detach();`);
      await checkWaits(who, object, "NotAttached", when);
      world.leave(who, object);
      await agents[who]!.run(`
        const { memory } = objects.all[${object}];
        if (!memory.attach()) throw new Error(memory.errorString());
        objects.all[${object}] = objects.join(memory);`);
    }
    const step = world.step(random);
    const when = note(`${step.who}.${step.object} ${step.call}: ${JSON.stringify(step.expected)}`);
    const actual = await perform(agents[step.who]!, step);
    assert.deepEqual(actual, step.expected, when);
    if (!SyncWorld.isNotification(step)) continue;
    for (const [who, waits] of world.waits.entries()) {
      for (const object of waits.keys()) await checkWaits(who, object, true, when);
    }
  }
  for (const agent of agents) await agent.kill();
}

describe("the model of the primitives says what comes of", () => {
  leaveNothingBehind();

  const first = Date.now() % 2 ** 31;
  const seeds = given !== undefined ? [Number(given)] : [first, first + 1];
  const patient = { timeout: 4 * DEADLINE_MS };
  test(`${seeds.length} times ${STEPS} random calls in ${PROCESSES} processes`, {
    ...patient,
    ...crewOnly,
  }, async () => {
    for (const seed of seeds) await play(seed);
  });
});
