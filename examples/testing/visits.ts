/** The visits of each page, which all processes of a site count together. Its tests are in visits.test.ts. */
import { SharedMap } from "../../collections/mod.ts";

export class Visits {
  readonly #pages: SharedMap;

  /** @param key a key of their own for tests */
  constructor(key = "visits") {
    this.#pages = SharedMap.open(key, { bytes: 2 ** 20, evict: "none" });
  }

  /** Counts a visit; returns how many the page has had. */
  add(page: string): number {
    return this.#pages.incr(page);
  }

  /** The pages with the most visits. */
  most(count: number): [page: string, visits: number][] {
    const all = [...this.#pages.entries()].map(([page, visits]) =>
      [`${page}`, Number(visits)] as [string, number]
    );
    return all.sort(([, a], [, b]) => b - a).slice(0, count);
  }

  [Symbol.dispose](): void {
    this.#pages[Symbol.dispose]();
  }
}
