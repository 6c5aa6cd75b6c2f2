/** Scenarios in which processes use the bytes of one segment, which exists and which all of them have attached. */
import { registry, type SharedAttachment } from "../../registry.ts";
import { IPC_CREAT } from "../../backends/unix/linux_constants.ts";
import { ARRAYS } from "./atomics.ts";
import type { SimulatedFfi } from "./ffi.ts";
import { call, isBlocked, type State } from "./kernel.ts";
import type { Ending, Note, Scenario } from "./scenario.ts";

const KEY = 1;
/** Each process has the segment at this address, which is the first one that the kernel gives. */
export const ADDRESS = 0x1000_0000;

/** What a process uses: a view of the segment, and what the explorer has for it. */
export interface Place {
  /** A view of the segment as `SharedMemory.view(Uint8Array)` returns it, for `at()` and the like. */
  readonly view: Uint8Array;
  readonly address: bigint;
  readonly ffi: SimulatedFfi;
  /** Tells that the process holds what only one may hold, or no longer, or counts what is done. */
  readonly note: (fact: "locked" | "unlocked" | "store" | "load") => number;
}

export interface SharedBytes {
  readonly name: string;
  /** The size of the segment. Each byte costs time. */
  readonly bytes: number;
  /** Creates what is in the segment before the processes begin. */
  readonly prepare: (view: Uint8Array) => void;
  readonly programs: readonly ((place: Place) => void | Promise<void>)[];
  /** Whether one of the programs is asynchronous. */
  readonly isAsync?: boolean;
  /** Whether loads and stores are not reordered, as what must be true is about what happens before in time. */
  readonly isInOrder?: boolean;
  /** Says what is wrong in the end with a view of the bytes, and how the processes have ended; `null` if nothing is. */
  readonly check?: (view: Uint8Array, ending: Ending) => string | null;
}

/** Lets primitives regard a buffer as that of an attached segment. */
function attach(buffer: ArrayBuffer): void {
  const attachment: SharedAttachment = {
    address: BigInt(ADDRESS),
    size: buffer.byteLength,
    isWritable: true,
    isEnded: false,
    lockIdentity: null,
    isLocked: false,
    isInitializing: false,
    beforeEnd() {},
    notBeforeEnd() {},
  };
  registry.byBuffer.set(buffer, attachment);
}

/** Returns a view that `ArrayBuffer.isView()` accepts, whose buffer the process has. */
function viewOf(buffer: ArrayBuffer): Uint8Array {
  attach(buffer);
  return new ARRAYS.Uint8Array(buffer);
}

function segmentOf({ ipc }: State) {
  return [...ipc[0]!.shm.objects.values()][0]!;
}

function result(kernel: State, process: number, ...made: [string, ...unknown[]]): number {
  const result = call(kernel, process, made);
  if (isBlocked(result) || result.ret === -1) throw new Error(`${made[0]} has failed`);
  return result.ret;
}

export function scenarioOf({
  name,
  bytes,
  prepare,
  programs,
  isInOrder = false,
  isAsync = false,
  check,
}: SharedBytes): Scenario {
  const prepared = viewOf(new ArrayBuffer(bytes));
  prepare(prepared);
  return {
    name,
    programs: programs.map((program) => (ffi, note: Note) => {
      const view = viewOf(ffi.arrayBuffer(BigInt(ADDRESS), bytes));
      return program({ view, address: BigInt(ADDRESS), ffi, note: (fact) => note(fact, ADDRESS) });
    }),
    crashes: ["killed 3"],
    isReordered: !isInOrder,
    isAsync,
    setUp(kernel) {
      const id = result(kernel, 0, "shmget", KEY, bytes, IPC_CREAT | 0o600);
      for (const process of kernel.processes.keys()) {
        if (result(kernel, process, "shmat", id, 0) !== ADDRESS) throw new Error("other address");
      }
      segmentOf(kernel).bytes = prepared.slice();
    },
    check(ending) {
      const { outcomes, kernel } = ending;
      const bad = outcomes.find((text) => text !== "ok" && text !== "killed");
      if (bad !== undefined) return `a program failed: ${bad}`;
      try {
        return check?.(viewOf(segmentOf(kernel).bytes.slice().buffer), ending) ?? null;
      } catch (error) {
        return `in the end: ${error}`;
      }
    },
  };
}
