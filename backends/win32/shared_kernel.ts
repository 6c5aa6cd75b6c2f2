import { selectFfi } from "../../ffi/mod.ts";
import { Kernel32 } from "./kernel32.ts";

let kernel: Kernel32 | undefined;

/** The functions of `kernel32.dll`, loaded on first use. */
export function sharedKernel(): Kernel32 {
  return kernel ??= new Kernel32(selectFfi());
}
