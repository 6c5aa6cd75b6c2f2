import process from "node:process";

/** Something that Qt's destructors would let go of when the program ends. */
export interface Resource {
  /** Lets go at once, without waiting for anybody, and without throwing. */
  closeAtExit(): void;
}

const resources = new Set<Resource>();
let installed = false;
let closed = false;

/** Whether the end of the program has closed everything; nothing may be opened any more. */
export function isClosed(): boolean {
  return closed;
}

/** Closes `resource` when the program ends normally, unless it is forgotten before. */
export function rememberAtExit(resource: Resource): void {
  resources.add(resource);
  if (installed) return;
  installed = true;
  process.on("exit", closeAll);
  // Deno.exit() raises only this event.
  if (process.versions["deno"] !== undefined) globalThis.addEventListener("unload", closeAll);
}

/** The opposite of {@linkcode rememberAtExit}. */
export function forgetAtExit(resource: Resource): void {
  resources.delete(resource);
}

function closeAll(): void {
  closed = true;
  for (const resource of resources) resource.closeAtExit();
  resources.clear();
}
