import { checkOptions } from "../core/arguments.ts";
import { perProcess } from "../context.ts";
import { CUSTOM_INSPECT, type InspectArguments, shown } from "../custom_inspect.ts";
import { SyncError } from "../sync/errors.ts";
import { type BroadcastMessage, BroadcastTarget } from "./broadcast_event.ts";
import type { Codec } from "./codecs.ts";
import { SharedTopic } from "./shared_topic.ts";
import { structured } from "./structured.ts";
import type { SharedTopicOpenOptions, TopicMessage } from "./topic_options.ts";
import type { TopicSubscription } from "./topic_subscription.ts";

/** The options of a channel: those of the topic in which its messages lie. All channels of a name need the same `bytes`. */
export interface SharedBroadcastChannelOptions
  extends Omit<SharedTopicOpenOptions<never>, "bytes" | "codec"> {
  /**
   * The number of bytes for messages that not all channels have read: 1 MiB if left out, rounded up to a power of two. A
   * message takes at most a quarter of it.
   */
  readonly bytes?: number | undefined;
}

const BYTES = 2 ** 20;
const ID_BYTES = 8;

/** A message with the random number of the channel that has posted it. */
interface Envelope {
  readonly id: bigint;
  readonly bytes: Uint8Array;
}

const envelopes: Codec<Envelope> = {
  name: "SharedBroadcastChannel",
  encode({ id, bytes }: Envelope): Uint8Array {
    const message = new Uint8Array(ID_BYTES + bytes.length);
    new DataView(message.buffer).setBigUint64(0, id, true);
    message.set(bytes, ID_BYTES);
    return message;
  },
  decode(message: Uint8Array): Envelope {
    if (message.length < ID_BYTES) throw structuredError();
    const { buffer, byteOffset } = message;
    const id = new DataView(buffer, byteOffset).getBigUint64(0, true);
    return { id, bytes: message.subarray(ID_BYTES) };
  },
};

function structuredError(): SyncError {
  return new SyncError(
    "Damaged",
    "SharedBroadcastChannel: a message is there that no channel has posted",
  );
}

/** A topic that the channels of one name and of one thread share. */
interface Shared {
  readonly topic: SharedTopic<Envelope>;
  users: number;
}

/** The topics that are in use, by name and options. */
const sharedTopics = perProcess(() => new Map<string, Shared>());

/** A function that is the value of `onmessage`, and the listener that calls it. */
class Handler {
  value: ((event: BroadcastMessage) => void) | null = null;
  readonly #target: SharedBroadcastChannel;
  readonly #type: "message" | "messageerror";
  #isAdded = false;

  constructor(target: SharedBroadcastChannel, type: "message" | "messageerror") {
    this.#target = target;
    this.#type = type;
  }

  set(value: unknown): void {
    this.value = typeof value === "function" ? value as Handler["value"] : null;
    if (this.#isAdded) return;
    this.#isAdded = true;
    this.#target.addEventListener(this.#type, (event) => this.value?.call(this.#target, event));
  }
}

/**
 * A shared broadcast channel is the `BroadcastChannel` of the web platform between processes: each channel of a name gets
 * the messages of all others, in other processes, in other threads and in its own. The messages are what
 * {@linkcode structured} can store.
 *
 * A message is never called back before `postMessage()` has returned. A channel that is far behind may lose messages; it
 * gets a `messageerror` event then, whose `data` is a `SyncError` that says how many. As in Node, a channel keeps its
 * program alive until `close()` or `unref()`.
 *
 * @example
 * ```ts
 * import { SharedBroadcastChannel } from "./mod.ts";
 *
 * const channel = new SharedBroadcastChannel("settings");
 * channel.onmessage = ({ data }) => console.log(data); // from other processes
 * channel.postMessage({ theme: "dark", since: new Date() });
 * channel.close();
 * ```
 */
export class SharedBroadcastChannel extends BroadcastTarget implements Disposable {
  readonly #name: string;
  readonly #key: string;
  readonly #shared: Shared;
  readonly #subscription: TopicSubscription;
  readonly #id: bigint = crypto.getRandomValues(new BigUint64Array(1))[0]!;
  readonly #onmessage: Handler = new Handler(this, "message");
  readonly #onmessageerror: Handler = new Handler(this, "messageerror");
  /** The numbers of the messages that this channel has posted and not come to yet: none of them is lost to it. */
  readonly #posted: number[] = [];
  /** How many of these numbers are over. They are removed many at once: to remove the first number moves all others. */
  #over = 0;
  #isOpen = true;

  /**
   * Opens the channel of a name.
   *
   * @param name any text, which is the name of the channel for all processes of this user
   * @throws {SharedMemoryException | SyncError | TypeError | RangeError} as `SharedTopic.open()` does
   * @throws {TypeError} if there is no name
   */
  constructor(name: string, options: SharedBroadcastChannelOptions = {}) {
    super();
    if (name === undefined || typeof name === "symbol") {
      throw new TypeError(
        `new SharedBroadcastChannel: the name must be a string, not ${typeof name}`,
      );
    }
    checkOptions("new SharedBroadcastChannel", options, "{ bytes: 1_048_576 }");
    this.#name = String(name);
    const { bytes = BYTES, ...others } = options;
    this.#key = JSON.stringify([this.#name, bytes, others]);
    const topics = sharedTopics();
    let shared = topics.get(this.#key);
    if (shared === undefined) {
      const key = `SharedBroadcastChannel ${this.#name}`;
      const topic = SharedTopic.open<Envelope>(key, { ...others, bytes, codec: envelopes });
      topics.set(this.#key, shared = { topic, users: 0 });
    }
    this.#shared = shared;
    shared.users++;
    this.#subscription = shared.topic.subscribe((message) => this.#receive(message), {
      ref: true,
      onError: (error) => this.#dispatch("messageerror", error),
    });
  }

  /** The name of the channel. */
  get name(): string {
    return this.#name;
  }

  /** Is called with each message. */
  get onmessage(): ((event: BroadcastMessage) => void) | null {
    return this.#onmessage.value;
  }

  set onmessage(handler: ((event: BroadcastMessage) => void) | null) {
    this.#onmessage.set(handler);
  }

  /** Is called if messages were lost, or if the bytes of one cannot be read; `data` is the error. */
  get onmessageerror(): ((event: BroadcastMessage) => void) | null {
    return this.#onmessageerror.value;
  }

  set onmessageerror(handler: ((event: BroadcastMessage) => void) | null) {
    this.#onmessageerror.set(handler);
  }

  /**
   * Posts a message to all other channels of this name.
   *
   * @throws {DOMException} `DataCloneError` if the message cannot be cloned, `InvalidStateError` after `close()`
   * @throws {SyncError} as `SharedTopic.publish()` does
   * @throws {TypeError} if there is no argument
   */
  postMessage(message: unknown): void {
    if (arguments.length === 0) {
      throw new TypeError(
        "SharedBroadcastChannel.postMessage: there is no message; undefined is one",
      );
    }
    if (!this.#isOpen) {
      throw new DOMException(
        `SharedBroadcastChannel.postMessage: the channel "${this.#name}" is closed`,
        "InvalidStateError",
      );
    }
    const bytes = structured.encode(message);
    this.#posted.push(this.#shared.topic.publish({ id: this.#id, bytes }));
  }

  /** Closes the channel. It gets no messages any more. */
  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    this.#subscription.close();
    if (--this.#shared.users > 0) return;
    sharedTopics().delete(this.#key);
    this.#shared.topic[Symbol.dispose]();
  }

  /** Lets the channel keep the program alive, as it does if `unref()` was not called. */
  ref(): this {
    this.#subscription.ref();
    return this;
  }

  /** Lets the program end although the channel is open. */
  unref(): this {
    this.#subscription.unref();
    return this;
  }

  /** Closes the channel. */
  [Symbol.dispose](): void {
    this.close();
  }

  #receive({ value: { id, bytes }, sequence, lost: all }: TopicMessage<Envelope>): void {
    const lost = all - this.#ownAmong(sequence - all, sequence);
    if (lost > 0) this.#dispatch("messageerror", this.#lost(lost));
    if (id === this.#id) return;
    let data: unknown;
    try {
      data = structured.decode(bytes);
    } catch (error) {
      return this.#dispatch("messageerror", error);
    }
    this.#dispatch("message", data);
  }

  /** Returns how many messages with the numbers from `first` up to `end` this channel has posted, and forgets those before. */
  #ownAmong(first: number, end: number): number {
    const posted = this.#posted;
    let own = 0;
    for (; this.#over < posted.length && posted[this.#over]! < end; this.#over++) {
      if (posted[this.#over]! >= first) own++;
    }
    if (2 * this.#over > posted.length) {
      posted.splice(0, this.#over);
      this.#over = 0;
    }
    return own;
  }

  #lost(lost: number): SyncError {
    const messages = lost === 1 ? "1 message was" : `${lost} messages were`;
    return new SyncError(
      "Full",
      `SharedBroadcastChannel: ${messages} overwritten before the channel "${this.#name}" came to read; give all ` +
        "channels of this name more bytes, or let listeners do less",
    );
  }

  #dispatch(type: "message" | "messageerror", data: unknown): void {
    if (!this.#isOpen) return;
    const event = new MessageEvent(type, { data });
    if (data === undefined) Object.defineProperty(event, "data", { value: data }); // the constructor makes it null
    (this as unknown as EventTarget).dispatchEvent(event);
  }

  /** @internal Returns what `console.log` shows of this object. */
  [CUSTOM_INSPECT](...args: InspectArguments): string {
    return shown(this, args, () => ({ name: this.#name, open: this.#isOpen }));
  }
}
