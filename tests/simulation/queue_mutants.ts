/** The deliberate faults in the queue of ./collections of which scripts/mutants.ts shows that the simulation finds them. */
import type { Mutant } from "./mutants.ts";

const [LOG, CORE, RECOVERY] = [
  "collections/queue_log.ts",
  "collections/queue_core.ts",
  "collections/queue_recovery.ts",
];
const KILL = { preemptions: 0, crashes: 1 };
const PREEMPTION_AND_KILL = { preemptions: 1, crashes: 1 };

export const QUEUE_MUTANTS: readonly Mutant[] = [
  {
    name: "queue: head passes a record before its job has the position of the copy",
    file: LOG,
    find:
      "    Atomics.store(this.table, this.data[from + 1]! * ENTRY_WORDS + POSITION, place);\n    this.moveHead(position + size | 0);",
    replace:
      "    this.moveHead(position + size | 0);\n    Atomics.store(this.table, this.data[from + 1]! * ENTRY_WORDS + POSITION, place);",
    programs: ["queue: move, send and receive"],
    bounds: KILL,
    why: "The job of a process that is killed in between has no record.",
  },
  {
    name: "queue: who ends a job does not say how",
    file: LOG,
    find: "    words[FINISHING] = how;\n",
    replace: "",
    programs: ["queue: two take and ack"],
    bounds: KILL,
    why: "A job that was acked just before its process was killed counts as dropped.",
  },
  {
    name: "queue: the number of a job is counted before it is sent",
    file: CORE,
    find: "    const id = totals[SENT]! + 1;\n",
    replace: "    const id = totals[SENT]! + 1;\n    totals[SENT] = id;\n",
    programs: ["queue: send beside send and receive"],
    bounds: KILL,
    why: "A job that was not sent counts as dropped.",
  },
  {
    name: "queue: the repair forgets the running jobs",
    file: RECOVERY,
    find: "  for (const entry of running) log.push(RUNNING, entry);\n",
    replace: "",
    programs: ["queue: two take and ack"],
    bounds: PREEMPTION_AND_KILL,
    why: "Nobody finds the job of the process that was killed.",
  },
  {
    name: "queue: a member is alive if its slot has its generation",
    file: "collections/members.ts",
    find: "      if (!mutex.tryLock()) return true;\n      mutex.unlock();\n      return false;",
    replace: "      return true;",
    programs: ["queue: two take and ack"],
    bounds: PREEMPTION_AND_KILL,
    why: "The job of a process that was killed stays with it.",
  },
  {
    name: "queue: a job is put back although its member lives",
    file: CORE,
    find: "const reason = isLiving ? late : Reason.Died;",
    replace: "const reason = isLiving ? Reason.Died : late;",
    programs: ["queue: two take and ack"],
    bounds: { preemptions: 1, crashes: 0 },
    why: "Two processes run it.",
  },
];
