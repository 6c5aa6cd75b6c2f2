import { perProcess } from "../context.ts";
import { UnsupportedError } from "../errors.ts";
import type {
  Inspection,
  Inventory,
  KeyFileInfo,
  SegmentGlance,
  SegmentInfo,
  SemaphoreInfo,
} from "./inventory.ts";
import { thisPlatform } from "./platform.ts";
import { temporaryFolder } from "./systemv/folders.ts";
import { sharedLibrary } from "./unix/shared_libc.ts";
import { glanceAtPosix } from "./posix/glance.ts";
import { PosixInspection } from "./posix/inspection.ts";
import { PosixLibrary } from "./posix/library.ts";
import { glanceAtSystemV } from "./systemv/glance.ts";
import { SystemVInspection } from "./systemv/inspection.ts";

/** It is loaded once, since that takes a millisecond in Deno. */
const posixLibrary = perProcess(() => new PosixLibrary(sharedLibrary()));

/**
 * Lists the segments of this user, for programs that look often. Unlike {@linkcode Inspection.inventory} it asks no other
 * process, says nothing of what is stale, and yields after each piece of work.
 */
export function* glance(): Generator<undefined, SegmentGlance[]> {
  requireList();
  const libc = sharedLibrary();
  const systemV = yield* glanceAtSystemV(libc, temporaryFolder(libc));
  const posix = yield* glanceAtPosix(libc, posixLibrary().semaphorePrefix);
  return [...systemV, ...posix];
}

/** The inspection of all types of keys together. */
class AllInspection implements Inspection {
  readonly #systemV: SystemVInspection;
  readonly #posix: PosixInspection;

  constructor() {
    const libc = sharedLibrary();
    this.#systemV = new SystemVInspection(libc, () => temporaryFolder(libc));
    this.#posix = new PosixInspection(libc, posixLibrary().semaphorePrefix);
  }

  inventory(allUsers: boolean): Inventory {
    const systemV = this.#systemV.inventory(allUsers);
    const posix = this.#posix.inventory(allUsers);
    return {
      folder: systemV.folder,
      segments: [...systemV.segments, ...posix.segments],
      semaphores: [...systemV.semaphores, ...posix.semaphores],
      keyFiles: systemV.keyFiles,
    };
  }

  remove(thing: SegmentInfo | SemaphoreInfo | KeyFileInfo): string | null {
    return (thing.type === "posix" ? this.#posix : this.#systemV).remove(thing);
  }
}

const inspectionOfProcess = perProcess(() => new AllInspection());

/**
 * Returns the inspection of this system, loaded on first use. It is separate from the backends, which do not need it.
 */
export function defaultInspection(): Inspection {
  requireList();
  return inspectionOfProcess();
}

/** @throws {UnsupportedError} on systems whose segments are not listed */
function requireList(): void {
  const { os } = thisPlatform();
  if (os === "win32") {
    throw new UnsupportedError(
      "Windows has no list of its segments and semaphores; it removes each with its last user, so " +
        "nothing stale can be left there",
    );
  }
  if (os === "darwin") {
    throw new UnsupportedError(
      "on macOS, what there is cannot be inspected or cleaned up yet; `ipcs -mp` lists the segments, " +
        "`ipcs -s` the semaphores, and `ipcrm` removes one",
    );
  }
}
