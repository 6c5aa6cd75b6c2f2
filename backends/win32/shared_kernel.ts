import { perProcess } from "../../context.ts";
import { selectFfi } from "../../ffi/mod.ts";
import { Kernel32 } from "./kernel32.ts";

/** The functions of `kernel32.dll`, loaded on first use. */
export const sharedKernel: () => Kernel32 = perProcess(() => new Kernel32(selectFfi()));
