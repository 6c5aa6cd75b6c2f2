import { perProcess } from "../context.ts";

/** Something that must end when an object has been garbage-collected. */
export interface Collected {
  /** Is called when the object has been collected. It must not throw. */
  collected(): void;
}

/** Returns what watches objects of this process for their collection, and calls {@linkcode Collected.collected} then. */
export const collection: () => Pick<FinalizationRegistry<Collected>, "register" | "unregister"> =
  perProcess(() => new FinalizationRegistry<Collected>((one) => one.collected()));
