/**
 * Tries the packed package with frameworks and test runners: `npm run test:consumers`, or with the names of
 * some. They are installed from npm into a temporary folder, as scripts/consumers/packages.json says. What
 * they run is in docs/frameworks.md and docs/testing.md.
 */
import { readFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { checkFramework, FRAMEWORKS } from "./consumers/frameworks.ts";
import { Project } from "./consumers/project.ts";
import { checkRunner, RUNNERS } from "./consumers/runners.ts";

const root = path.dirname(import.meta.dirname!);
const read = (file: string) => readFileSync(path.join(root, file), "utf8");

const all = [...Object.keys(FRAMEWORKS), ...Object.keys(RUNNERS)];
const names = process.argv.length > 2 ? process.argv.slice(2) : all;
const unknown = names.filter((name) => !all.includes(name));
if (unknown.length > 0) {
  console.error(`there is no ${unknown.join(", ")}; there are ${all.join(", ")}`);
  process.exit(2);
}

/** The pages must say with which versions they were tried. */
function checkVersions(...pages: string[]): void {
  const { dependencies } = JSON.parse(read("scripts/consumers/packages.json"));
  for (const name of ["next", "hono", "elysia", "nitropack", "vitest", "jest"]) {
    const [version] = /^\d+\.\d+/.exec(dependencies[name])!;
    const text = new RegExp(`\\b${name} ${version.replace(".", "\\.")}\\b`, "i");
    if (!pages.some((page) => text.test(page))) throw new Error(`no page says ${name} ${version}`);
  }
}

const frameworks = read("docs/frameworks.md");
const testing = read("docs/testing.md");
checkVersions(frameworks, testing);
const project = new Project();
let failed = 0;
try {
  project.install();
  for (const name of names) {
    const began = performance.now();
    const check = async () =>
      name in FRAMEWORKS
        ? await checkFramework(project, name, frameworks)
        : checkRunner(project, name, testing);
    const outcome = await check().catch((error: Error) => {
      failed++;
      return `FAILED: ${error.message}`;
    });
    const seconds = ((performance.now() - began) / 1000).toFixed(1);
    console.log(`${name.padEnd(18)}${seconds.padStart(6)} s  ${outcome}`);
  }
} finally {
  await project.endServers();
  project.remove();
}
process.exitCode = failed === 0 ? 0 : 1;
