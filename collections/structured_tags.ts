/** What precedes each value in the bytes of the codec `structured`. A number of the table never changes its meaning. */
export const Tag = {
  Undefined: 0,
  Null: 1,
  False: 2,
  True: 3,
  /** An integer of 32 bits: see {@linkcode StructuredWriter.count}; negative ones are odd. */
  Integer: 4,
  Double: 5,
  /** A string as UTF-8. */
  Text: 6,
  /** A string with lone surrogates, as UTF-16. */
  Units: 7,
  BigInt: 8,
  /** What was there before: the number of an object, in the order in which the objects began. */
  Same: 9,
  Object: 10,
  Array: 11,
  /** An array with holes, or with properties that are not elements. */
  Sparse: 12,
  Map: 13,
  Set: 14,
  Date: 15,
  RegExp: 16,
  Error: 17,
  DOMException: 18,
  ArrayBuffer: 19,
  View: 20,
  /** An object around a boolean, a number, a string or a bigint. */
  Boxed: 21,
} as const;

/** The kinds of views, by their number. */
export const VIEWS = [
  "DataView",
  "Int8Array",
  "Uint8Array",
  "Uint8ClampedArray",
  "Int16Array",
  "Uint16Array",
  "Int32Array",
  "Uint32Array",
  "Float16Array",
  "Float32Array",
  "Float64Array",
  "BigInt64Array",
  "BigUint64Array",
] as const;

/** The names of the errors that stay errors of this class. Others become an `Error`, as in `structuredClone()`. */
export const ERRORS: readonly string[] = [
  "Error",
  "EvalError",
  "RangeError",
  "ReferenceError",
  "SyntaxError",
  "TypeError",
  "URIError",
];

/**
 * The number of objects that may lie in each other. Engines take up to 0.4 KiB of stack for each when they decode, so a value
 * of this depth takes 0.2 MiB: a fifth of what the main thread of Node and Deno has, and less than a small worker has.
 */
export const DEPTH_MAX = 500;
