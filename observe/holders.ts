import { describeProcess } from "../backends/process_text.ts";
import { sharedMutexBackend } from "../backends/mutex/mod.ts";
import { mutexState } from "../backends/mutex/state.ts";
import { HEADER_BYTES } from "../sync/slot.ts";
import type { Description, Holder } from "./types.ts";

/** The words of the header of a mutex, and where the mutex itself begins. */
export const SCOPE_WORD = 2;
const [KIND_WORD, ABANDONED_WORD] = [1, 3];
const MUTEX_WORD = HEADER_BYTES / 4;

/** Describes the process with a number. @param scope the pid namespace in which it has the number */
export function holderOf(number: number, scope: number): Holder {
  if (scope !== sharedMutexBackend().scope()) {
    return { pid: number, command: null, state: "elsewhere" };
  }
  return describeProcess(number);
}

/** Describes a mutex from its words, with those of its header. */
export function describeMutex(
  words: Int32Array,
): Required<Omit<Description, "values" | "members">> {
  const state = mutexState(words[KIND_WORD]! >>> 16, words.subarray(MUTEX_WORD));
  const nothing = { facts: {}, holders: [], waiting: 0, problem: "" };
  if (state === null) return { ...nothing, problem: "its bytes have been overwritten" };
  const { holder, isHeld, hasWaiters, wasLeft, isUnrecoverable } = state;
  const isAbandoned = wasLeft || words[ABANDONED_WORD] !== 0;
  const name = !isHeld ? "free" : holder === null ? "held" : "held";
  return {
    facts: { state: name, ...isAbandoned ? { abandoned: "its holder ended, or detached" } : {} },
    holders: isHeld && holder !== null ? [holderOf(holder, words[SCOPE_WORD]!)] : [],
    waiting: hasWaiters ? null : 0,
    problem: isUnrecoverable ? "no thread can lock it any more; create it again" : "",
  };
}
