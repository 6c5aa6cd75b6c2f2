/** What the documentation says about views and the bytes. */
import { done, type Rule, type Subject, thrown } from "./subject.ts";
import type { Outcome } from "./steps.ts";

const TYPES = { Uint8Array, Int16Array, Int32Array, Float64Array, DataView };
type Typed = keyof typeof TYPES;

/** Offset and length in bytes, or what is thrown. */
function place(subject: Subject, type: Typed, offset: number, length: number | null) {
  const { attachment } = subject.memory;
  if (attachment === null) return thrown(subject, "NotFound");
  const element = type === "DataView" ? 1 : TYPES[type].BYTES_PER_ELEMENT;
  const size = attachment.segment.bytes.length;
  const count = length ?? Math.max(0, Math.floor((size - offset) / element));
  const isWithin = offset >= 0 && count >= 0 && offset + count * element <= size;
  if (!isWithin || offset % element !== 0) return { thrown: "RangeError" };
  return [offset, count * element] as const;
}

export const viewRules: Readonly<Record<string, Rule>> = {
  write({ memory }, offset: number, bytes: number[]) {
    const { attachment } = memory;
    if (!attachment?.isWritable) return null;
    if (offset + bytes.length > attachment.segment.bytes.length) return { thrown: "RangeError" };
    attachment.segment.bytes.set(bytes, offset);
    return done;
  },
  read({ memory }, begin: number, end: number) {
    const { attachment } = memory;
    return attachment && { value: [...attachment.segment.bytes.subarray(begin, end)] };
  },
  view(subject, type: Typed, offset: number, length: number | null): Outcome {
    const found = place(subject, type, offset, length);
    return "thrown" in found ? found : { value: found };
  },
  poke(subject, type: Exclude<Typed, "DataView">, offset: number, values: number[]) {
    const { attachment } = subject.memory;
    if (attachment?.isWritable === false) return null;
    const found = place(subject, type, offset, values.length);
    if ("thrown" in found) return found;
    new TYPES[type](attachment!.segment.bytes.buffer, offset, values.length).set(values);
    return done;
  },
};
