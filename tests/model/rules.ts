/** The model: applies a step to the world, and says what must come of it. */
import { die, leave } from "./segments.ts";
import { memoryRules } from "./memory_rules.ts";
import { close, semaphoreRules, undo } from "./semaphore_rules.ts";
import type { Outcome, Step } from "./steps.ts";
import { newProcess, type World } from "./world.ts";

type ProcessRule = (world: World, who: number) => void;

const processRules: Readonly<Record<string, ProcessRule>> = {
  kill(world, who) {
    const process = world.processes[who]!;
    for (const attachment of process.attachments) die(world, attachment);
    undo(world, process);
    world.processes[who] = newProcess();
  },
  /** A normal end, which detaches and lets go first. */
  end(world, who) {
    const process = world.processes[who]!;
    for (const attachment of process.attachments) leave(world, attachment);
    for (const opened of process.opened) close(world, process, opened);
    undo(world, process);
    world.processes[who] = newProcess();
  },
};

/** Somebody else, such as Qt, removes a semaphore. */
function removeSemaphore(world: World, key: string): Outcome | null {
  const target = world.semaphores.get(key);
  if (target === undefined) return null;
  target.isRemoved = true;
  world.semaphores.delete(key);
  return { value: null };
}

/** `null`, and nothing changed, where there is no rule, as it would wait for ever. */
export function apply(world: World, [who, name, call, ...args]: Step): Outcome | null {
  if (name === "system") return removeSemaphore(world, args[0] as string);
  if (name === "process") {
    processRules[call]!(world, who);
    return { value: null };
  }
  const process = world.processes[who]!;
  const memory = process.memories[name];
  if (memory) return memoryRules[call]!({ world, process, memory, name }, ...args);
  const semaphore = process.semaphores[name]!;
  return semaphoreRules[call]!({ world, process, semaphore, name }, ...args);
}
