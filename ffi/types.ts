/**
 * The contract between a runtime's FFI and everything above it. C signatures are written once in this
 * vocabulary; each adapter translates the type names and nothing else.
 *
 * `i32` and `u32` are numbers, `u64` is a bigint (addresses, `size_t`, `long`), `usize` is what `Ffi.usize`
 * has made of an address or a `size_t`, in which form it costs least to pass, `buffer` is a typed array
 * whose bytes the callee may use only until it returns.
 */
export type CType = "i32" | "u32" | "u64" | "usize" | "buffer" | "void";

/** An address or a `size_t` in the form that the runtime's FFI passes fastest. */
export type Usize = { readonly [usize]: true };
declare const usize: unique symbol;

export interface CSignature {
  readonly args: readonly Exclude<CType, "void">[];
  readonly returns: Exclude<CType, "buffer" | "usize">;
  /** Of a variadic function: how many arguments come before the variadic ones. */
  readonly fixed?: number;
}

export type CSignatures = Readonly<Record<string, CSignature>>;

interface JsTypes {
  i32: number;
  u32: number;
  u64: bigint;
  usize: Usize;
  buffer: Uint8Array;
  void: void;
}

type JsArguments<A extends readonly CType[]> = { -readonly [I in keyof A]: JsTypes[A[I]] };

export type CFunctions<S extends CSignatures> = {
  readonly [Name in keyof S]: (
    ...args: JsArguments<S[Name]["args"]>
  ) => JsTypes[S[Name]["returns"]];
};

export type AsyncCFunctions<S extends CSignatures> = {
  readonly [Name in keyof S]: (
    ...args: JsArguments<S[Name]["args"]>
  ) => Promise<JsTypes[S[Name]["returns"]]>;
};

export interface Ffi {
  /** The largest number of bytes of foreign memory that one `ArrayBuffer` can wrap here. */
  readonly maxBufferBytes: number;
  /** Binds the functions from the first of `libraries` that has them all. */
  load<const S extends CSignatures>(libraries: readonly string[], signatures: S): CFunctions<S>;
  /**
   * The same for functions that may block: each call runs on another thread, and keeps the event loop
   * running and the program alive until it returns. No buffers, and no `errno`.
   */
  background<const S extends CSignatures>(
    libraries: readonly string[],
    signatures: S,
  ): AsyncCFunctions<S>;
  /** An `ArrayBuffer` over foreign memory, which it neither copies nor ever frees. */
  arrayBuffer(address: bigint, byteLength: number): ArrayBuffer;
  /** To pass the same address or `size_t`, below 2^53, often. */
  usize(value: bigint): Usize;
}
