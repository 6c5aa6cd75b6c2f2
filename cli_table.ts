/** This module turns what `inspect()` returns into tables for people. */
import type {
  Inventory,
  IpcObjectInfo,
  KeyFileInfo,
  ProcessInfo,
  SegmentInfo,
  SemaphoreInfo,
} from "./inspect.ts";
import { keyOf, shortened } from "./observe/names.ts";
import { printable } from "./printable.ts";

export interface Style {
  readonly color: boolean;
  /** The width in columns of the terminal. Wider text is shortened, left out, or put on a line of its own. */
  readonly width: number;
}

export interface Cell {
  readonly text: string;
  readonly color?: keyof typeof COLORS;
  readonly right?: boolean;
}

export const COLORS = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33 } as const;

/** A value is unknown if it belongs to another user or to another pid namespace. */
const UNKNOWN: Cell = { text: "?", color: "dim" };

/** Returns the tables of segments, of semaphores other than their locks, and of key files that lead to no object. */
export function listing(
  { folder, segments, semaphores, keyFiles }: Inventory,
  style: Style,
): string {
  const sections = [
    section("segment", segments, SEGMENT_COLUMNS, style),
    section("semaphore", semaphores, SEMAPHORE_COLUMNS, style),
    section("key file", keyFiles, KEY_FILE_COLUMNS, style),
  ].filter((text) => text !== "");
  if (sections.length === 0) {
    return printable(`There are no objects; the folder of the key files is ${folder}.`);
  }
  const left = [...segments, ...semaphores, ...keyFiles].filter((one) => one.stale && one.isOwn);
  const orphans = left.filter((one) => one.orphan).length;
  const named = left.length - orphans;
  const kept = segments.filter((one) => one.persistent && one.isOwn && one.attached === 0).length;
  const advice = [
    ...kept > 0
      ? [`${kept} without a user kept on purpose: remove KEY removes ${pronoun(kept)}.`]
      : [],
    ...named > 0 ? [`${named} stale: cleanup removes ${pronoun(named)}.`] : [],
    ...orphans > 0
      ? [
        `${orphans} stale, without a key file or another program's: cleanup --orphans removes ${
          pronoun(orphans)
        }.`,
      ]
      : [],
  ];
  const isUnnamed = segments.some((one) => one.stale && one.isOwn && one.keyFile === null);
  const elsewhere =
    `A segment without a key file in ${folder} may be that of programs with another TMPDIR: ` +
    "TMPDIR=FOLDER shared-memory list shows those of a folder.";
  const texts = [...advice, ...isUnnamed ? [elsewhere] : []];
  return [...sections, ...texts.map((text) => wrapped(printable(text), style.width).join("\n"))]
    .join("\n\n");
}

function pronoun(count: number): string {
  return count === 1 ? "it" : "them";
}

/** Returns everything that is known of a few objects, with a line for each detail. */
export function details({ segments, semaphores, keyFiles }: Inventory, style: Style): string {
  const blocks = [
    ...segments.map((one) =>
      block(one, [
        ["size", { text: `${one.size} bytes (${bytes(one.size)})` }],
        ["attached", { text: String(one.attached) }],
        ["mode", { text: octal(one.mode) }],
        ["lifetime", { text: one.persistent ? "until removed" : "until unused" }],
        ["creator", processCell(one.creator)],
        ["last", processCell(one.last)],
        ["lock", lockCell(one)],
        ["lock file", { text: one.lock?.keyFile ?? "none" }],
        ["lock waiting", countCell(one.lock === null ? 0 : one.lock.waiting)],
      ], style)
    ),
    ...semaphores.map((one) =>
      block(one, [
        ["value", countCell(one.value)],
        ["waiting", countCell(one.waiting)],
        ["mode", { text: octal(one.mode) }],
        ["last", processCell(one.last)],
        ["users", { text: one.users.join(", ") || "none is known" }],
      ], style)
    ),
    ...keyFiles.map((one) => block(one, [], style)),
  ];
  return blocks.join("\n\n");
}

/** Returns text in a color, if the style has colors. */
export function paint(text: string, color: keyof typeof COLORS | undefined, style: Style): string {
  return style.color && color !== undefined ? `\x1b[${COLORS[color]}m${text}\x1b[0m` : text;
}

type Thing = SegmentInfo | SemaphoreInfo | KeyFileInfo;
type Columns<T> = Readonly<Record<string, (thing: T) => Cell>>;

const OWNER = {
  OWNER: ({ owner }: IpcObjectInfo): Cell => ({ text: owner.name ?? String(owner.uid) }),
};
const STATE = { STATE: (thing: IpcObjectInfo): Cell => stateCell(thing) };
const ID = { ID: ({ id }: { id: number }): Cell => ({ text: String(id), right: true }) };
const MODE = { MODE: ({ mode }: { mode: number }): Cell => ({ text: octal(mode) }) };

const SEGMENT_COLUMNS: Columns<SegmentInfo> = {
  ...ID,
  SIZE: ({ size }) => ({ text: bytes(size), right: true }),
  ...OWNER,
  ...MODE,
  ATTACHED: ({ attached }) => ({ text: String(attached), right: true }),
  CREATOR: ({ creator }) => processCell(creator),
  LAST: ({ last }) => processCell(last),
  LOCK: lockCell,
  ...STATE,
};

const SEMAPHORE_COLUMNS: Columns<SemaphoreInfo> = {
  ...ID,
  VALUE: ({ value }) => countCell(value),
  WAITING: ({ waiting }) => countCell(waiting),
  ...OWNER,
  ...MODE,
  LAST: ({ last }) => processCell(last),
  ...STATE,
};

const KEY_FILE_COLUMNS: Columns<KeyFileInfo> = { ...OWNER, ...STATE };

function section<T extends Thing>(
  title: string,
  things: readonly T[],
  columns: Columns<T>,
  style: Style,
): string {
  if (things.length === 0) return "";
  const rows = things.map((thing) => Object.values(columns).map((column) => column(thing)));
  const heading = Object.keys(columns).map((text, column): Cell => {
    return { text, color: "dim", right: rows[0]![column]!.right ?? false };
  });
  const table = (name: (thing: IpcObjectInfo) => string) => {
    const names = things.map((thing): Cell =>
      thing.keyFile === null
        ? { text: "(none)", color: "dim" }
        : { text: printable(name(thing)), color: "bold" }
    );
    const first: Cell[] = [{ text: "KEY FILE", color: "dim" }, ...names];
    return [heading, ...rows].map((row, line) => [first[line]!, ...row]);
  };
  const full = table(({ keyFile }) => keyFile!);
  const cells = lineWidth(full) <= style.width ? full : table(shortened);
  const count = things.length === 1 ? `1 ${title}` : `${things.length} ${title}s`;
  const shown = lineWidth(cells) <= style.width ? lines(cells, style) : narrow(cells, style);
  return [paint(count, "bold", style), ...shown].join("\n");
}

/** A table for a narrow terminal leaves out these columns first. The command `show` shows them. */
const LEAST_NEEDED = ["MODE", "CREATOR", "OWNER", "LAST", "ID"];

/** Returns the lines of a table that is too wide: each state stands below its row, and some columns are left out. */
function narrow(rows: readonly (readonly Cell[])[], style: Style): string[] {
  let shown = rows.map((row) => row.slice(0, -1));
  for (const name of LEAST_NEEDED) {
    const at = shown[0]!.findIndex(({ text }) => text === name);
    if (at >= 0 && lineWidth(shown) > style.width) shown = shown.map((row) => row.toSpliced(at, 1));
  }
  const excess = lineWidth(shown) - style.width;
  if (excess > 0) {
    const most = Math.max(LEAST_NAME, columnWidths(shown)[0]! - excess);
    shown = shown.map(([name, ...row]) => [{ ...name!, text: cut(name!.text, most) }, ...row]);
  }
  const [heading, ...others] = lines(shown, style);
  return [
    heading!,
    ...others.flatMap((line, i) => {
      const { text, color } = rows[i + 1]!.at(-1)!;
      return [
        line,
        ...wrapped(printable(text), style.width - 6).map((part) =>
          `      ${paint(part, color, style)}`
        ),
      ];
    }),
  ];
}

/** At least this number of columns of a name is shown: letters of the key, and the end of the name. */
const LEAST_NAME = 20;
/** This number of them is the end of the name: ` 40f8c56c…` distinguishes keys with the same letters. */
const NAME_END = 10;

export function cut(text: string, length: number): string {
  if (widthOf(text) <= length) return text;
  const characters = [...text];
  const begin = fitting(characters, length - NAME_END - 1);
  const end = fitting(characters.toReversed(), NAME_END).toReversed();
  return `${begin.join("")}…${end.join("")}`;
}

/** Returns the first characters that a terminal shows in so many columns. */
function fitting(characters: readonly string[], columns: number): readonly string[] {
  let width = 0;
  const count = characters.findIndex((one) => (width += widthOf(one)) > columns);
  return count === -1 ? characters : characters.slice(0, count);
}

/** Terminals show these characters in two columns: those of East Asia, and emojis. Marks have no column of their own. */
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\ua4cf\ua960-\ua97f\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff01-\uff60\uffe0-\uffe6\u{20000}-\u{3fffd}]|\p{Emoji_Presentation}/gu;
const MARK = /[\p{Mn}\p{Me}]/gu;

/** Returns the number of columns that a text takes in a terminal. */
function widthOf(text: string): number {
  const shown = text.replace(MARK, "");
  return [...shown].length + (shown.match(WIDE)?.length ?? 0);
}

/** Splits text into lines of at most `width` columns. A longer word stays whole, so that it can be copied. */
export function wrapped(text: string, width: number): string[] {
  const found: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && widthOf(line) + 1 + widthOf(word) > width) {
      found.push(line);
      line = "";
    }
    line = line === "" ? word : `${line} ${word}`;
  }
  return [...found, line];
}

function block(thing: Thing, more: readonly [string, Cell][], style: Style): string {
  const { kind, keyFile, nativeKey, owner } = thing;
  const key = keyOf(thing);
  const known: [string, Cell][] = key === null ? [] : [["key", { text: key }]];
  const title = kind === "key file" ? kind : `${kind} ${thing.id}`;
  const cells: readonly [string, Cell][] = [
    ["state", stateCell(thing)],
    ...known,
    ["key file", { text: keyFile ?? "none" }],
    ["native key", { text: nativeKey ?? "not known" }],
    ["owner", {
      text: owner.name === null ? `uid ${owner.uid}` : `${owner.name} (uid ${owner.uid})`,
    }],
    ...more,
  ];
  const rows = cells.map(([name, cell]): Cell[] => {
    return [{ text: name, color: "dim" }, { ...cell, right: false }];
  });
  const names = columnWidths(rows)[0]! + 4;
  const text = rows.flatMap(([name, cell]) => {
    const value = printable(cell!.text);
    const label = `  ${paint(name!.text, name!.color, style)}`;
    const longest = Math.max(...value.split(" ").map(widthOf));
    // A path that is too long for its place gets a line of its own.
    const isBelow = names + longest > style.width;
    const indent = isBelow ? 4 : names;
    const parts = wrapped(value, style.width - indent).map((part) =>
      paint(part, cell!.color, style)
    );
    const first = isBelow
      ? label
      : label + " ".repeat(names - 2 - name!.text.length) + parts.shift();
    return [first, ...parts.map((part) => " ".repeat(indent) + part)];
  });
  return [paint(title, "bold", style), ...text].join("\n");
}

/** Returns the rows as lines with aligned cells. */
export function lines(cells: readonly (readonly Cell[])[], style: Style): string[] {
  const rows = cells.map((row) => row.map((cell) => ({ ...cell, text: printable(cell.text) })));
  const widths = columnWidths(rows);
  return rows.map((row) => {
    const cells = row.map(({ text, color, right }, column) => {
      const isLast = column === row.length - 1;
      const space = " ".repeat(isLast && !right ? 0 : widths[column]! - widthOf(text));
      const painted = paint(text, color, style);
      return right ? space + painted : painted + space;
    });
    return `  ${cells.join("  ")}`;
  });
}

export function columnWidths(rows: readonly (readonly Cell[])[]): number[] {
  return rows[0]!.map((_, column) => Math.max(...rows.map((row) => widthOf(row[column]!.text))));
}

export function lineWidth(rows: readonly (readonly Cell[])[]): number {
  return columnWidths(rows).reduce((sum, width) => sum + width + 2, 0);
}

function stateCell({ stale, isOwn, reason }: IpcObjectInfo): Cell {
  if (stale) return { text: `stale: ${reason}`, color: isOwn ? "yellow" : "dim" };
  return { text: reason, color: "green" };
}

function processCell(process: ProcessInfo | null): Cell {
  if (process === null) return UNKNOWN;
  if (process.alive) return { text: String(process.pid) };
  return { text: `${process.pid} ended`, color: "dim" };
}

function lockCell({ lock }: SegmentInfo): Cell {
  if (lock === null) return { text: "none", color: "dim" };
  const { value, holder } = lock;
  if (value === null) return UNKNOWN;
  if (value === 1) return { text: "free" };
  if (value > 1) return { text: `broken: value ${value}`, color: "red" };
  if (holder === null) return { text: "held", color: "yellow" };
  const { text } = processCell(holder);
  return { text: `held by ${text}`, color: holder.alive ? "yellow" : "red" };
}

function countCell(count: number | null): Cell {
  return count === null ? { ...UNKNOWN, right: true } : { text: String(count), right: true };
}

function octal(mode: number): string {
  return mode.toString(8).padStart(4, "0");
}

/** Returns a size in the largest unit in which the number is at least 1. */
export function bytes(size: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; size >= 1024 && unit < units.length - 1; unit++) size /= 1024;
  return `${Number.isInteger(size) ? size : size.toFixed(1)} ${units[unit]}`;
}
