/**
 * When loads and stores of shared memory take effect. Usually each does at once. If the state has an `Ordering`, memory
 * is as in JavaScript's memory model and on arm64, where operations of `Atomics` order others in one direction only:
 *
 * - A store may become visible late: after later plain stores of the process, but before its next operation that
 *   releases (a store or an update by `Atomics`), and before its next operation of `Atomics` if it is one itself. The
 *   store of an update may come late too, unless another process stores there.
 * - A load may return an older value: a plain one any since the last operation that acquires (a load or an update by
 *   `Atomics`), and one of `Atomics` any since the last operation of `Atomics`.
 *
 * Each of these is a choice of the explorer, an alternative to what usually happens. What is not simulated: that a load
 * returns what is stored after it. A kill loses the plain stores that are late, since a compiler may have moved them.
 * All processes must have the memory at the same address.
 */
import type { Fingerprint } from "./fingerprint.ts";

/** Loads and stores that take effect at once. */
export interface Memory {
  load(address: number, length: number): Uint8Array;
  store(address: number, bytes: Uint8Array): void;
}

/** `exclusive` is the store of an update. */
type Kind = "plain" | "atomic" | "exclusive";

/** A store that other processes do not see yet. */
interface Late {
  readonly process: number;
  readonly address: number;
  readonly bytes: Uint8Array;
  readonly kind: Kind;
}

/** What a store has replaced. */
interface Replaced {
  readonly process: number;
  readonly address: number;
  readonly bytes: Uint8Array;
  /** The number of the store. */
  readonly time: number;
}

/** Since when the loads of a process may be satisfied: its plain ones, and those of `Atomics`. */
interface Since {
  readonly plain: number;
  readonly atomic: number;
}

export interface Ordering {
  /** How often an alternative that costs one may still be chosen. */
  left: number;
  /** The alternative that was chosen for the next access; -1 for none. */
  chosen: number;
  /** The number of stores that are visible. */
  time: number;
  /** In the order of the programs. */
  late: Late[];
  /** The stores that a load may still ignore, the newest one last. */
  replaced: Replaced[];
  since: Since[];
}

/** A load, a store, or an `update` by `Atomics` that does both. */
export interface Access {
  readonly what: "load" | "store" | "update";
  readonly isAtomic: boolean;
  readonly address: number;
  readonly length: number;
}

/** An alternative: the store becomes visible late, a late store becomes visible first, or the load returns a value. */
export type Alternative = "late" | Late | { readonly older: Uint8Array; readonly time: number };

/** Says what an alternative is, as a part of a sentence about the process. */
export function alternativeText(alternative: Alternative): string {
  if (alternative === "late") return "stores late";
  return "older" in alternative
    ? `gets the older bytes ${alternative.older}`
    : `sees the late store ${alternative.bytes} of P${alternative.process} first`;
}

export function orderingOf(processes: number, left: number): Ordering {
  const since = Array.from({ length: processes }, () => ({ plain: 0, atomic: 0 }));
  return { left, chosen: -1, time: 0, late: [], replaced: [], since };
}

export function cloneOrdering(ordering: Ordering): Ordering {
  const { late, replaced, since } = ordering;
  return {
    ...ordering,
    late: late.slice(),
    replaced: replaced.slice(),
    since: since.slice(),
  };
}

export function addOrdering(hash: Fingerprint, ordering: Ordering): void {
  const { left, chosen, time, late, replaced, since } = ordering;
  hash.add(left === Infinity ? -1 : left).add(chosen).add(late.length);
  for (const { process, address, bytes, kind } of late) {
    hash.add(process).add(address).addText(kind).addAll(bytes);
  }
  if (left === 0) return;
  for (const { plain, atomic } of since) hash.add(time - plain).add(time - atomic);
  for (const { process, address, bytes, time: then } of replaced) {
    hash.add(process).add(address).add(time - then).addAll(bytes);
  }
}

interface Range {
  readonly address: number;
  readonly bytes: Uint8Array;
}

function overlap({ address, bytes }: Range, start: number, length: number): boolean {
  return address < start + length && start < address + bytes.length;
}

/** Writes the bytes of a range over those at `start`, where both have them. */
function put({ address, bytes }: Range, onto: Uint8Array, start: number): void {
  for (const [i, byte] of bytes.entries()) {
    const at = address + i - start;
    if (at >= 0 && at < onto.length) onto[at] = byte;
  }
}

function isEqual(one: Uint8Array, other: Uint8Array): boolean {
  return one.every((byte, i) => byte === other[i]);
}

/** The loads and stores of one process. */
export interface Accesses {
  load(address: number, length: number, isAtomic: boolean): Uint8Array;
  store(address: number, bytes: Uint8Array, isAtomic: boolean): void;
  /** Loads and stores in one step. `change` changes the bytes. */
  update<Result>(address: number, length: number, change: (bytes: Uint8Array) => Result): Result;
}

/** Returns accesses that take effect at once. */
export function inOrder(memory: Memory): Accesses {
  return {
    load: memory.load,
    store: memory.store,
    update(address, length, change) {
      const bytes = memory.load(address, length);
      const result = change(bytes);
      memory.store(address, bytes);
      return result;
    },
  };
}

/** Accesses that take effect as the explorer chooses. */
export class OrderedAccesses implements Accesses {
  readonly #memory: Memory;
  readonly #ordering: Ordering;
  readonly #process: number;

  constructor(memory: Memory, ordering: Ordering, process: number) {
    this.#memory = memory;
    this.#ordering = ordering;
    this.#process = process;
  }

  /** Returns what may happen instead of what usually does. */
  alternatives(access: Access): Alternative[] {
    const { late, left } = this.#ordering;
    const { what, address, length } = access;
    const found: Alternative[] = what === "store"
      ? []
      : late.filter((one) => one.process !== this.#process && overlap(one, address, length));
    if (left === 0) return found;
    if (what === "load") return [...found, ...this.#older(access)];
    return [...found, "late"];
  }

  /** The values that a load may return although newer ones are visible. */
  #older({ isAtomic, address, length }: Access): Alternative[] {
    const { late, replaced, since } = this.#ordering;
    const isOwn = (one: Late) =>
      one.process === this.#process &&
      (overlap(one, address, length) || isAtomic && one.kind !== "plain");
    if (late.some(isOwn)) return [];
    const first = since[this.#process]![isAtomic ? "atomic" : "plain"];
    const bytes = this.#memory.load(address, length);
    const values = [bytes.slice()];
    const found: Alternative[] = [];
    for (const store of replaced.toReversed()) {
      if (store.time <= first) break;
      if (!overlap(store, address, length)) continue;
      if (store.process === this.#process) break;
      put(store, bytes, address);
      if (values.some((value) => isEqual(value, bytes))) continue;
      values.push(bytes.slice());
      found.push({ older: bytes.slice(), time: store.time - 1 });
    }
    return found;
  }

  /** The number of the last visible store to these bytes; 0 if no load may ignore it any more. */
  #lastStore(address: number, length: number): number {
    const { replaced } = this.#ordering;
    return replaced.findLast((store) => overlap(store, address, length))?.time ?? 0;
  }

  #chosen(access: Access): Alternative | undefined {
    const ordering = this.#ordering;
    const { chosen } = ordering;
    if (chosen === -1) return undefined;
    const alternative = this.alternatives(access)[chosen];
    ordering.chosen = -1;
    if (alternative === "late" || alternative !== undefined && "older" in alternative) {
      ordering.left--;
      if (ordering.left === 0) ordering.replaced = [];
    }
    return alternative;
  }

  load(address: number, length: number, isAtomic: boolean): Uint8Array {
    const alternative = this.#chosen({ what: "load", isAtomic, address, length });
    if (isAtomic) this.#show(({ kind }) => kind !== "plain");
    let bytes: Uint8Array, time: number;
    if (typeof alternative === "object" && "older" in alternative) {
      bytes = alternative.older;
      ({ time } = alternative);
    } else {
      if (typeof alternative === "object") this.#makeVisible(alternative);
      bytes = this.#memory.load(address, length);
      time = this.#lastStore(address, length);
    }
    for (const one of this.#ordering.late) {
      if (one.process === this.#process) put(one, bytes, address);
    }
    if (isAtomic) this.#acquire(time);
    return bytes;
  }

  store(address: number, bytes: Uint8Array, isAtomic: boolean): void {
    const { length } = bytes;
    const alternative = this.#chosen({ what: "store", isAtomic, address, length });
    const kind = isAtomic ? "atomic" : "plain";
    const store = { process: this.#process, address, bytes, kind } as const;
    this.#endExclusive(store);
    if (alternative === "late") {
      this.#ordering.late.push(store);
      return;
    }
    this.#show((one) => isAtomic || overlap(one, address, length));
    this.#perform(store);
  }

  update<Result>(
    address: number,
    length: number,
    change: (bytes: Uint8Array) => Result,
  ): Result {
    const alternative = this.#chosen({ what: "update", isAtomic: true, address, length });
    this.#show(() => true);
    if (typeof alternative === "object" && !("older" in alternative)) {
      this.#makeVisible(alternative);
    }
    const store = {
      process: this.#process,
      address,
      bytes: new Uint8Array(length),
      kind: "exclusive",
    } as const;
    this.#endExclusive(store);
    const before = this.#memory.load(address, length);
    store.bytes.set(before);
    const result = change(store.bytes);
    this.#acquire(this.#ordering.time);
    if (isEqual(store.bytes, before)) return result;
    if (alternative === "late") this.#ordering.late.push(store);
    else this.#perform(store);
    return result;
  }

  /** A system call about shared memory orders everything. */
  fence(): void {
    this.#show(() => true);
    this.#acquire(this.#ordering.time);
  }

  /** The process ends. Its late stores that no compiler can have moved become visible; the others are lost. */
  end(): void {
    const ordering = this.#ordering;
    this.#show(({ kind }) => kind !== "plain");
    ordering.late = ordering.late.filter(({ process }) => process !== this.#process);
    this.#acquire(Infinity);
  }

  /** Makes the late stores of this process visible for which `mustShow` returns `true`. */
  #show(mustShow: (store: Late) => boolean): void {
    for (const store of [...this.#ordering.late]) {
      if (store.process === this.#process && mustShow(store)) this.#makeVisible(store);
    }
  }

  /** An update is atomic: before another process stores at the same place, its store becomes visible. */
  #endExclusive({ process, address, bytes }: Late): void {
    for (const store of [...this.#ordering.late]) {
      const isExclusive = store.kind === "exclusive" && store.process !== process;
      if (isExclusive && overlap(store, address, bytes.length)) this.#makeVisible(store);
    }
  }

  /** Makes a late store visible, after those that must come before it. */
  #makeVisible(store: Late): void {
    const { late } = this.#ordering;
    const index = late.indexOf(store);
    if (index === -1) return;
    for (const earlier of late.slice(0, index)) {
      if (earlier.process !== store.process) continue;
      if (store.kind === "plain" && !overlap(earlier, store.address, store.bytes.length)) continue;
      this.#makeVisible(earlier);
    }
    late.splice(late.indexOf(store), 1);
    this.#perform(store);
  }

  #perform({ process, address, bytes, kind }: Late): void {
    const ordering = this.#ordering;
    const time = ++ordering.time;
    if (ordering.left > 0) {
      const before = this.#memory.load(address, bytes.length);
      ordering.replaced.push({ process, address, bytes: before, time });
    }
    this.#memory.store(address, bytes);
    if (kind === "plain") return;
    const { plain, atomic } = ordering.since[process]!;
    ordering.since[process] = { plain, atomic: Math.max(atomic, time) };
  }

  #acquire(time: number): void {
    const ordering = this.#ordering;
    const { plain, atomic } = ordering.since[this.#process]!;
    ordering.since[this.#process] = {
      plain: Math.max(plain, time),
      atomic: Math.max(atomic, time),
    };
    const first = Math.min(...ordering.since.map((since) => Math.min(since.plain, since.atomic)));
    const kept = ordering.replaced.findIndex((store) => store.time > first);
    ordering.replaced = kept === -1 ? [] : ordering.replaced.slice(kept);
  }
}
