/** What must be true when the programs of a schedule have ended. */
import { type Ending, runOn, type Scenario } from "./explorer.ts";
import type { State } from "./kernel.ts";
import { programs } from "./programs.ts";

/** A timed-out wait may be refused if another process was stopped while it held what is waited for. */
const TIMED_OUT = /^LockError: timed out/;
/** Within this time in ms, the next user of a key gets it whatever a killed process has left behind. */
const NEXT_MS = 2200;

/** Names everything that a user's processes have left in the system. */
export function leftovers({ ipc, inodes, roots }: State): string[] {
  const objects = ipc.flatMap(({ shm, sem }) => [
    ...[...shm.objects.keys()].map((id) => `segment ${id}`),
    ...[...sem.objects.keys()].map((id) => `semaphore ${id}`),
  ]);
  const files = roots.flatMap((root) => {
    const folder = inodes.get(inodes.get(root)!.entries!.get("tmp")!)!;
    return [...folder.entries!.keys()];
  });
  return [...objects, ...files];
}

/** Says what is wrong in the end with programs that all use this module; what a crash leaves, the next user removes. */
function checkOwn({ kernel, outcomes, hasKill, hasStop }: Ending): string | null {
  const bad = outcomes.find((text) =>
    text !== "ok" && text !== "killed" && !(hasStop && TIMED_OUT.test(text))
  );
  if (bad !== undefined) return `a program failed: ${bad}`;
  const left = leftovers(kernel);
  if (!hasKill && !hasStop) {
    return left.length === 0 ? null : `left without a crash: ${left.join(", ")}`;
  }
  const next = runOn(kernel, programs["open"]!);
  if (next.outcome !== "ok") return `the next one failed: ${next.outcome}`;
  if (next.ms > NEXT_MS) return `the next one waited for ${next.ms} ms`;
  const rest = leftovers(next.kernel);
  return rest.length === 0 ? null : `left after the next one: ${rest.join(", ")}`;
}

export function scenarioOf(...names: string[]): Scenario {
  return {
    name: names.join(", "),
    programs: names.map((name) => programs[name]!),
    check: checkOwn,
  };
}
