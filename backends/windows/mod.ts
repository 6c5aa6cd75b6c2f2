import type { Ffi } from "../../ffi/types.ts";
import { type Platform, requireSystem, thisPlatform } from "../platform.ts";
import { type Backend, NO_FOLDERS } from "../types.ts";
import { Kernel32 } from "../win32/kernel32.ts";
import { sharedKernel } from "../win32/shared_kernel.ts";
import { WindowsSegments } from "./segments.ts";
import { WindowsSemaphores } from "./semaphore.ts";

/** Creates the backend for named kernel objects, the only type of keys on Windows. */
export function windows(ffi: Ffi, platform: Platform, kernel?: Kernel32): Backend {
  requireSystem(["win32"], platform);
  kernel ??= new Kernel32(ffi);
  return {
    arrayBuffer: (address, byteLength) => ffi.arrayBuffer(address, byteLength),
    segments: new WindowsSegments(kernel, ffi.maxBufferBytes),
    semaphores: new WindowsSemaphores(kernel),
    ...NO_FOLDERS,
    users: null,
  };
}

/** Loads the backend for this process. */
export function loadWindows(): Backend {
  const kernel = sharedKernel();
  return windows(kernel.ffi, thisPlatform(), kernel);
}
