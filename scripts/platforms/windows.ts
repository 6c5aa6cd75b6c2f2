/** Runs the tests as on Windows, in Wine: `npm run test:windows`. */
import process from "node:process";
import { giveUp, requireDebianRoot } from "./common.ts";
import { argumentsFor, names } from "./plan.ts";
import { runInWine, type WindowsRuntime } from "./wine.ts";
import { setUpWine, type Wine } from "./wine_setup.ts";

const usage = `Usage: node scripts/platforms/windows.ts [--] [test arguments]
       node scripts/platforms/windows.ts --setup-only
       node scripts/platforms/windows.ts --run <deno|bun|node> [arguments]

Runs the tests in the Windows versions of Deno, Bun and Node, in Wine; the arguments are those of
scripts/test.ts (--runtime bun, lock_test.ts, ...), and --core runs only the tests of what differs from
platform to platform. --run starts a runtime in the repository's
folder there: --run node scripts/demo.ts

It needs Debian on x64, root, apt and npm. The first time, it installs mmdebstrap and puts Wine and
the runtimes, 2.2 GB, into shared-memory-platforms/windows in $XDG_CACHE_HOME or /var/cache; that can
be deleted at any time. Each run starts with a copy of the repository and an empty %TEMP%, and
leaves nothing. Wine is not Windows: it shows that the calls are right, and nothing about security,
sessions or speed. Where Deno's own pipes to its children fail it there, its tests begin anew.`;

/** What differs from platform to platform. */
const CORE = argumentsFor([
  "key_types",
  "lock",
  "map_windows",
  "owner_mutex",
  "sync_counter",
  "sync_mutex",
  "sync_windows",
  "views",
  "windows",
  "windows_lock",
  "windows_segment",
]);

function setUp(): Wine {
  requireDebianRoot();
  try {
    const wine = setUpWine();
    console.log(wine.description);
    return wine;
  } catch (error) {
    giveUp(`It could not be set up: ${error instanceof Error ? error.message : error}`);
  }
}

/** What a caller may say to the tests. */
const env = Object.fromEntries(
  Object.entries(process.env).filter(([name]) =>
    /^REQUIRE_|SEED$|_COLOR$|_PATIENCE$|_KILLS$/.test(name)
  ),
);

/**
 * In Wine, Deno ends now and then with "entered unreachable code" in the pipes to its children (mio 1.0.3), whatever
 * the test: then its tests begin anew, so often at most.
 */
const ATTEMPTS = 3;
const PANIC = /panicked at .*named_pipe\.rs/;

async function test(args: string[]): Promise<number> {
  const { layers } = setUp();
  if (args.includes("--runtime")) return await testOnce(layers, args);
  // One after the other, so that only Deno's tests are to be repeated; what one of them runs for all is Node's.
  for (const name of names) {
    const status = await testOnce(layers, ["--runtime", name, ...args], {
      SHARED_MEMORY_TEST_CREW: "node",
    });
    if (status !== 0) return status;
  }
  return 0;
}

async function testOnce(
  layers: Wine["layers"],
  args: readonly string[],
  crew: NodeJS.ProcessEnv = {},
): Promise<number> {
  const required = { REQUIRE_RUNTIMES: "deno,bun,node", REQUIRE_PEERS: "c", ...crew, ...env };
  const command = ["scripts/test.ts", ...args.flatMap((arg) => arg === "--core" ? CORE : arg)];
  for (let attempt = 1;; attempt++) {
    const { status, printed } = await runInWine(layers, "node", command, required);
    if (status !== 0 && attempt < ATTEMPTS && PANIC.test(printed)) {
      console.log("\nDeno's own pipes have failed it in Wine; its tests begin anew");
      continue;
    }
    // Not the exit code alone: what fails may be Wine.
    const summary = printed.trimEnd().split("\n").at(-1)!;
    if (status !== 0 || /^[1-9]\d* passed, 0 failed, \d+ skipped$/.test(summary)) return status;
    console.log("\nFAILED: the tests ended without a summary");
    return 1;
  }
}

const args = process.argv.slice(2);
const [first, second = ""] = args;
if (first === "--help") console.log(usage);
else if (first === "--setup-only") setUp();
else if (first === "--run") {
  if (!["deno", "bun", "node"].includes(second)) giveUp(usage);
  const { layers } = setUp();
  const { status } = await runInWine(layers, second as WindowsRuntime, args.slice(2), env);
  process.exitCode = status;
} else process.exitCode = await test(first === "--" ? args.slice(1) : args);
