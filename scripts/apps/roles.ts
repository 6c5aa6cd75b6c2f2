/** The two roles of this package in the protocol of an application: it comes second, or it is the first instance. */
import { once } from "node:events";
import { rmSync } from "node:fs";
import net from "node:net";
import path from "node:path";
import type { Inventory, SegmentInfo } from "../../inspect.ts";
import type { Application, Place } from "./applications.ts";
import { until } from "./until.ts";
import type { Desktop } from "./desktop.ts";
import { Instance, START_MS } from "./instance.ts";
import type { Peer } from "./peer.ts";

/** What takes part in a role. */
export interface Scene {
  readonly application: Application;
  readonly place: Place;
  readonly desktop: Desktop;
  readonly peer: Peer;
}

type Say = (text: string) => void;

function check(isTrue: boolean, what: string): void {
  if (!isTrue) throw new Error(what);
}

/** What is listed, in one line. */
function summary({ segments, semaphores, keyFiles }: Inventory): string {
  const texts = [...segments, ...semaphores, ...keyFiles].map(({ kind, keyFile, reason }) =>
    `${kind} ${keyFile}: ${reason}`
  );
  return texts.length === 0 ? "nothing" : texts.join("; ");
}

/** The segment of the scene, which must be the only one. */
function theSegment(inventory: Inventory): SegmentInfo {
  const [segment, another] = inventory.segments;
  check(segment !== undefined && another === undefined, `listed: ${summary(inventory)}`);
  return segment!;
}

/** Lists the segment, which must be in use by so many, and lets cleanup() try to remove everything. */
async function mustStay({ application, peer }: Scene, attached: number): Promise<SegmentInfo> {
  const { removed, failed } = await peer.cleanup({ orphans: true, persistent: true });
  check(failed.length === 0, `cleanup() failed: ${failed[0]?.reason}`);
  // The kernel does not say who has a semaphore open that is not the lock of a segment.
  const isUnknown = (file: string | null) =>
    application.semaphore !== undefined &&
    file?.includes(`qipc_systemsem_${application.semaphore}`) === true;
  const wrong = removed.find(({ keyFile }) => !isUnknown(keyFile));
  check(wrong === undefined, `cleanup() removed the ${wrong?.kind} ${wrong?.keyFile}`);
  const segment = theSegment(await peer.inspect());
  check(!segment.stale, `listed as stale: ${segment.reason}`);
  check(segment.attached === attached, `attached: ${segment.attached}, not ${attached}`);
  return segment;
}

/** Starts an instance that finds another one, which must end as it does then. */
async function startOther({ application, place, desktop }: Scene): Promise<void> {
  const other = new Instance(application, place, desktop);
  const closing = application.showsMessage
    ? desktop.closeWindow(other.pid, () => other.hasEnded)
    : undefined;
  try {
    await other.endsWith(application.otherEndsWith);
  } finally {
    await other.kill();
    await closing;
  }
}

/** Removes what a killed instance has left; nothing may be listed afterwards. */
async function cleanUp({ peer }: Scene): Promise<number> {
  let count = 0;
  // A key file that leads to no object is removed when it is some seconds old.
  await until("the removal of what was left", 20_000, async () => {
    const { removed, failed } = await peer.cleanup();
    check(failed.length === 0, `cleanup() failed: ${failed[0]?.reason}`);
    count += removed.length;
    const left = summary(await peer.inspect());
    check(left === "nothing", `left: ${left}`);
    return true;
  });
  return count;
}

/** Starts the first instance and waits until its segment has its contents; returns the key, and what the contents are. */
async function startFirst(scene: Scene, first: Instance): Promise<[key: string, text: string]> {
  const { application, place, peer } = scene;
  return await until(`the segment of ${application.name}`, START_MS, async () => {
    if (first.hasEnded) return ["", ""];
    const segment = theSegment(await peer.inspect());
    const key = application.key(place);
    check(segment.attached > 0 && !segment.stale, `listed: ${segment.reason}`);
    await peer.ask("memory", "memory", key);
    check(
      await peer.ask("call", "memory", "nativeKey") === segment.keyFile,
      `${key} is not the key of ${segment.keyFile}`,
    );
    await peer.must("attach");
    try {
      const size = await peer.ask("call", "memory", "size");
      check(size === application.size, `${size} bytes, not ${application.size}`);
      const text = application.contents(await peer.read(application.size), first.pid);
      check(segment.creator?.pid === first.pid, `created by process ${segment.creator?.pid}`);
      return [key, text];
    } finally {
      await peer.must("detach");
    }
  });
}

/** The application comes first: this package attaches, and cleans up after it was killed. */
export async function second(scene: Scene, say: Say): Promise<void> {
  const { application, place, desktop, peer } = scene;
  const first = new Instance(application, place, desktop);
  try {
    const [key, text] = await startFirst(scene, first);
    first.mustRun();
    say(`read "${key}", size ${application.size}: ${text}`);
    await mustStay(scene, 1);
    await peer.must("attach");
    await peer.must("lock");
    await peer.must("unlock");
    await mustStay(scene, 2);
    await peer.must("detach");
    await startOther(scene);
    await mustStay(scene, 1);
    if (application.semaphore !== undefined) await startOther(scene); // cleanup() may have removed it
    first.mustRun();
    await first.kill();
    const segment = theSegment(await peer.inspect());
    check(segment.stale, `after a SIGKILL: ${segment.reason}`);
    const listed = peer.list();
    check(listed.includes(`stale: ${segment.reason}`), `the command lists:\n${listed}`);
    say(`killed: ${segment.reason}; removed by cleanup(): ${await cleanUp(scene)}`);
    if (application.endsAt !== undefined) await tellToEnd(scene, application.endsAt, say);
  } finally {
    await first.kill();
  }
}

/** Writes the request to end into the segment, under its lock. */
async function tellToEnd(scene: Scene, text: string, say: Say): Promise<void> {
  const { application, place, desktop, peer } = scene;
  const instance = new Instance(application, place, desktop);
  try {
    await startFirst(scene, instance);
    await peer.must("attach");
    await peer.must("lock");
    await peer.ask("write", "memory", 0, [...new TextEncoder().encode(text)]);
    await peer.must("unlock");
    await peer.must("detach");
    await instance.endsWith(0);
    await cleanUp(scene);
    say(`wrote ${text}: it ended`);
  } finally {
    await instance.kill();
  }
}

/** Listens as the first instance does; returns the socket, and what others have sent. */
async function listen(file: string): Promise<[server: net.Server, received: () => number]> {
  let received = 0;
  const server = net.createServer((socket) => {
    socket.on("data", (data) => received += data.length).on("error", () => {});
  });
  rmSync(file, { force: true }); // a killed instance leaves it
  server.listen(file);
  await once(server, "listening");
  return [server, () => received];
}

/** This package is the first instance: the application finds it, and ends. */
export async function first(scene: Scene, key: string, say: Say): Promise<void> {
  const { application, place, peer } = scene;
  const { size, socket, writes } = application;
  await peer.ask("memory", "memory", key);
  await peer.must("create", size);
  await peer.ask("write", "memory", 0, application.fill(peer.pid));
  await mustStay(scene, 1);
  const [server, received] = socket === undefined
    ? [null, () => 0]
    : await listen(path.join(place.temporary, socket(key)));
  try {
    await startOther(scene);
    const how = application.showsMessage ? " after its message" : "";
    say(`found the first instance, and ended with ${application.otherEndsWith}${how}`);
    if (server !== null) {
      await until("what is handed over", 5000, () => Promise.resolve(received() || undefined));
      say(`handed over ${received()} bytes`);
    }
    if (writes !== undefined) {
      const text = new TextDecoder().decode(await peer.read(writes.length));
      check(text === writes, `it wrote ${JSON.stringify(text)}`);
      say(`wrote ${text}`);
    }
    await mustStay(scene, 1);
    await peer.must("detach");
    await cleanUp(scene);
  } finally {
    server?.close();
  }
}
