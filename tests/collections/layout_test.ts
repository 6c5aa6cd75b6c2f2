/** Layouts: one declaration for all that lies in a segment. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import {
  f32,
  f64,
  i16,
  i32,
  i64,
  i8,
  type Layout,
  layout,
  type LayoutMember,
  type LayoutMembers,
  type LayoutOf,
  type LayoutValue,
  u16,
  u32,
  u64,
  u8,
  WrongLayout,
} from "../../collections/mod.ts";
import { SharedMemory } from "../../mod.ts";
import { Random } from "../../scripts/random.ts";
import {
  Counter,
  CounterBlock,
  Event,
  Gauge,
  Mutex,
  RecordSnapshot,
  Snapshot,
} from "../../sync/mod.ts";
import {
  type Agent,
  crewOnly,
  DEADLINE_MS,
  endAll,
  leaveNothingBehind,
  linuxOnly,
  ownRuntime,
  sizeOf,
  slow,
  staleOnly,
  startAgent,
  startMany,
  uniqueKey,
} from "../support/support.ts";
import { assertChecksPlace, attached, created } from "../support/sync_places.ts";

const MEMBERS = {
  hits: Counter,
  load: Gauge,
  state: Mutex,
  changed: Event,
  names: CounterBlock.of(10),
  last: Snapshot.of(9),
  config: RecordSnapshot.of({ greeting: "text:32", perSecond: "u32" }),
  table: f64(100),
  ids: u64(3),
  raw: u8(5),
};
const Shape = layout(MEMBERS);

/** The same declaration, for an agent. */
const SOURCE = `
  const { Counter, CounterBlock, Event, Gauge, Mutex, RecordSnapshot, Snapshot } = sync;
  const { f64, layout, u64, u8 } = collections;
  const members = {
    hits: Counter,
    load: Gauge,
    state: Mutex,
    changed: Event,
    names: CounterBlock.of(10),
    last: Snapshot.of(9),
    config: RecordSnapshot.of({ greeting: "text:32", perSecond: "u32" }),
    table: f64(100),
    ids: u64(3),
    raw: u8(5),
  };
`;

/** What `call` throws, which must be a `WrongLayout`. */
function wrongLayout(call: () => unknown): WrongLayout {
  try {
    call();
  } catch (error) {
    if (error instanceof WrongLayout) return error;
    throw error;
  }
  throw new Error("it throws nothing");
}

/** Where the members begin: behind the header, the hash and the text, on the next cache line. */
function modelBegin(text: string, alignment: number): number {
  let begin = 16 + 8 + new TextEncoder().encode(text).length;
  while (begin % alignment !== 0) begin++;
  return begin;
}

/** The offset of each member and the end of the last one, from the beginning of the first. */
function modelOffsets(members: LayoutMembers): [offsets: number[], end: number] {
  let end = 0;
  const offsets = Object.values(members).map(({ BYTES, ALIGNMENT }) => {
    let offset = end;
    while (offset % ALIGNMENT !== 0 || offset % 64 !== 0) offset++;
    end = offset + BYTES;
    return offset;
  });
  return [offsets, end];
}

type Members = Record<string, LayoutMember<unknown>>;

const KINDS: readonly ((random: Random) => LayoutMember<unknown>)[] = [
  () => Counter,
  () => Gauge,
  () => Mutex,
  () => Event,
  (random) => CounterBlock.of(1 + random.below(5)),
  (random) => Snapshot.of(1 + random.below(50)),
  () => RecordSnapshot.of({ a: "i8", b: "f64", c: "text:3" }),
  ...[i8, u8, i16, u16, i32, u32, i64, u64, f32, f64].map((arrayOf) => (random: Random) =>
    arrayOf(1 + random.below(40))
  ),
  () => layout({ inner: Counter, "größe": i8(3) }),
  () => ({ ...i8(100), ALIGNMENT: 2 ** 8 }),
];

function randomMembers(random: Random): Members {
  const members: Members = {};
  for (let i = random.below(12); i >= 0; i--) members[`m${i}`] = random.oneOf(KINDS)(random);
  return members;
}

function isArray(value: unknown): value is Uint8Array {
  return ArrayBuffer.isView(value);
}

describe("a layout", () => {
  leaveNothingBehind();

  test("opens a segment with everything in it by one call", () => {
    using shared = Shape.open(uniqueKey(), {
      initialize({ config, table }) {
        config.publish({ greeting: "hello", perSecond: 10 });
        table.fill(0.5);
      },
    });
    assert.equal(shared.memory.byteLength, sizeOf(Shape.BYTES));
    assert.deepEqual(shared.config.read(), { greeting: "hello", perSecond: 10 });
    assert.deepEqual([shared.table.length, shared.table[99]], [100, 0.5]);
    using other = Shape.open(shared.memory.key()!, { initialize: () => assert.fail("again") });
    other.hits.add();
    other.table[3] = 1;
    other.ids[2] = 2n ** 64n - 1n;
    other.state.withLock(() => assert.equal(shared.state.tryLock(), false));
    other.names.counter("requests").add(7);
    other.last.publish(new Uint8Array(9).fill(3));
    assert.equal(shared.hits.get(), 1n);
    assert.equal(shared.table[3], 1);
    assert.equal(shared.ids[2], 2n ** 64n - 1n);
    assert.deepEqual([...shared.names.values()], [["requests", 7n]]);
    assert.deepEqual(shared.last.read(), new Uint8Array(9).fill(3));
  });

  test("has the type of each member", () => {
    using shared = Shape.open(uniqueKey());
    shared.hits satisfies Counter;
    shared.table satisfies Float64Array;
    shared.ids satisfies BigUint64Array;
    shared.config satisfies RecordSnapshot<
      { readonly greeting: "text:32"; readonly perSecond: "u32" }
    >;
    shared satisfies LayoutOf<typeof MEMBERS>;
    shared satisfies LayoutValue<typeof Shape>;
    // @ts-expect-error: a counter cannot be locked
    assert.equal(shared.hits.lock, undefined);
    // @ts-expect-error: there is no such member
    assert.equal(shared.misses, undefined);
    // @ts-expect-error: a u64 is a bigint
    assert.throws(() => shared.ids[0] = 1, TypeError);
    // @ts-expect-error: the record has no such field
    assert.throws(() => shared.config.publish({ greeting: "hi", rate: 1 }), TypeError);
    // @ts-expect-error: a member is never replaced
    assert.throws(() => shared.hits = shared.load, TypeError);
    // @ts-expect-error: a class whose size depends on arguments is no member
    assert.throws(() => layout({ names: CounterBlock }), TypeError);
  });

  test("makes each object once", () => {
    using shared = Shape.open(uniqueKey());
    for (const name of Object.keys(MEMBERS) as (keyof typeof MEMBERS)[]) {
      assert.equal(shared[name], shared[name]);
      assert.equal(Object.getOwnPropertyDescriptor(shared, name)!.get, undefined);
    }
  });

  test("computes sizes, alignments and offsets as a simple model does", () => {
    const seed = Number(process.env["MODEL_SEED"] ?? Date.now() % 2 ** 31);
    const random = new Random(seed);
    const about = `MODEL_SEED=${seed}`;
    for (let round = 0; round < 100; round++) {
      const members = randomMembers(random);
      const shape: Layout<Members> = layout(members);
      const [offsets, end] = modelOffsets(members);
      const alignment = Math.max(64, ...Object.values(members).map(({ ALIGNMENT }) => ALIGNMENT));
      const text = Object.entries(members).map(([name, { KIND, BYTES }], i) =>
        `${name}: ${KIND}, ${BYTES} bytes at ${offsets[i]}`
      );
      const begin = modelBegin(text.join("\n"), alignment);
      assert.equal(shape.ALIGNMENT, alignment, about);
      assert.equal(shape.BYTES, begin + end, about);
      using memory = new SharedMemory(uniqueKey());
      assert.equal(memory.create(alignment + shape.BYTES), true, memory.errorString());
      const at = alignment * random.below(2);
      const values = shape.create(memory.view(Uint8Array), at);
      for (const [i, [name, member]] of Object.entries(members).entries()) {
        const place = at + begin + offsets[i]!;
        const value = values[name];
        if (isArray(value)) {
          assert.deepEqual([value.byteOffset, value.byteLength], [place, member.BYTES], about);
        } else {
          member.at(memory.view(Uint8Array), place);
        }
      }
      assertNoOverlap(values, () => shape.at(memory.view(Uint8Array), at), about);
    }
  });

  test("is refused if its declaration is none", () => {
    const declarations: readonly (readonly [unknown, RegExp])[] = [
      [null, /must be an object/],
      [{}, /must be an object/],
      [7, /must be an object/],
      [{ hits: CounterBlock }, /hits is no member; use .*CounterBlock\.of\(100\)/],
      [{ hits: 7 }, /hits is no member/],
      [{ hits: null }, /hits is no member/],
      [{ "two words": Counter }, /"two words".*identifier/],
      [{ 7: Counter }, /"7".*identifier/],
      [{ "": Counter }, /identifier/],
      [{ memory: Counter }, /"memory" is that of the segment/],
      ...[{ KIND: "a\nb" }, { KIND: "\ud800" }, { BYTES: 0 }, { BYTES: 0.5 }, { BYTES: "8" }]
        .map((wrong) => [{ x: { ...f64(1), ...wrong } }, /x is no member/] as const),
      ...[0, 3, 0.5, -8, 8192, undefined]
        .map((ALIGNMENT) => [{ x: { ...f64(1), ALIGNMENT } }, /x is no member/] as const),
    ];
    for (const [declaration, message] of declarations) {
      const declare = () => layout(declaration as LayoutMembers);
      assert.throws(declare, { name: "TypeError", message }, String(message));
    }
    for (const bad of [0, -1, 0.5, NaN, Infinity, 2 ** 52]) {
      assert.throws(() => f64(bad), RangeError, String(bad));
    }
    assert.throws(() => f64("8" as never), TypeError);
    assert.throws(() => CounterBlock.of(0), RangeError);
    assert.throws(() => Snapshot.of(0), RangeError);
    assert.throws(() => RecordSnapshot.of({ a: "u9" as "u8" }), TypeError);
    assert.throws(() => layout({ big: u8(2 ** 52), more: u8(2 ** 52) }), RangeError);
    const many = Array.from({ length: 3000 }, (_, i) => [`m${i}`, Counter] as const);
    assert.throws(() => layout(Object.fromEntries(many)), RangeError);
  });

  test("checks its place", () => {
    const small = layout({ hits: Counter, raw: i8(3) });
    const [create, at] = [small.create, small.at].map((method) => method.bind(small));
    assertChecksPlace(small, small.BYTES, create!, at!);
  });

  test("can be a member of another layout", () => {
    const Outer = layout({ first: Shape, second: Shape });
    using shared = Outer.open(uniqueKey());
    shared.first.hits.add(5);
    shared.second.table[0] = 9;
    assert.deepEqual([shared.second.hits.get(), shared.first.table[0]], [0n, 0]);
    const Other = layout({ first: Shape, second: layout({ ...MEMBERS, raw: u8(6) }) });
    const error = wrongLayout(() => Other.open(shared.memory.key()!));
    assert.deepEqual(error.members, ["second"]);
  });

  test("takes members of other modules, which get a view of their own bytes alone", () => {
    const seen: number[] = [];
    const own: LayoutMember<DataView> = {
      KIND: "a thing of this test, version 3",
      BYTES: 12,
      ALIGNMENT: 4,
      create: (view, offset) => own.at(view, offset),
      at(view, offset) {
        seen.push(offset, view.byteLength);
        return new DataView(view.buffer, view.byteOffset + offset, 12);
      },
    };
    using shared = layout({ hits: Counter, own, last: Counter }).open(uniqueKey());
    shared.own.setFloat64(4, -1);
    assert.equal(shared.last.get(), 0n);
    assert.deepEqual(seen, [0, 12, 0, 12]);
  });

  test("ends with the segment", () => {
    const shared = Shape.open(uniqueKey());
    const { hits, table, raw } = shared;
    shared[Symbol.dispose]();
    shared[Symbol.dispose]();
    assert.equal(shared.memory.attached, false);
    assert.throws(() => hits.add(), { code: "NotAttached" });
    table[3] = 1;
    assert.deepEqual([table.length, table[3], raw.length], [0, undefined, 0]);
  });

  test("takes the options of SharedMemory.open", () => {
    const key = uniqueKey();
    assert.throws(() => Shape.open(key, { disposition: "attach" }), { code: "NotFound" });
    const fails = () => {
      throw new Error("from initialize");
    };
    assert.throws(() => Shape.open(key, { initialize: fails }), /from initialize/);
    assert.throws(() => Shape.open(key, { disposition: "attach" }), { code: "NotFound" });
    const late = () => Promise.resolve();
    assert.throws(() => Shape.open(key, { initialize: late as () => void }), TypeError);
    assert.throws(() => Shape.open(key, { replace: 1 as never }), TypeError);
    assert.throws(() => Shape.open(key, { initialize: {} as never }), TypeError);
    assert.throws(() => Shape.open(key, { timeout: "soon" as never }), TypeError);
    using shared = Shape.open(key, { disposition: "create" });
    assert.throws(() => Shape.open(key, { disposition: "create" }), { code: "AlreadyExists" });
    using other = Shape.open(key, { disposition: "attach" });
    other.hits.add();
    assert.equal(shared.hits.get(), 1n);
  });
});

/** Asserts that filling each array changes neither another one nor a primitive. */
function assertNoOverlap(
  values: Readonly<Record<string, unknown>>,
  join: () => unknown,
  about: string,
): void {
  const arrays = Object.values(values).filter(isArray)
    .map(({ buffer, byteOffset, byteLength }) => new Uint8Array(buffer, byteOffset, byteLength));
  for (const [i, array] of arrays.entries()) array.fill(i + 1);
  for (const [i, array] of arrays.entries()) {
    assert.equal(array.every((byte) => byte === i + 1), true, about);
  }
  join();
}

describe("another layout", () => {
  leaveNothingBehind();

  test("is refused, with the members that differ", () => {
    using shared = Shape.open(uniqueKey());
    shared.hits.add(3);
    const { hits, load, ...rest } = MEMBERS;
    const variants: readonly [LayoutMembers, string[], RegExp][] = [
      [
        { ...MEMBERS, table: f64(101) },
        ["table"],
        /^layout\.open \(".*"\): another declaration is there, which differs in table \(this program declares f64\[101\], 808 bytes, there is f64\[100\], 800 bytes\); end the programs that use it, or put HASH into the key$/,
      ],
      [
        { ...MEMBERS, hits: Gauge, names: CounterBlock.of(11) },
        ["hits", "names"],
        /in hits \(.* Gauge v1.* Counter v1, 24 bytes\), names \(.*CounterBlock\(11\) v1/,
      ],
      [
        { ...MEMBERS, config: RecordSnapshot.of({ greeting: "text:32", perSecond: "u64" }) },
        ["config"],
        /config \(this program declares …"perSecond":"u64"} v1, 112 bytes, there is …"perSecond":"u32"} v1, 112 bytes\)/,
      ],
      [{ load, ...rest }, ["hits"], /hits \(this program declares nothing, there is Counter v1/],
      [{ ...MEMBERS, more: Event }, ["more"], /more \(.* Event v1, 16 bytes, there is nothing\)/],
      [
        { load, hits, ...rest },
        ["load", "hits"],
        /load \(this program declares it at byte 0, there is it at byte 64\)/,
      ],
      [{ ...MEMBERS, more: u8(100_000) }, ["more"], /more \(/],
      [{ more: u8(1) }, ["more", ...Object.keys(MEMBERS)], /, 8 more; end/],
    ];
    const view = shared.memory.view(Uint8Array);
    for (const [members, names, message] of variants) {
      const Other = layout(members);
      assert.notEqual(Other.HASH, Shape.HASH);
      const error = wrongLayout(() => Other.open(shared.memory.key()!));
      assert.deepEqual(error.members, names);
      assert.match(error.message, message);
      assert.deepEqual([error.name, error.reason], ["WrongLayout", "WrongKind"]);
      assert.match(error.found, /^hits: Counter v1, 24 bytes at 0\n/);
      assert.deepEqual(wrongLayout(() => Other.at(view)).members, names);
    }
    assert.throws(() => Shape.create(view), { code: "AlreadyExists" });
    assert.equal(shared.hits.get(), 3n);
  });

  test("gets a segment of its own with the hash in the key", () => {
    const Other = layout({ ...MEMBERS, table: f64(5) });
    const key = uniqueKey();
    using shared = Shape.open(`${key} ${Shape.HASH}`);
    using other = Other.open(`${key} ${Other.HASH}`);
    assert.deepEqual([shared.table.length, other.table.length], [100, 5]);
    assert.match(Shape.HASH, /^[0-9a-f]{16}$/);
    assert.equal(layout(MEMBERS).HASH, Shape.HASH);
  });
});

describe("a layout whose bytes were overwritten", () => {
  leaveNothingBehind();

  test("is a typed error, whichever byte of the header it was", () => {
    using memory = created();
    const view = memory.view(Uint8Array);
    const small = layout({ hits: Counter, state: Mutex, raw: u8(3) });
    small.create(view);
    const whole = view.slice();
    const codes = new Set<string>();
    for (let i = 0; i < 24 + textIn(view).length; i++) {
      if (i === 6 || i === 7 || (i >= 12 && i < 16)) continue; // which have no meaning
      for (const byte of [0, 1, 127, 255, whole[i]! ^ 32]) {
        if (byte === whole[i]) continue;
        view[i] = byte;
        assert.throws(() => small.at(view), (error: { name: string; code: string }) => {
          codes.add(error.code);
          return error.name === "SyncError";
        }, `byte ${i}`);
        view[i] = whole[i]!;
      }
    }
    assert.deepEqual([...codes].sort(), ["Damaged", "NotFound", "WrongKind"]);
    small.at(view);
  });

  test("names the member whose bytes they were", () => {
    using shared = Shape.open(uniqueKey());
    const members: readonly (keyof typeof MEMBERS)[] = ["hits", "names", "last", "config"];
    const view = shared.memory.view(Uint8Array);
    const words = shared.memory.view(Int32Array);
    const begin = modelBegin(textIn(view), 64);
    const [offsets] = modelOffsets(MEMBERS);
    for (const name of members) {
      const at = (begin + offsets[Object.keys(MEMBERS).indexOf(name)]!) / 4;
      const sizeWord = at + 2;
      for (const [word, value] of [[at, 0], [at, 7], [at + 1, 0x0102], [sizeWord, 1]] as const) {
        if (name === "hits" && word === sizeWord) continue;
        const before = words[word]!;
        words[word] = value;
        const message = new RegExp(`^layout\\.at: ${name}: \\w+\\.at: `);
        assert.throws(() => Shape.at(view), { name: "SyncError", message }, `${name} ${word - at}`);
        words[word] = before;
      }
    }
    Shape.at(view);
  });

  test("is never read beyond its bytes, whatever size a member says it has", () => {
    using shared = Shape.open(uniqueKey());
    const view = shared.memory.view(Uint8Array);
    const words = shared.memory.view(Int32Array);
    const offsets = modelOffsets(MEMBERS)[0];
    const names = (modelBegin(textIn(view), 64) + offsets[4]!) / 4;
    words[names + 2] = 20; // which would fit the segment
    assert.throws(() => Shape.at(view), RangeError);
    words[names + 2] = 10;
    words[2] = 2 ** 31 - 1; // the length of the text
    assert.throws(() => Shape.at(view), { code: "Damaged" });
  });

  test("is a typed error for random bytes and for texts that are no declaration", () => {
    const random = new Random(Number(process.env["MODEL_SEED"] ?? 7));
    using memory = created();
    const view = memory.view(Uint8Array);
    const small = layout({ hits: Counter });
    for (let round = 0; round < 300; round++) {
      view.forEach((_, i) => view[i] = random.below(256));
      if (random.chance(0.7)) writeHeader(view, random);
      assert.throws(
        () => small.at(view),
        (error: Error) => error.name === "SyncError" || error.name === "WrongLayout",
      );
    }
    const texts = [
      "x",
      "\n\n",
      ": ",
      "hits: Counter v1, 24 bytes at 0\nhits: Counter v1, 24 bytes at 0",
    ];
    for (const text of texts) {
      view.fill(0);
      layoutHeader(view, new TextEncoder().encode(text));
      assert.equal(wrongLayout(() => small.at(view)).found, text);
    }
    for (const text of ["\x1b[2J", "hits\0"]) {
      view.fill(0);
      layoutHeader(view, new TextEncoder().encode(text));
      assert.throws(() => small.at(view), { code: "Damaged" });
    }
  });

  test("is NotFound in a segment of zeros or of another program, and InvalidSize in a small one", () => {
    using memory = created();
    const key = memory.key()!;
    assert.throws(() => Shape.open(key), { name: "SyncError", code: "NotFound" });
    memory.view(Uint8Array).fill(170);
    assert.throws(() => Shape.open(key), { name: "SyncError", code: "NotFound" });
    memory.view(Uint8Array).fill(0);
    Counter.create(memory.view(Uint8Array));
    assert.throws(() => Shape.open(key), { name: "SyncError", code: "WrongKind" });
    assert.throws(() => layout({ big: u8(100_000) }).open(key), {
      name: "SharedMemoryException",
      code: "InvalidSize",
    });
    using other = attached(memory);
    assert.equal(Counter.at(other.view(Uint8Array)).get(), 0n);
  });
});

/** The text of the declaration in a segment. */
function textIn(view: Uint8Array): string {
  const length = new DataView(view.buffer, view.byteOffset).getInt32(8, true);
  return new TextDecoder().decode(view.slice(24, 24 + length));
}

/** Writes what a layout of any text begins with, its true hash included. */
function layoutHeader(view: Uint8Array, text: Uint8Array): void {
  const data = new DataView(view.buffer, view.byteOffset);
  let hash = 0xcbf29ce484222325n;
  for (const byte of text) hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * 0x100000001b3n);
  data.setInt32(0, 0x316e7973, true);
  data.setInt32(4, 0x0108, true);
  data.setInt32(8, text.length, true);
  data.setBigUint64(16, hash, true);
  view.set(text, 24);
}

/** A header that is right up to a random point, and random from there on. */
function writeHeader(view: Uint8Array, random: Random): void {
  const text = Uint8Array.from({ length: 1 + random.below(300) }, () => random.below(256));
  const before = view.slice();
  layoutHeader(view, text);
  const from = random.oneOf([4, 8, 12, 24, view.length]);
  view.set(before.subarray(from), from);
}

describe("processes with one layout", () => {
  leaveNothingBehind();

  /** Opens a layout in an agent, as `s`. */
  function open(agent: Agent, key: string, declaration: string, options = "{}"): Promise<unknown> {
    return agent.run(`
      ${SOURCE}
      objects.s = layout(${declaration}).open(${JSON.stringify(key)}, ${options});
      return objects.s.table.length;`);
  }

  test("of all runtimes share everything in it", { ...slow, ...crewOnly }, async () => {
    using shared = Shape.open(uniqueKey());
    const key = shared.memory.key()!;
    const agents = startMany(6);
    await Promise.all(agents.map((agent) => open(agent, key, "members")));
    const waiting = shared.changed.waitUntilAsync(() => shared.hits.get() === 600n, {
      timeout: DEADLINE_MS,
    });
    await Promise.all(agents.map((agent, i) =>
      agent.run(`
        const { s } = objects;
        for (let i = 0; i < 100; i++) {
          s.state.withLock(() => s.table[0] = s.table[0] + 1);
          s.names.counter("requests").add();
          s.load.add(0.5);
          s.hits.add();
        }
        s.table[${i + 1}] = ${i};
        s.changed.notifyAll();`)
    ));
    assert.equal(await waiting, true);
    assert.equal(shared.table[0], 600);
    assert.equal(shared.load.get(), 300);
    assert.equal(shared.names.counter("requests").get(), 600n);
    assert.deepEqual([...shared.table.subarray(1, 7)], [0, 1, 2, 3, 4, 5]);
    shared.config.publish({ greeting: "to all", perSecond: 1 });
    for (const agent of agents) {
      const source = "return objects.s.config.read().greeting";
      assert.equal(await agent.run(source), "to all");
    }
    await endAll(agents);
  });

  test("race to open it, and one of them initializes it", { ...slow, ...crewOnly }, async () => {
    const key = uniqueKey();
    const agents = startMany(6);
    const initialize = "{ initialize: ({ hits }) => void hits.add(10) }";
    await Promise.all(agents.map((agent) => open(agent, key, "members", initialize)));
    const counts = [];
    for (const agent of agents) counts.push(await agent.run("return Number(objects.s.hits.add())"));
    assert.deepEqual(counts, [10, 11, 12, 13, 14, 15]);
    await endAll(agents);
  });

  test("learn which member differs if their declarations do", slow, async () => {
    using shared = Shape.open(uniqueKey());
    const agent = startAgent(ownRuntime);
    const key = shared.memory.key()!;
    await assert.rejects(open(agent, key, "{ ...members, table: f64(7) }"), {
      name: "WrongLayout",
      members: ["table"],
      message: /table \(this program declares f64\[7\], 56 bytes, there is f64\[100\], 800 bytes\)/,
    });
    assert.equal(await open(agent, key, "members"), 100);
    assert.equal(await agent.end(), 0);
    assert.equal(shared.hits.get(), 0n);
  });

  test("begin anew if the creator is killed while it creates", slow, async () => {
    const key = uniqueKey();
    for (const moment of ["initialize", "create"]) {
      const creator = startAgent(ownRuntime);
      const told = creator.run(`
        ${SOURCE}
        const stop = () => {
          console.log(JSON.stringify({ value: "in it" }));
          for (;;);
        };
        const half = { ...u8(5), create: stop };
        const initialize = ({ hits }) => { hits.add(66); stop(); };
        const last = ${moment === "create"} ? { raw: half } : {};
        layout({ ...members, ...last }).open(${JSON.stringify(key)}, { initialize });`);
      assert.equal(await told, "in it");
      await creator.kill();
      using shared = Shape.open(key, { initialize: ({ hits }) => void hits.add(5) });
      assert.equal(shared.hits.get(), 5n, moment);
    }
  });

  test("are refused another layout that a crash has left if they keep it", staleOnly, async () => {
    const key = uniqueKey();
    const leave = async (declaration: string) => {
      const agent = startAgent(ownRuntime);
      await open(agent, key, declaration);
      await agent.run("objects.s.table[0] = 42");
      await agent.kill();
    };
    await leave("{ ...members, table: f64(101) }");
    assert.throws(() => Shape.open(key, { stale: "keep" }), WrongLayout);
    await leave("{ table: f64(1) }");
    assert.throws(() => Shape.open(key, { stale: "keep" }), { code: "InvalidSize" });
    using small = layout({ table: f64(1) }).open(key, { stale: "keep" });
    assert.equal(small.table[0], 42);
  });

  test(
    "name the key in the error if another declaration stayed without a process",
    linuxOnly,
    () => {
      const key = uniqueKey();
      const kept = layout({ table: f64(1000) }).open(key, { lifetime: "until-removed" });
      kept[Symbol.dispose]();
      assert.throws(() => Shape.open(key, { lifetime: "until-removed" }), {
        name: "WrongLayout",
        message: new RegExp(`^layout\\.open \\("${key}"\\): another declaration`),
      });
      using memory = SharedMemory.open(key, { lifetime: "until-removed" });
      memory.remove();
    },
  );

  test("stay if one that is too large for what is there only attaches", linuxOnly, () => {
    const key = uniqueKey();
    const small = layout({ table: f64(1) });
    {
      using kept = small.open(key, { lifetime: "until-removed" });
      kept.table[0] = 42;
    }
    assert.throws(() => Shape.open(key, { disposition: "attach" }), { code: "InvalidSize" });
    using kept = small.open(key, { lifetime: "until-removed" });
    assert.equal(kept.table[0], 42);
    kept.memory.remove();
  });

  test("begin anew with another declaration if no process is left", slow, async () => {
    const key = uniqueKey();
    const agent = startAgent(ownRuntime);
    await open(agent, key, "{ ...members, table: f64(7) }");
    assert.throws(() => Shape.open(key), WrongLayout);
    assert.equal(await agent.end(), 0);
    using shared = Shape.open(key);
    assert.equal(shared.table.length, 100);
  });

  test(
    "replace what a crash has left, and not what is in use",
    { ...slow, ...staleOnly },
    async () => {
      const key = uniqueKey();
      for (
        const other of ["{ ...members, table: f64(7) }", "{ table: f64(1), more: u8(10000) }"]
      ) {
        const agent = startAgent(ownRuntime);
        await open(agent, key, other);
        await agent.run("objects.s.table[0] = 42");
        for (const options of [{}, { replace: true }, { replace: true, stale: "keep" }] as const) {
          assert.throws(() => Shape.open(key, options), WrongLayout);
        }
        assert.equal(await agent.run("return objects.s.table[0]"), 42);
        await agent.kill();
        using shared = Shape.open(key, { replace: true, stale: "keep" });
        assert.equal(shared.table.length, 100);
      }
    },
  );

  test(
    "keep what a crash has left on request if it has their layout",
    { ...slow, ...staleOnly },
    async () => {
      const key = uniqueKey();
      const agent = startAgent(ownRuntime);
      await open(agent, key, "members");
      await agent.run("objects.s.table[0] = 42");
      await agent.kill();
      using shared = Shape.open(key, { replace: true, stale: "keep" });
      assert.equal(shared.table[0], 42);
    },
  );

  test(
    "replace a segment that is too small or holds other bytes",
    { ...slow, ...staleOnly },
    async () => {
      const key = uniqueKey();
      for (const [size, fill] of [[64, 0], [8192, 0], [8192, 170]]) {
        const agent = startAgent(ownRuntime);
        await agent.request("memory", "m", key);
        assert.equal(await agent.call("m", "create", size), true);
        await agent.run(`objects.m.data().fill(${fill})`);
        assert.throws(() => Shape.open(key, { replace: true, stale: "keep" }), {
          name: /Exception|SyncError/,
        });
        await agent.kill();
        using shared = Shape.open(key, { replace: true, stale: "keep" });
        assert.equal(shared.hits.get(), 0n);
      }
    },
  );
});
