import { Mutex } from "../sync/mutex.ts";
import { type PrimitiveKind, Slot } from "../sync/slot.ts";
import { readHeader } from "./map_header.ts";
import { stripeByte } from "./map_shape.ts";

/** Makes the locks of a map anew whose users have all ended. */
export function renewStripes(
  call: string,
  kind: PrimitiveKind,
  view: ArrayBufferView,
  byteOffset: number,
  alignment: number,
): void {
  const header = readHeader(call, new Slot(call, view, byteOffset, alignment), kind);
  for (let i = 0; i < header.stripes; i++) Mutex.renew(view, byteOffset + stripeByte(header, i));
}
