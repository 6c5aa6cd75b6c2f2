/** What the rules of a `SharedMemory` are about, and what they say. */
import { SharedMemoryError } from "../../mod.ts";
import { leave } from "./segments.ts";
import type { Outcome } from "./steps.ts";
import type { Memory, Process, World } from "./world.ts";

export interface Subject {
  readonly world: World;
  readonly process: Process;
  readonly memory: Memory;
  readonly name: string;
}

/** Changes the world as the call does, or returns `null`, having changed nothing, where no rule applies. */
// deno-lint-ignore no-explicit-any
export type Rule = (subject: Subject, ...args: any[]) => Outcome | null;

export const done: Outcome = { value: null };

export function success({ memory }: Subject, value: unknown = true): Outcome {
  memory.error = 0;
  return { value };
}

export function failed({ memory }: Subject, code: keyof typeof SharedMemoryError): Outcome {
  memory.error = SharedMemoryError[code];
  return { value: false };
}

export function thrown({ memory }: Subject, text: string): Outcome {
  memory.error = null;
  return { thrown: text };
}

export function detach({ world, process, memory }: Subject): void {
  if (memory.attachment === null) return;
  leave(world, memory.attachment);
  process.attachments.delete(memory.attachment);
  memory.attachment = null;
}
