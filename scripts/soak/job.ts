import { SharedMemoryError } from "../../mod.ts";
import type { Random } from "../random.ts";
import { type Keys, slotWord, Word } from "./layout.ts";

/** What a worker has at hand. */
export interface Context {
  readonly keys: Keys;
  readonly slot: number;
  readonly random: Random;
  readonly control: Float64Array;
}

/** Something that workers do again and again; it throws if what it sees must not be. */
export interface Job {
  readonly name: string;
  readonly weight: number;
  run(context: Context): void | Promise<void>;
}

/** A call was refused what it did not get in time, which is allowed. */
export function countRefusal({ control, slot }: Context): void {
  control[slotWord(slot, Word.Refused)]! += 1;
}

interface Failing {
  error(): number;
  errorString(): string;
}

/** That a call succeeded, or failed as it may; returns whether it succeeded. */
export function check(
  object: Failing,
  result: boolean,
  ...allowed: (keyof typeof SharedMemoryError)[]
): boolean {
  if (result || allowed.some((code) => SharedMemoryError[code] === object.error())) return result;
  throw new Error(`error ${object.error()}: ${object.errorString()}`);
}

/** Keeps the processor busy, so that others come in between. */
export function spin(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

/** A signal that is aborted after some ms, and its reason. */
export function abortSoon(ms: number): { signal: AbortSignal; reason: Error; done(): void } {
  const controller = new AbortController();
  const reason = new Error("given up");
  const timer = setTimeout(() => controller.abort(reason), ms);
  return { signal: controller.signal, reason, done: () => clearTimeout(timer) };
}

/** Awaits what may reject with `reason`; `null` if it did. */
export async function unlessAborted<Result>(
  promise: Promise<Result>,
  { reason, done }: { reason: Error; done(): void },
): Promise<Result | null> {
  try {
    return await promise;
  } catch (error) {
    if (error === reason) return null;
    throw error;
  } finally {
    done();
  }
}
