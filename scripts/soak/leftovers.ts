/** What the processes of a soak have left in the system, however they have ended. */
import { readFileSync } from "node:fs";
import process from "node:process";
import { GETPID, IPC_RMID } from "../../backends/unix/linux_constants.ts";
import { Libc } from "../../backends/unix/libc.ts";
import { removeOrphanSemaphores } from "../../backends/systemv/orphan_semaphores.ts";
import { selectFfi } from "../../ffi/mod.ts";

export interface Leftover {
  readonly kind: "segment" | "semaphore";
  readonly id: number;
  /** The System V key. */
  readonly key: number;
  readonly text: string;
}

const TABLES = { segment: "/proc/sysvipc/shm", semaphore: "/proc/sysvipc/sem" } as const;

function rows(kind: Leftover["kind"]): number[][] {
  return readFileSync(TABLES[kind], "utf8").trim().split("\n").slice(1)
    .map((row) => row.trim().split(/\s+/).map(Number));
}

/** The System V keys of all that there is. */
export function systemKeys(): number[] {
  return [...rows("segment"), ...rows("semaphore")].map(([key]) => key!);
}

const libc = new Libc(selectFfi(), process.arch);

/** The process that used it last, or made it; 0 for a semaphore that nobody ever used. */
function users(kind: Leftover["kind"], row: number[]): number[] {
  // key shmid perms size cpid lpid …
  return kind === "segment" ? [row[4]!, row[5]!] : [libc.c.semctl(row[1]!, 0, GETPID, 0n)];
}

export class Leftovers {
  readonly #before = new Set(this.#all().map(({ text }) => text));

  #all(isOurs: (pid: number, thing: Leftover) => boolean = () => true): Leftover[] {
    return (["segment", "semaphore"] as const).flatMap((kind) =>
      rows(kind).flatMap((row) => {
        const thing = { kind, key: row[0]!, id: row[1]!, text: `${kind} ${row[1]}` };
        return users(kind, row).some((pid) => isOurs(pid, thing)) ? [thing] : [];
      })
    );
  }

  /** What was not there before, and one of these processes used; or a semaphore of ours that nobody did. */
  find(pids: ReadonlySet<number>, isOurs: (key: number) => boolean): Leftover[] {
    const isUnused = (pid: number, { kind, key }: Leftover) =>
      kind === "semaphore" && pid === 0 && isOurs(key);
    return this.#all((pid, thing) => pids.has(pid) || isUnused(pid, thing))
      .filter(({ text }) => !this.#before.has(text));
  }

  /** Removes what the next process that makes a semaphore would: its remover was killed. */
  removeOrphanSemaphores(): void {
    removeOrphanSemaphores(libc);
  }

  remove({ kind, id }: Leftover): void {
    if (kind === "segment") libc.c.shmctl(id, IPC_RMID, new Uint8Array(112));
    else libc.c.semctl(id, 0, IPC_RMID, 0n);
  }
}
