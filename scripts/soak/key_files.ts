import { createHash } from "node:crypto";
import { closeSync, fstatSync, openSync, readdirSync, rmSync } from "node:fs";
import process from "node:process";
import { systemKeys } from "./leftovers.ts";

/** A process may have 1024 files open by default. */
const OPEN_MAX = 500;

/** The key files of some keys, and the System V keys that they have stood for. */
export class KeyFiles {
  /** Of those that were deleted. */
  readonly systemKeys = new Set<number>();
  readonly #open = new Map<number, number>();
  readonly #folder = `${process.env["TMPDIR"] || "/tmp"}/`;
  readonly #hashes: readonly string[];

  constructor(keys: readonly string[]) {
    this.#hashes = keys.map((key) => createHash("sha1").update(key).digest("hex"));
  }

  paths(): string[] {
    return readdirSync(this.#folder)
      .filter((name) => name.startsWith("qipc_") && this.#hashes.includes(name.slice(-40)))
      .map((name) => this.#folder + name);
  }

  /**
   * Deletes some of them; how many. Each is kept open as long as something of the system has its key: else
   * its inode, and so the key, could become that of another file, to whom what is left would seem his.
   */
  delete(isChosen: () => boolean): number {
    this.#closeUnused();
    const paths = this.#open.size < OPEN_MAX ? this.paths().filter(isChosen) : [];
    return paths.filter((path) => this.#delete(path)).length;
  }

  #delete(path: string): boolean {
    let file: number;
    try {
      file = openSync(path, "r");
    } catch {
      return false; // somebody else has deleted it
    }
    const { dev, ino } = fstatSync(file);
    const key = 0x51 << 24 | (dev & 0xff) << 16 | ino & 0xffff; // ftok(path, 'Q')
    this.systemKeys.add(key);
    const before = this.#open.get(key);
    if (before !== undefined) closeSync(before);
    this.#open.set(key, file);
    rmSync(path, { force: true });
    return true;
  }

  #closeUnused(): void {
    const used = new Set(systemKeys());
    for (const [key, file] of this.#open) {
      if (used.has(key)) continue;
      closeSync(file);
      this.#open.delete(key);
    }
  }
}
