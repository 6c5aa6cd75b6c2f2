/** What our segment and its lock leave in the system, seen without the package that is shown here. */
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";

const TABLES = [
  { what: "segment", file: "/proc/sysvipc/shm" },
  { what: "semaphore", file: "/proc/sysvipc/sem" },
] as const;

interface Row {
  /** Kind and id, which name one segment or semaphore set of this system. */
  readonly name: string;
  readonly key: number;
}

function readTables(): Row[] {
  return TABLES.flatMap(({ what, file }) =>
    readFileSync(file, "utf8").trim().split("\n").slice(1).map((line) => {
      const [key, id] = line.trim().split(/\s+/);
      return { name: `${what} ${id}`, key: Number(key) };
    })
  );
}

/** ftok(path, 'Q'), as glibc, musl and Apple compute it. */
function ftok(path: string): number {
  const { dev, ino } = statSync(path, { bigint: true });
  return Number(BigInt.asIntN(32, 0x51n << 24n | (dev & 0xffn) << 16n | ino & 0xffffn));
}

export class SegmentResources {
  /** System V's tables are readable as files on Linux only. */
  readonly tablesReadable = TABLES.every(({ file }) => existsSync(file));
  /** What {@linkcode remaining} looks at. */
  readonly description: string;
  readonly #folder = process.env["TMPDIR"] || "/tmp";
  readonly #hash: string;
  readonly #before: ReadonlySet<string>;
  readonly #ours = new Set<string>();

  constructor(key: string) {
    this.#hash = createHash("sha1").update(key).digest("hex");
    this.description = this.tablesReadable
      ? "no segment and no semaphore in /proc/sysvipc, no key file in " + this.#folder
      : "no segment to attach, no key file";
    this.#before = new Set(this.#rows().map(({ name }) => name));
  }

  /** Notes what is ours now, while the key files that tell are there; returns how much that is. */
  note(): number {
    const keys = new Set(this.#keyFiles().map(ftok));
    for (const { name, key } of this.#rows()) {
      if (keys.has(key) && !this.#before.has(name)) this.#ours.add(name);
    }
    return this.#ours.size;
  }

  remaining(): string[] {
    this.note();
    const rows = this.#rows().filter(({ name }) => this.#ours.has(name));
    return [...rows.map(({ name }) => name), ...this.#keyFiles()];
  }

  #rows(): Row[] {
    return this.tablesReadable ? readTables() : [];
  }

  #keyFiles(): string[] {
    if (process.platform === "win32") return [];
    return readdirSync(this.#folder)
      .filter((name) => name.startsWith("qipc_") && name.endsWith(this.#hash))
      .map((name) => join(this.#folder, name));
  }
}
