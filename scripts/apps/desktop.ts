/** An X server without a screen and a D-Bus, for programs that need them. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { withDeadline } from "../deadline.ts";

/** What the desktop consists of. */
export const desktopPackages: readonly string[] = ["xvfb", "xdotool", "x11-utils", "dbus-daemon"];

/** Starts a server, and returns it and the first line that it prints. */
async function startServer(
  command: string,
  args: readonly string[],
): Promise<[server: ChildProcess, line: string]> {
  const server = spawn(command, args, { stdio: ["ignore", "pipe", "ignore"] });
  const line = once(createInterface({ input: server.stdout! }), "line");
  const [text] = await withDeadline(line, `the first line of ${command}`, 30_000);
  return [server, text];
}

export class Desktop implements Disposable {
  /** What a program needs in its environment. */
  readonly env: NodeJS.ProcessEnv;
  readonly #servers: readonly ChildProcess[];

  private constructor(env: NodeJS.ProcessEnv, servers: readonly ChildProcess[]) {
    this.env = env;
    this.#servers = servers;
  }

  static async start(): Promise<Desktop> {
    const screen = ["-screen", "0", "1280x800x24", "-nolisten", "tcp", "-displayfd", "1"];
    const [xvfb, display] = await startServer("Xvfb", screen);
    const [bus, address] = await startServer("dbus-daemon", [
      "--session",
      "--nofork",
      "--print-address=1",
    ]);
    const env = { DISPLAY: `:${display}`, DBUS_SESSION_BUS_ADDRESS: address };
    return new Desktop(env, [xvfb, bus]);
  }

  /** Presses Return in the window of a process as soon as it has one; gives up when `isOver` returns true. */
  async closeWindow(pid: number, isOver: () => boolean): Promise<void> {
    const xdotool = (...args: string[]) =>
      spawnSync("xdotool", args, { env: { ...process.env, ...this.env }, encoding: "utf8" }).stdout;
    while (!isOver()) {
      const found = xdotool("search", "--onlyvisible", "--pid", `${pid}`).trim().split("\n");
      for (const window of found.filter((id) => id !== "")) {
        xdotool("key", "--window", window, "Return");
      }
      await delay(200);
    }
  }

  [Symbol.dispose](): void {
    for (const server of this.#servers) server.kill("SIGKILL");
  }
}
