import type { SystemSemaphoreMode } from "../../errors.ts";
import type { ErrnoTable } from "../failure.ts";
import { type Lock, PRIVATE, type Semaphore, type SemaphoreBackend } from "../types.ts";
import { ERANGE } from "../unix/errno.ts";
import { ownUid } from "../unix/users.ts";
import type { Libc } from "../unix/libc.ts";
import { type KeyFile, PROJECT_ID } from "./key_file.ts";
import { limitsOf } from "./limits.ts";
import { SystemVLock } from "./lock.ts";
import { Mark } from "./marks.ts";
import { removeWithMark, SEMVMX, SystemVSemaphore } from "./semaphore.ts";
import type { SemaphoreTools } from "./semaphore_set.ts";
import { Operations } from "./semop_arrays.ts";
import { waitsOf } from "./semop_wait.ts";

const ERRORS: ErrnoTable = {
  [ERANGE]: [
    "OutOfResources",
    `the semaphore's value would pass its maximum of ${SEMVMX}`,
  ],
};

/** Creates the semaphores and locks of System V keys. */
export class SystemVSemaphores implements SemaphoreBackend {
  readonly #tools: SemaphoreTools;
  readonly #projectId: number;

  constructor(libc: Libc, projectId = PROJECT_ID) {
    const operations = new Operations(libc);
    const errors = { ...ERRORS, ...limitsOf(libc.os).semaphores };
    this.#tools = { libc, operations, waits: waitsOf(libc, operations), errors };
    this.#projectId = projectId;
  }

  open(
    path: string,
    initialValue: number,
    mode: SystemSemaphoreMode,
    isExplicit = false,
  ): Semaphore {
    const keyPath = { path, permissions: PRIVATE, isExplicit, projectId: this.#projectId };
    const semaphore = new SystemVSemaphore(this.#tools, keyPath, initialValue);
    semaphore.open(mode);
    return semaphore;
  }

  lock(path: string, permissions = PRIVATE, isExplicit = false): Lock {
    const keyPath = { path, permissions, isExplicit, projectId: this.#projectId };
    return new SystemVLock(this.#tools, keyPath);
  }

  /** Removes a semaphore that no process uses, and its key file, in the same way as its last user would. */
  remove(id: number, file: KeyFile): void {
    const { libc, operations } = this.#tools;
    operations.markRemoved(id, ownUid(libc), PRIVATE);
    file.unlink();
    removeWithMark(libc, id, file, new Mark(libc, "inherited", file.key));
  }
}
