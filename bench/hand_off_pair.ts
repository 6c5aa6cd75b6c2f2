/** What both processes of the hand-off share: a segment, a clock, and how the one calls the other. */
import { statSync } from "node:fs";
import process from "node:process";
import { Libc } from "../backends/unix/libc.ts";
import { selectFfi } from "../ffi/mod.ts";
import type { SharedMemory } from "../mod.ts";

export const segmentBytes = 64;

/** How long both processes do nothing before what is measured after a sleep, in ms. */
export const sleepMs = 3;

/** What the measuring process asks of the other one: a byte each, on the socket. */
export const requests = {
  /** Send it back. */
  echo: "e",
  /** Lock, answer, and unlock as soon as the other process waits. */
  unlockAtOnce: "u",
  /** Lock, answer, and unlock after `sleepMs`. */
  unlockAfterSleep: "s",
} as const;

const CLOCK_MONOTONIC = 1;
const GETNCNT = 14;

const ffi = selectFfi();
const { clock_gettime } = ffi.load(
  ["libc.so.6", "libc.so"],
  { clock_gettime: { args: ["i32", "buffer"], returns: "i32" } } as const,
);
const timespec = new BigInt64Array(2);
const timespecBytes = new Uint8Array(timespec.buffer);

/** The nanoseconds of a clock that is the same in all processes; Deno's own starts with each. */
export function sharedNow(): number {
  clock_gettime(CLOCK_MONOTONIC, timespecBytes);
  return Number(timespec[0]! * 1_000_000_000n + timespec[1]!);
}

/** Tells how many wait for the lock of `memory`, which must exist. */
export function waiters(memory: SharedMemory): () => number {
  const { c } = new Libc(ffi, process.arch);
  const path = memory.nativeKey()!.replace("qipc_sharedmemory_", "qipc_systemsem_");
  const { dev, ino } = statSync(path);
  const id = c.semget(0x51 << 24 | (dev & 0xff) << 16 | ino & 0xffff, 0, 0); // ftok(3)
  return () => c.semctl(id, 0, GETNCNT, 0n);
}
