/** All deliberate faults, and how one is put into the sources. */
import { ASYNC_MUTANTS } from "../tests/simulation/async_mutants.ts";
import { COLLECTION_MUTANTS } from "../tests/simulation/collection_mutants.ts";
import { type Mutant, MUTANTS, type Replacement } from "../tests/simulation/mutants.ts";
import { QUEUE_MUTANTS } from "../tests/simulation/queue_mutants.ts";
import { SYNC_MUTANTS } from "../tests/simulation/sync_mutants.ts";

export const ALL_MUTANTS: readonly Mutant[] = [
  ...MUTANTS,
  ...ASYNC_MUTANTS,
  ...SYNC_MUTANTS,
  ...COLLECTION_MUTANTS,
  ...QUEUE_MUTANTS,
];

/** Returns the text of a mutant's file with its fault. @throws {Error} if the text to replace does not occur once */
export function mutated(text: string, mutant: Mutant): string {
  const once = replaced(text, mutant, mutant);
  return mutant.also === undefined ? once : replaced(once, mutant, mutant.also);
}

function replaced(text: string, { name, file }: Mutant, { find, replace }: Replacement): string {
  const parts = text.split(find);
  if (parts.length === 2) return parts.join(replace);
  throw new Error(
    `${name}: the text occurs ${parts.length - 1} times in ${file}, and not once:\n${find}`,
  );
}
