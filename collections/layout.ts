import { IpcError, SharedMemoryException } from "../errors.ts";
import type { NativeIpcKey } from "../native_ipc_key.ts";
import { SharedMemory } from "../shared_memory.ts";
import { checkBoolean, checkFunction, checkOptions } from "../core/arguments.ts";
import { mayAdopt, type OpenOptions } from "../core/open_options.ts";
import { SyncError } from "../sync/errors.ts";
import { hashOf } from "../sync/fnv1a.ts";
import type { LayoutMember } from "../sync/layout_member.ts";
import { PrimitiveKind, Slot } from "../sync/slot.ts";
import { differencesOf, type Place, textOf } from "./layout_text.ts";
import { openCall } from "./opening.ts";
import { WrongLayout } from "./wrong_layout.ts";

/** The header of a primitive precedes the hash of the declaration and the declaration's text. */
export const LENGTH_WORD = 2;
export const [HASH, TEXT] = [16, 24];

/** A message shows at most this number of members that differ. */
const SHOWN_DIFFERENCES = 3;
export const TEXT_BYTES_MAX = 2 ** 16;
export const ALIGNMENT_MAX = 4096;
/** Each member begins on a cache line of its own, so that processors which use different members do not disturb each other. */
export const CACHE_LINE = 64;

const IDENTIFIER = /^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u;
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** A declaration has the names and members of a layout, in their order in memory. */
export type LayoutMembers = Readonly<Record<string, LayoutMember<unknown>>>;

/** The object with which a program uses a member. For a layout, `LayoutValue<typeof Shape>`, it has all members. */
export type LayoutValue<Member> = Member extends LayoutMember<infer Value> ? Value : never;

/** These are the objects of a layout's members, each under the name of the member. */
export type LayoutOf<Members extends LayoutMembers> = {
  readonly [Name in keyof Members]: LayoutValue<Members[Name]>;
};

/** What {@linkcode Layout.open} returns: the members, and the segment in which they are. */
export type OpenLayout<Members extends LayoutMembers> = LayoutOf<Members> & Disposable & {
  /** The segment. Its lock is free for the program to use. Disposal of the layout detaches it. */
  readonly memory: SharedMemory;
};

/** How {@linkcode Layout.open} opens a segment: as {@linkcode SharedMemory.open} does, whose options these are. */
export interface LayoutOptions<Members extends LayoutMembers>
  extends Omit<OpenOptions, "size" | "mode" | "initialize" | "adopt"> {
  /**
   * Gives the members of a new segment their first values. Other processes find the segment only after this function
   * has returned. It is not called when attaching. If it throws, no segment is created.
   */
  readonly initialize?: ((shared: LayoutOf<Members>) => void) | undefined;
  /**
   * Checks or repairs the members of a segment that stayed without a process, because of its `lifetime` or of `stale`.
   * Its mutexes have been made anew before. Other processes that may adopt it, too, find the segment only after this
   * function has returned; one that opens it without such an option, or with the disposition `"attach"`, does not wait.
   */
  readonly adopt?: ((shared: LayoutOf<Members>) => void) | undefined;
  /**
   * Whether a segment with other or damaged contents is replaced by a new one if no other process is attached to it.
   * If one is, the call throws as it does without this option.
   */
  readonly replace?: boolean | undefined;
}

/** Makes a layout, whose constructor is private. */
let create: <Members extends LayoutMembers>(members: Members) => Layout<Members>;

/** A member at its place. */
interface PlacedMember extends Place {
  readonly member: LayoutMember<unknown>;
}

/**
 * A layout places primitives and typed arrays in one segment. {@linkcode layout} makes one of a declaration.
 *
 * The segment begins with a header that has the text of the declaration and its hash. A program whose declaration has
 * another name, kind, parameter, version or order gets a {@linkcode WrongLayout}.
 *
 * A layout is a {@linkcode LayoutMember} itself, so that one can be a member of another.
 */
export class Layout<const Members extends LayoutMembers>
  implements LayoutMember<LayoutOf<Members>> {
  /** The layout takes this number of bytes. */
  readonly BYTES: number;
  /** The layout must begin at a multiple of this number of bytes in the segment. */
  readonly ALIGNMENT: number;
  /** The declaration as one line of text. */
  readonly KIND: string;
  /** The hash of the declaration, 16 hexadecimal digits. In a key it gives each declaration a segment of its own. */
  readonly HASH: string;
  readonly #members: readonly PlacedMember[];
  readonly #text: string;
  readonly #bytes: Uint8Array;
  readonly #hash: bigint;
  /** The size of the header with the text. */
  readonly #begin: number;

  static {
    create = (members) => new Layout(members);
  }

  private constructor(members: Members) {
    const { placed, end, alignment } = place(members);
    this.#members = placed;
    this.#text = textOf(placed);
    this.#bytes = encoder.encode(this.#text);
    if (this.#bytes.length > TEXT_BYTES_MAX) {
      throw new RangeError(
        `layout: the declaration takes ${this.#bytes.length} bytes as text; at most ${TEXT_BYTES_MAX} are possible`,
      );
    }
    this.#hash = hashOf(this.#bytes);
    this.#begin = aligned(TEXT + this.#bytes.length, alignment);
    this.ALIGNMENT = alignment;
    this.BYTES = this.#begin + end;
    if (!Number.isSafeInteger(this.BYTES)) {
      throw new RangeError("layout: the members take 2^53 bytes or more");
    }
    this.KIND = `{${this.#text.replaceAll("\n", "; ")}}`;
    this.HASH = this.#hash.toString(16).padStart(16, "0");
  }

  /**
   * Creates the layout with all its members in a segment, in bytes that are zeros, as they are in a new segment.
   *
   * @param view a view of an attached segment
   * @param byteOffset where the layout begins in the view, in bytes
   * @throws {SyncError} `AlreadyExists` if the place is in use already, `NotAttached` if the segment is not attached,
   * `ReadOnly` if it is attached `ReadOnly`
   * @throws {TypeError | RangeError} if `view` is not a view, or `byteOffset` is misaligned or leaves too little room
   */
  create(view: ArrayBufferView, byteOffset = 0): LayoutOf<Members> {
    const call = "layout.create";
    const slot = new Slot(call, view, byteOffset, this.ALIGNMENT);
    slot.require(call, this.BYTES);
    let values: LayoutOf<Members> | undefined;
    slot.make(call, PrimitiveKind.Layout, this.#begin, () => {
      slot.words[LENGTH_WORD] = this.#bytes.length;
      slot.view(BigUint64Array, HASH, 1)[0] = this.#hash;
      slot.view(Uint8Array, TEXT, this.#bytes.length).set(this.#bytes);
      values = this.#values(call, slot, (member, bytes) => member.create(bytes, 0));
    });
    return values!;
  }

  /**
   * Returns the objects for a layout that exists in a segment.
   *
   * @param view a view of an attached segment
   * @param byteOffset where the layout begins in the view, in bytes
   * @throws {WrongLayout} if it was created with another declaration
   * @throws {SyncError} `NotFound` if there is no layout, `WrongKind` if the place holds something else, `Damaged` if the
   * text of the declaration was overwritten, what the member throws if the header of one was overwritten, `NotAttached`
   * if the segment is not attached, `ReadOnly` if it is attached `ReadOnly`
   * @throws {TypeError | RangeError} if `view` is not a view, or `byteOffset` is misaligned or leaves too little room
   */
  at(view: ArrayBufferView, byteOffset = 0): LayoutOf<Members> {
    return this.#at("layout.at", view, byteOffset);
  }

  #at(call: string, view: ArrayBufferView, byteOffset: number): LayoutOf<Members> {
    const slot = new Slot(call, view, byteOffset, this.ALIGNMENT);
    this.#check(call, slot);
    return this.#values(call, slot, (member, bytes) => member.at(bytes, 0));
  }

  /** @throws {WrongLayout | SyncError | RangeError} if the slot does not have this layout */
  #check(call: string, slot: Slot): void {
    slot.join(call, PrimitiveKind.Layout, TEXT);
    this.#compare(call, slot);
    slot.require(call, this.BYTES);
  }

  /**
   * Makes anew what belonged to processes that have all ended, such as mutexes. {@linkcode Layout.open} does it where it
   * is needed; a program calls it in `adopt` of {@linkcode SharedMemory.open}.
   *
   * @param view a view of an attached segment
   * @param byteOffset where the layout begins in the view, in bytes
   * @throws as {@linkcode Layout.at}
   */
  renew(view: ArrayBufferView, byteOffset = 0): void {
    this.#renew("layout.renew", view, byteOffset);
  }

  #renew(call: string, view: ArrayBufferView, byteOffset: number): void {
    const slot = new Slot(call, view, byteOffset, this.ALIGNMENT);
    this.#check(call, slot);
    this.#values(call, slot, (member, bytes) => member.renew?.(bytes, 0));
  }

  /**
   * Creates the segment of `key` with all members, or attaches to it, as {@linkcode SharedMemory.open} does.
   *
   * @param key the key of the segment
   * @param options as for {@linkcode SharedMemory.open}, and `initialize` and `replace`
   * @throws {WrongLayout} if the segment was created with another declaration
   * @throws {SyncError} with the errors of {@linkcode Layout.at}
   * @throws {SharedMemoryException} with the errors of {@linkcode SharedMemory.open}
   * @throws {TypeError | RangeError} if an argument or option is not what it should be
   * @throws whatever `initialize` throws; the segment is gone then
   *
   * @example
   * ```ts
   * import { f64, layout } from "./mod.ts";
   * import { Counter, Mutex } from "../sync/mod.ts";
   *
   * const Site = layout({ hits: Counter, state: Mutex, table: f64(1000) });
   * using site = Site.open("site example");
   * site.hits.add();
   * site.state.withLock(() => site.table[3]! += 1);
   * ```
   */
  open(
    key: string | NativeIpcKey,
    options: LayoutOptions<Members> = {},
  ): OpenLayout<Members> {
    checkOptions("layout.open", options, "{ replace: true }");
    const { initialize, adopt, replace = false, ...rest } = options;
    checkBoolean("layout.open", "replace", replace);
    if (initialize !== undefined) checkFunction("layout.open", "initialize", initialize);
    if (adopt !== undefined) checkFunction("layout.open", "adopt", adopt);
    const read: OpenOptions = {
      ...rest,
      size: this.BYTES,
      adopt: !mayAdopt(rest) ? undefined : (bytes) => {
        const call = openCall("layout.open", key);
        this.#renew(call, bytes, 0);
        return adopt?.(this.#at(call, bytes, 0));
      },
      initialize: (bytes) => {
        const shared = this.create(bytes);
        return initialize?.(shared);
      },
    };
    const opened = this.#tryToOpen(key, read);
    if (!replace || !(opened instanceof IpcError)) return orThrow(opened);
    // The first attempt has detached. With "replace", open() creates a new segment exactly if no process is attached.
    return orThrow(this.#tryToOpen(key, { ...read, stale: "replace", adopt: undefined }));
  }

  /** Returns the error if the segment has other contents, and throws any other error. */
  #tryToOpen(key: string | NativeIpcKey, options: OpenOptions): OpenLayout<Members> | IpcError {
    let isAttached = false;
    try {
      return SharedMemory.openAccepted(key, options, (memory) => {
        isAttached = true;
        return Object.freeze({
          ...this.#at(openCall("layout.open", key), memory.bytes, 0),
          memory,
          [Symbol.dispose]: () => memory[Symbol.dispose](),
        }) as OpenLayout<Members>;
      });
    } catch (error) {
      if (error instanceof WrongLayout || error instanceof SyncError) return error;
      const isSmall = error instanceof SharedMemoryException && error.code === "InvalidSize";
      if (isAttached || !isSmall) throw error;
      return this.#foundIn(key, options) ?? error;
    }
  }

  /**
   * Returns the error that says what is in a segment that is too small for this layout, or `null` if that is unknown. To
   * look it has to attach and detach, which would remove a segment that was to be kept.
   */
  #foundIn(key: string | NativeIpcKey, options: OpenOptions): WrongLayout | null {
    const { stale, disposition, lifetime } = options;
    if (stale === "keep") return null;
    if (disposition === "attach" && lifetime !== "until-removed") return null;
    const nothing = {};
    try {
      SharedMemory.openAccepted(key, {
        ...options,
        size: undefined,
        initialize: undefined,
        adopt: undefined,
        disposition: "attach",
      }, (memory) => {
        this.#at(openCall("layout.open", key), memory.bytes, 0);
        throw nothing; // it has been replaced meanwhile; it is detached, and its lifetime is not changed
      });
    } catch (error) {
      if (error instanceof WrongLayout) return error;
    }
    return null; // another program may have removed it meanwhile
  }

  /** @throws {WrongLayout | SyncError} if the text in the header is not that of this declaration */
  #compare(call: string, slot: Slot): void {
    const length = slot.words[LENGTH_WORD]!;
    if (!(length >= 1 && length <= TEXT_BYTES_MAX && slot.has(TEXT + length))) {
      throw new SyncError("Damaged", `${call}: it says that its declaration has ${length} bytes`);
    }
    const bytes = slot.view(Uint8Array, TEXT, length).slice();
    const hash = slot.view(BigUint64Array, HASH, 1)[0]!;
    const text = decoder.decode(bytes);
    if (text === this.#text && hash === this.#hash) return;
    if (hash !== hashOf(bytes) || /[^\P{Cc}\n]/u.test(text)) {
      throw new SyncError("Damaged", `${call}: the text of the declaration has been overwritten`);
    }
    throw this.#wrong(call, text);
  }

  #wrong(call: string, found: string): WrongLayout {
    const differences = differencesOf(this.#text, found);
    const shown = differences.slice(0, SHOWN_DIFFERENCES).map(({ member, declared, found }) =>
      `${member} (this program declares ${declared}, there is ${found})`
    );
    const more = differences.length - shown.length;
    if (more > 0) shown.push(`${more} more`);
    const where = shown.length > 0 ? shown.join(", ") : "its text";
    return new WrongLayout(
      `${call}: another declaration is there, which differs in ${where}; end the programs ` +
        "that use it, or put HASH into the key",
      differences.map(({ member }) => member),
      this.#text,
      found,
    );
  }

  /** Returns the objects of all members. Each member gets a view of its own bytes alone, so it cannot reach others. */
  #values(
    call: string,
    slot: Slot,
    valueOf: (member: LayoutMember<unknown>, bytes: Uint8Array) => unknown,
  ): LayoutOf<Members> {
    const values = this.#members.map(({ name, member, bytes, offset }) => {
      try {
        return [name, valueOf(member, slot.view(Uint8Array, this.#begin + offset, bytes))];
      } catch (error) {
        if (!(error instanceof SyncError)) throw error;
        throw new SyncError(error.code, `${call}: ${name}: ${error.message}`);
      }
    });
    return Object.freeze(Object.fromEntries(values));
  }
}

/**
 * Makes a layout of a declaration. Each program that uses the segment makes the same declaration: the order of the
 * members, their names and their parameters are part of it.
 *
 * @param members the name of each member, and what it is: {@linkcode Counter}, {@linkcode Gauge}, {@linkcode Mutex} or
 * {@linkcode Event}, what `of()` of another primitive returns, an array such as `f64(1000)`, another layout, or any
 * other {@linkcode LayoutMember}
 * @throws {TypeError} if a member is not one, or its name is not an identifier or is `memory`
 * @throws {RangeError} if the declaration is too large
 *
 * @example
 * ```ts
 * import { f64, layout, u8 } from "./mod.ts";
 * import { Counter, CounterBlock, Event, Mutex, RecordSnapshot } from "../sync/mod.ts";
 *
 * const Shape = layout({
 *   hits: Counter,
 *   state: Mutex,
 *   changed: Event,
 *   names: CounterBlock.of(100),
 *   config: RecordSnapshot.of({ greeting: "text:32", perSecond: "u32" }),
 *   table: f64(1000),
 *   raw: u8(64),
 * });
 * using shared = Shape.open("layout example", {
 *   initialize: ({ config }) => config.publish({ greeting: "hello", perSecond: 10 }),
 * });
 * shared.hits.add();
 * shared.table[3] = 1;
 * console.log(shared.config.read()?.greeting); // "hello"
 * ```
 */
export function layout<const Members extends LayoutMembers>(members: Members): Layout<Members> {
  return create(members);
}

interface Placed {
  readonly placed: readonly PlacedMember[];
  /** Where the last member ends. */
  readonly end: number;
  /** The largest alignment. */
  readonly alignment: number;
}

function place(members: LayoutMembers): Placed {
  if (typeof members !== "object" || members === null || Object.keys(members).length === 0) {
    throw new TypeError("layout: the declaration must be an object of names and members");
  }
  let [end, largest] = [0, CACHE_LINE];
  const placed = Object.entries(members).map(([name, member]) => {
    const { KIND: kind, BYTES: bytes, ALIGNMENT: alignment } = checked(name, member);
    const offset = aligned(end, Math.max(alignment, CACHE_LINE));
    end = offset + bytes;
    largest = Math.max(largest, alignment);
    return { name, kind, bytes, offset, member };
  });
  return { placed, end, alignment: largest };
}

/** Reads the properties of a member once, and checks them. */
function checked(
  name: string,
  member: unknown,
): Pick<LayoutMember<unknown>, "KIND" | "BYTES" | "ALIGNMENT"> {
  if (!IDENTIFIER.test(name) || name === "memory") {
    const text = name === "memory" ? 'the name "memory" is that of the segment' : "an identifier";
    throw new TypeError(`layout: a member cannot be named ${JSON.stringify(name)}: ${text}`);
  }
  const isObject = typeof member === "object" && member !== null || typeof member === "function";
  const { KIND, BYTES, ALIGNMENT, create, at } = (isObject ? member : {}) as Partial<
    LayoutMember<unknown>
  >;
  if (typeof KIND !== "string" || typeof create !== "function" || typeof at !== "function") {
    throw new TypeError(
      `layout: ${name} is no member; use Counter, Gauge, Mutex or Event, of() of another class such as ` +
        "CounterBlock.of(100), or an array such as f64(10)",
    );
  }
  const isAligned = Number.isInteger(Math.log2(ALIGNMENT!)) && ALIGNMENT! >= 1 &&
    ALIGNMENT! <= ALIGNMENT_MAX;
  if (
    /\p{Cc}/u.test(KIND) || !KIND.isWellFormed() || !Number.isSafeInteger(BYTES) || BYTES! < 1 ||
    !isAligned
  ) {
    throw new TypeError(
      `layout: ${name} is no member: its KIND must be text without control characters, its BYTES a number from 1 on, ` +
        `its ALIGNMENT a power of two up to ${ALIGNMENT_MAX}`,
    );
  }
  return { KIND, BYTES: BYTES!, ALIGNMENT: ALIGNMENT! };
}

function orThrow<Opened extends object>(opened: Opened | IpcError): Opened {
  if (opened instanceof IpcError) throw opened;
  return opened;
}

function aligned(offset: number, alignment: number): number {
  return Math.ceil(offset / alignment) * alignment;
}
