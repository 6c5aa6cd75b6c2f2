/** Hashes that stand for states. */

const numbers = new Map<string, number>();
const float = new Float64Array(1);
const words = new Int32Array(float.buffer);

/** A hash of 53 bits: of a million states, two have the same one in one of 18,000 cases. */
export class Fingerprint {
  #a = 0x9e3779b9 | 0;
  #b = 0x7f4a7c15;

  add(value: number): this {
    const integer = value | 0;
    if (integer === value) this.#mix(integer);
    else {
      float[0] = value;
      this.#mix(words[0]!);
      this.#mix(words[1]!);
    }
    return this;
  }

  addAll(values: Iterable<number>): this {
    let count = 0;
    for (const value of values) {
      this.add(value);
      count++;
    }
    return this.add(count);
  }

  /** Adds the number of a text, as the same few texts occur again and again. */
  addText(text: string): this {
    let number = numbers.get(text);
    if (number === undefined) numbers.set(text, number = numbers.size);
    return this.add(number);
  }

  get value(): number {
    const [a, b] = [finished(this.#a), finished(this.#b)];
    return (a >>> 11) * 2 ** 32 + (b >>> 0);
  }

  #mix(value: number): void {
    let a = Math.imul(this.#a ^ value, 0x85ebca6b);
    a ^= a >>> 15;
    this.#a = a;
    let b = Math.imul(this.#b ^ value, 0xc2b2ae35) + 0x27d4eb2f | 0;
    b ^= b >>> 13;
    this.#b = b;
  }
}

function finished(hash: number): number {
  hash = Math.imul(hash ^ hash >>> 16, 0x85ebca6b);
  return hash ^ hash >>> 13;
}
