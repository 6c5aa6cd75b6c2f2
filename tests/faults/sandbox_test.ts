/** Kernels and sandboxes that lack what is needed: what the errors say, and that nothing is left. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { SharedMemoryError } from "../../mod.ts";
import { compilers } from "../support/posix_names.ts";
import {
  keyFolder,
  leaveNothingBehind,
  linuxOnly,
  ownRuntime,
  runtimes,
  slow,
  startAgent,
  startAgentThrough,
} from "../support/support.ts";

const compiler = compilers.find((name) => spawnSync(name, ["--version"]).status === 0);
const source = fileURLToPath(new URL("../fixtures/seccomp.c", import.meta.url));

function cannotFilter(): string | undefined {
  if (linuxOnly.skip !== undefined) return linuxOnly.skip;
  return compiler === undefined ? "no C compiler" : undefined;
}

const cannot = cannotFilter();
const withFilter = cannot === undefined ? slow : { skip: cannot };
const rows = () => spawnSync("cat", ["/proc/sysvipc/shm", "/proc/sysvipc/sem"]).stdout.toString();

describe("where System V calls are refused", withFilter, () => {
  let folder: string;
  let program: string;
  leaveNothingBehind();
  before(() => {
    folder = mkdtempSync(keyFolder + "seccomp-");
    program = path.join(folder, "seccomp");
    const { status, stderr } = spawnSync(compiler!, ["-Wall", "-Werror", source, "-o", program]);
    assert.equal(status, 0, `${stderr}`);
  });
  after(() => rmSync(folder, { recursive: true }));

  const causes = {
    ENOSYS: [
      "Unsupported",
      "UnknownError",
      /no System V IPC, or a sandbox hides it.*POSIX keys.*ENOSYS 38\]$/,
    ],
    EPERM: ["PermissionDenied", "PermissionDenied", /by a seccomp filter.*POSIX keys.*EPERM 1\]$/],
  } as const;
  // Deno's and Bun's calls on other threads and all others fail alike: the kernel's filter knows no threads.
  const cases = [
    "shmget",
    "semget",
    "shmat",
    "semop,semtimedop",
    "shmget,shmat,semget,semop,semtimedop",
  ];
  for (const [errno, [reason, code, says]] of Object.entries(causes)) {
    for (const calls of cases) {
      test(
        `${errno} of ${calls} is told from other refusals, and nothing is left`,
        slow,
        async () => {
          const keys = mkdtempSync(path.join(folder, "keys-"));
          const before = rows();
          const agent = startAgentThrough(ownRuntime, [program, errno, calls], { TMPDIR: keys });
          const results: [boolean, string, number, string, boolean][] = await agent.run(`
          const results = [];
          for (const call of ["create", "createOrAttach"]) {
            const memory = new library.SharedMemory("key");
            results.push([memory[call](16), memory.errorReason(), memory.error(), memory.errorString(), memory.isAttached()]);
          }
          return results;
        `);
          for (const [result, found, error, text, isAttached] of results) {
            assert.deepEqual([result, found, isAttached], [false, reason, false], text);
            assert.match(text, says);
            assert.match(text, new RegExp(`\\[(${calls.replaceAll(",", "|")})`));
            assert.equal(error, SharedMemoryError[code]);
          }
          if (calls.includes("sem")) {
            const [usable, semaphoreReason, text] = await agent.run(`
            const semaphore = new library.SystemSemaphore("key", 1);
            return [semaphore.acquire(), semaphore.errorReason(), semaphore.errorString()];
          `);
            assert.deepEqual([usable, semaphoreReason], [false, reason], text);
            assert.match(text, says);
          }
          assert.equal(await agent.end(), 0);
          if (calls !== "semop,semtimedop") {
            assert.equal(rows(), before);
            assert.deepEqual(readdirSync(keys), []);
          }
        },
      );
    }
  }

  test("POSIX keys work, as the error says", slow, async () => {
    const command = [program, "EPERM", cases.at(-1)!];
    const agent = startAgentThrough(ownRuntime, command, { TMPDIR: folder });
    const results = await agent.run(`
      const { NativeIpcKey, NativeIpcKeyType, SharedMemory } = library;
      const key = new NativeIpcKey("/qipc_sandbox " + process.pid, NativeIpcKeyType.PosixRealtime);
      const memory = SharedMemory.open(key, { size: 16 });
      return [memory.lock(), memory.unlock(), memory.detach()];
    `);
    assert.deepEqual(results, [true, true, true]);
    assert.equal(await agent.end(), 0);
  });
});

describe("the folder of the key files", linuxOnly, () => {
  leaveNothingBehind();

  test("is named by its variable if it is a file, by all that needs it", slow, async () => {
    const folder = mkdtempSync(keyFolder + "file-");
    const file = path.join(folder, "file");
    writeFileSync(file, "text");
    const agent = startAgent(ownRuntime, { TMPDIR: file });
    const texts: string[] = await agent.run(`
      const texts = [];
      for (const call of ["create", "attach", "createOrAttach"]) {
        const memory = new library.SharedMemory("key");
        memory[call](...call === "attach" ? [] : [16]);
        texts.push(memory.errorReason() + ": " + memory.errorString());
      }
      const semaphore = new library.SystemSemaphore("key", 1);
      texts.push(semaphore.errorReason() + ": " + semaphore.errorString());
      return texts;
    `);
    assert.equal(texts.length, 4);
    for (const text of texts) {
      assert.match(text, /^KeyError: .*is no folder; set TMPDIR to one \[.*ENOTDIR 20\]$/);
    }
    await assert.rejects(agent.request("inspect"), {
      reason: "KeyError",
      message: /is no folder; set TMPDIR to one/,
    });
    assert.equal(await agent.end(), 0);
    rmSync(folder, { recursive: true });
  });
});

const canMount = linuxOnly.skip === undefined &&
  spawnSync("unshare", ["--mount", "mount", "-t", "tmpfs", "none", "/proc/sysvipc"]).status === 0;

test(
  "inspect() says which of the kernel's files is missing",
  canMount ? slow : { skip: "cannot mount here" },
  async () => {
    const script = 'mount -t tmpfs none /proc/sysvipc && exec "$@"';
    const agent = startAgentThrough(ownRuntime, ["unshare", "--mount", "sh", "-c", script, "sh"]);
    await assert.rejects(agent.request("inspect"), {
      reason: "Unsupported",
      message:
        /^inspect: there is no \/proc\/sysvipc.*mount \/proc; .*\[open \/proc\/sysvipc\/shm: ENOENT 2\]$/,
    });
    assert.equal(await agent.end(), 0);
  },
);

const deno = runtimes.find(({ name }) => name === "deno");
test(
  "Deno with a list of libraries is told that --allow-ffi must have none",
  ownRuntime.name === "deno" && linuxOnly.skip === undefined
    ? slow
    : { skip: "is about Deno on Linux" },
  () => {
    const module = new URL("../../mod.ts", import.meta.url);
    const program = `import { SharedMemory } from ${JSON.stringify(module)};
      try {
        new SharedMemory("key").create(1);
      } catch (error) {
        console.log([error instanceof Deno.errors.NotCapable, error.cause instanceof Error, error.message].join(" "));
      }`;
    for (const flag of ["libc.so.6", "libc.so.6,libc.so", "/usr/lib/x86_64-linux-gnu/libc.so.6"]) {
      const args = ["run", "--no-prompt", "--quiet", `--allow-ffi=${flag}`, "-"];
      const { stdout } = spawnSync(deno!.command, args, { input: program, encoding: "utf8" });
      assert.match(stdout, /^true true .*needs --allow-ffi without a list of libraries\n$/, flag);
    }
  },
);
