/** The C program that shares primitives with the tests: compiled once for each file that needs it. */
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { after, before } from "node:test";
import { fileURLToPath } from "node:url";
import type { SharedMemory } from "../../mod.ts";
import { compilers } from "./posix_names.ts";
import { ftok, isRequired, systemLibrary, withDeadline } from "./support.ts";

const sourceOf = (name: string) => fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));
const required = isRequired("c");

const isWindows = process.platform === "win32";
/** Where Windows may have it made elsewhere. */
const given = sourceOf("sync_peer.exe");
const compiler = [...compilers, ...(isWindows ? ["clang"] : [])]
  .find((name) => spawnSync(name, ["--version"]).status === 0);
const isFit = isWindows || (process.platform === "linux" && compiler !== undefined &&
  /gnu/.test(spawnSync(compiler, ["-dumpmachine"], { encoding: "utf8" }).stdout));
const isThere = isFit && (compiler !== undefined || existsSync(given));

/** For tests that need it. */
export const cOnly: { skip?: string } = isThere || required
  ? {}
  : { skip: "no C compiler (cc; musl-gcc for musl)" };

let program = given;

/** Compiles a C program of the fixtures; returns its path in `folder`. */
export function compileC(name: string, folder: string): string {
  const compiled = path.join(folder, isWindows ? `${name}.exe` : name);
  const args = ["-O2", "-Wall", "-Werror", "-pthread", sourceOf(`${name}.c`), "-o", compiled];
  const { status, stderr } = spawnSync(compiler ?? "cc", args, { encoding: "utf8" });
  if (status !== 0) throw new Error(stderr);
  return compiled;
}

/** Compiles it before the tests of a suite that may run it. */
export function compilePeer(): void {
  let folder = "";
  before(() => {
    if (cOnly.skip !== undefined || (isWindows && existsSync(given))) return;
    folder = mkdtempSync(path.join(tmpdir(), "sync-peer-"));
    program = compileC("sync_peer", folder);
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
  #isKilled = false;

  constructor(memory: SharedMemory, mode: "count" | "hold", count?: number) {
    const name = memory.nativeKey()!;
    const segment = isWindows ? name : String(systemLibrary().c.shmget(ftok(name), 0n, 0));
    const args = [segment, mode, ...(count === undefined ? [] : [String(count)])];
    this.#child = spawn(program, args);
    this.#child.stderr!.on("data", (data) => this.stderr += data);
    this.ended = new Promise((resolve, reject) => {
      this.#child.on("error", reject);
      this.#child.on("close", (code, signal) => {
        // Windows has no signals.
        resolve(signal ?? (isWindows && this.#isKilled ? "SIGKILL" : code!));
      });
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
    this.#isKilled = true;
    process.kill(this.#child.pid!, "SIGKILL");
    return await withDeadline(this.ended, "the death of the C program");
  }
}
