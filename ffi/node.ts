import process from "node:process";
import { threadCalls } from "./threads.ts";
import type { CFunctions, CSignatures, CType, Ffi, Usize } from "./types.ts";

interface NodeLibrary {
  getFunction(name: string, signature: { arguments: string[]; return: string }): unknown;
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
  buffer: "pointer", // "buffer" is slower: it accepts only some kinds of view
  void: "void",
};

/** Binds the functions, on a thread that loads nothing of ours. */
const BIND = `
  process.removeAllListeners("warning"); // that node:ffi is experimental has been said
  const { DynamicLibrary } = process.getBuiltinModule("node:ffi");
  const bind = (path, symbols) => {
    const library = new DynamicLibrary(path);
    const functions = Object.entries(symbols).map(([name, { args, returns }]) =>
      [name, library.getFunction(name, { arguments: args, return: returns })]);
    return Object.fromEntries(functions);
  };`;

/** Node's FFI: `undefined` before Node 26.9 unless it was started with `--experimental-ffi`. */
export function nodeFfi(): Ffi | undefined {
  // Node has getBuiltinModule since 20.16, and what imitates `process` for a browser has not.
  const ffi = process.getBuiltinModule?.("node:ffi") as unknown as NodeFfi | undefined;
  if (ffi === undefined) return undefined;
  return {
    maxBufferBytes: Number.MAX_SAFE_INTEGER,

    load<const S extends CSignatures>(libraries: readonly string[], signatures: S): CFunctions<S> {
      let cause: unknown;
      for (const path of libraries) {
        try {
          const library = new ffi.DynamicLibrary(path);
          const functions: Record<string, unknown> = {};
          for (const [name, { args, returns }] of Object.entries(signatures)) {
            functions[name] = library.getFunction(name, {
              arguments: args.map((type) => TYPES[type]),
              return: TYPES[returns],
            });
          }
          return functions as CFunctions<S>;
        } catch (error) {
          cause ??= error;
        }
      }
      throw cause;
    },

    background: (libraries, signatures) => threadCalls(BIND, TYPES, libraries, signatures),

    arrayBuffer: (address, byteLength) => ffi.toArrayBuffer(address, byteLength, false),

    usize: (value) => value as unknown as Usize,
  };
}
