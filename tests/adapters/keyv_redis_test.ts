/** A control of the tests of our Keyv store: Keyv's suite, as it is run here, passes with Redis too. */
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import process from "node:process";
import { after, before, describe } from "node:test";
import { describeKeyvSuite } from "../support/keyv_suite.ts";
import { library, needsLibraries } from "../support/libraries.ts";
import { keyFolder, onceOnly, until } from "../support/support.ts";

const isRequired = (process.env["REQUIRE_PEERS"] ?? "").split(",").includes("redis");
const needsRedis = isRequired || spawnSync("redis-server", ["--version"]).status === 0
  ? {}
  : { skip: "redis-server is not installed" };

describe("with a server of Redis", { ...needsLibraries, ...onceOnly, ...needsRedis }, () => {
  const skip = needsLibraries.skip ?? onceOnly.skip ?? needsRedis.skip;
  if (skip !== undefined) return;
  const folder = mkdtempSync(`${keyFolder}redis-`);
  const path = `${folder}/socket`;
  const args = ["--port", "0", "--unixsocket", path, "--save", "", "--dir", folder];
  let server: ReturnType<typeof spawn> | undefined;

  before(async () => {
    server = spawn("redis-server", args, { stdio: "ignore" });
    await until(() => existsSync(path), "the socket of redis-server");
  });
  after(() => {
    server?.kill("SIGKILL");
    rmSync(folder, { recursive: true });
  });

  const { default: KeyvRedis } = library("@keyv/redis");
  describeKeyvSuite("@keyv/test-suite on @keyv/redis", {
    open: () => new KeyvRedis({ socket: { path } }),
    close: (store) => store.disconnect(),
  });
});
