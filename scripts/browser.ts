/** Debian's Chromium without a window, driven over its DevTools protocol: for the test and the picture of a page. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";

const CHROMIUM = "/usr/bin/chromium";
/** For its start, and for each answer of it. */
const ANSWER_MS = 30_000;

export const hasChromium: boolean = existsSync(CHROMIUM);

interface Answer {
  id?: number;
  sessionId?: string;
  method?: string;
  params?: Record<string, unknown>;
  result?: Record<string, unknown>;
  error?: { message: string };
}

export class Browser {
  readonly #child: ChildProcess;
  readonly #profile: string;
  readonly #socket: WebSocket;
  readonly #waiting = new Map<number, (answer: Answer) => void>();
  #session = "";
  #count = 0;
  #loaded = () => {};
  /** What the page has complained about. */
  readonly problems: string[] = [];

  private constructor(child: ChildProcess, profile: string, socket: WebSocket) {
    this.#child = child;
    this.#profile = profile;
    this.#socket = socket;
    socket.addEventListener("message", ({ data }) => this.#receive(JSON.parse(String(data))));
  }

  /** Starts it, and opens a page of that size. */
  static async start(width: number, height: number, scale = 1): Promise<Browser> {
    const profile = mkdtempSync(path.join(tmpdir(), "chromium-"));
    const child = spawn(CHROMIUM, [
      "--headless=new",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-dev-shm-usage",
      "--no-first-run",
      "--disable-extensions",
      "--hide-scrollbars",
      "--remote-debugging-port=0",
      `--user-data-dir=${profile}`,
      "about:blank",
    ], {
      stdio: ["ignore", "ignore", "pipe"],
      env: {
        ...process.env,
        ...{ HOME: profile, TMPDIR: profile, XDG_CONFIG_HOME: profile, XDG_CACHE_HOME: profile },
      },
      detached: true, // its own group, with all of its processes
    });
    try {
      const socket = new WebSocket(await addressOf(child));
      await new Promise((resolve, reject) => {
        socket.onopen = resolve;
        socket.onerror = () => reject(new Error("no connection to chromium"));
      });
      const browser = new Browser(child, profile, socket);
      const { targetId } = await browser.#call("Target.createTarget", { url: "about:blank" });
      const attached = await browser.#call("Target.attachToTarget", { targetId, flatten: true });
      browser.#session = String(attached["sessionId"]);
      await browser.#call("Page.enable");
      await browser.#call("Runtime.enable");
      await browser.#call("Log.enable");
      await browser.#call("Emulation.setDeviceMetricsOverride", {
        ...{ width, height, deviceScaleFactor: scale, mobile: false },
      });
      return browser;
    } catch (error) {
      await end(child, profile);
      throw error;
    }
  }

  #receive({ id, method, params, ...answer }: Answer): void {
    if (id !== undefined) this.#waiting.get(id)?.(answer);
    else if (method === "Page.loadEventFired") this.#loaded();
    else if (method === "Runtime.exceptionThrown" || method === "Log.entryAdded") {
      this.problems.push(JSON.stringify(params));
    }
  }

  async #call(
    method: string,
    params: Record<string, unknown> = {},
  ): Promise<Record<string, unknown>> {
    const id = ++this.#count;
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    const timer = setTimeout(() => reject(new Error(`no answer to ${method}`)), ANSWER_MS);
    this.#waiting.set(id, resolve);
    const session = this.#session ? { sessionId: this.#session } : {};
    this.#socket.send(JSON.stringify({ id, method, params, ...session }));
    try {
      const { error, result } = await promise;
      if (error) throw new Error(`${method}: ${error.message}`);
      return result!;
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(id);
    }
  }

  /** Opens a page, and waits until it is there. */
  async open(url: string): Promise<void> {
    const loaded = Promise.withResolvers<void>();
    this.#loaded = loaded.resolve;
    const timer = setTimeout(() => loaded.reject(new Error(`${url} does not load`)), ANSWER_MS);
    try {
      const { errorText } = await this.#call("Page.navigate", { url });
      if (errorText) throw new Error(`${url}: ${errorText}`);
      await loaded.promise;
    } finally {
      clearTimeout(timer);
    }
  }

  async setColorScheme(value: "light" | "dark"): Promise<void> {
    const features = [{ name: "prefers-color-scheme", value }];
    await this.#call("Emulation.setEmulatedMedia", { features });
  }

  /** The value of an expression in the page. */
  async evaluate(expression: string): Promise<unknown> {
    const answer = await this.#call("Runtime.evaluate", { expression, returnByValue: true });
    if (answer["exceptionDetails"]) throw new Error(JSON.stringify(answer["exceptionDetails"]));
    return (answer["result"] as { value: unknown }).value;
  }

  /** A picture of the page, as PNG. */
  async screenshot(): Promise<Uint8Array> {
    const { data } = await this.#call("Page.captureScreenshot", { format: "png" });
    return Uint8Array.from(atob(String(data)), (letter) => letter.charCodeAt(0));
  }

  /** Ends it with all of its processes, and removes what it has stored. */
  async close(): Promise<void> {
    this.#socket.close();
    await end(this.#child, this.#profile);
  }
}

/** Where it listens, which it prints. */
function addressOf(child: ChildProcess): Promise<string> {
  let text = "";
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const timer = setTimeout(() => reject(new Error(`chromium does not start: ${text}`)), ANSWER_MS);
  child.stderr!.on("data", (data) => {
    text += data;
    const address = /DevTools listening on (ws:\S+)/.exec(text)?.[1];
    if (address) resolve(address);
  });
  child.once("error", reject);
  child.once("exit", () => reject(new Error(`chromium has ended: ${text}`)));
  return promise.finally(() => clearTimeout(timer));
}

async function end(child: ChildProcess, profile: string): Promise<void> {
  const ended = new Promise((resolve) => child.once("close", resolve));
  const hasEnded = child.exitCode !== null || child.signalCode !== null;
  try {
    process.kill(-child.pid!, "SIGKILL");
  } catch {
    // Nobody is left.
  }
  if (!hasEnded) await ended;
  // Its other processes end a little later than the first one, and still write.
  rmSync(profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
}
