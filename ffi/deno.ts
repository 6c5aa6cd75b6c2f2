import type { AsyncCFunctions, CFunctions, CSignatures, CType, Ffi, Usize } from "./types.ts";

const TYPES: Readonly<Record<CType, Deno.NativeType | "void">> = {
  i32: "i32",
  u32: "u32",
  u64: "u64",
  usize: "u64",
  buffer: "buffer",
  void: "void",
};

/**
 * More calls at a time wait: Deno has some 32 threads for all that may block, reading files included, and
 * on Windows four for each processor.
 */
function mostCalls(): number {
  return Deno.build.os === "windows" ? 2 * navigator.hardwareConcurrency : 16;
}

let running = 0;
const waiting: (() => void)[] = [];

async function limited<Result>(call: () => Result): Promise<Awaited<Result>> {
  if (running >= mostCalls()) await new Promise<void>((resolve) => waiting.push(resolve));
  else running++;
  try {
    return await call();
  } finally {
    const next = waiting.shift();
    if (next === undefined) running--;
    else next();
  }
}

/** Deno's FFI. Without `--allow-ffi` it throws Deno's own `NotCapable`, with the advice completed. */
export const denoFfi: Ffi = {
  maxBufferBytes: Number.MAX_SAFE_INTEGER,

  load<const S extends CSignatures>(libraries: readonly string[], signatures: S): CFunctions<S> {
    return dlopen(libraries, signatures, false) as CFunctions<S>;
  },

  background<const S extends CSignatures>(
    libraries: readonly string[],
    signatures: S,
  ): AsyncCFunctions<S> {
    const functions = dlopen(libraries, signatures, true) as AsyncCFunctions<S>;
    const calls = Object.entries(functions).map(([name, call]) => [
      name,
      (...args: unknown[]) => limited(() => (call as (...args: unknown[]) => unknown)(...args)),
    ]);
    return Object.fromEntries(calls) as AsyncCFunctions<S>;
  },

  arrayBuffer(address: bigint, byteLength: number): ArrayBuffer {
    try {
      const pointer = Deno.UnsafePointer.create(address);
      if (pointer === null) throw new RangeError("cannot wrap memory at address 0");
      return Deno.UnsafePointerView.getArrayBuffer(pointer, byteLength);
    } catch (error) {
      throw advised(error);
    }
  },

  usize: (value) => value as unknown as Usize,
};

function dlopen(
  libraries: readonly string[],
  signatures: CSignatures,
  nonblocking: boolean,
): unknown {
  const symbols: Record<string, Deno.ForeignFunction> = {};
  for (const [name, { args, returns }] of Object.entries(signatures)) {
    symbols[name] = {
      parameters: args.map((type) => TYPES[type] as Deno.NativeType),
      result: TYPES[returns] as Deno.NativeResultType,
      nonblocking,
    };
  }
  let cause: unknown;
  for (const library of libraries) {
    try {
      return Deno.dlopen(library, symbols).symbols;
    } catch (error) {
      if (error instanceof Deno.errors.NotCapable) throw advised(error);
      cause ??= error;
    }
  }
  throw advised(cause);
}

/**
 * Deno advises a flag that may have been given, but with a list. That is not enough for the use of memory, and with
 * it Deno does not look for libraries where the system has them.
 */
function advised(error: unknown): unknown {
  const isRefused = error instanceof Deno.errors.NotCapable ||
    Deno.permissions.querySync({ name: "ffi" }).state !== "granted";
  if (!isRefused || !(error instanceof Error)) return error;
  const text = `${error.message}; shared memory needs --allow-ffi without a list of libraries`;
  return new Deno.errors.NotCapable(text, { cause: error });
}
