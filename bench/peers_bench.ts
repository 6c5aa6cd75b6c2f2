/** The same three jobs done with what people use today. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { type Effort, type Entry, measure, type Place } from "./measuring.ts";
import { installLmdb, peer, python, type Setup, startRedis } from "./peers/contenders.ts";
import { type Absent, type Contender, cppQt, runtimeNames, Unavailable } from "./programs.ts";
import { median } from "./timing.ts";

export const peerJobs = [
  { title: "add one to a shared number, one at a time", job: "mutex" },
  { title: "round trip between two processes", job: "event" },
  { title: "hand over 1 MiB, and learn that it was read", job: "mib" },
] as const;

export interface PeerRow {
  title: string;
  name: string;
  ns: number;
  isOurs: boolean;
}

type Kind = "alone" | "pair" | "server";

interface Candidate {
  contender: Contender;
  /** How those who do a job find each other: two of a kind, or one that serves the other. */
  kind: Kind;
  isOurs?: boolean;
}

async function findPeers(folder: string): Promise<
  { peers: Candidate[]; absent: Absent[]; setups: Setup[] }
> {
  const peers: Candidate[] = [];
  const absent: Absent[] = [];
  const setups: Setup[] = [];
  const add = async (name: string, kind: Kind, find: () => Contender | Promise<Contender>) => {
    try {
      peers.push({ contender: await find(), kind });
    } catch (error) {
      if (!(error instanceof Unavailable)) throw error;
      absent.push({ name, reason: error.message });
    }
  };
  const withSetup = async (title: string, module: string, setup: Setup | Promise<Setup>) => {
    const done = await setup;
    setups.push(done);
    return peer(title, module, "node", done);
  };
  await add("C++ Qt", "pair", cppQt);
  await add("Python multiprocessing", "alone", python);
  await add("lmdb", "pair", () => withSetup("lmdb", "lmdb", installLmdb(folder)));
  await add("SQLite (bun:sqlite)", "pair", () => peer("SQLite (bun:sqlite)", "sqlite", "bun"));
  await add("SQLite (node:sqlite)", "pair", () => peer("SQLite (node:sqlite)", "sqlite", "node"));
  for (const name of runtimeNames) {
    const title = `Unix socket (${name})`;
    await add(title, "server", () => peer(title, "socket", name));
  }
  for (const name of runtimeNames) {
    const title = `process.send (${name})`;
    await add(title, "alone", () => peer(title, "send", name));
  }
  await add("Redis", "pair", () => withSetup("Redis", "redis", startRedis(folder)));
  return { peers, absent, setups };
}

export async function measurePeers(
  ours: readonly Contender[],
  effort: Effort,
  place: Place,
): Promise<{ rows: PeerRow[]; present: Contender[]; absent: Absent[] }> {
  const folder = join(place.folder, "peers");
  mkdirSync(folder);
  const { peers, absent, setups } = await findPeers(folder);
  const all: Candidate[] = [
    ...ours.map((contender) => ({ contender, kind: "pair" as const, isOurs: true })),
    ...peers,
  ];
  const rows: PeerRow[] = [];
  try {
    for (const { title, job } of peerJobs) {
      process.stderr.write(`${title}\n`);
      const entries = all.map(({ contender, kind }): Entry => ({
        name: contender.name,
        contender,
        job,
        count: job === "mutex" || kind !== "pair" ? 1 : 2,
        hasServer: kind === "server",
      }));
      const options = { combine: "mean" as const, isCounted: job === "mutex" };
      const turns = await measure(entries, options, effort, { ...place, folder });
      for (const { contender: { name }, isOurs = false } of all) {
        const samples = turns.get(name);
        if (samples !== undefined) rows.push({ title, name, ns: median(samples), isOurs });
      }
    }
  } finally {
    for (const { stop } of setups) stop?.();
  }
  return { rows, present: peers.map(({ contender }) => contender), absent };
}
