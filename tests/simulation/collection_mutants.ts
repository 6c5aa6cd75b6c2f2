/** The deliberate faults in ./collections of which scripts/mutants.ts shows that the simulation finds them. */
import type { Mutant } from "./mutants.ts";
import type { Bounds } from "./scenario.ts";

/** The bounds by the number of preemptions, of kills, and of loads and stores that take effect late or early. */
const within = (preemptions: number, crashes: number, reorderings = 0): Bounds => (
  { preemptions, crashes, reorderings }
);

const [LOG, STRIPE] = ["collections/ring_log.ts", "collections/map_stripe.ts"];
const [LIMITER, COMPUTER] = ["collections/limiter_writer.ts", "collections/map_computer.ts"];

export const COLLECTION_MUTANTS: readonly Mutant[] = [
  {
    name: "a miss is believed although the bucket has changed",
    file: STRIPE,
    find: "return this.isWhole() && Atomics.load(words, bucket) === first ? MISS : AGAIN;",
    replace: "return this.isWhole() ? MISS : AGAIN;",
    programs: ["map: set behind another and read"],
    bounds: within(1, 0),
    why:
      "The old record of a key is taken out of the chain after the new one has come to its beginning.",
  },
  {
    name: "a record that is far from an old head ends the chain",
    file: STRIPE,
    find: "        distance = 0;\n        break;",
    replace: "        break;",
    programs: ["map: move, set and read"],
    bounds: within(1, 0),
    why: "Head has moved since the reader has seen it, and the newest record is a whole ring away.",
  },
  {
    name: "a copy is believed although head has passed the record",
    file: LOG,
    find: "head - this.seenHead >>> 0 <= this.distance && epoch === this.seenEpoch",
    replace: "epoch === this.seenEpoch",
    programs: ["map: move, set and read"],
    bounds: within(1, 0),
    why: "The record is overwritten while it is copied.",
  },
  {
    name: "a copy is believed in another epoch",
    file: LOG,
    find: "<= this.distance && epoch === this.seenEpoch",
    replace: "<= this.distance",
    programs: ["map: the space of a removed record"],
    bounds: within(2, 1),
    why:
      "The writer that repairs the stripe takes back the space of the record that is being copied.",
  },
  {
    name: "readers on arm64 load head",
    file: LOG,
    find: "this.isOrdered ? Atomics.load(words, HEAD) : Atomics.add(words, HEAD, 0)",
    replace: "Atomics.load(words, HEAD)",
    programs: ["map: move, set and read, reordered"],
    bounds: within(1, 0, 1),
    why: "Head may be loaded before the bytes are copied.",
  },
  {
    name: "head is moved by a plain store",
    file: LOG,
    find: "Atomics.exchange(this.words, HEAD, position);",
    replace: "this.words[HEAD] = position;",
    programs: ["map: move, set and read, reordered"],
    bounds: within(1, 0, 1),
    why: "The bytes may be overwritten before.",
  },
  {
    name: "a record becomes visible by a plain store",
    file: STRIPE,
    find:
      "if (before === -1) Atomics.store(this.words, bucketWord(bucket, this.bucketMask), position);",
    replace: "if (before === -1) this.words[bucketWord(bucket, this.bucketMask)] = position;",
    programs: ["map: set and read, reordered"],
    bounds: within(1, 0, 1),
    why: "A reader may follow the link before the bytes of the record are there.",
  },
  {
    name: "a record becomes visible before it is in the log",
    file: STRIPE,
    find:
      "    this.append(position, size);\n    this.link(-1, bucket, position);\n    this.add(at, 1);",
    replace:
      "    this.link(-1, bucket, position);\n    this.append(position, size);\n    this.add(at, 1);",
    programs: ["map: set and read"],
    bounds: within(0, 1),
    why: "A process that is killed in between leaves a bucket that leads beyond the log.",
  },
  {
    name: "a record is taken out of the chain before the new one is in it",
    file: STRIPE,
    find:
      "    this.link(-1, bucket, position);\n    this.add(at, 1);\n    if (old === -1) return version;",
    replace:
      "    if (old !== -1) this.link(before, bucket, data[old + NEXT]!);\n    this.link(-1, bucket, position);\n    this.add(at, 1);\n    if (old === -1) return version;",
    programs: ["map: set and read"],
    bounds: within(0, 1),
    why: "A process that is killed in between has removed the key.",
  },
  {
    name: "nothing is repaired",
    file: "collections/section_lock.ts",
    find: "if (isLeft) this.repair();",
    replace: "if (isLeft) words[28]!++;",
    programs: ["map: delete, set and read"],
    bounds: within(0, 1),
    why: "The count is wrong.",
  },
  {
    name: "two records of a key stay in a chain",
    file: "collections/map_recovery.ts",
    find: "      stripe.link(before, bucket, position);\n      continue;",
    replace: "      before = at + NEXT;\n      continue;",
    programs: ["map: move, set and read"],
    bounds: within(0, 1),
    why: "The older one comes back when the newer one is removed.",
  },
  {
    name: "a link leads to what was evicted",
    file: "collections/map_oldest.ts",
    find: "    stripe.link(before, bucket, 0);\n    stripe.add(at, -1);",
    replace: "    stripe.add(at, -1);",
    programs: ["map: evict, set and read"],
    bounds: within(0, 0),
    why: "The next writer finds that the chain leads out of the log.",
  },
  {
    name: "head does not move past what was freed",
    file: "collections/map_oldest.ts",
    find: "if (oldest !== stripe.head) stripe.moveHead(oldest);",
    replace: "if (oldest === stripe.head) stripe.moveHead(oldest);",
    programs: ["map: evict, set and read"],
    bounds: within(1, 0),
    why: "A reader believes a record that is being overwritten; the log cannot be read.",
  },
  {
    name: "a limiter takes without the lock",
    file: LIMITER,
    find: "return core.locks[core.index]!.change(method, this.lockTimeout, this.takeLocked);",
    replace: "return this.takeLocked();",
    programs: ["limiter: two take"],
    bounds: within(1, 0),
    why: "Both processes are allowed what only one of them may use.",
  },
  {
    name: "a limiter makes room for a new name with the names that are needed",
    file: STRIPE,
    find: "return expiry !== 0 && !(expiry > this.clock().now());",
    replace: "return expiry !== 0;",
    programs: ["limiter: two new names in a full one"],
    bounds: within(0, 0),
    why: "What a name has used is forgotten.",
  },
  {
    name: "what a known name takes is a record of its own",
    file: LIMITER,
    find: "if (isKnown) stripe.setExpiry(stripe.at, now + this.ahead);\n    else stripe.put",
    replace: "stripe.put",
    programs: ["limiter: two new names in a full one"],
    bounds: within(0, 0),
    why: "No room was made for it: records that are needed are overwritten.",
  },
  {
    name: "a computed value overwrites what was set meanwhile",
    file: COMPUTER,
    find: "writer.set(METHOD, key, raw, expiry, Condition.Pending, version);",
    replace: "writer.set(METHOD, key, raw, expiry, Condition.Always, version);",
    programs: ["map: compute and set"],
    bounds: within(1, 0),
    why: "The value that was set is newer.",
  },
  {
    name: "a computed value is stored although the key was removed meanwhile",
    file: COMPUTER,
    find: "writer.set(METHOD, key, raw, expiry, Condition.Pending, version);",
    replace:
      "if (!this.#map.reader.probe(METHOD, key)) writer.set(METHOD, key, raw, expiry, Condition.Always, version);",
    programs: ["map: compute and delete"],
    bounds: within(1, 0),
    why: "The value comes back after it was removed.",
  },
  {
    name: "who cannot compute removes the key, whatever its value is",
    file: COMPUTER,
    find: "writer.delete(METHOD, key, Condition.Pending, version);",
    replace: "writer.delete(METHOD, key);",
    programs: ["map: compute, throw and set"],
    bounds: within(1, 0),
    why: "Another process has set it meanwhile.",
  },
  {
    name: "a value that another process computes is computed again",
    file: "collections/map_writer.ts",
    find: "if (isOthers) return Claim.Pending;",
    replace: "",
    programs: ["map: two compute a value"],
    bounds: within(1, 0),
    why: "Both have looked before one of them has written that it computes.",
  },
  {
    name: "nobody notices that a computer was killed",
    file: COMPUTER,
    find: "return this.#members.isLiving(slot, generation) ? null : version;",
    replace: "return slot + generation > -2 ? null : version;",
    programs: ["map: two compute a value"],
    bounds: within(0, 1),
    why: "The other process waits for ever.",
  },
  {
    name: "a slot has the same generation for each of its members",
    file: "collections/members.ts",
    find: "this.#generation = Atomics.add(this.#generations, slot, 1) + 1 | 0;",
    replace: "this.#generation = Atomics.load(this.#generations, slot);",
    programs: ["map: compute a value inside of another"],
    bounds: within(0, 1),
    why: "The member that has the slot of a killed one waits for that, and so for itself.",
  },
];
