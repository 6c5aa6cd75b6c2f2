/**
 * An entry of the table of jobs. Its first word is the state of the job: what it is, the slot of the member that has it
 * while it runs, and how often it was taken. Each change of a job is one store of this word; what the other words say
 * counts only if the state says so.
 */

/** The words of an entry. */
export const [STATE, POSITION, LENGTH, NEXT, BEFORE, GENERATION, MOST, REASON] = [
  ...[0, 1, 2, 3, 4, 5, 6, 7],
] as [number, number, number, number, number, number, number, number];
/** The floats of an entry, which follow the words: its indices count from the beginning of the entry, in floats. */
export const [ID, ORDER, TIME, UNTIL] = [4, 5, 6, 7];
/** The number of words of an entry, and of floats. */
export const ENTRY_WORDS = 16;
export const ENTRY_FLOATS = 8;

/** What an entry is. */
export const State = { Free: 0, Ready: 1, Delayed: 2, Running: 3, Failed: 4 } as const;
export type State = typeof State[keyof typeof State];

/** Why a job was put back last, or has failed. */
export const Reason = { None: 0, Retried: 1, Died: 2, Late: 3 } as const;

const MEMBER_SHIFT = 3;
const MEMBER_MASK = 1023;
const ATTEMPT_SHIFT = 13;
/** A job may be taken so many times. */
export const ATTEMPTS_MAX = 2 ** 18 - 1;

export function stateWord(state: State, attempt: number, member = 0): number {
  return state | member << MEMBER_SHIFT | attempt << ATTEMPT_SHIFT;
}

export function stateOf(word: number): number {
  return word & 7;
}

export function memberOf(word: number): number {
  return word >>> MEMBER_SHIFT & MEMBER_MASK;
}

/** Returns how often the job was taken. */
export function attemptOf(word: number): number {
  return word >>> ATTEMPT_SHIFT;
}
