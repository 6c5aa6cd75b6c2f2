import {
  ALIGNMENT_MAX,
  CACHE_LINE,
  HASH,
  LENGTH_WORD,
  TEXT,
  TEXT_BYTES_MAX,
} from "../collections/layout.ts";
import { placesOf } from "../collections/layout_text.ts";
import type { Peek } from "../backends/peek_types.ts";
import { hashOf } from "../sync/fnv1a.ts";
import { HEADER_BYTES, kindName, MAGIC, MAKING, PrimitiveKind, VERSION } from "../sync/slot.ts";
import { DESCRIBERS } from "./describers.ts";
import { bytesOf, roomOf, wordsOf } from "./reading.ts";
import type { Part, Place, Steps } from "./types.ts";

/** Of a segment, at most this number of bytes is searched for primitives. */
const SEARCHED_MAX = 64 * 2 ** 20;
/** The number of bytes that is searched at once. */
const CHUNK_BYTES = 2 ** 16;
/** At most this number of parts is listed: bytes that were overwritten may look like many. */
const PARTS_MAX = 1000;
/** Layouts in layouts are looked at to this depth. */
const DEPTH_MAX = 8;

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** Where a part lies, and what it is. A segment is searched only once for them. */
export interface Found {
  readonly name: string | null;
  readonly kind: string;
  readonly offset: number;
  readonly bytes: number;
  /** The kind of a primitive or collection, by which it is described; 0 if it is something else. */
  readonly number: number;
  /** What is wrong with it. */
  readonly problem?: string;
  /** What else is known of it. */
  readonly facts?: Part["facts"];
}

/** What a search has found. */
export interface Search {
  readonly found: readonly Found[];
  /** The number of bytes at the beginning of the segment that were searched. */
  readonly searched: number;
}

/**
 * Finds what lies in a segment: members of layouts by the text of the layout, and everything else by its header. It
 * yields after each piece of work.
 */
export function* search(peek: Peek): Steps<Search> {
  const found: Found[] = [];
  const searched = Math.min(peek.size, SEARCHED_MAX);
  let end = 0; // of the last part
  for (let begin = 0; begin < searched && found.length < PARTS_MAX;) {
    const length = chunkAt(begin, searched);
    const isTouched = peek.isTouched(begin, length);
    const at = isTouched ? nextHeader(peek, begin, begin + length) : -1;
    const part = at < 0 ? null : headerAt({ peek, begin: at, end: peek.size });
    if (part !== null) {
      addOthers(peek, end, at, found);
      if (part.number === PrimitiveKind.Layout) yield* addLayout(peek, part, found);
      else found.push(part);
      end = at + part.bytes;
      begin = Math.ceil(end / 8) * 8;
    } else if (at >= 0) begin = at + 8;
    else begin += length;
    yield;
  }
  addOthers(peek, end, searched, found);
  return { found, searched };
}

/**
 * Returns the size of the chunk that begins at a byte. It does not go beyond the end of a page in which the next one
 * begins, since to read a page is to touch it.
 */
function chunkAt(begin: number, end: number): number {
  return Math.min(CHUNK_BYTES - begin % CHUNK_BYTES, end - begin);
}

/** Returns where the next word is that a header could begin with, or -1. */
function nextHeader(peek: Peek, begin: number, end: number): number {
  const bytes = peek.read(begin, end - begin);
  const words = new Int32Array(bytes.buffer, 0, Math.floor(bytes.length / 4));
  for (let i = 0; i < words.length; i += 2) {
    if (words[i] === MAGIC || words[i] === MAKING) return begin + 4 * i;
  }
  return -1;
}

/** Adds bytes between two parts, unless they only fill the room up to the next cache line. */
function addOthers(peek: Peek, begin: number, end: number, found: Found[]): void {
  if (end - begin < CACHE_LINE) return;
  found.push({
    name: null,
    kind: "other bytes",
    offset: begin,
    bytes: end - begin,
    number: 0,
    facts: { content: hasData(peek, begin, end) ? "not of this module" : "zeros" },
  });
}

function hasData(peek: Peek, begin: number, end: number): boolean {
  for (let at = begin, length = 0; at < end; at += length) {
    length = chunkAt(at, end);
    if (peek.isTouched(at, length) && peek.read(at, length).some((byte) => byte !== 0)) return true;
  }
  return false;
}

/** Reads the header at the beginning of a place; returns `null` if it is none, or none that fits the place. */
function headerAt(place: Place): Found | null {
  const [magic, word] = wordsOf(place, 0, 4) as unknown as [number, number];
  const number = word & 0xff;
  if (!isHeader(magic) || (word >>> 8 & 0xff) !== VERSION || !isKind(number)) return null;
  const head = { name: null, kind: kindName(number), offset: place.begin, number } as const;
  if (magic === MAKING) {
    const problem = "a process is creating it, or was killed while it did";
    return { ...head, bytes: HEADER_BYTES, number: 0, problem };
  }
  if (number === PrimitiveKind.Layout) {
    const layout = layoutAt(place);
    return layout === null ? null : { ...head, bytes: layout.end - place.begin };
  }
  const { alignment, sizeOf } = DESCRIBERS.get(number)!;
  const bytes = place.begin % alignment === 0 ? sizeOf(place) : null;
  return bytes === null ? null : { ...head, bytes };
}

function isKind(number: number): boolean {
  return number === PrimitiveKind.Layout || DESCRIBERS.has(number);
}

/** A layout, and its members where they lie in the segment. */
interface FoundLayout {
  readonly end: number;
  readonly members: readonly (Pick<Found, "kind" | "offset" | "bytes"> & { name: string })[];
}

function layoutAt(place: Place): FoundLayout | null {
  const length = wordsOf(place, 0, 4)[LENGTH_WORD]!;
  if (!(length >= 1 && length <= TEXT_BYTES_MAX && TEXT + length <= roomOf(place))) return null;
  const bytes = bytesOf(place, TEXT, length);
  if (hashOf(bytes) !== new BigUint64Array(bytesOf(place, HASH, 8).buffer)[0]) return null;
  const members = placesOf(decoder.decode(bytes));
  if (members === null) return null;
  const last = Math.max(...members.map(({ offset, bytes }) => offset + bytes));
  // The text does not say the largest alignment of its members, which is that of a cache line as a rule.
  const primitives = members.filter(({ kind }) => isPrimitive(kind)).length;
  let best: FoundLayout | null = null;
  let most = -1;
  for (let alignment = CACHE_LINE; alignment <= ALIGNMENT_MAX; alignment *= 2) {
    const begin = Math.ceil((TEXT + length) / alignment) * alignment;
    if (begin + last > roomOf(place)) break;
    const placed = members.map(({ offset, ...rest }) => {
      return { ...rest, offset: place.begin + begin + offset };
    });
    const headers = placed.filter((member) => {
      return isPrimitive(member.kind) && isHeader(wordsOf(placeOf(place.peek, member), 0, 1)[0]!);
    });
    if (headers.length <= most) continue;
    most = headers.length;
    best = { end: place.begin + begin + last, members: placed };
    if (most === primitives) break;
  }
  return best;
}

function isHeader(word: number): boolean {
  return word === MAGIC || word === MAKING;
}

function placeOf(peek: Peek, { offset, bytes }: Pick<Found, "offset" | "bytes">): Place {
  return { peek, begin: offset, end: Math.min(offset + bytes, peek.size) };
}

/** Whether the text of a member is that of a primitive or collection, which has a header: `Counter v1`. */
function isPrimitive(kind: string): boolean {
  return / v\d+$/.test(kind) || kind.startsWith("{");
}

function* addLayout(peek: Peek, part: Found, found: Found[], depth = 0): Steps<void> {
  const layout = layoutAt(placeOf(peek, part));
  found.push({ ...part, number: 0, facts: { members: layout?.members.length ?? 0 } });
  for (const member of layout?.members ?? []) {
    if (found.length >= PARTS_MAX) return;
    const name = part.name === null ? member.name : `${part.name}.${member.name}`;
    const { kind, offset, bytes } = member;
    if (!isPrimitive(kind)) {
      found.push({ name, kind, offset, bytes, number: 0 });
      continue;
    }
    const header = headerAt(placeOf(peek, member));
    if (header === null) {
      const problem = "its header has been overwritten";
      found.push({ name, kind: shortKind(kind), offset, bytes, number: 0, problem });
    } else if (header.number === PrimitiveKind.Layout && depth < DEPTH_MAX) {
      yield* addLayout(peek, { ...header, name }, found, depth + 1);
    } else found.push({ ...header, name, kind: shortKind(kind), bytes });
    yield;
  }
}

/** Returns the name of the class in the text of a member. */
function shortKind(kind: string): string {
  return kind.startsWith("{") ? "Layout" : /^\w+/.exec(kind)?.[0] ?? kind;
}

/** Describes what a search has found, as it is now. It yields after each piece of work. */
export function* describeAll(peek: Peek, found: readonly Found[]): Steps<Part[]> {
  const parts: Part[] = [];
  for (const { name, kind, offset, bytes, number, problem, facts = {} } of found) {
    const place = placeOf(peek, { offset, bytes });
    const head = { name, kind, offset, bytes };
    const describer = DESCRIBERS.get(number);
    if (describer === undefined) {
      parts.push({ ...head, facts, ...problem === undefined ? {} : { problem } });
    } else if (headerAt(place)?.number !== number) {
      parts.push({ ...head, facts, problem: "its header has been overwritten" });
    } else {
      parts.push({ ...head, ...yield* describer.describe(place) });
    }
    yield;
  }
  return parts;
}
