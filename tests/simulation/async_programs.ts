/** Programs that use the classes without blocking their event loops. */
import { SharedMemory } from "../../shared_memory.ts";
import { must, noteAttached } from "./class_programs.ts";
import type { Program } from "./scenario.ts";

const SEGMENT = "k";
const BYTES = 100;

/** Waits for the lock, holds it for a moment, and detaches. */
const lock: Program = async (_, note) => {
  using memory = SharedMemory.open(SEGMENT, { size: BYTES });
  const address = noteAttached(note);
  must(memory, await memory.lockAsync());
  note("locked", address);
  note("unlocked", address);
  must(memory, memory.unlock());
  note("detaching", address);
};

export const asyncPrograms: Readonly<Record<string, Program>> = {
  "async lock": lock,
};
