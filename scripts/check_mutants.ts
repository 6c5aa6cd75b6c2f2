/** Checks that each deliberate fault can be put into the sources: its text occurs there once. A part of `npm run check`. */
import { readFileSync } from "node:fs";
import process from "node:process";
import { ALL_MUTANTS, mutated } from "./all_mutants.ts";

for (const mutant of ALL_MUTANTS) {
  try {
    mutated(readFileSync(new URL(`../${mutant.file}`, import.meta.url), "utf8"), mutant);
  } catch (error) {
    console.error((error as Error).message);
    process.exitCode = 1;
  }
}
