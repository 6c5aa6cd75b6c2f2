/** Runs the tests in the runtimes for Linux on arm64: `npm run test:arm64`. */
import process from "node:process";
import { setUpArm64 } from "./arm64_setup.ts";
import { runPlatform } from "./command.ts";
import type { Plan } from "./plan.ts";

const usage = `Usage: node scripts/platforms/arm64.ts [options] [--] [file...]

Runs the tests in Deno, Bun and Node for Linux on arm64, in QEMU's emulator for single programs.
All three are tested at once; the other runtimes that a test starts are those of this machine, so
that processes for arm64 and for x64 share. Without files, all are run that emulation can do in time.

  --runtime <name>      deno, bun or node; may be given more than once (default: all)
  --filter <text>       only suites and top-level tests whose name contains the text
  --deadline <seconds>  for all the tests of one runtime (default: 1200)
  --core                only the tests of what differs from platform to platform
  --setup-only          installs what is missing
  --help

It needs Debian on x64, root, apt and npm. The first time, it installs qemu-user-static and Debian's
libraries for arm64, and puts the runtimes, 350 MB, into shared-memory-platforms/arm64 in
$XDG_CACHE_HOME or /var/cache; that can be deleted at any time.`;

/** For Deno and Node, what each runtime's FFI and threads have a part in. */
const CORE = [
  "apple_variadic",
  "endings",
  "engine",
  "errors",
  "key_types",
  "lock",
  "lock_async",
  "map",
  "map_lifetime",
  "map_processes",
  "platforms",
  "posix",
  "rate_limiter",
  "section_lock",
  "semaphore_errors",
  "sync_counter",
  "sync_event",
  "sync_mutex",
  "sync_random",
  "sync_snapshot",
  "sync_systems",
  "try_lock",
  "two_locks",
  "views",
  "wire_protocol",
  "with_lock",
  "workers",
];

const plan: Plan = {
  agents: ["endings", "lock", "platforms"],
  core: [
    ...["apple_variadic", "platforms", "sync_mutex", "views", "wire_protocol"],
    ...["engine", "map_lifetime"],
  ],
  leftOut: [
    {
      why:
        "processes by the hundred, and thousands of races: too slow, and the races go one way only",
      files: ["faults", "kills", "lock_async_abort", "model", "soak"],
    },
    { why: "measures time, and the use of the processor", files: ["event_loop"] },
    {
      why: "about the processes they start; those are emulated only in the tests named above",
      files: [
        "bun_server",
        "cli",
        "collection",
        "dashboard",
        "examples",
        "import",
        "isolation",
        "life",
        "limits",
        "package",
        "qt_producer_consumer",
      ],
    },
    { why: "Bun starts fastest, and runs the others", runtimes: ["deno", "node"], allBut: CORE },
  ],
};

process.exitCode = await runPlatform(usage, ["deno", "bun", "node"], plan, setUpArm64);
