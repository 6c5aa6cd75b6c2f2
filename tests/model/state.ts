/** The state of an agent's objects, as the model says it must be. */
import { digest } from "./digest.ts";
import { type Names, NO_KEY, pathOf } from "./names.ts";
import type { Memory, Process, Semaphore } from "./world.ts";

/** What an agent tells about itself. */
export interface AgentState {
  memories: { error: number }[];
  semaphores: { error: number }[];
  kept: number[];
  pastBytes: number;
}

function memoryState({ key, path, attachment, error }: Memory, names: Names) {
  const nativeKey = key === NO_KEY ? "KeyError" : key === null ? path : key ? pathOf(key) : null;
  return {
    key: names.full(key),
    nativeKey: names.full(nativeKey),
    isAttached: attachment !== null,
    size: attachment?.segment.bytes.length ?? 0,
    digest: attachment && digest(attachment.segment.bytes),
    error,
    isExplained: true,
  };
}

function semaphoreState({ key, error }: Semaphore, names: Names) {
  return { key: names.full(key), error, isExplained: true };
}

export function expectedState(process: Process, names: Names): AgentState {
  return {
    memories: Object.values(process.memories).map((memory) => memoryState(memory, names)) as never,
    semaphores: Object.values(process.semaphores).map((one) => semaphoreState(one, names)) as never,
    kept: process.kept.map(({ segment }) => digest(segment.bytes)),
    pastBytes: 0,
  };
}

/** Takes over the errors that no rule says. */
export function learnErrors(process: Process, actual: AgentState): void {
  const learn = (objects: { error: number | null }[], told: { error: number }[]) => {
    for (const [n, object] of objects.entries()) object.error ??= told[n]!.error;
  };
  learn(Object.values(process.memories), actual.memories);
  learn(Object.values(process.semaphores), actual.semaphores);
}
