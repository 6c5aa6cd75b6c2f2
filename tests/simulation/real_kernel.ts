/**
 * Compares the simulated kernel with the real one: a sequence of calls is made in the simulation, then by child processes
 * of real_kernel.py in namespaces of their own, and the results and the final tables must agree.
 */
import { fileURLToPath } from "node:url";
import { Agent } from "../support/support.ts";
import { type Call, call, end, EPOCH_MS, isBlocked, type Result, UPTIME_MS } from "./kernel.ts";
import { procFile } from "./proc_files.ts";
import { boot, type BootOptions, pidFor, type State } from "./state.ts";

/**
 * A call of a process, or what else can happen: `end` by a kill or an exit, `watch` (a kill, and whether its steps come in
 * the order of the simulation), `late` (another process makes some calls before this one, which they may have woken,
 * runs; then it may be killed), and for all processes `pause` and `mount`.
 */
export type Step = readonly [process: number, call: Call];

export interface Sequence {
  readonly uids: readonly number[];
  readonly steps: readonly Step[];
  /** The number of steps at the beginning that the others need. */
  readonly fixed?: number;
  /** Limits of the IPC namespace: what is written to the files of `/proc/sys/kernel`. */
  readonly limits?: Readonly<Record<string, string>>;
  /** Whether times are compared exactly, to the second; the sequence then begins with a second. */
  readonly isAligned?: boolean;
}

type Kind = "do" | "begin" | "finish" | "end" | "pause" | "mount" | "watch" | "late";
type Event = readonly [kind: Kind, process: number, call: readonly unknown[], expected: number];
type Answer = readonly [ret: number | string, errno: number, out: unknown];
type Status = Readonly<Record<string, number>>;

interface Tables {
  readonly texts: Readonly<Record<string, string>>;
  readonly values: Readonly<Record<string, readonly number[]>>;
  readonly files: readonly (readonly [path: string, text: string, status: Status])[];
  readonly processes:
    readonly ({ fds: Record<string, string>; segments: readonly string[] } | null)[];
}

interface Run {
  readonly answers: readonly Answer[];
  readonly tables: Tables;
  /** The time at which the sequence began, in seconds since 1970. */
  readonly base: number;
  readonly pids: readonly number[];
}

const S_IFDIR = 0o040000;

/** Makes the calls in the simulation. Those of a process that has ended or waits are left out. */
export function simulate(sequence: Sequence, state: State = start(sequence)) {
  const events: Event[] = [];
  const answers: Answer[] = [];
  const waiting = new Map<number, Call>();
  const add = (event: Event, { ret, errno, out }: Pick<Result, "ret" | "errno" | "out">) => {
    events.push(event);
    answers.push([ret, errno, out instanceof Uint8Array ? [...out] : out]);
  };
  const success = { ret: 0, errno: 0, out: null };
  for (const [index, step] of sequence.steps) {
    const [name, ...args] = step;
    const process = state.processes[index]!;
    if (process.stage !== "running") continue;
    if (name === "watch") {
      end(state, index);
      add(["watch", index, args, 0], success);
    } else if (name === "end") {
      // A process that waits ends only by a signal.
      const how = waiting.delete(index) ? "kill" : args[0];
      end(state, index);
      add(["end", index, [how], 0], success);
    } else if (name === "late") {
      const [by, calls, how] = args as [number, readonly Call[], string];
      const out = calls.map((made) => call(state, by, made) as Result);
      if (how === "killed") {
        waiting.delete(index);
        end(state, index);
      }
      const results = out.map(({ ret, errno }) => [ret, errno]);
      add(["late", index, args, 0], { ...success, out: results as never });
    } else if (name === "pause") {
      state.now += args[0] as number;
      add(["pause", index, args, 0], success);
    } else if (name === "mount") {
      const device = state.devices[args[0] === "/tmp" ? 0 : 1]!;
      device.isFull = args[1] === "full";
      device.isReadOnly = args[1] === "read-only";
      add(["mount", index, args, 0], success);
    } else if (!waiting.has(index)) {
      const result = call(state, index, step);
      if (isBlocked(result)) {
        waiting.set(index, step);
        add(["begin", index, forReal(step, state), 0], {
          ...success,
          ret: "blocked" as unknown as number,
        });
      } else add(["do", index, forReal(step, state), result.ret], result);
    }
    for (const [waiter, blocked] of waiting) {
      const { until } = state.processes[waiter]!.wait!;
      const result = call(state, waiter, blocked, until <= state.now ? 2 : 1);
      if (isBlocked(result)) continue;
      waiting.delete(waiter);
      add(["finish", waiter, [], 0], result);
    }
  }
  return { events, answers, state };
}

/** Returns a call as the real process makes it: the end of a wait is given from now on. */
function forReal(step: Call, { now }: State): Call {
  const [name, address, end] = step;
  return name === "sem_clockwait" ? [name, address, end as number - UPTIME_MS - now] : step;
}

export function start({ uids, limits = {} }: Sequence): State {
  const { sem, ...others } = limits;
  const [, semmns, , semmni] = (sem ?? "").split(" ").map(Number);
  const semLimits = sem === undefined ? {} : { semmns: semmns!, semmni: semmni! };
  const shm = Object.entries(others).map(([name, value]) => [name, Number(value)]);
  const options: BootOptions = {
    processes: uids.map((uid, i) => ({ uid, pid: 501 + i })),
    limits: { ...Object.fromEntries(shm), ...semLimits },
  };
  return boot(options);
}

function tablesOf(state: State): Tables {
  // The tables are read by a root process that is not part of the sequence.
  const process = { ...state.processes[0]!, uid: 0 };
  const caller = { state, index: 0, process, mode: 0 } as const;
  const text = (name: string) => (procFile(caller, `/proc/${name}`) as { text: string }).text;
  const values = [...state.ipc[0]!.sem.objects].map(([id, set]) => {
    const waits = set.waiters.map((index) => {
      let { value } = set;
      const { steps } = state.processes[index]!.wait!;
      return steps.find(([op]) => op === 0 ? value !== 0 : (value += op) < 0)![0] === 0;
    });
    const forZero = waits.filter(Boolean).length;
    return [id, [set.value, pidFor(state, set.last, process), waits.length - forZero, forZero]];
  });
  const files: [string, string, Status][] = [];
  const visit = (id: number, path: string) => {
    for (const [name, child] of state.inodes.get(id)!.entries!) {
      const file = state.inodes.get(child)!;
      const { mode, uid, gid, links, size, number: ino, ctime, mtime, reserved } = file;
      const dev = state.devices[file.device]!.minor;
      const status = {
        mode,
        uid,
        gid,
        links,
        size,
        ino,
        dev,
        ctime,
        mtime,
        blocks: reserved / 512,
      };
      files.push([`${path}/${name}`, file.text, status]);
      if (file.entries !== null) visit(child, `${path}/${name}`);
    }
  };
  const entry = (id: number, name: string) => state.inodes.get(id)!.entries!.get(name)!;
  const root = state.roots[0]!;
  visit(entry(root, "tmp"), "/tmp");
  visit(entry(entry(root, "dev"), "shm"), "/dev/shm");
  const processes = state.processes.map(({ stage, fds, maps }) => {
    if (stage !== "running") return null;
    const links = [...fds].filter(([fd]) => fd > 2).map(([fd, id]) => {
      const { path, isDeleted } = state.opens.get(id)!;
      return [String(fd), isDeleted ? `${path} (deleted)` : path];
    });
    const segments = [...maps.values()].filter(({ kind }) => kind === "segment");
    return { fds: Object.fromEntries(links), segments: segments.map(({ id }) => String(id)) };
  });
  const texts = Object.fromEntries(["sysvipc/shm", "sysvipc/sem", "locks"].map((name) => {
    return [name, text(name)];
  }));
  return { texts, values: Object.fromEntries(values), files, processes };
}

/** Replaces what differs between two kernels without a meaning: pids, times, the numbers of inodes. */
class Normalizer {
  readonly #run: Run;
  readonly #isAligned: boolean;

  constructor(run: Run, isAligned: boolean) {
    this.#run = run;
    this.#isAligned = isAligned;
  }

  #pid(pid: number): string {
    const index = this.#run.pids.indexOf(pid);
    return index < 0 ? String(pid) : `P${index}`;
  }

  #time(time: number): number | string {
    return time === 0 ? 0 : this.#isAligned ? `+${time - this.#run.base}` : "set";
  }

  #fields(out: Status): object {
    const { dev: _dev, ino: _ino, ...rest } = out;
    const isFolder = "links" in out && (out["mode"]! & S_IFDIR) === S_IFDIR &&
      out["mode"]! < 0o100000;
    const sizes = { links: "", size: "", blocks: "" }; // file systems count these of folders differently
    const times = Object.keys(rest).filter((name) => /^[aodcm]time$/.test(name)).map((name) => {
      return [name, this.#time(rest[name]!)];
    });
    const creator = "creator" in out ? { creator: this.#pid(out["creator"]!) } : {};
    return { ...rest, ...Object.fromEntries(times), ...creator, ...(isFolder ? sizes : {}) };
  }

  answer([ret, errno, out]: Answer, [, , call]: Event): string {
    const isPid = call[0] === "semctl" && call[3] === 11 && typeof ret === "number" && ret > 0;
    const shown = isPid ? this.#pid(ret) : ret;
    const data = errno !== 0 || out === null || out === undefined
      ? null
      : typeof out === "string"
      ? out.replace(/#\d+/, "#")
      : Array.isArray(out)
      ? (call[0] === "getdents" ? [...out].sort() : out)
      : this.#fields(out as Status);
    return JSON.stringify([shown, errno, data]);
  }

  tables(): Record<string, string> {
    const { texts, values, files, processes } = this.#run.tables;
    const result: Record<string, string> = {};
    for (const table of ["shm", "sem"]) {
      const [heading, ...lines] = texts[`sysvipc/${table}`]!.trim().split("\n").map((line) => {
        return line.trim().split(/\s+/);
      });
      for (const fields of lines) {
        const row = fields.map((value, i) => {
          const name = heading![i]!;
          if (/pid$/.test(name)) return this.#pid(Number(value));
          if (/time$/.test(name)) return this.#time(Number(value));
          return name === "rss" || name === "swap" ? "" : value;
        });
        result[`${table} ${fields[1]}`] = row.join(" ");
      }
    }
    for (const [id, [value, last, ...counts]] of Object.entries(values)) {
      result[`values of ${id}`] = [value, this.#pid(last!), ...counts].join(" ");
    }
    const labels = new Map<string, string>();
    for (const [path, text, status] of [...files].sort(([a], [b]) => a < b ? -1 : 1)) {
      const id = `${status["dev"]}:${status["ino"]}`;
      if (!labels.has(id)) labels.set(id, path);
      result[path] = JSON.stringify([text, labels.get(id), this.#fields(status)], sortKeys);
    }
    for (const [i, process] of processes.entries()) {
      const fds = Object.entries(process?.fds ?? {}).map(([fd, link]) => {
        return `${fd} ${link.replace(/#\d+/, "#")}`;
      });
      const segments = [...process?.segments ?? []].sort();
      result[`P${i}`] = JSON.stringify(process && [fds.sort(), segments]);
    }
    const lock = /^\d+: (\w+) +ADVISORY +(\w+) +(\S+) 00:(\w+):(\d+) (.*)$/gm;
    for (const [, kind, type, pid, minor, inode, range] of texts["locks"]!.matchAll(lock)) {
      const label = labels.get(`${parseInt(minor!, 16)}:${inode}`);
      if (label === undefined) continue;
      // The kernel joins the locks of bytes that are next to each other.
      const [first, last] = range!.split(" ").map(Number) as [number, number];
      for (let byte = first; byte <= (last || first); byte++) {
        const name = `${kind} ${type} ${this.#pid(Number(pid))} ${label} ${byte}`;
        result[name] = `${Number(result[name] ?? 0) + 1}`;
      }
    }
    return result;
  }
}

function sortKeys(_key: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => a < b ? -1 : 1));
}

export class RealKernel {
  #agent: Agent | undefined;

  /** Runs a sequence on both kernels; returns the differences, each as a line. */
  async differences(sequence: Sequence): Promise<string[]> {
    const { events, answers, state } = simulate(sequence);
    const { uids, limits = {}, isAligned = false } = sequence;
    this.#agent ??= new Agent("the real kernel", "/usr/bin/python3", [
      fileURLToPath(new URL("real_kernel.py", import.meta.url)),
    ]);
    const real: Run = await this.#agent.request("run", { uids, limits, isAligned, events });
    const base = EPOCH_MS / 1000;
    const pids = state.processes.map(({ pid }) => pid);
    const simulated: Run = { answers, tables: tablesOf(state), base, pids };
    const [ours, theirs] = [simulated, real].map((run) => new Normalizer(run, isAligned));
    const found: string[] = [];
    for (let i = 0; i < Math.max(answers.length, real.answers.length); i++) {
      const event = events[i] ?? ["do", -1, ["nothing"], 0] as const;
      const text = (run: Run, by: Normalizer) =>
        run.answers[i] === undefined ? "none" : by.answer(sorted(run.answers[i]!), event);
      const [expected, actual] = [text(simulated, ours!), text(real, theirs!)];
      if (expected === actual) continue;
      const [kind, index, call] = event;
      found.push(
        `${i}: ${kind} P${index} ${JSON.stringify(call)}: simulated ${expected}, real ${actual}`,
      );
    }
    const [expected, actual] = [ours!.tables(), theirs!.tables()];
    for (const name of new Set([...Object.keys(expected), ...Object.keys(actual)])) {
      if (expected[name] === actual[name]) continue;
      found.push(`${name}: simulated ${expected[name]}, real ${actual[name]}`);
    }
    return found;
  }

  async end(): Promise<void> {
    await this.#agent?.end();
  }
}

/** Gives the fields of an answer the same order in both kernels. */
function sorted([ret, errno, out]: Answer): Answer {
  return [ret, errno, sortKeys("", out)];
}

/** Leaves out as many steps of a sequence as possible so that it still differs. */
export async function shrink(real: RealKernel, sequence: Sequence, ms: number): Promise<Sequence> {
  const deadline = performance.now() + ms;
  let best = sequence;
  for (let length = Math.ceil(best.steps.length / 2); length > 0; length = length >> 1) {
    for (let at = best.fixed ?? 0; at < best.steps.length && performance.now() < deadline;) {
      const steps = [...best.steps.slice(0, at), ...best.steps.slice(at + length)];
      let isDifferent = false;
      try {
        isDifferent = (await real.differences({ ...best, steps })).length > 0;
      } catch {
        // A call that is not simulated: without the earlier ones it means something else.
      }
      if (isDifferent) best = { ...best, steps };
      else at += length;
    }
  }
  return best;
}
