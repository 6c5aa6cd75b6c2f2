/** Tries the applications, in namespaces of their own: main.ts starts this. */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import type { Runtime } from "../runtimes.ts";
import { type Application, applications, type Place } from "./applications.ts";
import { Desktop } from "./desktop.ts";
import { Peer } from "./peer.ts";
import { suiteParts } from "./qt_run.ts";
import { first, type Scene, second } from "./roles.ts";

/** What main.ts has found. */
export interface Task {
  readonly runtimes: readonly Runtime[];
  /** Of applications. */
  readonly names: readonly string[];
  /** Qt's own tests: the names of the suites, and where they were built. */
  readonly suites: readonly (readonly [name: string, folder: string])[];
}

/** Runs a part, and says how it went. */
async function part(title: string, run: (say: (text: string) => void) => Promise<void>) {
  const started = performance.now();
  const texts: string[] = [];
  let result = "ok    ";
  try {
    await run((text) => texts.push(text));
  } catch (error) {
    result = "FAILED";
    texts.push(error instanceof Error ? error.message : `${error}`);
  }
  const seconds = ((performance.now() - started) / 1000).toFixed(1).padStart(5);
  console.log(`${result} ${seconds} s  ${title}: ${texts.join("; ")}`);
  return result === "ok    ";
}

async function tryApplication(
  application: Application,
  runtimes: readonly Runtime[],
  desktop: Desktop,
): Promise<number> {
  const folder = mkdtempSync(path.join(os.tmpdir(), "shared-memory-apps-"));
  const place: Place = { home: path.join(folder, "home"), temporary: path.join(folder, "tmp") };
  mkdirSync(place.home);
  mkdirSync(place.temporary, { mode: 0o700 }); // it is the folder of the run-time files too
  let failures = 0;
  for (const runtime of runtimes) {
    const peer = new Peer(runtime, place.temporary);
    const scene: Scene = { application, place, desktop, peer };
    const title = `${application.name}, ${runtime.name}`;
    const isFine = await part(`${title} comes second`, (say) => second(scene, say)) &&
      await part(`${title} is first`, (say) => first(scene, application.key(place), say));
    if (!isFine) failures++;
    await peer.cleanup({ orphans: true }); // what a failure has left
    await peer.end();
  }
  rmSync(folder, { recursive: true, force: true });
  return failures;
}

const { runtimes, names, suites }: Task = JSON.parse(process.argv[2]!);
using desktop = await Desktop.start();
let failures = 0;
for (const [name, folder] of suites) {
  for (const [title, run] of suiteParts(folder, runtimes)) {
    if (!await part(`${name}, ${title}`, run)) failures++;
  }
}
for (const application of applications.filter(({ name }) => names.includes(name))) {
  failures += await tryApplication(application, runtimes, desktop);
}
console.log(failures === 0 ? "all fine" : `${failures} failed`);
process.exit(failures === 0 ? 0 : 1); // a program that a failed test has left may keep a pipe open
