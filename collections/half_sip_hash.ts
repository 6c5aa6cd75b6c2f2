/**
 * Returns HalfSipHash-1-3 of `count` words under a key of 64 bits. Who does not know the key cannot choose inputs that
 * have the same hash. Unlike the original, the last word is whatever the caller puts there, such as the length.
 */
export function halfSipHash(
  key0: number,
  key1: number,
  words: Int32Array,
  count: number,
  last: number,
): number {
  let v0 = key0, v1 = key1, v2 = 0x6c796765 ^ key0, v3 = 0x74656462 ^ key1;
  for (let i = 0; i <= count + 3; i++) {
    const word = i < count ? words[i]! : i === count ? last : 0;
    if (i === count + 1) v2 ^= 0xff;
    v3 ^= word;
    v0 = v0 + v1 | 0;
    v1 = v1 << 5 | v1 >>> 27;
    v1 ^= v0;
    v0 = v0 << 16 | v0 >>> 16;
    v2 = v2 + v3 | 0;
    v3 = v3 << 8 | v3 >>> 24;
    v3 ^= v2;
    v0 = v0 + v3 | 0;
    v3 = v3 << 7 | v3 >>> 25;
    v3 ^= v0;
    v2 = v2 + v1 | 0;
    v1 = v1 << 13 | v1 >>> 19;
    v1 ^= v2;
    v2 = v2 << 16 | v2 >>> 16;
    v0 ^= word;
  }
  return v1 ^ v3;
}
