import type { AbortSignalLike } from "../core/waiter.ts";

/**
 * A message as a listener of a `SharedBroadcastChannel` gets it: the `MessageEvent` of the runtime. This is a type of its
 * own, since not every program has the types of browsers or of Node.
 */
export interface BroadcastMessage {
  /** `"message"`, or `"messageerror"`. */
  readonly type: string;
  /** The value that was posted, a copy; the error if the type is `"messageerror"`. */
  readonly data: unknown;
  /** The empty text, as for other channels of programs that are no web pages. */
  readonly origin: string;
  /** The channel that has got the message. */
  readonly target: unknown;
}

/** A function that is called with messages, or an object with such a function. */
export type BroadcastListener =
  | ((event: BroadcastMessage) => void)
  | { handleEvent(event: BroadcastMessage): void };

/** These options say how a listener is called, as in `addEventListener` of the web platform. */
export interface BroadcastListenerOptions {
  /** Whether the listener is removed when it is called. */
  readonly once?: boolean | undefined;
  /** The listener is removed when this signal is aborted. */
  readonly signal?: AbortSignalLike | undefined;
}

/** What a channel has of `EventTarget`. */
export interface BroadcastTarget {
  /** Adds a listener, which is called with each message, or with each error. */
  addEventListener(
    type: "message" | "messageerror",
    listener: BroadcastListener | null,
    options?: boolean | BroadcastListenerOptions,
  ): void;
  /** Removes a listener that was added. */
  removeEventListener(
    type: "message" | "messageerror",
    listener: BroadcastListener | null,
    options?: boolean | BroadcastListenerOptions,
  ): void;
}

/** The class `EventTarget` of the runtime, with the types that a channel uses. */
export const BroadcastTarget: new () => BroadcastTarget = EventTarget as unknown as new () =>
BroadcastTarget;
