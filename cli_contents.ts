/** This module turns what lies in a segment into text for people. */
import type { Contents } from "./observe/observer.ts";
import type { FactValue, Holder, Part } from "./observe/types.ts";
import {
  bytes,
  type Cell,
  cut,
  lines,
  lineWidth,
  paint,
  type Style,
  wrapped,
} from "./cli_table.ts";
import { printable } from "./printable.ts";

/** These facts are sizes in bytes. */
const SIZES = ["bytes", "recordBytes"];
/** Counts of what need not happen, which are left out while they are 0. */
const RARE = [
  ...["evicted", "expired", "recovered", "noRoom", "received", "cleared", "dropped"],
  ...["retried", "returned", "late", "waiters"],
];
/** Up to this length, a fact is not split into two lines. */
const UNSPLIT = 20;
/** A name is shortened to this number of columns where the terminal is narrow. */
const LEAST_NAME = 12;
/** What is known of a part stands on lines of its own, indented by this, where the terminal is narrow. */
const INDENT = 6;
const LEAST_FACTS = 24;

/** Returns the parts of a segment, one a line, with what is known of each. */
export function contentsText({ parts, searched, problem }: Contents, size: number, style: Style) {
  const title = paint("contents", "bold", style);
  if (problem !== null) return `${title}\n  ${problem}`;
  if (parts.length === 0 && searched >= size) return `${title}\n  none that this module knows`;
  const heads = parts.map(headOf);
  const names: Cell[] = ["OFFSET", "BYTES", "NAME", "KIND"].map((text, column) => {
    return { text, color: "dim", right: column < 2 };
  });
  const rows = [names, ...heads];
  const most = Math.max(LEAST_NAME, style.width - lineWidth(rows.map((row) => blankName(row))) - 2);
  const shown = rows.map((row) =>
    row.map((cell, i) => i === 2 ? { ...cell, text: cut(cell.text, most) } : cell)
  );
  const isBeside = style.width - lineWidth(shown) - 2 >= LEAST_FACTS;
  const padded = isBeside ? shown.map((row) => [...row, { text: "" }]) : shown;
  const [heading, ...left] = lines(padded, style);
  const indent = isBeside ? lineWidth(shown) + 2 : INDENT;
  const text = left.flatMap((line, i) => {
    const facts = factLines(parts[i]!, style, indent);
    if (!isBeside) return [line.trimEnd(), ...facts.map((fact) => " ".repeat(indent) + fact)];
    const [first = "", ...rest] = facts;
    return [`${line}${first}`.trimEnd(), ...rest.map((fact) => " ".repeat(indent) + fact)];
  });
  const unsearched = searched < size
    ? [`  The first ${bytes(searched)} were searched for parts.`]
    : [];
  return [title, heading!.trimEnd(), ...text, ...unsearched].join("\n");
}

function blankName(row: readonly Cell[]): Cell[] {
  return row.map((cell, i) => i === 2 ? { text: "" } : cell);
}

function headOf({ kind, name, offset, bytes }: Part): Cell[] {
  return [
    { text: String(offset), right: true },
    { text: String(bytes), right: true },
    name === null ? { text: "-", color: "dim" } : { text: name, color: "bold" },
    { text: kind, ...kind === "other bytes" ? { color: "dim" as const } : {} },
  ];
}

/** Returns what is known of a part, as lines that fit beside or below its name. */
function factLines(part: Part, style: Style, indent: number): string[] {
  const { facts, values = {}, problem } = part;
  const width = style.width - indent;
  const held = (part.holders ?? []).map((holder) => `held by ${holderText(holder)}`);
  const waiting = waitingText(part.waiting);
  const texts = [
    ...Object.entries(facts).filter(([name, value]) => isShown(name, value, held.length > 0))
      .map(([name, value]) => factText(name, value, facts)),
    ...held,
    ...stoppedMembers(part).map((member) => `stopped: ${holderText(member)}`),
    ...waiting === "" ? [] : [waiting],
  ];
  const color = [...part.holders ?? [], ...part.members ?? []].some(isInTrouble)
    ? "yellow"
    : undefined;
  return [
    ...texts.length === 0 ? [] : painted(unsplit(texts).join(", "), color, style, width),
    ...Object.entries(values).flatMap(([name, value]) =>
      painted(`${JSON.stringify(name)} ${value}`, undefined, style, width)
    ),
    ...problem === undefined ? [] : painted(problem, "red", style, width),
  ];
}

function isShown(name: string, value: FactValue, isHeld: boolean): boolean {
  if (name === "capacity" || name === "closed" && value === "no") return false;
  return !(name === "state" && isHeld) && !(RARE.includes(name) && value === 0);
}

const NO_BREAK = "\u00a0";

function unsplit(texts: readonly string[]): string[] {
  return texts.map((text) => text.length > UNSPLIT ? text : text.replaceAll(" ", NO_BREAK));
}

function painted(text: string, color: Cell["color"], style: Style, width: number): string[] {
  return wrapped(printable(text), width).map((line) =>
    paint(line.replaceAll(NO_BREAK, " "), color, style)
  );
}

/** Returns the members of a queue whose processes are stopped, each process once. */
export function stoppedMembers({ members = [] }: Part): Holder[] {
  const stopped = members.filter(isInTrouble);
  return [...new Map(stopped.map((member) => [member.pid, member])).values()];
}

/** Whether a holder will not release what it holds by itself. */
export function isInTrouble({ state }: Holder): boolean {
  return state === "stopped" || state === "dead";
}

/** Returns a process as a text: `process 123 (node server.js), stopped`. */
export function holderText({ pid, command, state }: Holder): string {
  if (state === "elsewhere") return `process ${pid} of another container`;
  const name = command === null ? `process ${pid}` : `process ${pid} (${command})`;
  return state === null ? name : `${name}, ${state}`;
}

/** Returns how many threads wait, as a text; `""` if none do. */
export function waitingText(waiting: number | null | undefined): string {
  if (waiting === null) return "threads wait";
  return waiting === undefined || waiting === 0 ? "" : `${waiting} waiting`;
}

function factText(name: string, value: FactValue, { capacity }: Part["facts"]): string {
  if (name === "state" || name === "content") return String(value);
  if (name === "abandoned") return `abandoned: ${value}`;
  if (name === "bytes" && typeof capacity === "number") {
    return `${bytes(Number(value))} of ${bytes(capacity)}`;
  }
  if (SIZES.includes(name)) return `${bytes(Number(value))}${name === "bytes" ? "" : " a record"}`;
  const words = name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
  return `${words} ${value}`;
}
