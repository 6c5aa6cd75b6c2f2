import type { Peek } from "../backends/peek_types.ts";
import type { ProcessDetails } from "../backends/process_text.ts";

/** A process that holds a mutex or changes a part of a collection. */
export interface Holder extends Omit<ProcessDetails, "state"> {
  /** `"elsewhere"` is a process of another pid namespace (another container), where the same number is another one's. */
  readonly state: ProcessDetails["state"] | "elsewhere";
}

/** A number, or a text, that a member shows. */
export type FactValue = number | bigint | string;

/** What is known of a primitive or collection from its bytes. */
export interface Description {
  /** The facts by their names, such as `entries`. */
  readonly facts: Readonly<Record<string, FactValue>>;
  /** The values that have names of their own, as in a `CounterBlock`. */
  readonly values?: Readonly<Record<string, number | bigint>>;
  /** The processes that hold its lock at this moment. */
  readonly holders?: readonly Holder[];
  /** The threads that take jobs from a queue, by their processes. They may hold jobs for as long as they like. */
  readonly members?: readonly Holder[];
  /** How many threads wait; `null` if some do, and their number is not known. */
  readonly waiting?: number | null;
  /** What is wrong with its bytes, in words. */
  readonly problem?: string;
}

/** A part of a segment: a primitive, a collection, a layout, a typed array, or bytes that are not this module's. */
export interface Part extends Description {
  /** The name of the class, or for other members what the text of the layout says. */
  readonly kind: string;
  /** The name in the layout, with those of the layouts around it: `shop.hits`; `null` outside layouts. */
  readonly name: string | null;
  /** Where it begins in the segment, in bytes. */
  readonly offset: number;
  /** Its size in bytes. */
  readonly bytes: number;
}

/** A place in a segment, from `begin` up to `end`, both in bytes of the segment. */
export interface Place {
  readonly peek: Peek;
  readonly begin: number;
  readonly end: number;
}

/** Yields when other code may run: at these moments nothing is attached. Then it returns the result. */
export type Steps<Result> = Generator<undefined, Result, undefined>;

/** How a kind of primitive or collection is found and described. Nothing that its bytes say is trusted. */
export interface Describer {
  /** The name of the class. */
  readonly kind: string;
  readonly alignment: number;
  /** Returns the size that its header says, or `null` if the header cannot be that of one that fits its place. */
  sizeOf(this: void, place: Place): number | null;
  describe(this: void, place: Place): Steps<Description>;
}
