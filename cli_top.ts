/** This module shows all segments in the terminal, again and again. */
import process from "node:process";
import type { Observed } from "./observe/observer.ts";
import { shortened } from "./observe/names.ts";
import type { FactValue, Holder, Part } from "./observe/types.ts";
import {
  bytes,
  type Cell,
  columnWidths,
  cut,
  lines,
  lineWidth,
  paint,
  type Style,
  wrapped,
} from "./cli_table.ts";
import { holderText, isInTrouble, stoppedMembers } from "./cli_contents.ts";
import { printable } from "./printable.ts";

/** These facts count what processes do: their growth is the rate of a segment. */
const COUNTED = ["notifications", "changes", "version", "published", "sent", "received"];
/** These count entries that had to go. */
const EVICTED = ["evicted", "noRoom"];
/** A name is shortened to this number of columns at the least. */
const LEAST_NAME = 16;
/** The columns that a narrow terminal leaves out first. */
const LEAST_NEEDED = ["GONE/S", "PARTS", "SIZE"];

/** What was seen at a time, in ms. */
export interface Look {
  readonly time: number;
  readonly observed: readonly Observed[];
}

/**
 * Returns the lines of the view.
 *
 * @param before an earlier look, from which the rates follow; `null` for none
 */
export function frame(now: Look, before: Look | null, style: Style): string[] {
  const { observed } = now;
  const earlier = new Map(before?.observed.map((one) => [idOf(one), one]));
  const seconds = before === null ? 0 : (now.time - before.time) / 1000;
  const rate = (one: Observed, names: readonly string[]): number | null => {
    const last = earlier.get(idOf(one));
    if (last === undefined || seconds <= 0) return null;
    return Math.max(0, total(one, names) - total(last, names)) / seconds;
  };
  const size = observed.reduce((sum, { segment }) => sum + segment.size, 0);
  const holders = observed.flatMap(holdersOf);
  const troubles = holders.filter(isInTrouble).length;
  const title = [
    observed.length === 1 ? "1 segment" : `${observed.length} segments`,
    bytes(size),
    `${holders.length} held`,
    ...troubles > 0 ? [`${troubles} by stopped or dead processes`] : [],
  ].join(", ");
  const titleLines = wrapped(title, style.width).map((line) =>
    paint(line, troubles > 0 ? "red" : "bold", style)
  );
  if (observed.length === 0) return titleLines;
  const sorted = [...observed].sort((a, b) =>
    (rate(b, COUNTED) ?? 0) - (rate(a, COUNTED) ?? 0) || nameOf(a).localeCompare(nameOf(b))
  );
  const rows = sorted.map((one): Record<string, Cell> => {
    const { segment, parts } = one;
    return {
      SEGMENT: { text: printable(nameOf(one)), color: "bold" },
      SIZE: { text: bytes(segment.size), right: true },
      ATT: { text: String(segment.attached), right: true },
      "OPS/S": rateCell(rate(one, COUNTED)),
      "GONE/S": rateCell(rate(one, EVICTED)),
      WAIT: waitCell(one),
      HELD: heldCell(holdersOf(one)),
      PARTS: { text: printable(partsText(parts)) },
    };
  });
  return [...titleLines, ...table(rows, sorted, style)];
}

function table(
  rows: readonly Record<string, Cell>[],
  observed: readonly Observed[],
  style: Style,
): string[] {
  const columns = Object.keys(rows[0]!);
  const cells = () => [
    columns.map((text): Cell => {
      return { text, color: "dim", right: rows[0]![text]!.right ?? false };
    }),
    ...rows.map((row) => columns.map((name) => row[name]!)),
  ];
  for (const name of LEAST_NEEDED) {
    const isNameTooShort = () => {
      const rest = lineWidth(cells().map((row) => row.slice(1)));
      return style.width - rest - 2 < Math.min(LEAST_NAME, columnWidths(cells())[0]!);
    };
    if (isNameTooShort()) columns.splice(columns.indexOf(name), 1);
  }
  const rest = lineWidth(cells().map((row) => row.slice(1)));
  const most = Math.max(LEAST_NAME, style.width - rest - 2);
  const shown = cells().map((
    [name, ...row],
  ) => [{ ...name!, text: cut(name!.text, most) }, ...row]);
  const [heading, ...body] = lines(shown, style);
  return [
    heading!.trimEnd(),
    ...body.flatMap((line, i) => [line.trimEnd(), ...troublesOf(observed[i]!, style)]),
  ];
}

/** Returns the lines below a segment: who holds something and does not go on, and what is wrong. */
function troublesOf({ lockHolder, parts, problem }: Observed, style: Style): string[] {
  const texts = [
    ...problem === null ? [] : [problem],
    ...lockHolder !== null && isInTrouble(lockHolder)
      ? [`its lock is held by ${holderText(lockHolder)}`]
      : [],
    ...parts.flatMap((part) => {
      const name = part.name ?? part.kind;
      const held = (part.holders ?? []).filter(isInTrouble);
      return [
        ...stoppedMembers(part).map((one) => `${name} gives jobs to ${holderText(one)}`),
        ...held.map((holder) => `${name} is held by ${holderText(holder)}`),
        ...part.facts["abandoned"] === undefined
          ? []
          : [`${name} was abandoned: ${part.facts["abandoned"]}`],
        ...part.problem === undefined ? [] : [`${name}: ${part.problem}`],
      ];
    }),
  ];
  return texts.flatMap((text) =>
    wrapped(printable(text), style.width - 4).map((line) => `    ${paint(line, "red", style)}`)
  );
}

function idOf({ segment: { type, id, keyFile } }: Observed): string {
  return `${type} ${id} ${keyFile}`;
}

function nameOf({ segment }: Observed): string {
  return shortened(segment);
}

/** Returns the sum of facts of all parts. */
function total({ parts }: Observed, names: readonly string[]): number {
  const numbers = (facts: Readonly<Record<string, FactValue>>) =>
    names.map((name) => Number(facts[name] ?? 0)).filter(Number.isFinite);
  return parts.flatMap(({ facts }) => numbers(facts)).reduce((sum, value) => sum + value, 0);
}

function rateCell(rate: number | null): Cell {
  return { text: rate === null ? "-" : rateText(rate), right: true };
}

/** Returns a rate in at most five characters. */
export function rateText(rate: number): string {
  if (rate < 10) return rate === 0 ? "0" : rate.toFixed(1);
  for (const unit of ["", "k", "M"]) {
    if (rate < 999.5) return `${rate < 9.95 ? rate.toFixed(1) : Math.round(rate)}${unit}`;
    rate /= 1000;
  }
  return `${Math.round(rate)}G`;
}

/** How many threads wait, for the lock of the segment and for its parts: `2+` is at least two. */
function waitCell({ segment, parts }: Observed): Cell {
  const known = [segment.lock?.waiting ?? 0, ...parts.map(({ waiting }) => waiting ?? 0)]
    .reduce((sum, count) => sum + count, 0);
  const unknown = parts.filter(({ waiting }) => waiting === null).length;
  const text = unknown === 0 ? String(known) : `${known + unknown}+`;
  return { text, right: true, ...text === "0" ? {} : { color: "yellow" as const } };
}

/** Returns who holds the lock of a segment, a mutex or a part of a collection. */
function holdersOf({ lockHolder, parts }: Observed): Holder[] {
  const ofParts = parts.flatMap(({ holders = [] }) => holders);
  return lockHolder === null ? ofParts : [lockHolder, ...ofParts];
}

function heldCell(holders: readonly Holder[]): Cell {
  const isBad = holders.some(isInTrouble);
  return { text: String(holders.length), right: true, ...isBad ? { color: "red" as const } : {} };
}

/** Returns the kinds of the parts, each once: `SharedMap, 2 Mutex`. */
function partsText(parts: readonly Part[]): string {
  const ours = parts.filter(({ kind }) => kind !== "other bytes" && kind !== "Layout");
  const kinds = Map.groupBy(ours, ({ kind }) => kind);
  const texts = [...kinds].map(([kind, { length }]) => length === 1 ? kind : `${length} ${kind}`);
  return texts.length > 3 ? `${texts.slice(0, 2).join(", ")}, …` : texts.join(", ");
}

/** Whether the view may use the whole terminal: both ends are one. */
export function isInteractive(): boolean {
  return process.stdout.isTTY === true && process.stdin.isTTY === true;
}

/** Longer lines end at the edge: each that goes on in the next row would move the others out of their places. */
const [CUT_LINES, WRAP_LINES] = ["\x1b[?7l", "\x1b[?7h"];
const ENTER = `\x1b[?1049h\x1b[?25l${CUT_LINES}`;
const LEAVE = `${WRAP_LINES}\x1b[?25h\x1b[?1049l`;
const HOME = "\x1b[H";
const CLEAR_LINE = "\x1b[K";
const CLEAR_BELOW = "\x1b[J";

export interface TopOptions {
  readonly intervalMs: number;
  readonly once: boolean;
  look(this: void): Promise<Look>;
  style(this: void): Style;
}

/** Shows the view until the user quits; returns the exit code. */
export async function top({ intervalMs, once, look, style }: TopOptions): Promise<number> {
  let before: Look | null = null;
  if (once) {
    before = await look();
    await new Promise((resolve) => setTimeout(resolve, intervalMs));
    console.log(frame(await look(), before, style()).join("\n"));
    return 0;
  }
  const screen = isInteractive() ? new Screen() : null;
  const quit = new Quit(screen !== null);
  let now: Look;
  const draw = () => {
    const text = frame(now, before, style());
    if (screen !== null) screen.draw(text);
    else process.stdout.write(`${text.join("\n")}\n\n`);
  };
  try {
    now = await look();
    screen?.enter(draw);
    while (!quit.isAsked) {
      draw();
      await quit.within(intervalMs);
      if (quit.isAsked) break;
      [before, now] = [now, await look()];
    }
  } finally {
    quit.end();
    screen?.leave();
  }
  return 0;
}

/** The whole terminal, which shows what it did before when the view has ended. */
class Screen {
  #redraw: (() => void) | null = null;

  enter(redraw: () => void): void {
    process.stdout.write(ENTER);
    this.#redraw = redraw;
    process.stdout.on("resize", redraw);
    process.on("exit", this.#restore);
  }

  readonly #restore = () => void process.stdout.write(LEAVE);

  draw(text: readonly string[]): void {
    const rows = process.stdout.rows || 24;
    const hint = "q quits";
    const isCut = text.length > rows - 1;
    const shown = isCut ? text.slice(0, Math.max(0, rows - 2)) : text;
    const last = isCut ? `… ${text.length - shown.length} more lines; ${hint}` : hint;
    process.stdout.write(
      HOME + [...shown, last].map((line) => CLEAR_LINE + line).join("\r\n") + CLEAR_BELOW,
    );
  }

  leave(): void {
    if (this.#redraw === null) return;
    process.stdout.off("resize", this.#redraw);
    process.off("exit", this.#restore);
    this.#restore();
  }
}

const CTRL_C = "\x03";

/** Notes that the user wants to quit: by a key, by a signal, or as nobody reads the output any more. */
class Quit {
  isAsked = false;
  readonly #hasKeys: boolean;
  #wake: () => void = () => {};

  constructor(hasKeys: boolean) {
    this.#hasKeys = hasKeys;
    process.on("SIGINT", this.#ask);
    process.on("SIGTERM", this.#ask);
    process.stdout.on("error", this.#ask); // EPIPE
    if (!hasKeys) return;
    process.stdin.setRawMode(true);
    process.stdin.on("data", this.#onKeys);
    process.stdin.resume();
  }

  readonly #ask = () => {
    this.isAsked = true;
    this.#wake();
  };

  readonly #onKeys = (keys: Uint8Array | string) => {
    const text = typeof keys === "string" ? keys : new TextDecoder().decode(keys);
    if (text.includes("q") || text.includes("Q") || text.includes(CTRL_C)) this.#ask();
  };

  /** Waits, but not longer than until the user wants to quit. */
  async within(ms: number): Promise<void> {
    if (this.isAsked) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      timer = setTimeout(resolve, ms);
    });
    clearTimeout(timer);
  }

  end(): void {
    process.off("SIGINT", this.#ask);
    process.off("SIGTERM", this.#ask);
    if (!this.#hasKeys) return;
    process.stdin.off("data", this.#onKeys);
    process.stdin.setRawMode(false);
    process.stdin.pause();
  }
}
