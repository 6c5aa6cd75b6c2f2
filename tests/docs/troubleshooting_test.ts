/** docs/troubleshooting.md: each of its messages is printed, and only they are in it. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import process from "node:process";
import { after, before, describe, test } from "node:test";
import type { Runtime } from "../../scripts/runtimes.ts";
import {
  cannotBeNobody,
  crewOnly,
  DEADLINE_MS,
  keyFolder,
  leaveNothingBehind,
  linuxOnly,
  ownRuntime,
  runtimes,
} from "../support/support.ts";

const page = readFileSync(new URL("../../docs/troubleshooting.md", import.meta.url), "utf8");
const module = JSON.stringify(new URL("../../mod.ts", import.meta.url).href);
const shown = [...page.matchAll(/```text\n([^]*?)\n```/g)].map(([, message]) => message!);

interface Case {
  /** In which runtime; in any if it is left out. */
  readonly runtime?: Runtime["name"];
  /** Why it cannot be shown here, if it cannot. */
  readonly cannot?: () => string | undefined;
  /** Its arguments, if not the usual ones. */
  readonly args?: readonly string[];
  /** For a shell in namespaces of its own, before the program starts there. */
  readonly prepare?: string;
  /** Of the program. */
  readonly source: string;
}

const create = `new SharedMemory("cache").create(1000)`;
const semaphores = "echo 32000 1024000000 500 0 > /proc/sys/kernel/sem";

const cases: Record<string, Case> = {
  "Deno without --allow-ffi": {
    runtime: "deno",
    args: ["run", "--no-prompt", "--quiet"],
    source: create,
  },
  "Node's permission model without --allow-ffi": {
    runtime: "node",
    args: ["--permission", "--allow-fs-read=*"],
    source: create,
  },
  "an old Node": {
    runtime: "node",
    source: `Object.defineProperty(process, "versions", { value: { node: "24.21.0" } });
      process.getBuiltinModule = () => undefined;
      ${create}`,
  },
  "a Node whose FFI is off": { runtime: "node", args: ["--no-experimental-ffi"], source: create },
  "a browser": {
    runtime: "node",
    source: `Object.defineProperty(process, "versions", { value: {} });
      process.getBuiltinModule = () => undefined;
      ${create}`,
  },
  "another processor": {
    source: `Object.defineProperty(process, "arch", { value: "riscv64" }); ${create}`,
  },
  "a segment that exists": {
    source: `using first = new SharedMemory("cache");
      first.create(1000);
      say(new SharedMemory("cache"), "create", 1000);`,
  },
  "no segment": { source: `say(new SharedMemory("cache"), "attach");` },
  "a segment that is too small": {
    source: `using first = new SharedMemory("cache");
      first.create(1000);
      SharedMemory.open("cache", { size: 2000 });`,
  },
  "what is not attached": { source: `say(new SharedMemory("cache"), "lock");` },
  "a lock of the same thread": {
    source: `using first = new SharedMemory("cache");
      using second = new SharedMemory("cache");
      first.create(1000) && second.attach() && first.lock();
      say(second, "lock");
      first.unlock();`,
  },
  "use in an exit handler": {
    source: `const memory = new SharedMemory("cache");
      memory.create(1000);
      process.on("exit", () => say(memory, "create", 1000));`,
  },
  "another user's segment": {
    cannot: cannotBeNobody,
    runtime: "node",
    source: `const nobody = { uid: 65534, gid: 65534, stdio: "inherit" };
      using memory = new SharedMemory("cache");
      if (process.getuid() === 0) {
        memory.create(1000);
        process.getBuiltinModule("node:child_process").spawnSync(...COMMAND, nobody);
      } else say(memory, "attach");`,
  },
  "no TMPDIR": {
    prepare: "export TMPDIR=/srv/missing",
    source: `say(new SharedMemory("cache"), "create", 1000);`,
  },
  "a TMPDIR that is read-only": {
    prepare: `mount -t tmpfs -o ro none /mnt && export TMPDIR=/mnt`,
    source: `say(new SharedMemory("cache"), "create", 1000);`,
  },
  "no more segments": {
    prepare: "echo 0 > /proc/sys/kernel/shmmni",
    source: `say(new SharedMemory("cache"), "create", 1000);`,
  },
  "too large a segment": {
    prepare: "echo 999 > /proc/sys/kernel/shmmax",
    source: `say(new SharedMemory("cache"), "create", 1000);`,
  },
  "no more semaphores": {
    prepare: semaphores,
    source: `say(new SharedMemory("cache"), "create", 1000);`,
  },
  "a full /dev/shm": {
    prepare: "mount -t tmpfs -o size=64k none /dev/shm",
    source: `const key = SharedMemory.platformSafeKey("cache", NativeIpcKeyType.PosixRealtime);
      say(new SharedMemory(key), "create", 100000);`,
  },
};

/** What differs between machines, in words that do not. */
function general(text: string): string {
  return text.replaceAll(folder, "/tmp/").replace(/Node \d+\.\d+\.\d+/, "Node VERSION")
    .replace(/libc\.so(\.6)?/, "libc");
}

let folder = "";

/** Runs a program that prints one message. */
function printed({ runtime, args, prepare, source }: Case): string {
  const { command, args: usual } = runtimes.find(({ name }) =>
    name === (runtime ?? ownRuntime.name)
  )!;
  const script = `${folder}script.ts`;
  const all = args ?? usual;
  writeFileSync(
    script,
    `import process from "node:process";
    import { NativeIpcKeyType, SharedMemory } from ${module};
    const COMMAND = ${JSON.stringify([command, [...all, script]])};
    const say = (object, method, ...args) => {
      if (!object[method](...args)) console.log(object.errorString());
    };
    try {
      ${source}
    } catch (error) {
      console.log(error.message);
    }`,
  );
  const [first, ...rest] = prepare === undefined ? [command] : [
    ...["unshare", "--ipc", "--mount", "sh", "-c", `${prepare} && exec "$@"`, "sh", command],
  ];
  const { status, stdout, stderr } = spawnSync(first!, [...rest, ...all, script], {
    encoding: "utf8",
    env: { ...process.env, TMPDIR: folder.slice(0, -1), NO_COLOR: "1" },
    timeout: DEADLINE_MS,
  });
  assert.equal(status, 0, stderr + stdout);
  return general(stdout.trim());
}

/** Why the tests cannot change limits, mounts and users here, if they cannot. */
function cannotPrepare(): string | undefined {
  const { status } = spawnSync("unshare", ["--ipc", "--mount", "sh", "-c", semaphores]);
  return status === 0 ? undefined : "it takes root, and util-linux";
}

const reason = crewOnly.skip ?? linuxOnly.skip ?? cannotPrepare();

describe("docs/troubleshooting.md", reason === undefined ? {} : { skip: reason }, () => {
  leaveNothingBehind();

  before(() => {
    if (reason !== undefined) return;
    folder = mkdtempSync(`${keyFolder}trouble-`) + "/";
    chmodSync(folder, 0o1777); // for another user's key files too
  });
  after(() => {
    if (folder !== "") rmSync(folder, { recursive: true });
  });

  for (const [name, example] of Object.entries(cases)) {
    const isMissing = runtimes.every(({ name }) => name !== (example.runtime ?? ownRuntime.name));
    const why = isMissing ? `${example.runtime} is not installed` : example.cannot?.();
    const options = why === undefined ? {} : { skip: why };
    test(`has what is printed for ${name}`, options, () => {
      const message = printed(example);
      assert.ok(shown.some((one) => general(one) === message), `the page shows: ${message}`);
    });
  }

  test("has no other message", () => {
    assert.equal(shown.length, Object.keys(cases).length);
    assert.equal(new Set(shown.map(general)).size, shown.length);
  });
});
