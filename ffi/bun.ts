import process from "node:process";
import { background } from "./threads.ts";
import type { CFunctions, CSignature, CSignatures, CType, Ffi, Usize } from "./types.ts";

interface Description {
  args: string[];
  returns: string;
}

interface BunFfi {
  dlopen(library: string, symbols: Record<string, Description>): { symbols: unknown };
  toArrayBuffer(pointer: number, byteOffset: number, byteLength: number): ArrayBuffer;
}

const TYPES: Readonly<Record<CType, string>> = {
  i32: "i32",
  u32: "u32",
  u64: "u64",
  usize: "ptr",
  buffer: "ptr",
  void: "void",
};

function described({ args, returns }: CSignature): Description {
  return { args: args.map((type) => TYPES[type]), returns: TYPES[returns] };
}

/** Source text for other threads: binds C functions without loading any module of this library. */
const BIND = `
  const { dlopen, toArrayBuffer } = process.getBuiltinModule("bun:ffi");
  const bind = (path, symbols) => dlopen(path, symbols).symbols;
  const memory = (address, byteLength) => toArrayBuffer(Number(address), 0, byteLength);`;

const THREADS = { code: BIND, described, joinsAtExit: false, flags: [] };

/**
 * Returns Bun's FFI. It is looked up at run time, because `import "bun:ffi"` would keep Deno from loading this module.
 */
export function bunFfi(): Ffi {
  const ffi = process.getBuiltinModule("bun:ffi") as unknown as BunFfi;
  return {
    maxBufferBytes: 2 ** 32, // JavaScriptCore's MAX_ARRAY_BUFFER_SIZE
    hasFastCalls: false,

    load<const S extends CSignatures>(libraries: readonly string[], signatures: S): CFunctions<S> {
      const symbols: Record<string, Description> = {};
      for (const [name, signature] of Object.entries(signatures)) {
        symbols[name] = described(signature);
      }
      let cause: unknown;
      for (const library of libraries) {
        try {
          return ffi.dlopen(library, symbols).symbols as CFunctions<S>;
        } catch (error) {
          cause ??= error;
        }
      }
      throw advised(cause);
    },

    background: (libraries, signatures, code) => background(THREADS, libraries, signatures, code),

    // User-space addresses are below 2^53 on every supported platform, so the number is exact.
    arrayBuffer: (address, byteLength) => ffi.toArrayBuffer(Number(address), 0, byteLength),

    // A number costs half as much as a BigInt.
    usize: (value) => Number(value) as unknown as Usize,
  };
}

/** Completes Bun's error where it may not compile code, so that it says why and what to do. */
function advised(error: unknown): unknown {
  if (!(error instanceof Error && error.message.includes("requires the JIT"))) return error;
  const text = `${error.message}, which BUN_JSC_useJIT=0 or a sandbox switches off (systemd: ` +
    "MemoryDenyWriteExecute=yes); shared memory needs it in Bun: allow it there, or use Node or Deno with --jitless";
  return new TypeError(text, { cause: error });
}
