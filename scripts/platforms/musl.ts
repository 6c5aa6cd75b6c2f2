/** Runs the tests in Bun for musl: `npm run test:musl`. */
import process from "node:process";
import { setUpMusl } from "./musl_setup.ts";
import { runPlatform } from "./command.ts";
import type { Plan } from "./plan.ts";

const usage = `Usage: node scripts/platforms/musl.ts [options] [--] [file...]

Runs the tests in Bun for musl, the C library of Alpine Linux; there is no Deno and no Node for it on
npm. The other runtimes that a test starts are those of this machine, so that processes with musl and
with glibc share, but for POSIX semaphores, which they cannot share: there C programs are built for musl.

  --filter <text>       only suites and top-level tests whose name contains the text
  --deadline <seconds>  for all the tests (default: 1200)
  --core                only the tests of what differs from platform to platform
  --setup-only          installs what is missing
  --help

It needs Debian on x64, root, apt and npm. The first time, it installs musl-tools, and puts Bun and
its libraries, 100 MB, into shared-memory-platforms/musl in $XDG_CACHE_HOME or /var/cache; that can be
deleted at any time.`;

const plan: Plan = {
  agents: "all",
  alone: [
    ...["conformance", "key_types", "posix", "posix_inspect"],
    ...["sync_model", "sync_mutex", "sync_mutex_kills"],
    ...["layout", "map", "map_compute", "map_damage", "map_kills", "map_lifetime", "map_processes"],
    ...["rate_limiter", "rate_limiter_crew", "section_lock"],
  ],
  core: [
    ...["key_types", "lock", "platforms", "sync_counter", "sync_mutex", "views", "wire_protocol"],
    ...["map", "map_lifetime", "map_processes", "rate_limiter"],
  ],
  leftOut: [{
    why: "about programs of the system's, which these start by themselves",
    files: ["bun_server", "dashboard", "docs", "examples", "guide", "interop_docs", "isolation"],
  }],
};

process.exitCode = await runPlatform(usage, ["bun"], plan, setUpMusl);
