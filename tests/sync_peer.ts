/** The C program that shares primitives with the tests: compiled once for each file that needs it. */
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { once } from "node:events";
import process from "node:process";
import { createInterface } from "node:readline";
import { after, before } from "node:test";
import { fileURLToPath } from "node:url";
import type { SharedMemory } from "../mod.ts";
import { ftok, keyFolder, linuxOnly, systemLibrary, withDeadline } from "./support.ts";

const source = fileURLToPath(new URL("./fixtures/sync_peer.c", import.meta.url));
const required = (process.env["REQUIRE_PEERS"] ?? "").split(",").includes("c");

const compiler = ["cc", "gcc"].find((name) => spawnSync(name, ["--version"]).status === 0);
const isGlibc = compiler !== undefined &&
  /gnu/.test(spawnSync(compiler, ["-dumpmachine"], { encoding: "utf8" }).stdout);

/** For tests that need it. */
export const cOnly: { skip?: string } = (compiler !== undefined && isGlibc) || required
  ? linuxOnly
  : { skip: "no C compiler (cc) for glibc" };

let folder = "";

/** Compiles it before the tests of a suite that may run it. */
export function compilePeer(): void {
  before(() => {
    if (cOnly.skip !== undefined) return;
    folder = mkdtempSync(`${keyFolder}sync-peer-`);
    const args = ["-O2", "-Wall", "-Werror", "-pthread", source, "-o", `${folder}/peer`];
    const { status, stderr } = spawnSync(compiler ?? "cc", args, { encoding: "utf8" });
    if (status !== 0) throw new Error(stderr);
  });
  after(() => {
    if (folder !== "") rmSync(folder, { recursive: true });
  });
}

/** A C program that uses the segment. */
export class Peer {
  /** The exit code or the signal's name. */
  readonly ended: Promise<number | string>;
  readonly #child: ReturnType<typeof spawn>;
  readonly #first: Promise<string>;
  stderr = "";

  constructor(memory: SharedMemory, mode: "count" | "hold", count?: number) {
    const id = systemLibrary().c.shmget(ftok(memory.nativeKey()!), 0n, 0);
    const args = [String(id), mode, ...(count === undefined ? [] : [String(count)])];
    this.#child = spawn(`${folder}/peer`, args);
    this.#child.stderr!.on("data", (data) => this.stderr += data);
    this.ended = new Promise((resolve, reject) => {
      this.#child.on("error", reject);
      this.#child.on("close", (code, signal) => resolve(signal ?? code!));
    });
    this.#first = once(createInterface({ input: this.#child.stdout! }), "line").then(([line]) =>
      line
    );
  }

  /** The first line that it prints. */
  async begun(): Promise<string> {
    const gone = this.ended.then((how) => {
      throw new Error(`the C program ended (${how}): ${this.stderr}`);
    });
    return JSON.parse(await withDeadline(Promise.race([this.#first, gone]), "the C program"));
  }

  async kill(): Promise<number | string> {
    process.kill(this.#child.pid!, "SIGKILL");
    return await withDeadline(this.ended, "the death of the C program");
  }
}
