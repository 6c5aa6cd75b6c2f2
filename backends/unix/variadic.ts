import type { CFunctions, CSignature, CSignatures, Ffi } from "../../ffi/types.ts";

/** How many arguments the processor's registers take. */
const REGISTERS = 8;

type Call = (...values: unknown[]) => unknown;

/**
 * Binds C functions of which some are variadic (`fixed`). Almost everywhere these are called as if all
 * their arguments were fixed. On Apple's arm64 the variadic ones lie on the stack, each in 8 bytes, even
 * while registers are free: so the fixed ones are followed by zeros for the registers that are left.
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

/** The signatures with which a variadic function gets its arguments where it looks for them. */
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

/** A function of such a signature, to be called by the one that was written. */
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
