/**
 * `Atomics` for simulated processes: an operation on a view of shared memory is a call of the kernel, so it is logged,
 * and another process can run before and after it. An operation on another view is the real one.
 */
import type { SimulatedFfi } from "./ffi.ts";

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

/** The arrays that `Atomics` accepts, by the names of their classes. */
export const ARRAYS = {
  Int8Array,
  Uint8Array,
  Int16Array,
  Uint16Array,
  Int32Array,
  Uint32Array,
  BigInt64Array,
  BigUint64Array,
};
export type ElementArray = InstanceType<typeof ARRAYS[keyof typeof ARRAYS]>;
type Operate = (view: ElementArray, index: number, ...values: unknown[]) => number | bigint;

const real = Object.fromEntries(OPERATIONS.map((name) => [name, Atomics[name] as Operate]));

/** Does an operation on the first element of an array that no other process has. */
export function operate(name: Operation, view: ElementArray, values: unknown[]): number | bigint {
  return real[name]!(view, 0, ...values);
}

/** Replaces the functions of `Atomics` by ones for the process that has this FFI. Returns what restores them. */
export function replaceAtomics(ffiOfRunning: () => SimulatedFfi | null): () => void {
  for (const name of OPERATIONS) {
    const replaced: Operate = (view, index, ...values) =>
      ffiOfRunning()?.atomics(name, view, index, values) ?? real[name]!(view, index, ...values);
    Object.assign(Atomics, { [name]: replaced });
  }
  return () => void Object.assign(Atomics, real);
}
