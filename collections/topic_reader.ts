import type { Slot } from "../sync/slot.ts";
import { SyncError } from "../sync/errors.ts";
import type { Codec } from "./codecs.ts";
import { TopicCursor } from "./topic_cursor.ts";
import type { TopicLog } from "./topic_log.ts";
import type { TopicMessage, TopicStart } from "./topic_options.ts";

/** @internal Where a reader reads, and how it decodes what it reads. */
export interface TopicSource<Value> {
  readonly slot: Slot;
  readonly log: TopicLog;
  readonly codec: Codec<Value>;
}

/** @internal @throws {SyncError} if the topic was detached, or if its header was overwritten */
export function requireTopic(slot: Slot, method: string): void {
  if (slot.isIntact) return;
  slot.requireUsable(method);
  throw new SyncError(
    "Damaged",
    `${slot.name}.${method}: the topic has been overwritten; create it again when no process uses it`,
  );
}

/** @internal Makes a reader, whose constructor is private. */
export let createReader: <Value>(
  call: string,
  source: TopicSource<Value>,
  from: TopicStart,
) => TopicReader<Value>;

/**
 * A reader gets the messages of a topic one by one, whenever its program asks for the next one. Its place is in its own
 * memory, and nothing in the segment knows of it. `SharedTopic.reader()` returns one.
 */
export class TopicReader<Value = Uint8Array> {
  // For `declare` and `private`, see Slot.
  declare private readonly source: TopicSource<Value>;
  declare private readonly cursor: TopicCursor;

  static {
    createReader = (call, source, from) => new TopicReader(call, source, from);
  }

  private constructor(call: string, source: TopicSource<Value>, from: TopicStart) {
    this.source = source;
    this.cursor = new TopicCursor(call, source.slot, source.log, from);
  }

  /**
   * Returns the next message; `undefined` if it has not been published yet.
   *
   * @throws {SyncError} `NotAttached` if the segment has been detached; `Damaged` if the bytes of the topic or of the
   * message were overwritten: the reader then goes on with the messages that are published afterwards; `Busy` if
   * publishers overwrite the messages again and again for 100 ms while they are read
   * @throws whatever the codec throws; the next call returns the message after that
   */
  next(): TopicMessage<Value> | undefined {
    const { source, cursor } = this;
    if (!source.slot.isIntact) requireTopic(source.slot, "next");
    const raw = cursor.next("next");
    if (raw === null) return undefined;
    const { sequence, lost } = cursor;
    return { value: source.codec.decode(raw), sequence, lost };
  }

  /** Whether there is a message to read. @throws {SyncError} `NotAttached` if the segment has been detached */
  get hasNext(): boolean {
    requireTopic(this.source.slot, "hasNext");
    return this.cursor.hasNext;
  }
}
