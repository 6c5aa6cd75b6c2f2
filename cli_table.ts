/** Tables for people: what `inspect()` returns, as text. */
import type {
  Inventory,
  KeyFileInfo,
  ProcessInfo,
  SegmentInfo,
  SemaphoreInfo,
  ThingInfo,
} from "./inspect.ts";

export interface Style {
  readonly color: boolean;
  /** In characters; the names of key files are shortened if a table would be wider. */
  readonly width: number;
}

interface Cell {
  readonly text: string;
  readonly color?: keyof typeof COLORS;
  readonly right?: boolean;
}

const COLORS = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33 } as const;

/** Nothing is known of another user's, nor across pid namespaces. */
const UNKNOWN: Cell = { text: "?", color: "dim" };

/** The tables of segments, of semaphores that are no lock of these, and of files that lead to nothing. */
export function listing(
  { folder, segments, semaphores, keyFiles }: Inventory,
  style: Style,
): string {
  const sections = [
    section("segment", segments, SEGMENT_COLUMNS, style),
    section("semaphore", semaphores, SEMAPHORE_COLUMNS, style),
    section("key file", keyFiles, KEY_FILE_COLUMNS, style),
  ].filter((text) => text !== "");
  if (sections.length === 0) return `Nothing is there; the folder of the key files is ${folder}.`;
  const left = [...segments, ...semaphores, ...keyFiles].filter((one) => one.stale && one.isOwn);
  const orphans = left.filter((one) => one.orphan).length;
  const named = left.length - orphans;
  const advice = [
    ...named > 0 ? [`${named} stale: cleanup removes that.`] : [],
    ...orphans > 0
      ? [
        `${orphans} stale, without a key file or another program's: cleanup --orphans removes that.`,
      ]
      : [],
  ];
  return [...sections, ...advice].join("\n\n");
}

/** All that is known of a few things, a line each. */
export function details({ segments, semaphores, keyFiles }: Inventory, style: Style): string {
  const blocks = [
    ...segments.map((one) =>
      block(one, [
        ["size", { text: `${one.size} bytes (${bytes(one.size)})` }],
        ["attached", { text: String(one.attached) }],
        ["mode", { text: octal(one.mode) }],
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

/** Text in a color, where there are colors. */
export function paint(text: string, color: keyof typeof COLORS | undefined, style: Style): string {
  return style.color && color !== undefined ? `\x1b[${COLORS[color]}m${text}\x1b[0m` : text;
}

type Thing = SegmentInfo | SemaphoreInfo | KeyFileInfo;
type Columns<T> = Readonly<Record<string, (thing: T) => Cell>>;

const OWNER = {
  OWNER: ({ owner }: ThingInfo): Cell => ({ text: owner.name ?? String(owner.uid) }),
};
const STATE = { STATE: (thing: ThingInfo): Cell => stateCell(thing) };
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
  const table = (name: (path: string) => string) => {
    const names = things.map(({ keyFile }): Cell =>
      keyFile === null ? { text: "(none)", color: "dim" } : { text: name(keyFile), color: "bold" }
    );
    const first: Cell[] = [{ text: "KEY FILE", color: "dim" }, ...names];
    return [heading, ...rows].map((row, line) => [first[line]!, ...row]);
  };
  const full = table((path) => path);
  const cells = lineWidth(full) <= style.width ? full : table(shortened);
  const count = things.length === 1 ? `1 ${title}` : `${things.length} ${title}s`;
  const shown = lineWidth(cells) <= style.width ? lines(cells, style) : narrow(cells, style);
  return [paint(count, "bold", style), ...shown].join("\n");
}

/** What a narrow terminal does without first; `show` has it. */
const LEAST_NEEDED = ["MODE", "CREATOR", "OWNER", "LAST", "ID"];

/** A table that is too wide: the state of each thing stands below its row, and some columns are left out. */
function narrow(rows: readonly (readonly Cell[])[], style: Style): string[] {
  let shown = rows.map((row) => row.slice(0, -1));
  for (const name of LEAST_NEEDED) {
    const at = shown[0]!.findIndex(({ text }) => text === name);
    if (at >= 0 && lineWidth(shown) > style.width) shown = shown.map((row) => row.toSpliced(at, 1));
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

/** Text in lines of at most `width` characters, cut between words where that can be. */
function wrapped(text: string, width: number): string[] {
  const found: string[] = [];
  let line = "";
  for (
    const word of text.split(" ").flatMap((word) =>
      word.match(new RegExp(`.{1,${width}}`, "gu")) ?? []
    )
  ) {
    if (line !== "" && line.length + 1 + word.length > width) {
      found.push(line);
      line = "";
    }
    line = line === "" ? word : `${line} ${word}`;
  }
  return [...found, line];
}

/** Text without what a terminal would obey or show in another order: anybody may name a file so. */
export function printable(text: string): string {
  return text.replace(
    /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/gu,
    (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`,
  );
}

function block(thing: Thing, more: readonly [string, Cell][], style: Style): string {
  const { kind, keyFile, nativeKey, owner } = thing;
  const title = kind === "key file" ? kind : `${kind} ${thing.id}`;
  const cells: readonly [string, Cell][] = [
    ["state", stateCell(thing)],
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
  return [paint(title, "bold", style), ...lines(rows, style)].join("\n");
}

/** Rows as lines, their cells aligned. */
function lines(cells: readonly (readonly Cell[])[], style: Style): string[] {
  const rows = cells.map((row) => row.map((cell) => ({ ...cell, text: printable(cell.text) })));
  const widths = columnWidths(rows);
  return rows.map((row) => {
    const cells = row.map(({ text, color, right }, column) => {
      const isLast = column === row.length - 1;
      const space = " ".repeat(isLast && !right ? 0 : widths[column]! - text.length);
      const painted = paint(text, color, style);
      return right ? space + painted : painted + space;
    });
    return `  ${cells.join("  ")}`;
  });
}

function columnWidths(rows: readonly (readonly Cell[])[]): number[] {
  return rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.text.length)));
}

function lineWidth(rows: readonly (readonly Cell[])[]): number {
  return columnWidths(rows).reduce((sum, width) => sum + width + 2, 0);
}

/** `/tmp/qipc_sharedmemory_visits0123456789…` as `visits 01234567…`. */
function shortened(path: string): string {
  const [, kind, letters, hash] = /qipc_(\w+?)_([A-Za-z]*?)([0-9a-f]{40})$/.exec(path) ?? [];
  if (hash === undefined) return path;
  const name = kind === "creating" ? "(unfinished)" : letters;
  return `${name} ${hash.slice(0, 8)}…`.trimStart();
}

function stateCell({ stale, isOwn, reason }: ThingInfo): Cell {
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

/** A size in the largest unit that leaves a number of at least 1. */
export function bytes(size: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; size >= 1024 && unit < units.length - 1; unit++) size /= 1024;
  return `${Number.isInteger(size) ? size : size.toFixed(1)} ${units[unit]}`;
}
