import { sharedClock } from "../backends/clock.ts";
import { SyncError } from "../sync/errors.ts";
import { PrimitiveKind, type Slot } from "../sync/slot.ts";
import { CODEC_NAME_BYTES, codecNameIn } from "./codecs.ts";
import { halfSipHash } from "./half_sip_hash.ts";
import {
  BUCKETS_MIN,
  MAP_HEADER_BYTES,
  mapBytes,
  type MapShape,
  STRIPES_MAX,
  UNITS_MAX,
  UNITS_MIN,
} from "./map_shape.ts";

/** The words of the header of a map after the two that each slot has. The last one is a checksum. */
const [SHAPE, FLAGS, KEY0, KEY1, SCOPE, CHECK] = [2, 3, 4, 5, 6, 7];
/** Here the name of the codec is, in bytes. The words of it count for the checksum as well. */
const NAME_BYTE = 32;
const UNITS_SHIFT = 16;
const BUCKETS_SHIFT = 24;
/** The map never evicts. */
const KEEPS = 1;
const CHECK_KEY = 0x6d617031;
const encoder = new TextEncoder();

/** What the header of a map says. All of it is read once, when the map is joined, and checked. */
export interface MapHeader extends MapShape {
  readonly evicts: boolean;
  /** The random key of the hash. */
  readonly key0: number;
  readonly key1: number;
  /** The name of the codec with which it was created, `""` if that has none. */
  readonly codec: string;
}

/** How a map is created. */
export interface NewMap {
  readonly kind: PrimitiveKind;
  readonly shape: MapShape;
  readonly evicts: boolean;
  readonly codec: string;
}

/** Creates a map: writes its header after `fill` has written the rest. */
export function makeHeader(
  call: string,
  slot: Slot,
  { kind, shape, evicts, codec }: NewMap,
  fill: () => void,
): MapHeader {
  const [key0, key1] = crypto.getRandomValues(new Int32Array(2)) as unknown as [number, number];
  slot.make(call, kind, mapBytes(shape), () => {
    const words = slot.view(Int32Array, 0, MAP_HEADER_BYTES / 4);
    words[SHAPE] = shape.stripes | Math.log2(shape.units) << UNITS_SHIFT |
      Math.log2(shape.buckets) << BUCKETS_SHIFT;
    words[FLAGS] = evicts ? 0 : KEEPS;
    words[KEY0] = key0;
    words[KEY1] = key1;
    words[SCOPE] = sharedClock().scope;
    slot.view(Uint8Array, NAME_BYTE, CODEC_NAME_BYTES).set(encoder.encode(codec));
    words[CHECK] = checkOf(words);
    fill();
  });
  return { ...shape, evicts, key0, key1, codec };
}

/** Reads the header of a map. @throws {SyncError} if it is not that of a map that this process can use */
export function readHeader(
  call: string,
  slot: Slot,
  kind: PrimitiveKind = PrimitiveKind.SharedMap,
): MapHeader {
  slot.join(call, kind, MAP_HEADER_BYTES);
  const words = slot.view(Int32Array, 0, MAP_HEADER_BYTES / 4).slice();
  const header = headerOf(words);
  if (header === null) {
    throw new SyncError(
      "Damaged",
      `${call}: the header of the ${
        nounOf(slot)
      } has been overwritten; create it again when no process uses it`,
    );
  }
  slot.require(call, mapBytes(header));
  if (words[SCOPE] !== sharedClock().scope) {
    throw new SyncError(
      "WrongKind",
      `${call}: the ${
        nounOf(slot)
      } was created before this system was started, or in another time namespace ` +
        "(another container), so its times to live mean nothing here; create it again",
    );
  }
  return header;
}

/** Returns what the words of a header say, or `null` if they are not those of a header. */
export function headerOf(words: Int32Array): MapHeader | null {
  const shape = words[SHAPE]!;
  const header: MapHeader = {
    stripes: shape & (1 << UNITS_SHIFT) - 1,
    units: 2 ** (shape >>> UNITS_SHIFT & 0xff),
    buckets: 2 ** (shape >>> BUCKETS_SHIFT),
    evicts: (words[FLAGS]! & KEEPS) === 0,
    key0: words[KEY0]!,
    key1: words[KEY1]!,
    codec: nameIn(words),
  };
  const { stripes, units, buckets } = header;
  const isPossible = stripes >= 1 && stripes <= STRIPES_MAX && units >= UNITS_MIN &&
    units <= UNITS_MAX && buckets >= BUCKETS_MIN && buckets <= UNITS_MAX;
  return isPossible && words[CHECK] === checkOf(words) ? header : null;
}

/** Returns what a slot is called in the texts of errors. */
export function nounOf({ name }: { readonly name: string }): "map" | "limiter" {
  return name === "RateLimiter" ? "limiter" : "map";
}

function checkOf(words: Int32Array): number {
  const name = halfSipHash(CHECK_KEY, 0, nameWords(words), CODEC_NAME_BYTES / 4, 0);
  return halfSipHash(CHECK_KEY, name, words.slice(SHAPE, CHECK), CHECK - SHAPE, 0);
}

function nameWords(words: Int32Array): Int32Array {
  return words.slice(NAME_BYTE / 4, (NAME_BYTE + CODEC_NAME_BYTES) / 4);
}

function nameIn(words: Int32Array): string {
  return codecNameIn(new Uint8Array(nameWords(words).buffer));
}
