/** A running instance of an application. */
import { type ChildProcess, spawn } from "node:child_process";
import path from "node:path";
import process from "node:process";
import { withDeadline } from "../deadline.ts";
import type { Application, Place } from "./applications.ts";
import type { Desktop } from "./desktop.ts";

/** Until an application has started, and until another instance has ended, in ms. */
export const START_MS = 60_000;

/** How an application ends: its exit code, or the signal. */
type End = number | string;

export class Instance {
  readonly #child: ChildProcess;
  readonly #name: string;
  readonly #ended: Promise<End>;
  #output = "";
  #hasEnded = false;

  constructor({ name }: Application, { home, temporary }: Place, desktop: Desktop) {
    this.#name = name;
    const { HOME: _, XDG_RUNTIME_DIR: _runtime, ...others } = process.env;
    // A process group of its own: a browser engine has processes, which end with it.
    this.#child = spawn(name, [], {
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
      env: {
        ...others,
        ...desktop.env,
        HOME: home,
        TMPDIR: temporary,
        XDG_RUNTIME_DIR: temporary,
        XDG_CONFIG_HOME: path.join(home, ".config"),
        XDG_DATA_HOME: path.join(home, ".local/share"),
        XDG_CACHE_HOME: path.join(home, ".cache"),
        LC_ALL: "en_US.UTF-8", // otherwise KLog asks about translations first
        QTWEBENGINE_DISABLE_SANDBOX: "1", // Chromium refuses root otherwise
      },
    });
    for (const stream of [this.#child.stdout!, this.#child.stderr!]) {
      stream.setEncoding("utf8").on("data", (text: string) => this.#output += text);
    }
    this.#ended = new Promise((resolve) => {
      this.#child.once("error", ({ message }) => resolve(message));
      this.#child.once("exit", (code, signal) => resolve(signal ?? code!));
    });
    this.#ended.then(() => this.#hasEnded = true);
  }

  get pid(): number {
    return this.#child.pid!;
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** Waits for its end, whose code must be this one. */
  async endsWith(code: number): Promise<void> {
    const end = await withDeadline(this.#ended, `the end of ${this.#name}`, START_MS);
    if (end === code) return;
    throw new Error(`${this.#name} ended with ${end}, and not with ${code}:\n${this.#output}`);
  }

  /** Kills it and its processes. */
  async kill(): Promise<void> {
    try {
      process.kill(-this.pid, "SIGKILL");
    } catch {
      // All of them have ended.
    }
    await withDeadline(this.#ended, `the death of ${this.#name}`, START_MS);
  }

  /** Throws if it has ended. */
  mustRun(): void {
    if (this.#hasEnded) throw new Error(`${this.#name} has ended:\n${this.#output}`);
  }
}
