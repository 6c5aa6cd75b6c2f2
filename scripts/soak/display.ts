import process from "node:process";
import { grouped, printTable } from "../demo/display.ts";
import type { Crew, Tally } from "./crew.ts";
import type { Faults } from "./faults.ts";

/** What is shown while it runs. */
export interface Progress {
  readonly crew: Crew;
  readonly faults: Faults;
  readonly qtRounds: number | null;
  readonly seconds: number;
  readonly elapsed: () => number;
}

/** The sums of each runtime. */
function sums(crew: Crew): Map<string, Tally> {
  const result = new Map<string, Tally>();
  for (const post of crew.posts) {
    const name = `${post.runtime.name} ${post.runtime.version}`;
    const tally = crew.tallyOf(post);
    const sum = result.get(name);
    if (sum === undefined) result.set(name, tally);
    else for (const key of Object.keys(sum) as (keyof Tally)[]) sum[key] += tally[key];
  }
  return result;
}

function lines(progress: Progress): string[] {
  const { crew, faults, qtRounds, seconds } = progress;
  const elapsed = progress.elapsed();
  const width = 30;
  const filled = Math.round(width * Math.min(1, elapsed / seconds));
  const bar = "█".repeat(filled) + "░".repeat(width - filled);
  const rows = [...sums(crew)].map(([name, { operations, started, errors }]) =>
    `  ${name.padEnd(14)} ${grouped(operations).padStart(12)} operations ` +
    `${grouped(operations / elapsed).padStart(8)}/s ${grouped(started).padStart(6)} started` +
    (errors > 0 ? `  ${errors} FAILED` : "")
  );
  if (qtRounds !== null) rows.push(`  ${"qt".padEnd(14)} ${grouped(qtRounds).padStart(12)} rounds`);
  const { kills, stops, deletions } = faults;
  return [
    `  ${bar} ${Math.min(elapsed, seconds).toFixed(0)} of ${seconds.toFixed(0)} s`,
    ...rows,
    `  ${grouped(kills)} killed, ${grouped(stops)} stopped, ${
      grouped(deletions)
    } key files deleted`,
  ];
}

/** Shows the progress until the function that it returns is called. */
export function showProgress(progress: Progress): () => void {
  return process.stdout.isTTY ? updateBlock(progress) : printLines(progress);
}

/** One block, drawn again in place. */
function updateBlock(progress: Progress): () => void {
  let drawn = 0;
  const draw = () => {
    const back = drawn > 0 ? `\x1b[${drawn}A` : "";
    const text = lines(progress);
    process.stdout.write(back + text.map((line) => `\r${line}\x1b[K\n`).join(""));
    drawn = text.length;
  };
  process.stdout.write("\x1b[?25l"); // hides the cursor
  draw();
  const timer = setInterval(draw, 200);
  return () => {
    clearInterval(timer);
    draw();
    process.stdout.write("\x1b[?25h");
  };
}

/** A line now and then, for logs. */
function printLines(progress: Progress): () => void {
  const print = () => {
    const parts = [...sums(progress.crew)].map(([name, { operations, errors }]) =>
      `${name} ${grouped(operations)}${errors > 0 ? ` (${errors} FAILED)` : ""}`
    );
    const { kills, stops } = progress.faults;
    const seconds = progress.elapsed().toFixed(0);
    console.log(`${seconds} s: ${parts.join(", ")}; ${kills} killed, ${stops} stopped`);
  };
  const timer = setInterval(print, Math.min(10, Math.max(1, progress.seconds / 30)) * 1000);
  return () => clearInterval(timer);
}

export function printTally({ crew, qtRounds, elapsed }: Progress): void {
  const seconds = elapsed();
  const rows = [...sums(crew)].map(([name, tally]) => [
    name,
    ...[tally.started, tally.killed, tally.operations, tally.operations / seconds].map(grouped),
    ...[tally.increments, tally.refused, tally.errors].map(grouped),
  ]);
  if (qtRounds !== null) rows.push(["qt", "1", "", grouped(qtRounds), grouped(qtRounds / seconds)]);
  const header = ["runtime", "started", "killed", "operations", "per second"];
  console.log();
  printTable([[...header, "increments", "not in time", "errors"], ...rows], [0]);
}
