/** What a Qt program that comes and goes at the same moment can do to open() and createOrAttach(). */
import { rmSync } from "node:fs";
import { spawn, spawnSync } from "node:child_process";
import process from "node:process";
import { describe, test } from "node:test";
import {
  crewOnly,
  endAll,
  leaveNothingBehind,
  needsQt,
  runtimes,
  segmentFile,
  semaphoreFile,
  slow,
  startAgentThrough,
  uniqueKey,
} from "../support/support.ts";

/** A Qt program that creates and detaches the segment of a key in a loop, until its input ends. */
const CHURN = `
import sys, threading
from PyQt6.QtCore import QSharedMemory
ended = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
print("ready", flush=True)
while not ended.is_set():
    memory = QSharedMemory(sys.argv[1])
    if memory.create(64):
        memory.detach()`;

const canUnshare = process.platform === "linux" &&
  spawnSync("unshare", ["--ipc", "true"]).status === 0;
const ROUNDS = 1500;

describe("beside a Qt program that creates and detaches the same key all the time", () => {
  leaveNothingBehind();

  for (
    const [what, source] of [
      [
        "createOrAttach()",
        `
        const memory = new library.SharedMemory(key);
        if (!memory.createOrAttach(64)) throw new Error(memory.errorString());
        memory.detach();`,
      ],
      [
        "open() with initialize",
        `
        const memory = library.SharedMemory.open(key, { size: 64, initialize: (bytes) => bytes.fill(1) });
        memory.detach();`,
      ],
    ] as const
  ) {
    test(`${what} neither finds that it exists already nor that it was removed`, {
      ...slow,
      ...crewOnly,
      ...canUnshare ? needsQt(6) : { skip: "only root can make namespaces" },
    }, async () => {
      const key = uniqueKey();
      // In a namespace of their own, since Qt's own races leave semaphores behind.
      const qt = spawn("unshare", ["--ipc", "/usr/bin/python3", "-c", CHURN, key], {
        stdio: ["pipe", "pipe", "inherit"],
      });
      const ended = new Promise((resolve) => qt.once("exit", resolve));
      await new Promise((resolve) => qt.stdout.once("data", resolve));
      const through = ["nsenter", `--ipc=/proc/${qt.pid}/ns/ipc`];
      const agents = runtimes.slice(0, 2).map((runtime) => startAgentThrough(runtime, through));
      try {
        await Promise.all(agents.map((agent) =>
          agent.run(`
            const key = ${JSON.stringify(key)};
            const until = Date.now() + 10_000;
            for (let i = 0; i < ${ROUNDS} && Date.now() < until; i++) { ${source} }`)
        ));
        await endAll(agents);
      } finally {
        qt.stdin.end();
        await ended;
        for (const path of [segmentFile(key), semaphoreFile(key)]) rmSync(path, { force: true });
      }
    });
  }
});
