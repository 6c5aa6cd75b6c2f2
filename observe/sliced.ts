import { setImmediate } from "node:timers";
import type { Steps } from "./types.ts";

/** The event loop goes on after this time, in ms, and after the piece of work that is being done then. */
const SLICE_MS = 0.25;

/** What {@linkcode sliced} needs of the runtime. */
export interface Loop {
  /** The time in ms. */
  now(this: void): number;
  /** Calls a function after the events that wait for the thread. */
  later(this: void, next: () => void): void;
}

const LOOP: Loop = { now: () => performance.now(), later: (next) => void setImmediate(next) };

/** Runs steps in slices, between which the event loop goes on. */
export function sliced<Result>(steps: Steps<Result>, loop: Loop = LOOP): Promise<Result> {
  return new Promise((resolve, reject) => {
    const slice = () => {
      try {
        const end = loop.now() + SLICE_MS;
        do {
          const { done, value } = steps.next();
          if (done) return resolve(value);
        } while (loop.now() < end);
      } catch (error) {
        return reject(error);
      }
      loop.later(slice);
    };
    loop.later(slice); // the caller's part of the event loop is over first
  });
}
