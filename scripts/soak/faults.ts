import { setTimeout as delay } from "node:timers/promises";
import type { Random } from "../random.ts";
import type { Crew, Post } from "./crew.ts";
import type { KeyFiles } from "./key_files.ts";
import type { Fault } from "./options.ts";

const EVERY_MS = 250;
const STOPPED_MS = 400;

/** What was done to the workers. */
export interface Faults {
  kills: number;
  stops: number;
  deletions: number;
}

/** Disturbs the workers until `isOver`. */
export async function disturb(
  crew: Crew,
  files: KeyFiles,
  random: Random,
  faults: Faults,
  without: readonly Fault[],
  isOver: () => boolean,
): Promise<void> {
  const stops: Promise<void>[] = [];
  while (!isOver()) {
    await delay(2 * EVERY_MS * random.number());
    const post = random.oneOf(crew.posts);
    const isReady = crew.isReady(post) && !post.isDoomed;
    const fault = random.weighted([[4, "kill"], [2, "stop"], [3, "delete"]] as const);
    if (without.includes(fault)) continue;
    if (fault === "delete") {
      faults.deletions += files.delete(() => random.chance(0.7));
    } else if (isReady && fault === "kill") {
      faults.kills++;
      crew.kill(post);
    } else if (isReady && !post.isStopped) {
      faults.stops++;
      stops.push(stop(crew, post, STOPPED_MS * random.number()));
    }
  }
  await Promise.all(stops);
}

async function stop(crew: Crew, post: Post, ms: number): Promise<void> {
  const { child } = post;
  post.isStopped = true;
  crew.signal(post, "SIGSTOP");
  await delay(ms);
  if (post.child !== child) return; // it was killed meanwhile
  crew.signal(post, "SIGCONT");
  post.isStopped = false;
}
