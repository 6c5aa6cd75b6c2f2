import process from "node:process";
import { onProgramEnd } from "../ffi/program_end.ts";
import { registry, type Resource, threadGlobal } from "../registry.ts";

/** Returns whether the end of the program has closed everything. Nothing may be opened after that. */
export function isClosed(): boolean {
  return registry.isClosed;
}

/** Registers `resource`, to be closed when the program ends normally. {@linkcode forgetAtExit} cancels this. */
export function rememberAtExit(resource: Resource): void {
  registry.resources.add(resource);
  if (registry.hasExitHook) return;
  registry.hasExitHook = true;
  onProgramEnd(threadGlobal().process ?? process, closeAll);
}

/** Removes a resource that {@linkcode rememberAtExit} has registered. */
export function forgetAtExit(resource: Resource): void {
  registry.resources.delete(resource);
}

/** Closes everything, as the normal end of a program does. */
export function closeAll(): void {
  registry.isClosed = true;
  for (const resource of registry.resources) resource.closeAtExit();
  registry.resources.clear();
}
