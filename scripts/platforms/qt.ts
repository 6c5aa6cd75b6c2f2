/**
 * Runs the tests of native keys with real Qt 6.8, which has them, from Debian 13: Debian 12 has Qt 6.4.
 * `npm run test:qt`, on Debian 12 as root.
 */
import { spawnSync } from "node:child_process";
import path from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { buildFolder, cacheFolder, requireDebianRoot, root } from "./common.ts";
import { installTools, unpackDebian13 } from "./debian13.ts";

const usage = `Usage: npm run test:qt -- [options] [-- test options]

Runs tests/qt/qt_native_key_test.ts in each installed runtime, with a peer in Qt 6.8. The first time it
unpacks a Debian 13 with PyQt6 in the cache folder (0.5 GB).

  --setup-only  only make what is needed
  --help`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { "setup-only": { type: "boolean" }, help: { type: "boolean" } },
});
if (values.help) {
  console.log(usage);
  process.exit();
}
requireDebianRoot();
installTools();
const system = path.join(cacheFolder("qt"), "debian-13-pyqt6-1"); // the number changes with the recipe
buildFolder(system, (folder) => {
  unpackDebian13(folder, ["python3-pyqt6"], "unpacking Debian 13 with PyQt6, 0.5 GB");
});
if (values["setup-only"]) process.exit();
const args = [path.join(root, "scripts/test.ts"), "qt_native_key", ...positionals];
const { status } = spawnSync(process.execPath, args, {
  stdio: "inherit",
  env: {
    REQUIRE_RUNTIMES: "deno,bun,node",
    ...process.env,
    SHARED_MEMORY_TEST_QT: system,
  },
});
process.exit(status ?? 1);
