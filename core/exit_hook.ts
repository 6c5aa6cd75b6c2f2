import process from "node:process";
import { onProgramEnd } from "../ffi/program_end.ts";
import { registry, type Resource, threadGlobal } from "../registry.ts";

/** Whether the end of the program has closed everything; nothing may be opened any more. */
export function isClosed(): boolean {
  return registry.isClosed;
}

/** Closes `resource` when the program ends normally, unless it is forgotten before. */
export function rememberAtExit(resource: Resource): void {
  registry.resources.add(resource);
  if (registry.hasExitHook) return;
  registry.hasExitHook = true;
  onProgramEnd(threadGlobal().process ?? process, closeAll);
}

/** The opposite of {@linkcode rememberAtExit}. */
export function forgetAtExit(resource: Resource): void {
  registry.resources.delete(resource);
}

function closeAll(): void {
  registry.isClosed = true;
  for (const resource of registry.resources) resource.closeAtExit();
  registry.resources.clear();
}
