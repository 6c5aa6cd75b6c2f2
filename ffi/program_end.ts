import process from "node:process";

/** Calls `listener` at a normal end of the program that `program` is the process of. */
export function onProgramEnd(program: typeof process, listener: () => void): void {
  program.on("exit", listener);
  // Deno.exit() raises only this event.
  if (process.versions["deno"] !== undefined) globalThis.addEventListener("unload", listener);
}
