import { now, undisturbedMean } from "./timing.ts";

type Elements = Uint8Array | Int32Array | Float64Array;
type Passes = (array: Elements, passes: number) => number;

interface ElementLoop {
  name: string;
  wrap(buffer: ArrayBuffer, byteOffset: number, byteLength: number): Elements;
  element(index: number): number;
  body: string;
  /** What is wrong after `passes` passes of which the last returned `result`, if anything. */
  fault(array: Elements, passes: number, result: number): string | null;
}

// Fits the first-level cache, so that the access is measured and not the memory.
export const elementsBytes = 16384;
const passesPerBatch = 50;

// Copies of the same loop differ by up to 30% in Bun, even over the same array, for as long as they
// live: a comparison takes the mean of several.
const pairs = 8;

const sumBody =
  "let sum = 0; for (let i = 0; i < array.length; i++) sum += array[i]; result = sum;";

function sumFault(array: Elements, _passes: number, result: number): string | null {
  let sum = 0;
  for (const element of array) sum += element;
  return result === sum && sum > 0 ? null : `the sum is ${result} instead of ${sum}`;
}

const loops: ElementLoop[] = [
  {
    name: "sum of Uint8",
    wrap: (buffer, offset, bytes) => new Uint8Array(buffer, offset, bytes),
    element: (index) => index & 0xff,
    body: sumBody,
    fault: sumFault,
  },
  {
    name: "increment Int32",
    wrap: (buffer, offset, bytes) => new Int32Array(buffer, offset, bytes / 4),
    element: () => 0,
    body: "for (let i = 0; i < array.length; i++) array[i]++;",
    fault(array, passes) {
      const wrong = array.find((element) => element !== passes);
      return wrong === undefined ? null : `an element is ${wrong} after ${passes} increments`;
    },
  },
  {
    name: "sum of Float64",
    wrap: (buffer, offset, bytes) => new Float64Array(buffer, offset, bytes / 8),
    element: (index) => index,
    body: sumBody,
    fault: sumFault,
  },
];

let copies = 0;

/**
 * A copy of the loop that no other array has been through. Its unique name makes its source unique
 * too: engines share compiled code and type feedback between functions of equal source. The passes
 * are counted inside, so that no caller inlines one copy and not the other.
 */
function freshCopy(body: string): Passes {
  return new Function(`return function copy${copies++}(array, passes) {
    let result = 0;
    for (let pass = 0; pass < passes; pass++) { ${body} }
    return result;
  }`)() as Passes;
}

/** One array with its own copy of the loop. */
class Runner {
  #batches: number[] = [];
  #passes = 0;
  #result = 0;
  #loop: ElementLoop;
  #array: Elements;
  #copy: Passes;

  constructor(loop: ElementLoop, array: Elements) {
    array.forEach((_, index) => array[index] = loop.element(index));
    this.#loop = loop;
    this.#array = array;
    this.#copy = freshCopy(loop.body);
  }

  batch(): void {
    const start = now();
    this.#result = this.#copy(this.#array, passesPerBatch);
    this.#batches.push(now() - start);
    this.#passes += passesPerBatch;
  }

  restart(): void {
    this.#batches = [];
  }

  nsPerElement(): number {
    const fault = this.#loop.fault(this.#array, this.#passes, this.#result);
    if (fault !== null) throw new Error(`${this.#loop.name}: ${fault}`);
    return undisturbedMean(this.#batches) / (passesPerBatch * this.#array.length);
  }
}

// Two alternate, so that whatever else the machine does meets both.
function runAlternately(one: Runner, other: Runner, ms: number): void {
  one.restart();
  other.restart();
  const end = now() + 2 * ms * 1e6 / pairs;
  // At least once: on a busy machine the time may be over before the first batch.
  do {
    one.batch();
    other.batch();
    other.batch();
    one.batch();
  } while (now() < end);
}

/**
 * The nanoseconds per element of each loop, in `ms` for each, over views of `shared` under the loop's name and over
 * ordinary buffers under the name with " (buffer)".
 */
export function elementCosts(
  shared: Uint8Array<ArrayBuffer>,
  ms: number,
): Record<string, number> {
  const costs: Record<string, number> = {};
  for (const loop of loops) {
    let view = 0;
    let buffer = 0;
    for (let pair = 0; pair < pairs; pair++) {
      const one = new Runner(loop, loop.wrap(shared.buffer, shared.byteOffset, elementsBytes));
      const other = new Runner(loop, loop.wrap(new ArrayBuffer(elementsBytes), 0, elementsBytes));
      runAlternately(one, other, ms); // warm-up
      runAlternately(one, other, ms);
      view += one.nsPerElement() / pairs;
      buffer += other.nsPerElement() / pairs;
    }
    costs[loop.name] = view;
    costs[`${loop.name} (buffer)`] = buffer;
  }
  return costs;
}
