/**
 * This module makes a store for [express-session](https://github.com/expressjs/session) whose sessions all processes of a
 * machine share. It imports nothing of the library: the program passes it.
 *
 * @example
 * ```ts ignore
 * import session from "express-session";
 * import { sharedSessionStore } from "./express_session.ts";
 *
 * const SharedStore = sharedSessionStore(session);
 * const store = new SharedStore("sessions of the shop", { bytes: 2 ** 24 });
 * app.use(session({ store, secret, resave: false, saveUninitialized: false }));
 * ```
 *
 * @module
 */
import { checkOptions } from "../core/arguments.ts";
import { json } from "../collections/codecs.ts";
import { SharedMap } from "../collections/shared_map.ts";
import type { NativeIpcKey } from "../native_ipc_key.ts";
import { keysWith, type StoreOptions } from "./map_store.ts";

export type { StoreOptions };

/** What this module needs of the library. */
export interface SessionLibrary<Base> {
  /** The class that all stores extend. */
  readonly Store: Base;
}

/** A session as it is stored, as far as this module knows it. */
export interface StoredSession {
  /** The cookie that names it. */
  readonly cookie: {
    /** When it expires, as a `Date` or as the text of one. */
    readonly expires?: unknown;
  };
}

/** What a store calls when it is done. */
export type Done<Result> = (error: unknown, result?: Result) => void;

/** The methods of a store. Each calls its last argument when it is done. */
export interface SharedSessionStore extends Disposable {
  /** Gets a session, `undefined` if there is none. */
  get(id: string, done: Done<StoredSession | undefined>): void;
  /** Stores a session for as long as its cookie lives, or for the `ttl` of the options if that does not expire. */
  set(id: string, session: StoredSession, done?: Done<void>): void;
  /** Lets a session that exists live as long as its cookie from now on. */
  touch(id: string, session: StoredSession, done?: Done<void>): void;
  /** Removes a session. */
  destroy(id: string, done?: Done<void>): void;
  /** Gets all sessions. */
  all(done: Done<StoredSession[]>): void;
  /** Gets the number of sessions. */
  length(done: Done<number>): void;
  /** Removes all sessions. */
  clear(done?: Done<void>): void;
  /** Detaches the map. */
  [Symbol.dispose](): void;
}

/** The class that {@linkcode sharedSessionStore} returns. */
export type SharedSessionStoreClass<Store> = new (
  key: string | NativeIpcKey,
  options: StoreOptions,
) => Store & SharedSessionStore;

/** Of a session whose cookie ends with the browser, and for which the options say nothing: a day. */
const TTL_MS = 86_400_000;

/** How long a session is to live, in ms; 0 or less if it has expired. */
function ttlOf({ cookie }: StoredSession, ttl: number): number {
  const expires = cookie?.expires;
  if (expires === undefined || expires === null) return ttl;
  const time = expires instanceof Date ? expires.getTime() : Date.parse(String(expires));
  return Number.isNaN(time) ? ttl : time - Date.now();
}

/**
 * Calls `done` with what `action` returns or throws: later, as of a store that has to ask somebody. What `done` itself
 * throws is nobody else's.
 */
function answer<Result>(done: Done<Result> | undefined, action: () => Result): void {
  let args: [error: unknown, result?: Result];
  try {
    args = [null, action()];
  } catch (error) {
    args = [error];
  }
  if (typeof done === "function") queueMicrotask(() => done(...args)); // a program may also pass null, as to other stores
}

/**
 * Returns a class of stores for `session({ store })`.
 *
 * @param library what `express-session` exports
 */
export function sharedSessionStore<Store extends object>(
  library: SessionLibrary<abstract new () => Store>,
): SharedSessionStoreClass<Store> {
  const Base = library.Store as unknown as new () => object;
  class SessionStore extends Base implements SharedSessionStore {
    readonly #map: SharedMap<StoredSession>;
    readonly #ttl: number;

    constructor(key: string | NativeIpcKey, options: StoreOptions) {
      super();
      checkOptions("SharedSessionStore", options, "{ bytes: 1_048_576 }");
      this.#ttl = options.ttl ?? TTL_MS;
      this.#map = SharedMap.open<StoredSession>(key, { ...options, codec: json });
    }

    get(id: string, done: Done<StoredSession | undefined>): void {
      answer(done, () => this.#map.get(id));
    }

    set(id: string, session: StoredSession, done?: Done<void>): void {
      answer(done, () => {
        const ttl = ttlOf(session, this.#ttl);
        if (ttl > 0) this.#map.set(id, session, { ttl });
        else this.#map.delete(id);
      });
    }

    touch(id: string, session: StoredSession, done?: Done<void>): void {
      answer(done, () => {
        const ttl = ttlOf(session, this.#ttl);
        if (ttl > 0) this.#map.expire(id, ttl);
        else this.#map.delete(id);
      });
    }

    destroy(id: string, done?: Done<void>): void {
      answer(done, () => void this.#map.delete(id));
    }

    all(done: Done<StoredSession[]>): void {
      answer(done, () => [...this.#map.entries()].map(([, session]) => session));
    }

    length(done: Done<number>): void {
      answer(done, () => [...keysWith(this.#map, "")].length);
    }

    clear(done?: Done<void>): void {
      answer(done, () => this.#map.clear());
    }

    [Symbol.dispose](): void {
      this.#map[Symbol.dispose]();
    }
  }
  return SessionStore as unknown as SharedSessionStoreClass<Store>;
}
