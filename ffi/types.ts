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

/** What a call on another thread does: the source text of functions, which can use nothing but their parameters. */
export interface ThreadCode {
  /** `(c, memory, ...args) => boolean` waits for something, and returns whether it has taken it. */
  readonly take: string;
  /** The same of what gives back what `take` took; left out if it takes nothing. */
  readonly giveBack?: string;
}

/** A call on another thread that waits for something. */
export interface BackgroundCall {
  /**
   * Resolves when the call is over, and rejects with a `ThreadError` if there is no thread for it. Until then
   * the event loop runs, and the program goes on.
   */
  readonly over: Promise<void>;
  /** Whether its thread has begun with it: one takes 20 to 200 ms to start. */
  readonly hasBegun: boolean;
  /** Whether the call took what it waited for. Then it is the caller's, who is told so only once. */
  claim(): boolean;
  /** Nobody waits any more: what the call takes from now on its thread gives back at once. */
  giveUp(): void;
  /** The opposite of `giveUp`; `false` if the call has taken something or is over. */
  resume(): boolean;
  /** Blocks this thread until the call has come further, for at most `ms`; whether it may still take or give back something. */
  join(ms: number): boolean;
}

/** Starts a call on another thread. Numbers, addresses and sizes are passed as `CFunctions` takes them. */
export type Background = (...args: readonly (number | bigint | Usize)[]) => BackgroundCall;

export interface Ffi {
  /** The largest number of bytes of foreign memory that one `ArrayBuffer` can wrap here. */
  readonly maxBufferBytes: number;
  /** Binds the functions from the first of `libraries` that has them all. */
  load<const S extends CSignatures>(libraries: readonly string[], signatures: S): CFunctions<S>;
  /**
   * Runs `code` on other threads, with the functions of `signatures` as `c`, and as `memory(address, byteLength)` an
   * `ArrayBuffer` over foreign memory.
   */
  background<const S extends CSignatures>(
    libraries: readonly string[],
    signatures: S,
    code: ThreadCode,
  ): Background;
  /** An `ArrayBuffer` over foreign memory, which it neither copies nor ever frees. */
  arrayBuffer(address: bigint, byteLength: number): ArrayBuffer;
  /** To pass the same address or `size_t`, below 2^53, often. */
  usize(value: bigint): Usize;
}
