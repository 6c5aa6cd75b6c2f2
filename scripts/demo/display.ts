import process from "node:process";
import { styleText } from "node:util";
import type { RuntimeName } from "../runtimes.ts";
import type { Worker } from "./crew.ts";

const COLORS: Readonly<Record<RuntimeName, "cyan" | "magenta" | "green" | "yellow">> = {
  deno: "cyan",
  bun: "magenta",
  node: "green",
  qt: "yellow",
};

export function grouped(value: number): string {
  return Math.round(value).toLocaleString("en-US");
}

export interface Progress {
  /** Increments of each worker, in the workers' order. */
  readonly counts: readonly number[];
  readonly total: number;
  readonly elapsed: number;
  readonly seconds: number;
}

export interface Display {
  readonly intervalMs: number;
  show(progress: Progress): void;
  /** Leaves the terminal as it was, with the last picture in it. */
  close(progress: Progress): void;
}

export function openDisplay(workers: readonly Worker[]): Display {
  const { isTTY, rows } = process.stdout;
  const fits = workers.length + 2 < (rows || Infinity);
  return isTTY && fits ? new Bars(workers) : new Lines(workers);
}

/** A line a second, for logs. */
class Lines implements Display {
  readonly intervalMs = 1000;
  readonly #workers: readonly Worker[];

  constructor(workers: readonly Worker[]) {
    this.#workers = workers;
  }

  show({ counts, total, elapsed }: Progress): void {
    const sums = new Map<RuntimeName, number>();
    this.#workers.forEach(({ runtime }, index) => {
      sums.set(runtime, (sums.get(runtime) ?? 0) + (counts[index] ?? 0));
    });
    const parts = [...sums].map(([name, sum]) => `${name} ${grouped(sum)}`).join(", ");
    const rate = grouped(total / elapsed);
    console.log(`${elapsed.toFixed(1)} s: total ${grouped(total)} (${rate}/s): ${parts}`);
  }

  close(): void {} // the table says the rest
}

/** A bar for each worker, redrawn in place: the leader's length is the time that has passed. */
class Bars implements Display {
  readonly intervalMs = 100;
  readonly #workers: readonly Worker[];
  #drawn = 0;

  constructor(workers: readonly Worker[]) {
    this.#workers = workers;
    process.stdout.write("\x1b[?25l"); // hides the cursor
  }

  show({ counts, total, elapsed, seconds }: Progress): void {
    const leader = Math.max(1, ...counts);
    const done = Math.min(1, elapsed / seconds);
    const columns = process.stdout.columns || 80; // some pseudo-terminals say 0
    const width = Math.max(0, Math.min(40, columns - 46));
    const lines = this.#workers.map(({ name, runtime, failure }, index) => {
      const count = counts[index] ?? 0;
      const filled = Math.round(width * done * count / leader);
      const bar = "█".repeat(filled) + "░".repeat(width - filled);
      const state = failure ? " ✗" : "";
      return `  ${name.padEnd(8)} ${color(runtime, bar)} ${figures(count, elapsed)}${state}`;
    });
    const clock = `${Math.min(elapsed, seconds).toFixed(1)} of ${seconds} s`;
    lines.push(`  ${"total".padEnd(8)} ${clock.padEnd(width)} ${figures(total, elapsed)}`);
    const back = this.#drawn > 0 ? `\x1b[${this.#drawn}A` : "";
    process.stdout.write(back + lines.map((line) => `\r${line}\x1b[K\n`).join(""));
    this.#drawn = lines.length;
  }

  close(progress: Progress): void {
    this.show(progress);
    process.stdout.write("\x1b[?25h");
  }
}

function figures(count: number, elapsed: number): string {
  return `${grouped(count).padStart(14)} ${grouped(count / elapsed).padStart(11)}/s`;
}

function color(runtime: RuntimeName, text: string): string {
  return process.env["NO_COLOR"] ? text : styleText(COLORS[runtime], text);
}

/** A table whose columns are as wide as they need: `left` are aligned to the left, the rest right. */
export function printTable(rows: readonly (readonly string[])[], left: readonly number[]): void {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => row[column]?.length ?? 0))
  );
  for (const row of rows) {
    const cells = widths.map((width, column) => {
      const cell = row[column] ?? "";
      return left.includes(column) ? cell.padEnd(width) : cell.padStart(width);
    });
    console.log(`  ${cells.join("  ")}`.trimEnd());
  }
}
