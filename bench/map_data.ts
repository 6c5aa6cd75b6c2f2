/** The entries of the benchmark of collections, which all its programs have: map.c has the same. */

export const entries = 100_000;
const hotEntries = 1000;
export const valueBytes = 100;
/** The part of a mix that changes a value: one of this number of operations. */
export const setEvery = 10;
/** What each name may use: so much that nothing is refused, however fast the program is. */
export const limits = { limit: 1_000_000, window: 1000, burst: 1_000_000 };

const orderLength = 2 ** 20;
export const orderMask = orderLength - 1;

/** The keys, each as one piece of memory: what is put together of strings has pieces in V8. */
export function keysOf(): string[] {
  const [encoder, decoder] = [new TextEncoder(), new TextDecoder()];
  return Array.from({ length: entries }, (_, i) => {
    return decoder.decode(encoder.encode(`key:${String(i).padStart(12, "0")}`));
  });
}

/** The numbers of the entries in the order in which they are used, at random, and again from the beginning. */
export function orderOf(range: string): Uint32Array {
  const most = range === "hot" ? hotEntries : entries;
  let random = 1;
  return Uint32Array.from({ length: orderLength }, () => {
    random = Math.imul(random, 1664525) + 1013904223 >>> 0;
    return (random >>> 8) % most;
  });
}

/** A value: the number of its entry, the number of the change, and bytes that depend on that. */
export class Value {
  readonly bytes: Uint8Array<ArrayBuffer> = new Uint8Array(valueBytes);
  readonly #words = new Uint32Array(this.bytes.buffer, 0, 2);

  /** Makes it the value of an entry; the change counts only where it is to be told from others. */
  stamp(entry: number): Uint8Array<ArrayBuffer> {
    this.#words[0] = entry;
    return this.bytes;
  }

  renew(change: number): void {
    this.bytes.fill(change, 8);
    this.#words[1] = change;
  }
}

/** Throws if these are not the bytes of one whole value of an entry. */
export function requireValue(bytes: Uint8Array | undefined | null, entry: number): void {
  if (bytes?.length !== valueBytes) throw new Error(`entry ${entry} has ${bytes?.length} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0, true) !== entry) throw new Error(`entry ${entry} has another one's value`);
  const change = view.getUint32(4, true) & 0xff;
  if (bytes.subarray(8).some((byte) => byte !== change)) throw new Error("a torn value");
}
