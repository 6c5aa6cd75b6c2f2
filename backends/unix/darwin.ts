import type { CFunctions, CSignatures, Ffi } from "../../ffi/types.ts";
import { VM_FLAGS_ANYWHERE, VM_INHERIT_SHARE } from "./darwin_constants.ts";
import { once } from "./once.ts";
import {
  DARWIN_LIBRARIES,
  DARWIN_SIGNATURES,
  DARWIN_STAT_SIGNATURES,
  MACH_SIGNATURES,
  SIGNATURES,
} from "./signatures.ts";
import { loadFunctions } from "./variadic.ts";

/** The functions of the C library on macOS. */
export type DarwinFunctions = CFunctions<
  typeof SIGNATURES & typeof DARWIN_SIGNATURES & typeof DARWIN_STAT_SIGNATURES
>;

/** Binds the C library of macOS. */
export function loadDarwin(ffi: Ffi, arch: string): DarwinFunctions {
  const suffix = arch === "x64" ? "$INODE64" : "";
  const stats = Object.entries(DARWIN_STAT_SIGNATURES);
  const signatures: CSignatures = {
    ...SIGNATURES,
    ...DARWIN_SIGNATURES,
    ...Object.fromEntries(stats.map(([name, signature]) => [name + suffix, signature])),
  };
  const functions = loadFunctions(ffi, { os: "darwin", arch }, DARWIN_LIBRARIES, signatures);
  const named = stats.map(([name]) => [name, functions[name + suffix]]);
  return { ...functions, ...Object.fromEntries(named) } as DarwinFunctions;
}

/**
 * Returns a function that maps shared memory of this process at a second address, which it returns, or `null` if that
 * is not possible. Only macOS can do that.
 */
export const machRemap = once((ffi: Ffi): (address: bigint, bytes: bigint) => bigint | null => {
  let mach: CFunctions<typeof MACH_SIGNATURES>;
  try {
    mach = ffi.load(DARWIN_LIBRARIES, MACH_SIGNATURES);
  } catch {
    return () => null;
  }
  const task = mach.task_self_trap();
  const found = new BigUint64Array(1);
  const protections = new Uint8Array(8);
  const [to, current, maximal] = [
    new Uint8Array(found.buffer),
    protections.subarray(0, 4),
    protections.subarray(4),
  ];
  return (address, bytes) => {
    found[0] = 0n;
    const flags = VM_FLAGS_ANYWHERE;
    const result = mach.mach_vm_remap(
      ...[task, to, bytes, 0n, flags, task, address, 0, current, maximal] as const,
      VM_INHERIT_SHARE,
    );
    return result === 0 ? found[0]! : null;
  };
});
