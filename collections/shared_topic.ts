import { thisPlatform } from "../backends/platform.ts";
import { checkOptions } from "../core/arguments.ts";
import { requireStack } from "../core/stack.ts";
import { lengthOf } from "../core/view_extent.ts";
import { waitOf } from "../core/waiter.ts";
import { CUSTOM_INSPECT, type InspectArguments, shown } from "../custom_inspect.ts";
import type { NativeIpcKey } from "../native_ipc_key.ts";
import type { SharedMemory } from "../shared_memory.ts";
import { SyncError } from "../sync/errors.ts";
import type { LayoutMember } from "../sync/layout_member.ts";
import { Mutex } from "../sync/mutex.ts";
import { AsyncQueue } from "../sync/retry_queue.ts";
import { kindText, Slot } from "../sync/slot.ts";
import { type Codec, codecText } from "./codecs.ts";
import { type CommonSettings, commonSettings, notConstructed } from "./common_settings.ts";
import { encodedBy } from "./encoded.ts";
import { openIn } from "./opening.ts";
import { RECOVERED, UNIT_BYTES } from "./ring_log.ts";
import { SectionLock } from "./section_lock.ts";
import { TopicCursor } from "./topic_cursor.ts";
import { TopicLog, unitsFor } from "./topic_log.ts";
import {
  type CallbackOptions,
  checkStart,
  checkSubscribe,
  type PublishOptions,
  type SharedTopicOpenOptions,
  type SharedTopicOptions,
  type SubscribeOptions,
  type TopicMessage,
  type TopicStart,
} from "./topic_options.ts";
import { createReader, requireTopic, type TopicReader } from "./topic_reader.ts";
import {
  codecOf,
  makeTopic,
  MUTEX_BYTE,
  readTopic,
  TOPIC_ALIGNMENT,
  topicBytes,
  unitsOf,
} from "./topic_shape.ts";
import {
  CallbackSubscription,
  IteratedSubscription,
  type TopicSubscription,
} from "./topic_subscription.ts";
import { TopicWaker } from "./topic_waker.ts";
import { isBusy } from "./wait_line.ts";

/** What `stats()` returns. */
export interface SharedTopicStats {
  /** The sequence number of the oldest message that is still there; `last + 1` if there is none. */
  readonly first: number;
  /** The sequence number of the newest message, which is also how many messages were published. 0 if there was none. */
  readonly last: number;
  /** The number of bytes that the messages take which are still there. */
  readonly bytes: number;
  /** The number of bytes that there are for messages. */
  readonly capacity: number;
  /** How many threads sleep until the next message, one for each process that waits. */
  readonly waiters: number;
  /** How often a process was killed while it was publishing, and another one has repaired the topic. */
  readonly recovered: number;
}

/**
 * A shared topic brings messages to all processes that want them: a fixed number of bytes in a segment, with the newest
 * messages that fit. Any process may publish, and any number of subscribers get each message, in the same order.
 *
 * Subscribers take no lock, and nothing in the segment knows of them. So a slow one never delays a publisher. If the
 * publishers have overwritten messages before a subscriber has come to them, it goes on with the oldest one that is still
 * there, and learns exactly how many it has lost. A process that is killed at any moment has published its message or
 * not, and holds nobody up.
 *
 * @example
 * ```ts
 * import { json, SharedTopic } from "./mod.ts";
 *
 * interface News {
 *   text: string;
 * }
 * using topic = SharedTopic.open<News>("news", { bytes: 2 ** 20, codec: json });
 * const subscription = topic.subscribe(({ value, lost }) => console.log(value.text, lost));
 * topic.publish({ text: "hello" }); // to the subscribers of all processes
 * subscription.close();
 * ```
 */
export class SharedTopic<Value = Uint8Array> implements Disposable {
  /** A topic must begin at a multiple of this number of bytes in the segment. */
  static readonly ALIGNMENT: number = TOPIC_ALIGNMENT;
  // For `declare` and `private`, see Slot.
  declare private readonly slot: Slot;
  declare private readonly log: TopicLog;
  declare private readonly lock: SectionLock;
  declare private readonly waker: TopicWaker;
  declare private readonly codec: Codec<Value>;
  declare private readonly lockTimeout: number;
  /** What `publish` does with the lock held: a function that is made once, and the bytes of the current message. */
  declare private readonly publishLocked: () => number;
  private message: Uint8Array = NO_BYTES;
  private length = 0;
  private readonly queue = new AsyncQueue();
  private memory: SharedMemory | null = null;

  private constructor(
    slot: Slot,
    units: number,
    mutex: Mutex,
    settings: CommonSettings<Value>,
  ) {
    if (!(slot instanceof Slot)) throw notConstructed("SharedTopic");
    const { codec, lockTimeout } = settings;
    const log = new TopicLog(slot, units, thisPlatform().arch === "x64");
    this.slot = slot;
    this.log = log;
    this.codec = codec;
    this.lockTimeout = lockTimeout;
    this.waker = new TopicWaker(slot, log);
    const section = {
      words: log.words,
      recover: () => log.recover(),
      reset: () => log.reset(),
      name: "SharedTopic",
      part: "the topic",
    };
    this.lock = new SectionLock(section, mutex);
    this.publishLocked = () => log.publish(this.message, this.length);
  }

  /**
   * Opens the topic in the segment of a key, and creates it if it does not exist. The topic is detached by `dispose`, and
   * the segment is removed with its last user, unless the options say otherwise.
   *
   * @param options those of the topic and those of `SharedMemory.open()`
   * @throws {SharedMemoryException} as `SharedMemory.open()` does; `InvalidSize` if the topic that exists is smaller
   * @throws {SyncError} as {@linkcode SharedTopic.at} does
   * @throws {TypeError | RangeError} if an option is not what it should be
   */
  static open<Value = Uint8Array>(
    key: string | NativeIpcKey,
    options: SharedTopicOpenOptions<Value>,
  ): SharedTopic<Value> {
    checkOptions("SharedTopic.open", options, "{ bytes: 65_536 }");
    const { bytes, codec, lockTimeout, ...others } = options;
    const own = { bytes, codec, lockTimeout };
    commonSettings("SharedTopic.open", own);
    const [topic, memory] = openIn("SharedTopic.open", key, others, {
      bytes: topicBytes(unitsOf("SharedTopic.open", bytes)),
      create: (view) => void SharedTopic.create(view, 0, own),
      at: (view) => SharedTopic.at(view, 0, own),
      renew: (view) => SharedTopic.renew(view),
    });
    topic.memory = memory;
    return topic;
  }

  /**
   * Returns the number of bytes that a topic takes in its segment: `options.bytes`, rounded up to a power of two, and 384
   * more.
   *
   * @throws {TypeError | RangeError} if `bytes` is not a number in its range
   */
  static bytesFor<Value>(options: SharedTopicOptions<Value>): number {
    checkOptions("SharedTopic.bytesFor", options, "{ bytes: 65_536 }");
    return topicBytes(unitsOf("SharedTopic.bytesFor", options.bytes));
  }

  /**
   * Creates an empty topic in a segment.
   *
   * @param view a view of an attached segment
   * @param byteOffset where the topic begins in the view, in bytes
   * @throws {SyncError} `AlreadyExists` if the place is in use already, `NotAttached` if the segment is not attached,
   * `ReadOnly` if it is attached `ReadOnly`
   * @throws {TypeError | RangeError} if `view` is not a view, or `byteOffset` is misaligned or leaves too little room, or
   * an option is not what it should be
   */
  static create<Value = Uint8Array>(
    view: ArrayBufferView,
    byteOffset: number,
    options: SharedTopicOptions<Value>,
  ): SharedTopic<Value> {
    const call = "SharedTopic.create";
    const settings = commonSettings(call, options);
    const units = unitsOf(call, options.bytes);
    const slot = new Slot(call, view, byteOffset, TOPIC_ALIGNMENT);
    const shape = { units, codec: settings.codecName };
    makeTopic(call, slot, shape, () => void Mutex.create(view, byteOffset + MUTEX_BYTE));
    return new SharedTopic(slot, units, Mutex.at(view, byteOffset + MUTEX_BYTE), settings);
  }

  /**
   * Returns an object for a topic that exists in a segment.
   *
   * @param view a view of an attached segment
   * @param byteOffset where the topic begins in the view, in bytes
   * @param options if `bytes` is given, it is compared with the topic
   * @throws {SyncError} `NotFound` if there is no topic; `WrongKind` if the place holds something else, if the topic was
   * created with other `bytes` or a codec of another name, or if it cannot be used in this container; `Damaged` if its header was overwritten;
   * `NotAttached` if the segment is not attached; `ReadOnly` if it is attached `ReadOnly`
   * @throws {TypeError | RangeError} if `view` is not a view, or `byteOffset` is misaligned or leaves too little room, or
   * an option is not what it should be
   */
  static at<Value = Uint8Array>(
    view: ArrayBufferView,
    byteOffset = 0,
    options: SharedTopicOptions<Value> = {},
  ): SharedTopic<Value> {
    const call = "SharedTopic.at";
    const settings = commonSettings(call, options);
    const slot = new Slot(call, view, byteOffset, TOPIC_ALIGNMENT);
    const units = readTopic(call, slot);
    if (options.bytes !== undefined && unitsOf(call, options.bytes) !== units) {
      throw new SyncError(
        "WrongKind",
        `${call}: the topic was created with ${units * UNIT_BYTES} bytes for messages, not ` +
          `${
            unitsOf(call, options.bytes) * UNIT_BYTES
          }. Use the same number everywhere, or another key`,
      );
    }
    const found = codecOf(slot);
    const { codecName } = settings;
    if (codecName !== "" && found !== "" && codecName !== found) {
      throw new SyncError(
        "WrongKind",
        `${call}: the topic was created with the codec ${
          JSON.stringify(found)
        }, not "${codecName}". Use the same one ` +
          "everywhere, or another key",
      );
    }
    return new SharedTopic(slot, units, Mutex.at(view, byteOffset + MUTEX_BYTE), settings);
  }

  /**
   * Makes the lock of a topic anew whose users have all ended: in `adopt` of `SharedMemory.open()`, before another process
   * attaches. The messages stay. {@linkcode SharedTopic.open} and `layout()` do it where it is needed.
   *
   * @param view a view of an attached segment
   * @param byteOffset where the topic begins in the view, in bytes
   * @throws as {@linkcode SharedTopic.at}, but not for the lock
   */
  static renew(view: ArrayBufferView, byteOffset = 0): void {
    const call = "SharedTopic.renew";
    readTopic(call, new Slot(call, view, byteOffset, TOPIC_ALIGNMENT));
    Mutex.renew(view, byteOffset + MUTEX_BYTE);
  }

  /**
   * Returns a member of a `layout()`: a topic that is created with these options.
   *
   * @param options as for {@linkcode SharedTopic.create}. `bytes` is part of the layout: programs with another number get
   * a `WrongLayout`
   * @throws {TypeError | RangeError} if an option is not what it should be
   *
   * @example
   * ```ts
   * import { layout, SharedTopic, utf8 } from "./mod.ts";
   * import { Counter } from "../sync/mod.ts";
   *
   * const Site = layout({ visits: Counter, news: SharedTopic.of({ bytes: 65_536, codec: utf8 }) });
   * using site = Site.open("site with news");
   * console.log(site.news.publish("hello")); // 1
   * ```
   */
  static of<Value = Uint8Array>(
    options: SharedTopicOptions<Value>,
  ): LayoutMember<SharedTopic<Value>> {
    const call = "SharedTopic.of";
    const { codecName } = commonSettings(call, options);
    const units = unitsOf(call, options.bytes);
    return {
      KIND: kindText("SharedTopic", `(${units}, ${codecText(codecName)})`),
      BYTES: topicBytes(units),
      ALIGNMENT: TOPIC_ALIGNMENT,
      create: (view, byteOffset) => SharedTopic.create(view, byteOffset, options),
      at: (view, byteOffset) => SharedTopic.at(view, byteOffset, options),
      renew: (view, byteOffset) => SharedTopic.renew(view, byteOffset),
    };
  }

  /**
   * Publishes a message, and wakes the subscribers that sleep.
   *
   * @returns the sequence number of the message
   * @throws {SyncError} `InvalidSize` if the message takes more than a quarter of the topic; `Busy` if another process
   * has been publishing for all of `lockTimeout`, as when it was stopped in the middle; `NotAttached` if the segment has
   * been detached; `Damaged` if the bytes of the topic were overwritten. Nothing is published then
   * @throws whatever the codec throws
   */
  publish(value: Value): number {
    return this.publishBytes("publish", this.encoded("publish", value), this.lockTimeout);
  }

  /**
   * Publishes like {@linkcode SharedTopic.publish}. If another process is publishing, it waits without blocking the event
   * loop. The value is encoded before this function returns.
   *
   * @returns a promise of the sequence number
   * @throws (rejects) as {@linkcode SharedTopic.publish}, and with the reason of `signal`
   * @throws {TypeError | RangeError} (rejects) if an option is not what it should be
   */
  publishAsync(value: Value, options: PublishOptions = {}): Promise<number> {
    requireStack(); // before there is a promise
    return this.publishWaiting(value, options);
  }

  /** Does what `publishAsync()` does, once there is stack for it. */
  private async publishWaiting(value: Value, options: PublishOptions): Promise<number> {
    const call = "SharedTopic.publishAsync";
    checkOptions(call, options, "{ timeout: 500 }");
    const { timeout = this.lockTimeout, signal } = options;
    const wait = waitOf(call, { timeout, signal });
    const bytes = new Uint8Array(this.encoded("publishAsync", value)); // a copy: the program goes on
    let sequence = 0;
    const attempt = () => {
      try {
        sequence = this.publishBytes("publishAsync", bytes, 0);
        return true;
      } catch (error) {
        if (!isBusy(error)) throw error;
        return false;
      }
    };
    if (this.queue.isEmpty && attempt()) return sequence;
    if (timeout > 0 && await this.queue.wait(attempt, wait)) return sequence;
    throw this.lock.busy("publishAsync", timeout);
  }

  /** Publishes the bytes of a message, and wakes who sleeps. */
  private publishBytes(method: string, bytes: Uint8Array, timeout: number): number {
    const { slot, log } = this;
    if (!slot.isIntact) requireTopic(slot, method);
    const length = lengthOf(bytes);
    if (length > log.most) throw this.tooLarge(method, length);
    this.message = bytes;
    this.length = length;
    try {
      return this.lock.change(method, timeout, this.publishLocked);
    } finally {
      this.waker.wake();
    }
  }

  /** Returns the error for a message that is too large. */
  private tooLarge(method: string, length: number): SyncError {
    const { log: { most, units } } = this;
    return new SyncError(
      "InvalidSize",
      `SharedTopic.${method}: the message has ${length} bytes; at most ${most} are possible, as a message may take a ` +
        `quarter of the ${units * UNIT_BYTES} bytes of the topic. Create it with ${
          4 * unitsFor(length) * UNIT_BYTES
        } bytes`,
    );
  }

  /** Returns the bytes of a value. */
  private encoded(method: string, value: Value): Uint8Array {
    return encodedBy("SharedTopic", method, this.codec, value);
  }

  /**
   * Returns a reader, for a program that asks for messages whenever it likes.
   *
   * @param options `from` says where to begin: with the next message, `"latest"`, if it is left out
   * @throws {SyncError} `NotAttached` if the segment has been detached; `Damaged` if the bytes of the topic were
   * overwritten
   * @throws {TypeError | RangeError} if `from` does not say where to begin, or is the number of a message that the topic
   * has not had and that is not the next one
   */
  reader(options: { readonly from?: TopicStart | undefined } = {}): TopicReader<Value> {
    checkSubscribe("SharedTopic.reader", options);
    return this.readerFrom("reader", options.from);
  }

  /** Returns a reader for a method. */
  private readerFrom(method: string, from: TopicStart = "latest"): TopicReader<Value> {
    const call = `SharedTopic.${method}`;
    checkStart(call, from);
    requireTopic(this.slot, method);
    const { slot, log, codec } = this;
    return createReader(call, { slot, log, codec }, from);
  }

  /**
   * Calls `callback` with each message, in its order. It is never called before this function has returned. Messages that
   * are published while it runs wait in the topic. What it throws is thrown where nobody catches it.
   *
   * The subscription lasts until `close()`. It does not keep the program alive, unless `ref` is `true`.
   *
   * @throws as {@linkcode SharedTopic.reader}
   */
  subscribe(
    callback: (message: TopicMessage<Value>) => void,
    options?: CallbackOptions,
  ): TopicSubscription;
  /**
   * Returns the messages as an async iterator. A message is taken from the topic when the program asks for the next one;
   * the place in the topic is that of this call. The iteration ends when the topic is detached.
   *
   * Waiting for a message does not keep the program alive, unless `ref` is `true`.
   *
   * @throws as {@linkcode SharedTopic.reader}
   *
   * @example
   * ```ts
   * import { SharedTopic, utf8 } from "./mod.ts";
   *
   * using topic = SharedTopic.open("numbers", { bytes: 4096, codec: utf8 });
   * for (const text of ["one", "two"]) topic.publish(text);
   * for await (const { value, sequence } of topic.subscribe({ from: "oldest" })) {
   *   console.log(sequence, value);
   *   if (sequence === 2) break;
   * }
   * ```
   */
  subscribe(
    options?: SubscribeOptions,
  ): TopicSubscription & AsyncIterableIterator<TopicMessage<Value>>;
  subscribe(
    first: ((message: TopicMessage<Value>) => void) | SubscribeOptions = {},
    more: CallbackOptions = {},
  ): TopicSubscription {
    const isCallback = typeof first === "function";
    const given: CallbackOptions = isCallback ? more : first;
    checkSubscribe("SharedTopic.subscribe", given);
    const { from, signal, ref = false, onError } = given;
    const reader = this.readerFrom("subscribe", from);
    const options = { slot: this.slot, waker: this.waker, signal, ref };
    return isCallback
      ? new CallbackSubscription(reader, first, onError, options)
      : new IteratedSubscription(reader, options);
  }

  /**
   * Returns numbers about the topic.
   *
   * @throws {SyncError} `NotAttached` if the segment has been detached; `Damaged` if the bytes of the topic were
   * overwritten
   */
  stats(): SharedTopicStats {
    requireTopic(this.slot, "stats");
    const { slot, log, waker } = this;
    const call = "SharedTopic.stats";
    const first = new TopicCursor(call, slot, log, "oldest").following;
    const last = new TopicCursor(call, slot, log, "latest").following - 1;
    if (first === 0 || last === -1) {
      throw new SyncError(
        "Damaged",
        `${call}: the bytes of the topic were overwritten; the next message empties it`,
      );
    }
    return {
      first,
      last,
      bytes: log.taken,
      capacity: log.units * UNIT_BYTES,
      waiters: waker.waiting,
      recovered: Atomics.load(log.words, RECOVERED),
    };
  }

  /**
   * Ends the lifetime `"until-removed"` of a topic that {@linkcode SharedTopic.open} has opened: `SharedMemory.remove()`.
   * From now on the last process to detach removes the topic.
   *
   * @throws {SharedMemoryException} as `SharedMemory.remove()` does
   * @throws {SyncError} `NotOwner` if the topic was not opened by `open()`: its segment belongs to the program
   */
  remove(): void {
    if (this.memory !== null) return this.memory.remove();
    throw new SyncError(
      "NotOwner",
      "SharedTopic.remove: the topic was not opened by SharedTopic.open(); call remove() of its SharedMemory",
    );
  }

  /**
   * Detaches the topic if `open()` has attached it, which ends its subscriptions. Otherwise it does nothing: the program
   * detaches its segment.
   */
  [Symbol.dispose](): void {
    this.memory?.[Symbol.dispose]();
  }

  /** @internal Returns what `console.log` shows of this object. */
  [CUSTOM_INSPECT](...args: InspectArguments): string {
    return shown(this, args, () => {
      const isUsable = this.slot.isIntact;
      return { attached: isUsable, last: isUsable ? this.stats().last : undefined };
    });
  }
}

const NO_BYTES = new Uint8Array(0);
