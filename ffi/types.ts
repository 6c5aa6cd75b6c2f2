/**
 * This module is the contract between the FFI of a runtime and everything above it. C signatures are written once with
 * these type names; each adapter translates the type names and nothing else.
 *
 * `i32` and `u32` are numbers. `u64` is a bigint (addresses, `size_t`, `long`). `usize` is an address or a `size_t`
 * that `Ffi.usize` has converted to the form that is cheapest to pass. `buffer` is a typed array whose bytes the callee
 * may use only until it returns.
 */
export type CType = "i32" | "u32" | "u64" | "usize" | "buffer" | "void";

/** An address or a `size_t`, in the form that the FFI of the runtime passes fastest. */
export type Usize = { readonly [usize]: true };
declare const usize: unique symbol;

export interface CSignature {
  readonly args: readonly Exclude<CType, "void">[];
  readonly returns: Exclude<CType, "buffer" | "usize">;
  /** The number of arguments before the variadic ones, for a variadic function. */
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

/** The code of a call on another thread: source text of functions, which can use only their parameters. */
export interface ThreadCode {
  /** `(c, memory, ...args) => boolean` waits for something and returns whether it has taken it. */
  readonly take: string;
  /** `(c, memory, ...args) => void` releases what `take` has taken. It is absent if `take` takes nothing. */
  readonly giveBack?: string;
}

/** A call on another thread that waits for something. */
export interface BackgroundCall {
  /**
   * Resolves when the call is over, and rejects with a `ThreadError` if no thread can run it. The event loop keeps
   * running until then, and keeps the program alive, unless `unref` was called.
   */
  readonly over: Promise<void>;
  /** Lets the program end before the call is over. */
  unref(): void;
  /** Whether the thread has begun the call: a thread takes 20 to 200 ms to start. */
  readonly hasBegun: boolean;
  /** Whether the call has taken what it waited for. The caller then owns that; only the first call returns `true`. */
  claim(): boolean;
  /**
   * Tells the call that the caller no longer waits. If the call takes something after that, its thread releases it at
   * once.
   */
  giveUp(): void;
  /** Undoes `giveUp`. Returns `false` if the call has taken something or is over. */
  resume(): boolean;
  /**
   * Blocks this thread until the state of the call changes, for at most `ms`. Returns whether the call may still take
   * or release something.
   */
  join(ms: number): boolean;
}

/** Starts a call on another thread. Numbers, addresses and sizes are passed as in `CFunctions`. */
export type Background = (...args: readonly (number | bigint | Usize)[]) => BackgroundCall;

export interface Ffi {
  /** The largest number of bytes of foreign memory that one `ArrayBuffer` can wrap in this runtime. */
  readonly maxBufferBytes: number;
  /** Whether a call of C is as fast as an operation of `Atomics`. */
  readonly hasFastCalls: boolean;
  /** Binds the functions from the first of `libraries` that contains all of them. */
  load<const S extends CSignatures>(libraries: readonly string[], signatures: S): CFunctions<S>;
  /**
   * Prepares calls that run `code` on other threads. The code receives the functions of `signatures` as `c`, and
   * `memory(address, byteLength)`, which returns an `ArrayBuffer` over foreign memory.
   */
  background<const S extends CSignatures>(
    libraries: readonly string[],
    signatures: S,
    code: ThreadCode,
  ): Background;
  /** Wraps foreign memory in an `ArrayBuffer`. The memory is neither copied nor ever freed. */
  arrayBuffer(address: bigint, byteLength: number): ArrayBuffer;
  /** Converts an address or a `size_t` below 2^53 to the form that is cheapest to pass repeatedly. */
  usize(value: bigint): Usize;
}
