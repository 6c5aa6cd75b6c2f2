import type { CFunctions, CSignature, CSignatures, Ffi } from "../../ffi/types.ts";

/** The number of arguments that the processor passes in registers. */
const REGISTERS = 8;

type Call = (...values: unknown[]) => unknown;

/**
 * Binds C functions, some of which are variadic (`fixed`). Almost everywhere, a variadic function can be called as if
 * all its arguments were fixed. On Apple's arm64, the variadic arguments are on the stack, in 8 bytes each, even while
 * registers are free. There the fixed arguments are followed by zeros for the remaining registers.
 */
export function loadFunctions<const S extends CSignatures>(
  ffi: Ffi,
  { os, arch }: { readonly os: string; readonly arch: string },
  libraries: readonly string[],
  signatures: S,
): CFunctions<S> {
  if (os !== "darwin" || arch !== "arm64") return ffi.load(libraries, signatures);
  const functions = ffi.load(libraries, padded(signatures)) as Record<string, Call>;
  const entries = Object.entries(signatures).map(([name, signature]) => {
    return [name, unpadded(functions[name]!, signature)];
  });
  return Object.fromEntries(entries) as CFunctions<S>;
}

/** Changes the signatures so that a variadic function finds its arguments where it expects them. */
export function padded(signatures: CSignatures): CSignatures {
  const entries = Object.entries(signatures).map(([name, signature]) => {
    const { args, returns, fixed } = signature;
    if (fixed === undefined) return [name, signature];
    const onStack = args.slice(fixed).map(() => "u64" as const);
    const unused = Array<"u64">(REGISTERS - fixed).fill("u64");
    return [name, { args: [...args.slice(0, fixed), ...unused, ...onStack], returns }];
  });
  return Object.fromEntries(entries);
}

/** Wraps a function with a padded signature, so that it takes the original arguments. */
function unpadded(call: Call, { fixed }: CSignature): Call {
  if (fixed === undefined) return call;
  const unused = Array<bigint>(REGISTERS - fixed).fill(0n);
  return (...values) => {
    const onStack = values.slice(fixed).map((value) => {
      return BigInt.asUintN(64, BigInt(value as number | bigint));
    });
    return call(...values.slice(0, fixed), ...unused, ...onStack);
  };
}
