import process from "node:process";

/** Calls `listener` when the program ends normally. `program` is the `process` object of the program. */
export function onProgramEnd(program: typeof process, listener: () => void): void {
  program.on("exit", listener);
  // Deno.exit() raises only this event.
  if (process.versions["deno"] !== undefined) globalThis.addEventListener("unload", listener);
}
