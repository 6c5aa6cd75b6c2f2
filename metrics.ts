/**
 * This module says what lies in the segments of this user, as text for Prometheus.
 *
 * @example
 * ```ts
 * import { metrics } from "./metrics.ts";
 *
 * const text = await metrics();
 * console.log(text.split("\n")[0]); // # HELP shared_memory_segments Segments of this user.
 * ```
 *
 * @module
 */
import { BackendError } from "./backends/failure.ts";
import type { SegmentGlance } from "./backends/inventory.ts";
import { perProcess } from "./context.ts";
import { checkOptions } from "./core/arguments.ts";
import { SharedMemoryException } from "./errors.ts";
import { type KeyMatcher, matcherOf } from "./inspect.ts";
import { Observer } from "./observe/observer.ts";
import { expositionOf } from "./observe/prometheus.ts";
import { sliced } from "./observe/sliced.ts";
import type { Steps } from "./observe/types.ts";

/** These options say what {@linkcode metrics} describes. */
export interface MetricsOptions {
  /**
   * Only the segments of these keys are described, and their label `key` is the key. A key is what a program gives to
   * `SharedMemory`, the text of a `NativeIpcKey`, or a key file. If it is left out, all segments of this user are.
   */
  readonly keys?: readonly string[] | undefined;
}

const observerOfProcess = perProcess(() => new Observer());

/**
 * Returns the metrics of the segments of this user, and of what this package has placed in them, in the text format of
 * Prometheus (version 0.0.4).
 *
 * It changes nothing and keeps no segment alive. The work is done in small pieces, between which the event loop goes on. It
 * looks into segments that processes use through this package, and only lists the others.
 *
 * @param options with `keys`, only segments of these keys are described
 * @returns text that ends with a line feed
 * @throws {TypeError} (rejects) if `keys` is not an array of strings, or one of them is empty
 * @throws {SharedMemoryException} (rejects) as `inspect()` throws it
 * @throws {UnsupportedError} (rejects) on systems other than Linux
 *
 * @example
 * ```ts ignore
 * import { createServer } from "node:http";
 * import { metrics } from "./metrics.ts";
 *
 * createServer(async (_request, response) => {
 *   response.setHeader("content-type", "text/plain; version=0.0.4; charset=utf-8");
 *   response.end(await metrics());
 * }).listen(9464);
 * ```
 */
export async function metrics(options: MetricsOptions = {}): Promise<string> {
  checkOptions("metrics", options, '{ keys: ["orders"] }');
  const { keys } = options;
  if (keys !== undefined) checkKeys(keys);
  try {
    const matchers = await sliced(matchersOf(keys ?? []));
    const found = new Map<SegmentGlance, string>();
    const isWanted = (segment: SegmentGlance) => {
      const lockFile = segment.lock?.keyFile ?? null;
      const key = matchers.find(([, isIts]) => isIts(segment, lockFile))?.[0];
      if (key !== undefined) found.set(segment, key);
      return keys === undefined || key !== undefined;
    };
    const observed = await sliced(observerOfProcess().look(isWanted));
    return await sliced(expositionOf(observed, (segment) => found.get(segment)));
  } catch (error) {
    if (!(error instanceof BackendError)) throw error;
    const { reason, message, syscall, errno } = error;
    throw new SharedMemoryException(reason, `metrics: ${message}`, { syscall, errno });
  }
}

/** Returns how the segments of each key are found. */
function* matchersOf(keys: readonly string[]): Steps<(readonly [key: string, KeyMatcher])[]> {
  const matchers: (readonly [key: string, KeyMatcher])[] = [];
  for (const key of keys) {
    matchers.push([key, matcherOf(key)]);
    yield;
  }
  return matchers;
}

function checkKeys(keys: unknown): void {
  if (!Array.isArray(keys)) {
    throw new TypeError(`metrics: keys must be an array, not ${typeof keys}`);
  }
  for (const key of keys) {
    if (typeof key !== "string") {
      throw new TypeError(`metrics: a key must be a string, not ${typeof key}`);
    }
    if (key === "") throw new TypeError("metrics: a key is empty; leave keys out for all");
  }
}
