/** The steps of a sequence, which are data: to be printed, pasted and left out. */

/**
 * `who` is the number of an agent; `object` is one of its objects (`m0`…, `s0`…), its `process`, or the
 * `system`; keys and paths among the arguments are the short names of `names.ts`.
 */
export type Step = readonly [who: number, object: string, call: string, ...args: unknown[]];

/** What a call came to: `undefined` is `null`, and an error its code or name. */
export type Outcome = { readonly value: unknown } | { readonly thrown: string };

export const AGENTS = 3;
export const MEMORIES = ["m0", "m1", "m2"] as const;
export const SEMAPHORES = ["s0", "s1"] as const;

/** As lines of TypeScript, for `permanent.ts`. */
export function asCode(steps: readonly Step[]): string {
  return steps.map((step) => `      ${JSON.stringify(step).replaceAll(",", ", ")},\n`).join("");
}
