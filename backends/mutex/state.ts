import {
  FUTEX_OWNER_DIED,
  FUTEX_TID_MASK,
  FUTEX_WAITERS,
  PTHREAD_MUTEX_NOTRECOVERABLE,
  PTHREAD_MUTEX_OF,
} from "../unix/linux_constants.ts";
import { MutexAbi } from "./types.ts";

/** What the bytes of a mutex say. */
export interface MutexState {
  /** The number of the thread or process that holds it; 0 if none does, `null` if the bytes do not say who. */
  readonly holder: number | null;
  readonly isHeld: boolean;
  /** Whether threads wait for it, as far as the bytes say so: a thread that was killed while it waited may count, too. */
  readonly hasWaiters: boolean;
  /** Whether the holder has ended, so that the next one to lock it is told so. */
  readonly wasLeft: boolean;
  /** Whether no thread will ever be able to lock it. */
  readonly isUnrecoverable: boolean;
}

/** The words of a mutex of macOS (see OwnerMutex) and of Windows (see WindowsMutex). */
const OWNER = { low: 0, high: 1, sleepers: 2, pidShift: 12 } as const;
const WINDOWS_HELD_WORD = 4;

/** Reads the bytes of a mutex, or returns `null` if they cannot be those of one. Nothing in them is trusted. */
export function mutexState(abi: number, words: Int32Array): MutexState | null {
  const unheld = { hasWaiters: false, wasLeft: false, isUnrecoverable: false } as const;
  if (abi === MutexAbi.windows) {
    const isHeld = words[WINDOWS_HELD_WORD] !== 0;
    return { ...unheld, holder: isHeld ? null : 0, isHeld };
  }
  if (abi === MutexAbi.macos) {
    const isHeld = words[OWNER.low] !== 0 || words[OWNER.high] !== 0;
    const holder = words[OWNER.high]! >>> OWNER.pidShift;
    return { ...unheld, holder, isHeld, hasWaiters: words[OWNER.sleepers]! > 0 };
  }
  if (abi !== MutexAbi.glibc && abi !== MutexAbi.musl) return null;
  const places = PTHREAD_MUTEX_OF[abi === MutexAbi.glibc ? "glibc" : "musl"];
  const word = words[places.holder]!;
  const holder = word & FUTEX_TID_MASK;
  const isGone = (word & FUTEX_OWNER_DIED) !== 0;
  return {
    holder: isGone ? 0 : holder,
    isHeld: holder !== 0 && !isGone,
    hasWaiters: (word & FUTEX_WAITERS) !== 0,
    wasLeft: isGone,
    isUnrecoverable: abi === MutexAbi.glibc &&
      words[PTHREAD_MUTEX_OF.glibc.owner] === PTHREAD_MUTEX_NOTRECOVERABLE,
  };
}
