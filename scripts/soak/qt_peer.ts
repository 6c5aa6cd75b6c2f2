import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, statSync } from "node:fs";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { findRuntime } from "../runtimes.ts";

/** A file system that no other key files lie in. */
const APART = "/dev/shm";

/**
 * Real Qt at work, in a folder of its own on another device: as Qt keeps no key file open, the inode of a
 * deleted one may be another's by the time that Qt resets the lock, and System V keys have few bits more.
 */
export class QtPeer {
  readonly pid: number | undefined;
  readonly folder = mkdtempSync(`${APART}/shared-memory-soak-`);
  rounds = 0;
  readonly #child;
  readonly #ended: Promise<void>;

  private constructor(command: string, key: string) {
    const script = fileURLToPath(new URL("qt_peer.py", import.meta.url));
    this.#child = spawn(command, [script, key], {
      stdio: ["ignore", "pipe", "ignore"],
      detached: true,
      env: { ...process.env, TMPDIR: this.folder },
    });
    this.pid = this.#child.pid;
    this.#child.stdout.on("data", (dots: Uint8Array) => this.rounds += dots.length);
    this.#ended = new Promise((resolve) => this.#child.on("close", () => resolve()));
  }

  static start(key: string): QtPeer | null {
    const runtime = findRuntime("qt");
    const isApart = existsSync(APART) &&
      statSync(APART).dev !== statSync(process.env["TMPDIR"] || "/tmp").dev;
    const missing = "missing" in runtime ? runtime.missing : isApart ? null : `no ${APART}`;
    if (!("missing" in runtime) && missing === null) return new QtPeer(runtime.command, key);
    console.error(`Without qt: ${missing}`);
    return null;
  }

  /** Whether a System V key is that of a file in its folder. */
  owns(key: number): boolean {
    return (key >> 16 & 0xff) === (statSync(APART).dev & 0xff);
  }

  /** By force, wherever it is. */
  async end(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#ended;
    rmSync(this.folder, { recursive: true });
  }
}
