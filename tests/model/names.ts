import { keyFolder, segmentFile, semaphoreFile, uniqueKey } from "../support/support.ts";
import { SHARED_MEMORY_PREFIX } from "../../backends/native_key.ts";

/** The keys of segments, of semaphores, and the paths of native keys, as sequences write them. */
export const MEMORY_KEYS = ["A", "B"] as const;
export const SEMAPHORE_KEYS = ["S", "T"] as const;
export const OWN_PATHS = ["/one", "/two"] as const;
/** Not well-formed, so it can be no key. */
export const NO_KEY = "\ud800";

/** The path of the segment of a key. */
export function pathOf(key: string): string {
  return `/${SHARED_MEMORY_PREFIX}${key}`;
}

/** What the short names stand for in one run. */
export class Names {
  readonly #full = new Map<string, string>();

  constructor() {
    for (const key of [...MEMORY_KEYS, ...SEMAPHORE_KEYS]) {
      const full = uniqueKey(key);
      this.#full.set(key, full);
      this.#full.set(pathOf(key), segmentFile(full));
    }
    for (const path of OWN_PATHS) {
      this.#full.set(path, keyFolder + uniqueKey(`model ${path.slice(1)}`));
    }
  }

  /** The full name; what is no short name stays. */
  full<Name>(name: Name): Name {
    const full = typeof name === "string" ? this.#full.get(name) : undefined;
    return (full ?? name) as Name;
  }

  segmentPath(key: string): string {
    return segmentFile(this.full(key));
  }

  semaphorePath(key: string): string {
    return semaphoreFile(this.full(key));
  }

  /** The paths of native keys that no key has. */
  ownPaths(): string[] {
    return OWN_PATHS.map((path) => this.full<string>(path));
  }
}
