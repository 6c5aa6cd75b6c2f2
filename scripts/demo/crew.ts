import { type ChildProcess, spawn } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
import type { Runtime, RuntimeName } from "../runtimes.ts";

const TITLES: Readonly<Record<RuntimeName, string>> = {
  deno: "Deno",
  bun: "Bun",
  node: "Node",
  qt: "Qt",
};

/** What a worker prints when it is done. */
export interface Report {
  readonly count: number;
  readonly seconds: number;
}

export interface Worker {
  readonly name: string;
  readonly runtime: RuntimeName;
  /** Runtime and version, for people. */
  readonly title: string;
  readonly slot: number;
  readonly child: ChildProcess;
  readonly ended: Promise<void>;
  hasEnded: boolean;
  /** Set when it has ended well. */
  report?: Report;
  /** Set when it has not. */
  failure?: string;
}

export interface Task {
  readonly key: string;
  readonly seconds: number;
  readonly locked: boolean;
}

function readReport(stdout: string): Report | undefined {
  try {
    const { count, seconds } = JSON.parse(stdout);
    return Number.isInteger(count) && Number.isFinite(seconds) ? { count, seconds } : undefined;
  } catch {
    return undefined;
  }
}

function startWorker(runtime: Runtime, number: number, slot: number, task: Task): Worker {
  const script = new URL(runtime.name === "qt" ? "worker.py" : "worker.ts", import.meta.url);
  const args = [
    ...runtime.args,
    fileURLToPath(script),
    task.key,
    `${slot}`,
    `${task.seconds}`,
    task.locked ? "lock" : "no-lock",
  ];
  const child = spawn(runtime.command, args, {
    stdio: ["ignore", "pipe", "pipe"],
    // A process group of its own: Ctrl-C is for the parent, which stops the workers in good order.
    detached: process.platform !== "win32",
  });
  let stdout = "";
  let stderr = "";
  child.stdout.setEncoding("utf8").on("data", (text: string) => stdout += text);
  child.stderr.setEncoding("utf8").on("data", (text: string) => stderr += text);

  const { promise: ended, resolve } = Promise.withResolvers<void>();
  const worker: Worker = {
    name: `${runtime.name} ${number}`,
    runtime: runtime.name,
    title: `${TITLES[runtime.name]} ${runtime.version}`,
    slot,
    child,
    ended,
    hasEnded: false,
  };
  const end = (failure?: string) => {
    const report = failure === undefined ? readReport(stdout) : undefined;
    if (report !== undefined) worker.report = report;
    else worker.failure ??= failure ?? `printed no report but "${stdout.trim()}"`;
    worker.hasEnded = true;
    resolve();
  };
  child.on("error", (error) => end(error.message));
  child.on("close", (code, signal) => {
    if (signal !== null) end(`was killed by ${signal}`);
    else if (code !== 0) end(`exited with ${code}: ${stderr.trim() || "(no message)"}`);
    else end();
  });
  return worker;
}

/** So many workers in each runtime. */
export function startWorkers(runtimes: readonly Runtime[], each: number, task: Task): Worker[] {
  return runtimes.flatMap((runtime, index) =>
    Array.from(
      { length: each },
      (_, number) => startWorker(runtime, number + 1, index * each + number, task),
    )
  );
}

/** Resolves when every worker has ended, if need be by force. */
export async function allEnded(workers: readonly Worker[], timeoutMs: number): Promise<void> {
  const watchdog = setTimeout(() => killAll(workers, "it did not stop in time"), timeoutMs);
  await Promise.all(workers.map(({ ended }) => ended));
  clearTimeout(watchdog);
}

/** For the workers that do not stop by themselves. */
export function killAll(workers: readonly Worker[], reason: string): void {
  for (const worker of workers) {
    if (worker.hasEnded) continue;
    worker.failure ??= `had to be killed: ${reason}`;
    worker.child.kill("SIGKILL");
  }
}
