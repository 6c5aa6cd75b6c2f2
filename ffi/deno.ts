import { background } from "./threads.ts";
import type { CFunctions, CSignature, CSignatures, CType, Ffi, Usize } from "./types.ts";

const TYPES: Readonly<Record<CType, Deno.NativeType | "void">> = {
  i32: "i32",
  u32: "u32",
  u64: "u64",
  usize: "u64",
  buffer: "buffer",
  void: "void",
};

function described({ args, returns }: CSignature): Deno.ForeignFunction {
  return {
    parameters: args.map((type) => TYPES[type] as Deno.NativeType),
    result: TYPES[returns] as Deno.NativeResultType,
  };
}

/**
 * Source text for other threads: binds C functions without loading any module of this library. The thread has the
 * permissions of the program.
 */
const BIND = `
  const bind = (library, symbols) => Deno.dlopen(library, symbols).symbols;
  const memory = (address, byteLength) =>
    Deno.UnsafePointerView.getArrayBuffer(Deno.UnsafePointer.create(address), byteLength);`;

const THREADS = { code: BIND, described, joinsAtExit: false, flags: [] };

/** Deno's FFI. Without `--allow-ffi` it throws Deno's own `NotCapable`, with more complete advice. */
export const denoFfi: Ffi = {
  maxBufferBytes: Number.MAX_SAFE_INTEGER,
  hasFastCalls: true,

  load<const S extends CSignatures>(libraries: readonly string[], signatures: S): CFunctions<S> {
    const symbols: Record<string, Deno.ForeignFunction> = {};
    for (const [name, signature] of Object.entries(signatures)) {
      symbols[name] = described(signature);
    }
    let cause: unknown;
    for (const library of libraries) {
      try {
        return Deno.dlopen(library, symbols).symbols as unknown as CFunctions<S>;
      } catch (error) {
        if (error instanceof Deno.errors.NotCapable) throw advised(error);
        cause ??= error;
      }
    }
    throw advised(cause);
  },

  background: (libraries, signatures, code) => background(THREADS, libraries, signatures, code),

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

/**
 * Completes the advice of Deno's error. Deno advises a flag that may have been given already, but with a list of
 * libraries. With a list, Deno does not allow access to memory, and does not look for libraries in the folders of the
 * system.
 */
function advised(error: unknown): unknown {
  const isRefused = error instanceof Deno.errors.NotCapable ||
    Deno.permissions.querySync({ name: "ffi" }).state !== "granted";
  if (!isRefused || !(error instanceof Error)) return error;
  const text = `${error.message}; shared memory needs --allow-ffi without a list of libraries`;
  return new Deno.errors.NotCapable(text, { cause: error });
}
