/**
 * A declaration as text: one line for each member, `hits: Counter v1, 24 bytes at 0`. The text is the whole of what
 * programs have to agree about, so two declarations are the same if and only if their texts are.
 */

/** Where a member lies, and what it is. */
export interface Place {
  readonly name: string;
  readonly kind: string;
  readonly bytes: number;
  /** How far it lies behind the header of the layout, in bytes. */
  readonly offset: number;
}

/** A member that differs. */
export interface Difference {
  readonly member: string;
  /** What this program declares. */
  readonly declared: string;
  /** What is there. */
  readonly found: string;
}

/** Texts that are longer are shown from where they differ, and not to their end. */
const SHOWN_MAX = 60;

/** Returns the text of a declaration. */
export function textOf(places: readonly Place[]): string {
  return places
    .map(({ name, kind, bytes, offset }) => `${name}: ${kind}, ${bytes} bytes at ${offset}`)
    .join("\n");
}

/** Returns the members that a text declares; `null` if it is not the text of a declaration. */
export function placesOf(text: string): Place[] | null {
  const places = text.split("\n").map((line) => {
    const [, name, kind, bytes, offset] = /^([^:]*): (.*), (\d+) bytes at (\d+)$/.exec(line) ?? [];
    return { name: name ?? "", kind: kind ?? "", bytes: Number(bytes), offset: Number(offset) };
  });
  const isWhole = places.every(({ bytes, offset }) =>
    Number.isSafeInteger(bytes) && Number.isSafeInteger(offset)
  );
  return isWhole ? places : null;
}

/** Returns the members in which another declaration differs. It accepts any text. */
export function differencesOf(declaration: string, other: string): Difference[] {
  const [here, there] = [parsed(declaration), parsed(other)];
  const differences: Difference[] = [];
  for (const member of new Set([...here.keys(), ...there.keys()])) {
    const [declared, found] = [here.get(member)?.kind, there.get(member)?.kind];
    if (declared === found) continue;
    differences.push({ member, ...shortened(declared ?? "nothing", found ?? "nothing") });
  }
  return differences.length > 0 ? differences : moved(here, there);
}

/** Returns the members that lie elsewhere in two declarations whose members are the same. */
function moved(here: Members, there: Members): Difference[] {
  return [...here].flatMap(([member, { offset }]) => {
    const other = there.get(member)!.offset;
    if (other === offset) return [];
    return [{ member, declared: `it at byte ${offset}`, found: `it at byte ${other}` }];
  });
}

type Members = ReadonlyMap<string, { readonly kind: string; readonly offset: string }>;

function parsed(text: string): Members {
  return new Map(
    text.split("\n").map((line) => {
      const [, name, kind, offset] = /^([^:]*): (.*) at (\d+)$/.exec(line) ?? [];
      return [name ?? line, { kind: kind ?? "", offset: offset ?? "" }];
    }),
  );
}

/** Returns both texts as messages show them: long ones without what they have in common at the beginning. */
function shortened(declared: string, found: string): Omit<Difference, "member"> {
  let same = 0;
  while (same < declared.length && declared[same] === found[same]) same++;
  const word = declared.slice(0, same).search(/[^\s,{]*$/);
  const shown = (text: string) => {
    if (text.length <= SHOWN_MAX) return text;
    const end = word + SHOWN_MAX;
    return (word > 0 ? "…" : "") + text.slice(word, end) + (end < text.length ? "…" : "");
  };
  return { declared: shown(declared), found: shown(found) };
}
