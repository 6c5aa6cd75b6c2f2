/** What of the queue, the topic and the value is measured, what it is compared with, and what is to be reached. */
import type { Combine } from "./crew.ts";
import { bareC } from "./sync_measures.ts";

/** A message has this number of bytes. */
export const messageBytes = 100;

export interface Measure {
  title: string;
  /** What the runtimes call it. */
  job: string;
  /** The number of processes. */
  count: number;
  combine: Combine;
  /** What C is compared with: the jobs of ring.c, by their names in the table. */
  inC?: Readonly<Record<string, string>>;
  /** What each runtime is compared with: other jobs of its own, by their names in the table. */
  others?: Readonly<Record<string, string>>;
  /** How many sleepers an operation wakes. */
  woken?: number;
  /** Whether an operation takes so long that a few turns must do. */
  isLong?: boolean;
  /** The largest ratio to one of these, by its name. */
  targets?: Readonly<Record<string, number>>;
}

export const systemV = "msgsnd and msgrcv";
const alone = { count: 1, combine: "mean" } as const;
/** What the price of a sleeper is beyond. */
export const publishing = "topic: publish 100 bytes while nobody sleeps";
/** In all, of what is long. */
export const fewTurns = 5;

export const measures: readonly Measure[] = [
  {
    ...alone,
    title: "queue: trySend and receive 100 bytes",
    job: "queue",
    inC: { [bareC]: "queue", "a ring alone, in C": "ring", [systemV]: "msg" },
    targets: { [bareC]: 3, [systemV]: 0.5 },
  },
  { ...alone, title: "queue: trySend, tryTake and ack 100 bytes", job: "lease" },
  {
    ...alone,
    title: publishing,
    job: "publish",
    others: { "a Mutex": "mutex" },
    targets: { "a Mutex": 2.5 },
  },
  {
    title: "topic: publish, which wakes 1",
    job: "wake:1",
    count: 2,
    combine: "mean",
    woken: 1,
  },
  {
    title: "topic: publish, which wakes 16",
    job: "wake:16",
    count: 2,
    combine: "mean",
    woken: 16,
  },
  {
    title: "queue: 2 processes send, 2 receive, a message",
    job: "crew",
    count: 4,
    combine: "rate",
    inC: { [systemV]: "msg-crew" },
  },
  {
    title: "topic: until 8 processes have a message",
    job: "fan:1",
    count: 9,
    combine: "mean",
  },
  {
    title: "topic: until 8 processes have 100 messages, each",
    job: "fan:100",
    count: 9,
    combine: "mean",
  },
  { ...alone, title: "value of 10 MB of JSON: read again", job: "value:read" },
  {
    ...alone,
    title: "value of 10 MB of JSON: read a new version",
    job: "value:first",
    isLong: true,
    others: { "parsing alone": "value:parse" },
    targets: { "parsing alone": 1.2 },
  },
  {
    ...alone,
    title: "value of 10 MB of JSON: set",
    job: "value:set",
    isLong: true,
    others: { "encoding alone": "value:encode" },
    targets: { "encoding alone": 1.2 },
  },
];
