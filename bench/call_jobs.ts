/**
 * The calls of `SharedMemory` under one runtime: `<runtime> call_jobs.ts JOB COUNT INDEX KEY` makes them, and does what
 * its standard input says.
 */
import process from "node:process";
import { SharedMemory } from "../mod.ts";
import { type Job, obey, repeat, repeatBatches } from "./commands.ts";

const segmentBytes = 4096;
const lockBatch = 500;

function require(ok: boolean, what: string, memory: SharedMemory): void {
  if (!ok) throw new Error(`${what}: ${memory.errorString() || "the opposite was expected"}`);
}

const [name, , , key] = process.argv.slice(2);
if (key === undefined) throw new Error("usage: call_jobs.ts JOB COUNT INDEX KEY");

function createJob(): Job {
  const memory = new SharedMemory(key);
  const create = () => {
    require(memory.create(segmentBytes), "create", memory);
    require(memory.detach(), "detach", memory);
  };
  return { run: (ms) => repeat(ms, 20, create) };
}

// The segment persists because `kept` stays attached.
function attachJob(): Job {
  const kept = new SharedMemory(key);
  const memory = new SharedMemory(key);
  require(kept.create(segmentBytes), "create", kept);
  const attach = () => {
    require(memory.attach(), "attach", memory);
    require(memory.detach(), "detach", memory);
  };
  const end = () => {
    require(kept.detach(), "detach", kept);
    require(!kept.attach(), "attach after the last detach", kept);
  };
  return { run: (ms) => repeat(ms, 50, attach), end };
}

function lockJob(): Job {
  const memory = new SharedMemory(key);
  const other = new SharedMemory(key);
  require(memory.create(segmentBytes), "create", memory);
  require(other.attach(), "attach", other);
  const check = () => {
    require(memory.lock(), "lock", memory);
    // Another object of the same thread is refused, as it could only wait for ever.
    require(!other.lock(), "lock while locked", other);
    require(memory.unlock(), "unlock", memory);
    require(other.lock(), "lock while free", other);
    require(other.unlock(), "unlock", other);
  };
  const lockMany = () => {
    for (let i = 0; i < lockBatch; i++) {
      require(memory.lock(), "lock", memory);
      require(memory.unlock(), "unlock", memory);
    }
  };
  const end = () => {
    require(other.detach(), "detach", other);
    require(memory.detach(), "detach", memory);
  };
  const run = (ms: number, isCheck: boolean) =>
    isCheck ? repeat(ms, 1, check) : repeatBatches(ms, lockBatch, lockMany);
  return { run, end };
}

const jobs: Record<string, () => Job> = { create: createJob, attach: attachJob, lock: lockJob };

await obey(jobs[name!]!());
