/** The operations on entries by name, at random among 100,000, done with what people use today. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { type Effort, type Entry, measure, type Place, ratio, type Turns } from "./measuring.ts";
import {
  installLmdb,
  installRedisClient,
  peer,
  type Setup,
  startRedis,
} from "./peers/contenders.ts";
import type { PeerRow } from "./peers_bench.ts";
import { type Absent, type Contender, Unavailable } from "./programs.ts";
import { median } from "./timing.ts";
import { ratioVerdict, type Verdict } from "./verdicts.ts";

interface PeerJob {
  title: string;
  job: string;
  /** The least number of times that this module is as fast as LMDB, and as Redis with one command and many at a time. */
  targets: { lmdb?: number; redis?: number; redisTogether?: number };
}

export const peerJobs: readonly PeerJob[] = [
  {
    title: "GET: copy a value of 100 bytes",
    job: "get:cold",
    targets: { lmdb: 2, redis: 20, redisTogether: 5 },
  },
  {
    title: "SET: replace a value of 100 bytes",
    job: "set:cold",
    targets: { lmdb: 5, redis: 10 },
  },
  { title: "INCR: add one to a number", job: "incr:cold", targets: { lmdb: 10 } },
  { title: "rate limit: take one from an allowance", job: "take:cold", targets: {} },
];

const together = 100;

/** What it is, so far as there are targets for it. */
type Kind = "ours" | "lmdb" | "redis" | "redisTogether" | "other";

interface Candidate {
  name: string;
  kind: Kind;
  contender: Contender;
  /** What follows the name of each job. */
  suffix?: string;
}

/** The bytes of 100,000 entries. */
export interface Memory {
  name: string;
  bytes: number;
  isOurs: boolean;
}

async function findPeers(folder: string): Promise<
  { peers: Candidate[]; absent: Absent[]; setups: Setup[] }
> {
  const peers: Candidate[] = [];
  const absent: Absent[] = [];
  const setups: Setup[] = [];
  const add = async (name: string, find: () => Promise<Candidate[]> | Candidate[]) => {
    try {
      peers.push(...await find());
    } catch (error) {
      if (!(error instanceof Unavailable)) throw error;
      absent.push({ name, reason: error.message });
    }
  };
  const program = (name: string, module: string, runtime: "bun" | "node", setup?: Setup) =>
    peer(name, module, runtime, setup, "map_jobs.ts");
  await add("lmdb", () => {
    const contender = program("lmdb", "lmdb_map", "node", installLmdb(folder));
    return [{ name: "lmdb", kind: "lmdb", contender }];
  });
  for (const runtime of ["bun", "node"] as const) {
    const name = `SQLite (${runtime}:sqlite)`;
    await add(name, () => {
      return [{ name, kind: "other", contender: program(name, "sqlite_map", runtime) }];
    });
  }
  let server: Setup | undefined;
  await add("Redis", async () => {
    setups.push(server = await startRedis(folder));
    return [];
  });
  for (const runtime of server === undefined ? [] : ["bun", "node"] as const) {
    const name = `Redis (${runtime})`;
    await add(name, () => {
      const client = runtime === "node" ? installRedisClient(folder) : undefined;
      const clientText = client === undefined ? "" : `, @redis/client ${client.version}`;
      const setup = {
        version: `${server!.version}${clientText}`,
        env: { ...server!.env, ...client?.env },
      };
      const contender = program(name, "redis_map", runtime, setup);
      return [
        { name, kind: "redis", contender },
        {
          name: `${name}, ${together} together`,
          kind: "redisTogether",
          contender,
          suffix: `:${together}`,
        },
      ];
    });
  }
  return { peers, absent, setups };
}

/** Of each kind the fastest one is compared with. */
function verdictsOf(
  { title, targets }: PeerJob,
  all: readonly Candidate[],
  turns: Turns,
): Verdict[] {
  const verdicts: Verdict[] = [];
  for (const [kind, times] of Object.entries(targets)) {
    const others = all.filter(({ name, kind: own }) => own === kind && turns.has(name));
    const [fastest] = others.toSorted((a, b) =>
      median(turns.get(a.name)!) - median(turns.get(b.name)!)
    );
    if (fastest === undefined) continue;
    for (const { name } of all.filter(({ kind }) => kind === "ours")) {
      const found = ratio(turns, name, fastest.name);
      verdicts.push(ratioVerdict(title, name, fastest.name, 1 / times, found));
    }
  }
  return verdicts;
}

export async function measureCollectionPeers(
  ours: readonly Contender[],
  effort: Effort,
  place: Place,
): Promise<{
  rows: PeerRow[];
  verdicts: Verdict[];
  memory: Memory[];
  present: Contender[];
  absent: Absent[];
}> {
  const folder = join(place.folder, "peers");
  mkdirSync(folder);
  const { peers, absent, setups } = await findPeers(folder);
  const all: Candidate[] = [
    ...ours.map((contender): Candidate => ({ name: contender.name, kind: "ours", contender })),
    ...peers,
  ];
  const rows: PeerRow[] = [];
  const verdicts: Verdict[] = [];
  const memory = new Map<string, Memory>();
  try {
    for (const one of peerJobs) {
      const { title, job } = one;
      process.stderr.write(`${title}\n`);
      const entries = all.map(({ name, contender, suffix = "" }): Entry => (
        { name, contender, job: job + suffix, count: 1 }
      ));
      const turns = await measure(
        entries,
        {
          combine: "mean",
          isCounted: job.startsWith("incr"),
          async afterTurn(name, crew) {
            if (!job.startsWith("get") || memory.has(name)) return;
            const bytes = await crew.bytes();
            const isOurs = ours.some((contender) => contender.name === name);
            if (bytes !== undefined) memory.set(name, { name, bytes, isOurs });
          },
        },
        effort,
        { ...place, folder },
      );
      for (const { name, kind } of all) {
        const samples = turns.get(name);
        if (samples === undefined) continue;
        rows.push({ title, name, ns: median(samples), isOurs: kind === "ours" });
      }
      verdicts.push(...verdictsOf(one, all, turns));
    }
  } finally {
    for (const { stop } of setups) stop?.();
  }
  const shown = all.flatMap(({ name, suffix }) => {
    const found = memory.get(name);
    return found === undefined || suffix !== undefined ? [] : [found];
  });
  const present = [...new Set(peers.map(({ contender }) => contender))];
  return { rows, verdicts, memory: shown, present, absent };
}
