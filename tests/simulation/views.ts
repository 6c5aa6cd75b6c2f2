/**
 * Typed arrays for simulated processes: each load and store of an element of shared memory is a call of the kernel, so
 * it is logged, and another process can run before and after it. The code that is tested needs nothing for that: while a
 * simulated process runs, the constructors of typed arrays are others, which treat the buffers of shared memory
 * specially. `Atomics` are in atomics.ts.
 */
import { ARRAYS, type ElementArray } from "./atomics.ts";
import type { SimulatedFfi } from "./ffi.ts";

type Constructor = new (...args: unknown[]) => ElementArray;

const DataViews = DataView;
const INDEX = /^\d+$/;
/** These methods of arrays do what those of typed arrays do, and reach the elements one by one. */
const METHODS: Readonly<Record<string | symbol, unknown>> = {
  ...Object.fromEntries(
    [
      ...["at", "copyWithin", "every", "fill", "find", "findIndex", "forEach", "includes"] as const,
      ...["indexOf", "join", "keys", "entries", "values", "some", "reduce", "reverse"] as const,
    ].map((name) => [name, Array.prototype[name]]),
  ),
  [Symbol.iterator]: Array.prototype.values,
};

/** Returns a view of shared memory. It stands for `view`, whose bytes are not used. */
function sharedView(ffi: SimulatedFfi, view: ElementArray): ElementArray {
  const element = (name: string, index: string, ...values: unknown[]) =>
    ffi.element(name, view, Number(index), values);
  const shared: ElementArray = new Proxy(view, {
    get(target, key) {
      if (typeof key === "string" && INDEX.test(key)) {
        return element("plain.load", key) ?? undefined;
      }
      if (Object.hasOwn(own, key)) return own[key as keyof typeof own];
      if (Object.hasOwn(METHODS, key)) return METHODS[key];
      const value: unknown = Reflect.get(target, key, target);
      if (typeof value !== "function" || key === "constructor") return value;
      throw new Error(`${String(key)} of a view of shared memory is not simulated`);
    },
    set(target, key, value) {
      if (typeof key !== "string" || !INDEX.test(key)) {
        return Reflect.set(target, key, value, target);
      }
      element("plain.store", key, value);
      return true;
    },
  });
  const own = {
    set(source: ArrayLike<never>, offset = 0) {
      for (let i = 0; i < source.length; i++) shared[offset + i] = source[i]!;
    },
    slice(start = 0, end = view.length) {
      const part = own.subarray(start, end);
      const copy = view.slice(start, end);
      for (let i = 0; i < copy.length; i++) copy[i] = part[i]!;
      return copy;
    },
    subarray(start = 0, end = view.length) {
      return sharedView(ffi, view.subarray(start, end));
    },
  };
  return shared;
}

/** Replaces the constructors by ones for the process that has this FFI. Returns what restores them. */
export function replaceViews(ffiOfRunning: () => SimulatedFfi | null): () => void {
  for (const [name, Type] of Object.entries(ARRAYS) as unknown as [string, Constructor][]) {
    const replaced = new Proxy(Type, {
      construct(target, args): ElementArray {
        const [buffer] = args;
        const ffi = ffiOfRunning();
        const view = new target(...args);
        const isShared = buffer instanceof ArrayBuffer && ffi?.isShared(buffer);
        return isShared ? sharedView(ffi!, view) : view;
      },
    });
    Object.assign(globalThis, { [name]: replaced });
  }
  globalThis.DataView = new Proxy(DataViews, {
    construct(target, args) {
      const [buffer] = args;
      if (ffiOfRunning()?.isShared(buffer)) throw new Error("no DataView of shared memory");
      return new target(...args as [ArrayBuffer]);
    },
  });
  return () => void Object.assign(globalThis, { ...ARRAYS, DataView: DataViews });
}
