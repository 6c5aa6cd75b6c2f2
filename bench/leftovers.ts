import { execFileSync } from "node:child_process";
import { readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";

/**
 * Removes every key file left in `directory` with what bears its key, and names them: after a run
 * that succeeded there is none.
 */
export function removeLeftovers(directory: string): string[] {
  const names = readdirSync(directory);
  for (const name of names) {
    const file = join(directory, name);
    const { dev, ino } = statSync(file);
    // ftok(3) as glibc, musl and macOS compute it.
    const key = String(0x51 << 24 | (dev & 0xff) << 16 | ino & 0xffff);
    for (const kind of ["-M", "-S"]) {
      try {
        execFileSync("ipcrm", [kind, key], { stdio: "ignore" });
      } catch {
        // Nothing bears this key.
      }
    }
    rmSync(file);
  }
  return names;
}
