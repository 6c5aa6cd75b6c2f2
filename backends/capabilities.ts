import process from "node:process";
import { NativeIpcKeyType } from "../native_ipc_key.ts";

/** What the objects of one type of keys can do. The data is plain: tests and documentation are generated from it. */
export interface Capabilities {
  /** The name of the type in texts. */
  readonly name: string;
  /** Whether `size()` is exactly the size that `create()` received. Otherwise it is rounded up to whole pages. */
  readonly exactSize: boolean;
  /** Whether a segment still exists after all its users were killed. */
  readonly survivesCrash: boolean;
  /** Whether a segment is removed with its last user, or when the object that created it detaches. */
  readonly removedWith: "lastUser" | "creator";
  /**
   * What happens to a lock whose holder was killed. `undone`: the kernel releases it at once. `takenOver`: a waiting
   * thread finds that the holder is dead and takes the lock over. `lost`: the lock stays held.
   */
  readonly killedHolder: "undone" | "takenOver" | "lost";
  /** Whether a transferred buffer shows private zeros after `detach()`. Otherwise it still shows the segment. */
  readonly zerosTransferred: boolean;
  /** Whether the error of a timed-out wait for the lock can name the process that holds it. */
  readonly namesHolder: boolean;
  /** Whether a `SystemSemaphore` gets back what a process had acquired when the process ended. */
  readonly semaphoreUndo: boolean;
  /** Whether mode Create of a `SystemSemaphore` sets the value of an existing semaphore, or leaves it as it is. */
  readonly semaphoreCreate: "sets" | "opens";
  /** Whether `permissions` can give other users access. */
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

/** The capabilities on macOS, which does not tell which process uses an object and has no place to record it. */
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

/** Returns the capabilities of a key type on an operating system, named as in `process.platform`. */
export function capabilitiesOf(
  type: NativeIpcKeyType,
  os: string = process.platform,
): Capabilities {
  if (type === NativeIpcKeyType.PosixRealtime) return os === "darwin" ? DARWIN_POSIX : POSIX;
  return type === NativeIpcKeyType.Windows ? WINDOWS : SYSTEM_V;
}
