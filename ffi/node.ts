import process from "node:process";
import { background } from "./threads.ts";
import type { CFunctions, CSignature, CSignatures, CType, Ffi, Usize } from "./types.ts";

interface Description {
  arguments: string[];
  return: string;
}

type Call = (...args: readonly unknown[]) => unknown;

interface NodeLibrary {
  getFunction(name: string, description: Description): Call;
}

interface NodeFfi {
  DynamicLibrary: new (path: string) => NodeLibrary;
  toArrayBuffer(pointer: bigint, byteLength: number, copy: boolean): ArrayBuffer;
}

const TYPES: Readonly<Record<CType, string>> = {
  i32: "i32",
  u32: "u32",
  u64: "u64",
  usize: "pointer",
  buffer: "pointer",
  void: "void",
};

/** The type of a callback, which is an ordinary address for C. */
const CALLBACK = "function";

/**
 * Describes a C function for Node. Each function gets a parameter of type {@linkcode CALLBACK}: its last address, or an
 * additional one. V8 compiles calls of functions without such a parameter into its code on another thread. Node frees
 * the data that V8 needs for that when a worker or the program ends, though V8 may still be compiling. In Node 26.10
 * about every fiftieth end of a busy worker crashed the process.
 */
function described({ args, returns }: CSignature): Description {
  const types = args.map((type) => TYPES[type]);
  const last = args.findLastIndex((type) => type !== "i32" && type !== "u32");
  types[last >= 0 ? last : args.length] = CALLBACK;
  return { arguments: types, return: TYPES[returns] };
}

/** Source text for other threads: binds C functions without loading any module of this library. */
const BIND = `
  process.removeAllListeners("warning"); // that node:ffi is experimental has been said
  const { DynamicLibrary, toArrayBuffer } = process.getBuiltinModule("node:ffi");
  const bind = (path, symbols) => {
    const library = new DynamicLibrary(path);
    const functions = Object.entries(symbols).map(([name, description]) =>
      [name, library.getFunction(name, description)]);
    return Object.fromEntries(functions);
  };
  const memory = (address, byteLength) => toArrayBuffer(address, byteLength, false);`;

/** The flag that enables the FFI before Node 26.9. A thread needs it too, because it inherits no flags. */
const FLAG = "--experimental-ffi";

function flags(): string[] {
  const { NODE_OPTIONS = "" } = process.env;
  return process.execArgv.includes(FLAG) || NODE_OPTIONS.includes(FLAG) ? [FLAG] : [];
}

/** Returns Node's FFI, or `undefined` before Node 26.9 if Node was started without `--experimental-ffi`. */
export function nodeFfi(): Ffi | undefined {
  // Node has getBuiltinModule since 20.16; browser imitations of `process` do not have it.
  const ffi = process.getBuiltinModule?.("node:ffi") as unknown as NodeFfi | undefined;
  if (ffi === undefined) return undefined;
  const threads = { code: BIND, described, joinsAtExit: true, flags: flags() };
  return {
    maxBufferBytes: Number.MAX_SAFE_INTEGER,
    hasFastCalls: false,

    load<const S extends CSignatures>(libraries: readonly string[], signatures: S): CFunctions<S> {
      let cause: unknown;
      for (const path of libraries) {
        try {
          const library = new ffi.DynamicLibrary(path);
          const functions: Record<string, Call> = {};
          for (const [name, signature] of Object.entries(signatures)) {
            const description = described(signature);
            const call = library.getFunction(name, description);
            const hasOneMore = description.arguments.length > signature.args.length;
            functions[name] = hasOneMore ? (...args) => call(...args, 0n) : call; // C ignores the last argument
          }
          return functions as unknown as CFunctions<S>;
        } catch (error) {
          cause ??= error;
        }
      }
      throw cause;
    },

    background: (libraries, signatures, code) => background(threads, libraries, signatures, code),

    arrayBuffer: (address, byteLength) => ffi.toArrayBuffer(address, byteLength, false),

    usize: (value) => value as unknown as Usize,
  };
}
