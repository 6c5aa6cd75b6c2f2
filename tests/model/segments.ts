/** The life of segments: who makes them, who finds them, and who removes them. */
import { digest } from "./digest.ts";
import { NO_KEY, pathOf } from "./names.ts";
import type { SharedMemoryError } from "../../mod.ts";
import type { Attachment, Memory, Place, Process, Segment, World } from "./world.ts";

export type OpenRequest =
  & { readonly size: number; readonly mode: 0 | 1; made?: number[] }
  & ({ readonly call: "create" | "attach" } | {
    readonly call: "open";
    readonly refuses: boolean;
    readonly replaces: boolean;
    readonly fill?: number | "throw" | undefined;
  });

/** An attachment, or why there is none. */
export type Claim = Attachment | keyof typeof SharedMemoryError | "initialize";

/** What `create`, `attach`, `createOrAttach` and `open` do. */
export function claim(
  world: World,
  process: Process,
  memory: Memory,
  request: OpenRequest,
): Claim {
  if (memory.attachment !== null) return "AlreadyExists";
  const { key } = memory;
  const path = key === null ? memory.path : key && pathOf(key);
  if (!path || key === NO_KEY) return "KeyError";
  if (request.call !== "attach" && request.size < 1) return "InvalidSize";
  if (request.call === "open" && key === null) return "LockError"; // a native key has none
  const place = world.place(path);
  const makes = request.call === "open" ? opens(place, request) : makesOrFinds(place, request);
  if (typeof makes === "string") return makes;
  const madeFile = makes && !place.hasFile;
  const segment = makes ? newSegment(request) : place.segment!;
  if (segment === null) {
    if (place.segment !== null) Object.assign(place, { segment: null, hasFile: false }); // the stale one
    return "initialize";
  }
  Object.assign(place, { segment, hasFile: true });
  if (key === null) place.wasNative = true;
  const isWritable = request.mode === 1;
  const attachment = { segment, path, key, madeFile, isWritable, process, isLockedAsync: false };
  segment.users.add(attachment);
  process.attachments.add(attachment);
  return attachment;
}

/** Whether it makes a segment. */
function makesOrFinds({ segment }: Place, { call, size }: OpenRequest): boolean | Claim {
  if (call === "create") return segment === null || "AlreadyExists";
  if (segment === null) return "NotFound";
  return segment.bytes.length < size ? "InvalidSize" : false;
}

function opens(
  { segment }: Place,
  { refuses, replaces, size }: OpenRequest & { call: "open" },
): boolean | Claim {
  if (segment === null || segment.users.size === 0 && replaces) return true;
  if (refuses) return "AlreadyExists";
  return segment.bytes.length < size ? "InvalidSize" : false;
}

/** `null` if `initialize` throws. */
function newSegment(request: OpenRequest): Segment | null {
  const bytes = new Uint8Array(request.size);
  if (request.call === "open" && request.fill !== undefined) {
    if (request.fill === "throw") return null;
    request.made = [bytes.length, digest(bytes)];
    bytes.fill(request.fill);
  }
  return { bytes, users: new Set() };
}

/** Detaches and unlocks; the last one removes the segment. */
export function leave(world: World, attachment: Attachment): void {
  const { segment, path, key, madeFile } = attachment;
  die(world, attachment);
  const place = world.place(path);
  if (segment.users.size > 0 || place.segment !== segment) return;
  place.segment = null;
  if (key !== null || madeFile) place.hasFile = false;
}

/** What the kernel does when a process ends by a signal. */
export function die(world: World, attachment: Attachment): void {
  const { segment, key } = attachment;
  segment.users.delete(attachment);
  if (key !== null && world.holders.get(key) === attachment) world.holders.delete(key);
}
