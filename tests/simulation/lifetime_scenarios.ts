/** System V segments that stay without a process, and are adopted or removed: `lifetime: "until-removed"`. */
import { registry } from "../../registry.ts";
import { SharedMemory } from "../../shared_memory.ts";
import { must, noteAttached } from "./class_programs.ts";
import { runOn } from "./explorer.ts";
import { SimulatedFfi } from "./ffi.ts";
import { type Call, call, type Result, type State } from "./kernel.ts";
import { SYSTEM_V } from "./keys.ts";
import { SYSTEM_V_OBJECTS } from "./objects.ts";
import { keptBefore } from "./programs.ts";
import type { Ending, Note, Program, Scenario } from "./scenario.ts";
import { NEXT_MS } from "./world.ts";

const { leftovers, lockProblem } = SYSTEM_V_OBJECTS;
/** The key whose native key is that of keys.ts. */
const KEY = "k";
const BYTES = 100;

/** Opens the segment; it is adopted by one process at a time, and only while no other one uses it. */
function openKept(note: Note): SharedMemory {
  const address = () => Number([...registry.attachments][0]!.address);
  return SharedMemory.open(KEY, {
    size: BYTES,
    lifetime: "until-removed",
    initialize: () => void note("store", address()),
    adopt: () => void note("adopting", address()),
  });
}

/** Uses the segment, and detaches. @param act what is done in between */
const using = (act: (memory: SharedMemory, stored: number) => void): Program => (_, note) => {
  const memory = openKept(note);
  const address = noteAttached(note);
  act(memory, note("load", address));
  note("detaching", address);
  must(memory, memory.detach());
};

/** The segment that was there before is used: nobody has filled another one. */
const keeps = using((_, stored) => {
  if (stored !== 0) throw new Error("the bytes that were kept are gone");
});
const uses = using((_, stored) => {
  if (stored > 1) throw new Error(`the bytes were stored ${stored} times`);
});
const removes = using((memory) => memory.remove());

function segments(kernel: State): number {
  return leftovers(kernel).filter((name) => name.startsWith("segment")).length;
}

/** Says what is wrong with what the next processes find: one that keeps the segment, and one that removes it. */
function nextProblem({ kernel, hasKill }: Ending, mayBeGone: boolean): string | null {
  if (segments(kernel) > 1) return `there are ${segments(kernel)} segments`;
  if (segments(kernel) === 0 && !mayBeGone) return "the segment that was to be kept is gone";
  const next = runOn(kernel, uses);
  if (next.outcome !== "ok") return `the next user failed: ${next.outcome}`;
  if (next.ms > NEXT_MS) return `the next user waited for ${next.ms} ms`;
  if (segments(next.kernel) !== 1) return "the next user has not kept the segment";
  const last = runOn(next.kernel, removes);
  if (last.outcome !== "ok") return `its removal failed: ${last.outcome}`;
  const rest = leftovers(last.kernel);
  return rest.length === 0 || hasKill ? null : `left after its removal: ${rest}`;
}

function scenarioOf(name: string, programs: readonly Program[], mayBeGone: boolean): Scenario {
  return {
    name,
    programs,
    crashes: ["killed 3"],
    setUp(kernel) {
      const system = (made: Call) => call(kernel, 0, made) as Result; // it never waits
      keptBefore(SYSTEM_V)(new SimulatedFfi(system, kernel.processes[0]!), () => 0);
    },
    lockProblem,
    check(ending) {
      const bad = ending.outcomes.find((text) => text !== "ok" && text !== "killed");
      return bad === undefined ? nextProblem(ending, mayBeGone) : `a program failed: ${bad}`;
    },
  };
}

export const LIFETIME_SCENARIOS: Readonly<Record<string, Scenario>> = Object.fromEntries([
  scenarioOf("lifetime: two adopt", [keeps, keeps], false),
  scenarioOf("lifetime: one adopts and one removes", [uses, removes], true),
  scenarioOf("lifetime: two remove", [removes, removes], true),
].map((scenario) => [scenario.name, scenario]));
