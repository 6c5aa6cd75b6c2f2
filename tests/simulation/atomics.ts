/**
 * `Atomics` for simulated processes: an operation on a view of shared memory is a call of the kernel, so it is logged,
 * and another process can run before and after it. An operation on another view is the real one. views.ts does the same
 * for loads and stores without `Atomics`.
 */
import type { SimulatedFfi } from "./ffi.ts";
import type { Call } from "./kernel.ts";
import type { Access } from "./ordering.ts";

/** The operations that read and change one element. */
export const OPERATIONS = [
  "add",
  "and",
  "compareExchange",
  "exchange",
  "load",
  "or",
  "store",
  "sub",
  "xor",
] as const;
export type Operation = typeof OPERATIONS[number];

/** The arrays of numbers by the names of their classes. `Atomics` accepts those of integers. */
export const ARRAYS = {
  Int8Array,
  Uint8Array,
  Int16Array,
  Uint16Array,
  Int32Array,
  Uint32Array,
  BigInt64Array,
  BigUint64Array,
  Float32Array,
  Float64Array,
};
export type ElementArray = InstanceType<typeof ARRAYS[keyof typeof ARRAYS]>;
type Operate = (view: ElementArray, index: number, ...values: unknown[]) => number | bigint;

const real = Object.fromEntries(
  OPERATIONS.map((name) => [name, Atomics[name] as unknown as Operate]),
);

/** What a program can do with an element of an array, by the name of the call. */
export const ELEMENT_CALLS: Readonly<Record<string, Operate>> = {
  "plain.load": (view, index) => view[index]!,
  "plain.store": (view, index, value) => view[index] = value as never,
  ...Object.fromEntries(OPERATIONS.map((name) => [`Atomics.${name}`, real[name]!])),
};

/** Returns what a call does with an element; `null` if it is no such call. */
export function accessOf([name, address, array]: Call): Access | null {
  if (!(name in ELEMENT_CALLS)) return null;
  const [kind, operation] = name.split(".");
  const what = operation === "load" || operation === "store" ? operation : "update";
  const { BYTES_PER_ELEMENT: length } = ARRAYS[array as keyof typeof ARRAYS];
  return { what, isAtomic: kind === "Atomics", address: address as number, length };
}

/** Replaces the functions of `Atomics` by ones for the process that has this FFI. Returns what restores them. */
export function replaceAtomics(ffiOfRunning: () => SimulatedFfi | null): () => void {
  for (const name of OPERATIONS) {
    const replaced: Operate = (view, index, ...values) =>
      ffiOfRunning()?.element(`Atomics.${name}`, view, index, values) ??
        real[name]!(view, index, ...values);
    Object.assign(Atomics, { [name]: replaced });
  }
  return () => void Object.assign(Atomics, real);
}
