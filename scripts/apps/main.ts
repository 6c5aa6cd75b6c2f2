/**
 * Takes part in the single-instance protocols of real Qt programs, from each runtime and in both roles, and runs Qt's
 * own tests of the classes while the runtimes use their keys. `npm run test:apps`, on Debian 12 as root.
 */
import { spawnSync } from "node:child_process";
import process from "node:process";
import { parseArgs } from "node:util";
import { aptInstall, giveUp, requireDebianRoot, run } from "../platforms/common.ts";
import { isolated } from "../platforms/isolated.ts";
import { findRuntime, type Runtime } from "../runtimes.ts";
import { applications } from "./applications.ts";
import { desktopPackages } from "./desktop.ts";
import type { Task } from "./inside.ts";
import { buildSuite, qtSuites } from "./qt_suite.ts";

const names = [...applications, ...qtSuites].map(({ name }) => name);

const usage = `Usage: npm run test:apps -- [options] [NAME...]

Installs Qt programs of Debian, starts them on an X server without a screen, in namespaces of their own without a
network, and takes part in their single-instance protocols. Builds Qt's own tests of QSharedMemory and
QSystemSemaphore from Debian's sources, in the cache folder, and runs them while each runtime uses their keys.

NAMES are ${names.join(", ")}; all of them if there is none.

  --runtime R   only deno, bun or node; can be given more than once
  --help`;

function parse() {
  try {
    const args = process.argv.slice(2);
    return parseArgs({
      args: args[0] === "--" ? args.slice(1) : args,
      allowPositionals: true,
      options: {
        runtime: { type: "string", multiple: true },
        help: { type: "boolean" },
      },
    });
  } catch (error) {
    giveUp(`${error instanceof Error ? error.message : error}\n\n${usage}`);
  }
}

function chosen(wanted: readonly string[] | undefined): Runtime[] {
  const known = ["deno", "bun", "node"] as const;
  const unknown = wanted?.find((name) => !known.some((one) => one === name));
  if (unknown !== undefined) giveUp(`There is no runtime ${unknown}.\n\n${usage}`);
  return known.filter((name) => wanted?.includes(name) ?? true).map((name) => {
    const found = findRuntime(name);
    if ("missing" in found) giveUp(`${name} is missing: ${found.missing}`);
    return found;
  });
}

/** Everything that the script starts is gone when the shell ends, and no program reaches a network. */
const ALONE = `
  mount -t proc proc /proc
  mount -t tmpfs -o mode=1777 tmpfs /dev/shm
  status=0
  unshare --net "$@" || status=$?
  exit $status`;

const { values, positionals } = parse();
if (values.help) {
  console.log(usage);
  process.exit();
}
const unknown = positionals.find((name) => !names.includes(name));
if (unknown !== undefined) giveUp(`There is no ${unknown}.\n\n${usage}`);
requireDebianRoot();
const isChosen = ({ name }: { name: string }) =>
  positionals.length === 0 || positionals.includes(name);
const runtimes = chosen(values.runtime);
const programs = applications.filter(isChosen).map(({ name }) => name);
const suites = qtSuites.filter(isChosen);
aptInstall([...desktopPackages, ...programs, ...suites.flatMap(({ packages }) => packages)]);
const task: Task = {
  runtimes,
  names: programs,
  suites: suites.map((suite) => [suite.name, buildSuite(suite)]),
};
for (const { name, version } of runtimes) console.log(`${name} ${version}`);
for (const name of programs) {
  console.log(`${name} ${run("dpkg-query", ["--show", "--showformat=${Version}", name])}`);
}
const inside = new URL("inside.ts", import.meta.url).pathname;
const command = [process.execPath, ...process.execArgv, inside, JSON.stringify(task)];
const [program, args] = isolated(ALONE, ...command);
const { status, signal } = spawnSync(program, args, { stdio: ["ignore", "inherit", "inherit"] });
if (signal !== null) console.log(`ended by ${signal}`);
process.exitCode = status ?? 1;
