/** Mutexes in shared bytes that are the word with their owner, as on macOS: the kernel of the simulation has no others. */
import { LinuxFutex } from "../../backends/futex/linux.ts";
import { OwnerMutexes } from "../../backends/mutex/owner_word.ts";
import { MutexAbi } from "../../backends/mutex/types.ts";
import { Libc } from "../../backends/unix/libc.ts";
import { Mutex } from "../../sync/mod.ts";
import { PrimitiveKind, Slot } from "../../sync/slot.ts";
import { ARCH } from "./ffi.ts";
import type { Place } from "./shared_bytes.ts";

/** Creates the mutex at a byte. */
export function makeMutex(view: Uint8Array, byteOffset = 0): void {
  const slot = new Slot("Mutex.create", view, byteOffset, Mutex.ALIGNMENT);
  slot.make("Mutex.create", PrimitiveKind.Mutex, Mutex.BYTES, () => {}, MutexAbi.macos);
}

/**
 * Returns the mutex at a byte as a process uses it. The constructor is private to TypeScript, so that programs cannot
 * choose another system's functions.
 */
export function mutexAt({ view, ffi }: Place, byteOffset = 0): Mutex {
  const libc = new Libc(ffi, ARCH);
  const pid = libc.c.getpid();
  const threads = {
    self: () => ({ pid, thread: BigInt(pid) }),
    isRunning: (pid: number) => libc.c.kill(pid, 0) === 0,
  };
  const slot = new Slot("Mutex.at", view, byteOffset, Mutex.ALIGNMENT);
  slot.join("Mutex.at", PrimitiveKind.Mutex, Mutex.BYTES);
  const mutexes = new OwnerMutexes(ffi, threads, new LinuxFutex(libc));
  const Type = Mutex as unknown as new (...args: unknown[]) => Mutex;
  return Reflect.construct(Type, ["Mutex.at", slot, mutexes]);
}
