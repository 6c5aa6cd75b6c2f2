import { type Registry, registry, useRegistry } from "./registry.ts";

/**
 * A context is the state of one process: what its modules keep as long as the process lives. A thread has one context.
 * Only the simulation, whose processes share a thread, has several of them, and says which process runs.
 */
export interface Context {
  /** What all copies of this package share. It is a field of its own, because each lock and unlock uses it. */
  readonly registry: Registry;
  /** What this copy keeps, by the functions that return it. */
  readonly values: Map<() => unknown, unknown>;
}

let context: Context = { registry, values: new Map() };

/** Returns a function that calls `create` only once for each process, and returns what that has returned. */
export function perProcess<Value extends object | null>(create: () => Value): () => Value {
  const get = (): Value => {
    const { values } = context;
    let value = values.get(get) as Value | undefined;
    if (value === undefined) values.set(get, value = create());
    return value;
  };
  return get;
}

/** Makes `next` the context of the code that runs from now on; returns the context before. */
export function enterContext(next: Context): Context {
  const before = context;
  context = next;
  useRegistry(next.registry);
  return before;
}
