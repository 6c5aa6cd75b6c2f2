import type { Ffi } from "../../ffi/types.ts";
import { NativeIpcKeyType } from "../native_key.ts";
import { type Platform, requireSystem, thisPlatform } from "../platform.ts";
import { type Backend, type KeyType, NO_FOLDERS, onlyType } from "../types.ts";
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

/** Qt cuts names to this number of UTF-16 units: `MAX_PATH`. */
const NAME_LENGTH = 260;
/** Qt cuts the native key of a segment to this number of UTF-16 units for the name of its lock. */
const LOCK_LENGTH = 255;

/** The only keys of Windows. */
export const WINDOWS: KeyType = {
  capabilities: {
    name: "Windows",
    exactSize: false,
    survivesCrash: false,
    persistent: false,
    removedWith: "lastUser",
    killedHolder: "takenOver",
    zerosTransferred: false,
    namesHolder: false,
    semaphoreUndo: false,
    semaphoreCreate: "opens",
    permissions: false,
  },
  ...onlyType(NativeIpcKeyType.Windows, "windows"),
  supports: (os) => os === "win32",
  safeKey(key, { object }) {
    const [namespace] = /^(?:Local\\|Global\\)?/.exec(key)!;
    const kind = object === "SharedMemory" ? "shm_" : "sem_";
    return (namespace + kind + key.slice(namespace.length)).slice(0, NAME_LENGTH);
  },
  legacyKey: (name) => name,
  lockKey: (nativeKey) => nativeKey.slice(0, LOCK_LENGTH) + "_sem",
  load() {
    const kernel = sharedKernel();
    return windows(kernel.ffi, thisPlatform(), kernel);
  },
};
