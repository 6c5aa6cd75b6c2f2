import type { Usize } from "../../ffi/types.ts";
import type { Libc } from "./libc.ts";

const TIMESPEC_BYTES = 16;

/** A `struct timespec` in C memory. */
export interface Timespec {
  readonly address: bigint;
  readonly usize: Usize;
  readonly view: DataView;
}

export function timespec(libc: Libc): Timespec {
  const { address, view } = libc.allocate(TIMESPEC_BYTES);
  return { address, usize: libc.ffi.usize(address), view };
}

/** Adds `ms` to a time. */
export function addDuration(time: Timespec, ms: number): void {
  const seconds = time.view.getBigInt64(0, true);
  setDuration(time, seconds, ms + Number(time.view.getBigInt64(8, true)) / 1e6);
}

export function setDuration({ view }: Timespec, seconds: bigint, ms: number): void {
  const whole = Math.trunc(ms / 1000);
  view.setBigInt64(0, seconds + BigInt(whole), true);
  view.setBigInt64(8, BigInt(Math.trunc((ms - whole * 1000) * 1e6)), true);
}
