import { keyOf } from "./names.ts";
import type { Observed } from "./observer.ts";
import type { FactValue, Holder, Part, Steps } from "./types.ts";

/** What a number means for Prometheus: it only grows (`counter`), or not. */
type MetricType = "counter" | "gauge";

/** A family of metrics: what Prometheus calls metrics of one name. */
interface Family {
  readonly type: MetricType;
  readonly help: string;
  readonly samples: string[];
}

type Labels = Readonly<Record<string, string>>;

const PREFIX = "shared_memory_";
/** The number of samples after which other code may run. */
const SAMPLES_AT_ONCE = 100;

/** The metric of each fact, by the kind of the part and the name of the fact. These names do not change. */
const FACTS: Readonly<
  Record<string, Readonly<Record<string, readonly [name: string, type: MetricType, help: string]>>>
> = {
  Event: {
    notifications: ["event_notifications_total", "counter", "Notifications of an Event."],
  },
  Counter: { value: ["counter_value", "gauge", "The value of a Counter."] },
  Gauge: { value: ["gauge_value", "gauge", "The value of a Gauge."] },
  CounterBlock: {
    names: ["counter_block_names", "gauge", "Names that a CounterBlock has."],
    room: ["counter_block_capacity", "gauge", "Names for which a CounterBlock has room."],
  },
  Snapshot: { version: ["snapshot_version", "gauge", "The version of a Snapshot."] },
  RecordSnapshot: { version: ["snapshot_version", "gauge", "The version of a Snapshot."] },
  SharedMap: {
    entries: ["map_entries", "gauge", "Entries of a SharedMap."],
    bytes: ["map_used_bytes", "gauge", "Bytes that the entries of a SharedMap take."],
    capacity: ["map_capacity_bytes", "gauge", "Bytes that there are for entries of a SharedMap."],
    changes: ["map_changes_total", "counter", "Values that were stored in a SharedMap."],
    evicted: ["map_evicted_total", "counter", "Entries that a SharedMap has evicted."],
    expired: ["map_expired_total", "counter", "Expired entries that were removed."],
    recovered: ["map_recovered_total", "counter", "Changes in which a process was killed."],
  },
  RateLimiter: {
    names: ["limiter_names", "gauge", "Names that a RateLimiter has an entry for."],
    bytes: ["limiter_used_bytes", "gauge", "Bytes that the entries of a RateLimiter take."],
    capacity: ["limiter_capacity_bytes", "gauge", "Bytes that there are for entries."],
    changes: ["limiter_changes_total", "counter", "Entries that were written."],
    noRoom: ["limiter_no_room_total", "counter", "New names for which there was no room."],
    expired: ["limiter_expired_total", "counter", "Entries that have made room for others."],
    recovered: ["limiter_recovered_total", "counter", "Changes in which a process was killed."],
  },
  SharedTopic: {
    published: [
      "topic_published_total",
      "counter",
      "Messages that were published in a SharedTopic.",
    ],
    messages: ["topic_messages", "gauge", "Messages that are there: a reader may lag by so many."],
    bytes: ["topic_used_bytes", "gauge", "Bytes that the messages of a SharedTopic take."],
    capacity: ["topic_capacity_bytes", "gauge", "Bytes that there are for messages."],
    waiters: ["topic_waiters", "gauge", "Threads that sleep until there is a message."],
    recovered: ["topic_recovered_total", "counter", "Messages during which a process was killed."],
  },
  SharedQueue: {
    ready: ["queue_ready", "gauge", "Jobs that can be taken."],
    delayed: ["queue_delayed", "gauge", "Jobs that wait for their time."],
    running: ["queue_running", "gauge", "Jobs that were taken, and not acked yet."],
    failed: ["queue_failed", "gauge", "Jobs that have failed, and are still there."],
    bytes: ["queue_used_bytes", "gauge", "Bytes that the values of all jobs take."],
    capacity: ["queue_capacity_bytes", "gauge", "Bytes that there are for values."],
    sent: ["queue_sent_total", "counter", "Jobs that were sent."],
    acked: ["queue_acked_total", "counter", "Jobs that were acked."],
    received: ["queue_received_total", "counter", "Jobs that receive() has returned."],
    cleared: ["queue_cleared_total", "counter", "Failed jobs that were removed by a program."],
    dropped: ["queue_dropped_total", "counter", "Failed jobs that had to make room."],
    retried: ["queue_retried_total", "counter", "Jobs that were put back by their handlers."],
    returned: ["queue_returned_total", "counter", "Jobs that came back from ended processes."],
    late: ["queue_late_total", "counter", "Jobs that were put back as maxRun was over."],
    recovered: ["queue_recovered_total", "counter", "Changes in which a process was killed."],
    members: ["queue_members", "gauge", "Threads that take jobs."],
  },
  SharedValue: {
    version: ["value_version", "gauge", "The version of a SharedValue."],
    bytes: ["value_used_bytes", "gauge", "Bytes of the value."],
    capacity: ["value_capacity_bytes", "gauge", "Bytes that a value may have."],
    recovered: ["value_recovered_total", "counter", "Changes in which a process was killed."],
  },
};

/** These states always have a sample, so that rules can rely on them. */
const STATES = ["running", "stopped"] as const;
const OTHER_STATES = ["dead", "elsewhere", "unknown"] as const;

/** Collects samples, so that those of one metric stand together. */
class Exposition {
  readonly #families = new Map<string, Family>();

  add(name: string, type: MetricType, help: string, labels: Labels, value: number | bigint): void {
    const full = PREFIX + name;
    let family = this.#families.get(full);
    if (family === undefined) this.#families.set(full, family = { type, help, samples: [] });
    const texts = Object.entries(labels).map(([label, text]) => `${label}="${escaped(text)}"`);
    family.samples.push(`${full}{${texts.join(",")}} ${numberText(value)}`);
  }

  *text(): Steps<string> {
    let text = "";
    for (const [name, { type, help, samples }] of this.#families) {
      text += `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`;
      for (let i = 0; i < samples.length; i += SAMPLES_AT_ONCE) {
        text += `${samples.slice(i, i + SAMPLES_AT_ONCE).join("\n")}\n`;
        yield;
      }
    }
    return text;
  }
}

/**
 * Returns what was seen as Prometheus text, which ends with a line feed. It yields after each segment and each metric.
 *
 * @param keyOfProgram returns the key under which the program knows a segment, if it does
 */
export function* expositionOf(
  observed: readonly Observed[],
  keyOfProgram: (segment: Observed["segment"]) => string | undefined = () => undefined,
): Steps<string> {
  const metrics = new Exposition();
  for (const { segment, lockHolder, parts, problem } of observed) {
    const { type, nativeKey, keyFile, size, attached, lock } = segment;
    const labels = {
      segment: `${type}:${nativeKey ?? keyFile ?? segment.id}`,
      key: keyOfProgram(segment) ?? keyOf(segment) ?? "",
    };
    const add = (name: string, help: string, value: number) =>
      metrics.add(name, "gauge", help, labels, value);
    add("segment_bytes", "Size of a segment.", size);
    add(
      "segment_attached",
      "How often a segment is attached; for POSIX, by how many processes of this module.",
      attached,
    );
    add("segment_unreadable", "Whether the bytes of a segment could not be read.", problem ? 1 : 0);
    if (lock !== null && lock.value !== null) {
      add("segment_lock_held", "Whether the lock of a segment is held.", lock.value === 0 ? 1 : 0);
    }
    if (lock !== null && lock.waiting !== null) {
      add("segment_lock_waiting", "Threads that wait for the lock of a segment.", lock.waiting);
    }
    const holders = lockHolder === null ? [] : [lockHolder];
    if (lock !== null) {
      addHolders(metrics, holders, { ...labels, member: "", offset: "", kind: "lock" });
    }
    for (const part of parts) addPart(metrics, part, labels);
    yield;
  }
  const head = `# HELP ${PREFIX}segments Segments of this user.\n# TYPE ${PREFIX}segments gauge\n` +
    `${PREFIX}segments ${observed.length}\n`;
  return head + (yield* metrics.text());
}

function addPart(metrics: Exposition, part: Part, ofSegment: Labels): void {
  const { kind, name, offset, facts, values = {}, holders, members, waiting, problem } = part;
  if (kind === "other bytes") return;
  const labels = { ...ofSegment, member: name ?? "", offset: String(offset) };
  for (const [fact, [metric, type, help]] of Object.entries(FACTS[kind] ?? {})) {
    const value = facts[fact];
    if (isNumber(value)) metrics.add(metric, type, help, labels, value);
  }
  for (const [counter, value] of Object.entries(values)) {
    const help = "The values of the counters and gauges of a CounterBlock.";
    metrics.add("counter_block_value", "gauge", help, { ...labels, name: counter }, value);
  }
  if (holders !== undefined) addHolders(metrics, holders, { ...labels, kind });
  if (members !== undefined) {
    const stopped = members.filter(({ state }) => state === "stopped").length;
    const help = "Threads that take jobs, of processes that are stopped.";
    metrics.add("queue_members_stopped", "gauge", help, labels, stopped);
  }
  if (waiting !== undefined) {
    const help = "Whether threads wait for a Mutex or for a lock of a collection.";
    metrics.add("lock_waited_for", "gauge", help, { ...labels, kind }, waiting === 0 ? 0 : 1);
  }
  const help = "Whether the bytes of a part are damaged, or a process was killed in the middle.";
  metrics.add("part_problem", "gauge", help, { ...labels, kind }, problem === undefined ? 0 : 1);
}

/** Adds how many processes hold a lock, in each state. */
function addHolders(metrics: Exposition, holders: readonly Holder[], labels: Labels): void {
  const help = "Processes that hold a lock of a segment, Mutex or collection, by their state.";
  for (const state of [...STATES, ...OTHER_STATES]) {
    const count = holders.filter((holder) => (holder.state ?? "unknown") === state).length;
    const isAdded = count > 0 || STATES.some((one) => one === state);
    if (isAdded) metrics.add("lock_holders", "gauge", help, { ...labels, state }, count);
  }
}

function isNumber(value: FactValue | undefined): value is number | bigint {
  return typeof value === "number" || typeof value === "bigint";
}

/** Escapes the text of a label. */
function escaped(text: string): string {
  return text.toWellFormed().replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll(
    "\n",
    "\\n",
  );
}

function numberText(value: number | bigint): string {
  if (typeof value === "bigint" || Number.isFinite(value)) return String(value);
  return Number.isNaN(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf";
}
