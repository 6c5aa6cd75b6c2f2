import type { PeekedSegment } from "./inventory.ts";
import type { Peek } from "./peek_types.ts";
import { PosixPeek } from "./posix/peek.ts";
import { SystemVPeek } from "./systemv/peek.ts";
import { sharedLibrary } from "./unix/shared_libc.ts";

/** Returns what reads the bytes of a segment that was listed. It touches the segment only when it reads. */
export function peekAt(segment: PeekedSegment): Peek {
  const Class = segment.type === "posix" ? PosixPeek : SystemVPeek;
  return new Class(sharedLibrary(), segment);
}
