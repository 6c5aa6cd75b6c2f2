/**
 * What the programs of the simulation do, as far as it is known. A program is deterministic: its next call depends only
 * on the results of its earlier ones. So its moments form a tree, and a program has to run only where the tree ends.
 */
import type { FfiOptions } from "./ffi.ts";
import type { Call, Out, Result } from "./kernel.ts";
import type { Program } from "./scenario.ts";

/** This decoder has a character of its own for each byte. */
const decoder = new TextDecoder("latin1");

function textOf(out: Exclude<Out, null>): string {
  if (typeof out === "string") return out;
  return out instanceof Uint8Array ? decoder.decode(out) : Object.values(out).join();
}

/** A moment of a program, between two calls. */
export class Moment {
  static #count = 0;
  /** A number that no other moment has. */
  readonly number = ++Moment.#count;
  /** The moment before the last call; `null` at the beginning. */
  readonly before: Moment | null;
  /** What the last call has returned. */
  readonly result: Result | null;
  /** The number of calls so far, without looks at the clock. */
  readonly calls: number;
  /** The next call; `null` as long as the program has not run so far, or if it has ended. */
  call: Call | null = null;
  /** How the program has ended. */
  outcome: string | null = null;
  #after: Map<number | string, Moment> | null = null;

  constructor(before: Moment | null = null, result: Result | null = null) {
    this.before = before;
    this.result = result;
    this.calls = before === null ? 0 : before.calls + (before.call![0] === "clock" ? 0 : 1);
  }

  /** Returns the moment after the next call, which returns `result`. */
  after(result: Result): Moment {
    const { ret, errno, out } = result;
    const number = ret === -1 ? -errno : ret;
    const key = out === null ? number : `${number} ${textOf(out)}`;
    this.#after ??= new Map();
    let found = this.#after.get(key);
    if (found === undefined) this.#after.set(key, found = new Moment(this, result));
    return found;
  }

  /** Returns the moments from the beginning to this one. */
  path(): Moment[] {
    const path: Moment[] = [this];
    for (let { before } = this; before !== null; { before } = before) path.push(before);
    return path.reverse();
  }
}

let beginnings = new WeakMap<Program, Map<string, Moment>>();

/** Returns the beginning of a program in such a process. */
export function beginningOf(program: Program, process: FfiOptions): Moment {
  let known = beginnings.get(program);
  if (known === undefined) beginnings.set(program, known = new Map());
  const { pid, uid, environ = {} } = process;
  const key = [pid, uid, ...Object.entries(environ)].join();
  let found = known.get(key);
  if (found === undefined) known.set(key, found = new Moment());
  return found;
}

/** Forgets what all programs do, as that takes much memory. */
export function forgetMoments(): void {
  beginnings = new WeakMap();
}
