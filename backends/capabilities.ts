import { NativeIpcKeyType } from "../native_ipc_key.ts";

/** What the objects of a type of keys can do: plain data that the tests and the documentation are made from. */
export interface Capabilities {
  /** What the type is called in texts. */
  readonly name: string;
  /** Whether `size()` is what `create()` was given; otherwise that is rounded up to whole pages. */
  readonly exactSize: boolean;
  /** Whether a segment is there still when all its users were killed. */
  readonly survivesCrash: boolean;
  /**
   * How the lock of a killed holder becomes free: `undone` by the kernel at once, or `takenOver` by
   * somebody who waits for it and finds that its holder is dead.
   */
  readonly killedHolder: "undone" | "takenOver";
  /** Whether a `SystemSemaphore` gets back what a process that ended has acquired. */
  readonly semaphoreUndo: boolean;
  /** Whether mode Create of a `SystemSemaphore` sets one that exists, makes another, or leaves it as it is. */
  readonly semaphoreCreate: "sets" | "replaces" | "opens";
  /** Whether `permissions` let other users in. */
  readonly permissions: boolean;
}

const SYSTEM_V: Capabilities = {
  name: "System V",
  exactSize: true,
  survivesCrash: true,
  killedHolder: "undone",
  semaphoreUndo: true,
  semaphoreCreate: "sets",
  permissions: true,
};

const POSIX: Capabilities = {
  name: "POSIX",
  exactSize: true,
  survivesCrash: true,
  killedHolder: "takenOver",
  semaphoreUndo: false,
  semaphoreCreate: "replaces",
  permissions: true,
};

const WINDOWS: Capabilities = {
  name: "Windows",
  exactSize: false,
  survivesCrash: false,
  killedHolder: "takenOver",
  semaphoreUndo: false,
  semaphoreCreate: "opens",
  permissions: false,
};

export function capabilitiesOf(type: NativeIpcKeyType): Capabilities {
  if (type === NativeIpcKeyType.PosixRealtime) return POSIX;
  return type === NativeIpcKeyType.Windows ? WINDOWS : SYSTEM_V;
}
