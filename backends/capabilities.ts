import process from "node:process";
import { NativeIpcKeyType } from "../native_ipc_key.ts";

/** What the objects of a type of keys can do: plain data that the tests and the documentation are made from. */
export interface Capabilities {
  /** What the type is called in texts. */
  readonly name: string;
  /** Whether `size()` is what `create()` was given; otherwise that is rounded up to whole pages. */
  readonly exactSize: boolean;
  /** Whether a segment is there still when all its users were killed. */
  readonly survivesCrash: boolean;
  /** Whether a segment is removed with its last user, or when the object that created it detaches. */
  readonly removedWith: "lastUser" | "creator";
  /**
   * How the lock of a killed holder becomes free: `undone` by the kernel at once, or `takenOver` by
   * somebody who waits for it and finds that its holder is dead; or it is not, and is `lost`.
   */
  readonly killedHolder: "undone" | "takenOver" | "lost";
  /**
   * Whether a buffer that was transferred away is private zeros after `detach()`; otherwise it goes on
   * showing the segment.
   */
  readonly zerosTransferred: boolean;
  /** Whether a wait for the lock that is over can name the process that holds it. */
  readonly namesHolder: boolean;
  /** Whether a `SystemSemaphore` gets back what a process that ended has acquired. */
  readonly semaphoreUndo: boolean;
  /** Whether mode Create of a `SystemSemaphore` sets one that exists, or leaves it as it is. */
  readonly semaphoreCreate: "sets" | "opens";
  /** Whether `permissions` let other users in. */
  readonly permissions: boolean;
}

const SYSTEM_V: Capabilities = {
  name: "System V",
  exactSize: true,
  survivesCrash: true,
  removedWith: "lastUser",
  killedHolder: "undone",
  zerosTransferred: true,
  namesHolder: true,
  semaphoreUndo: true,
  semaphoreCreate: "sets",
  permissions: true,
};

const POSIX: Capabilities = {
  name: "POSIX",
  exactSize: true,
  survivesCrash: true,
  removedWith: "lastUser",
  killedHolder: "takenOver",
  zerosTransferred: true,
  namesHolder: true,
  semaphoreUndo: false,
  semaphoreCreate: "sets",
  permissions: true,
};

/** macOS does not tell who uses an object, and has no place for a note. */
const DARWIN_POSIX: Capabilities = {
  ...POSIX,
  name: "POSIX on macOS",
  exactSize: false,
  removedWith: "creator",
  killedHolder: "lost",
  namesHolder: false,
};

const WINDOWS: Capabilities = {
  name: "Windows",
  exactSize: false,
  survivesCrash: false,
  removedWith: "lastUser",
  killedHolder: "takenOver",
  zerosTransferred: false,
  namesHolder: false,
  semaphoreUndo: false,
  semaphoreCreate: "opens",
  permissions: false,
};

/** Those of a type on an operating system, as `process.platform` names it. */
export function capabilitiesOf(
  type: NativeIpcKeyType,
  os: string = process.platform,
): Capabilities {
  if (type === NativeIpcKeyType.PosixRealtime) return os === "darwin" ? DARWIN_POSIX : POSIX;
  return type === NativeIpcKeyType.Windows ? WINDOWS : SYSTEM_V;
}
