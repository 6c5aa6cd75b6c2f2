import { BackendError } from "../backends/failure.ts";
import { glance } from "../backends/inspection.ts";
import type { PeekedSegment, SegmentGlance } from "../backends/inventory.ts";
import { peekAt } from "../backends/peek.ts";
import type { Peek } from "../backends/peek_types.ts";
import { describeProcess } from "../backends/process_text.ts";
import { describeAll, type Search, search } from "./parts.ts";
import type { Holder, Part, Steps } from "./types.ts";

/** After this time, in ms, a segment is searched again: programs may have created something in it. */
const SEARCH_MS = 60_000;
/** A segment in which nothing was found is searched each time if it has at most this number of bytes. */
const SMALL_BYTES = 2 ** 20;

/** What lies in a segment. */
export interface Contents {
  readonly parts: readonly Part[];
  /** The number of bytes at the beginning of the segment that were searched for parts. */
  readonly searched: number;
  /** Why the bytes could not be read; `null` if they were. */
  readonly problem: string | null;
}

/** A segment, and what lies in it. */
export interface Observed extends Contents {
  readonly segment: SegmentGlance;
  /** The process that holds the lock of the segment; `null` if none does, or if it is not known. */
  readonly lockHolder: Holder | null;
}

const UNREAD: Contents = { parts: [], searched: 0, problem: null };

/** Looks at segments again and again. Between two looks it only remembers where their parts are. */
export class Observer {
  readonly #searches = new Map<string, { readonly search: Search; readonly time: number }>();

  /**
   * Looks at all segments of this user. Segments that no process uses, or only processes of other programs, are listed
   * only.
   */
  *look(isWanted: (segment: SegmentGlance) => boolean = () => true): Steps<Observed[]> {
    const segments = yield* glance();
    const observed: Observed[] = [];
    for (const segment of segments) {
      if (!isWanted(segment)) {
        yield;
        continue;
      }
      const isRead = segment.attached > 0 && segment.isLookedInto && !segment.unfinished;
      const contents = isRead ? yield* this.#contents(segment) : UNREAD;
      const holder = segment.lock?.holder?.pid;
      const lockHolder = holder === undefined ? null : describeProcess(holder);
      observed.push({ segment, lockHolder, ...contents });
      yield;
    }
    const ids = new Set(segments.map(idOf));
    for (const id of this.#searches.keys()) if (!ids.has(id)) this.#searches.delete(id);
    return observed;
  }

  *#contents(segment: SegmentGlance): Steps<Contents> {
    const id = idOf(segment);
    let known = this.#searches.get(id);
    if (known !== undefined && performance.now() - known.time > SEARCH_MS) known = undefined;
    const contents = yield* contentsOf(segment, known?.search);
    const isNew = known === undefined && contents.search !== null;
    if (isNew) this.#searches.set(id, { search: contents.search!, time: performance.now() });
    const isOther = segment.size <= SMALL_BYTES &&
      contents.parts.every(({ kind, problem }) => kind === "other bytes" || problem);
    if (isOther) this.#searches.delete(id); // a program may be about to create something
    return contents;
  }
}

/**
 * Describes what lies in a segment.
 *
 * @param known what an earlier search has found
 * @returns also the search, `null` if the segment could not be read
 */
export function* contentsOf(
  segment: PeekedSegment,
  known?: Search,
): Steps<Contents & { readonly search: Search | null }> {
  if (segment.unfinished) return { ...UNREAD, problem: "its creator is filling it", search: null };
  return yield* contentsSeenBy(peekAt(segment), known);
}

/** Describes what lies in the segment that a peek reads. */
export function* contentsSeenBy(
  peek: Peek,
  known?: Search,
): Steps<Contents & { readonly search: Search | null }> {
  try {
    const found = known ?? (yield* resting(peek, search(peek)));
    const parts = yield* resting(peek, describeAll(peek, found.found));
    return { parts, searched: found.searched, problem: null, search: found };
  } catch (error) {
    if (!(error instanceof BackendError)) throw error;
    return { ...UNREAD, problem: error.message, search: null };
  }
}

/** Runs steps so that nothing is attached while other code runs. */
function* resting<Result>(peek: Peek, steps: Steps<Result>): Steps<Result> {
  for (;;) {
    let next: IteratorResult<undefined, Result>;
    try {
      next = steps.next();
    } finally {
      peek.rest();
    }
    if (next.done) return next.value;
    yield;
  }
}

/** Runs steps without a pause. */
export function atOnce<Result>(steps: Steps<Result>): Result {
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
  }
}

/** A new segment with the number of an earlier one has another size or another id, as a rule. */
function idOf({ type, id, size, keyFile }: PeekedSegment): string {
  return `${type} ${id} ${size} ${keyFile}`;
}
