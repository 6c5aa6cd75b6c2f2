/** What the documentation says each call of a `SharedMemory` does. */
import { type Claim, claim, type OpenRequest } from "./segments.ts";
import { lockRules } from "./lock_rules.ts";
import type { Outcome } from "./steps.ts";
import { detach, done, failed, type Rule, type Subject, success } from "./subject.ts";
import { newMemory } from "./world.ts";
import { viewRules } from "./view_rules.ts";

function reset(subject: Subject, key: string | null, path: string | null): Outcome {
  detach(subject);
  Object.assign(subject.memory, { key, path, error: 0 });
  return done;
}

function take(subject: Subject, result: Claim): Outcome | null {
  if (result === "initialize") return null;
  if (typeof result === "string") return failed(subject, result);
  subject.memory.attachment = result;
  return success(subject);
}

/** The options of `open`; `fill` is what `initialize` does. */
interface OpenArguments {
  size?: number;
  mode?: 0 | 1;
  disposition?: "create" | "attach" | "createOrAttach";
  stale?: "replace" | "keep";
  fill?: number | "throw";
}

function open(subject: Subject, key: string, options: OpenArguments): Outcome | null {
  const { world, process, memory, name } = subject;
  if (memory.attachment !== null) return null; // it would be collected at some time
  const { size, mode = 1, disposition, stale, fill } = options;
  if (fill !== undefined && mode === 0) return { thrown: "TypeError" }; // it could not write
  const made = newMemory();
  made.key = key;
  const attachOnly = size === undefined || disposition === "attach";
  const request: OpenRequest = attachOnly ? { call: "attach", size: size ?? 0, mode } : {
    call: "open",
    size,
    mode,
    refuses: disposition === "create",
    replaces: stale !== "keep",
    fill,
  };
  const result = claim(world, process, made, request);
  if (typeof result === "string") {
    return { thrown: result === "initialize" ? "from initialize" : result };
  }
  made.attachment = result;
  Object.assign(process.memories, { [name]: made });
  return { value: request.made ?? [] };
}

export const memoryRules: Readonly<Record<string, Rule>> = {
  setKey(subject, key: string | null) {
    const { memory } = subject;
    const hasNone = memory.key === null && !memory.path;
    const isSame = memory.key === null ? hasNone && !key : key === memory.key;
    return isSame ? done : reset(subject, key, null);
  },
  setNativeKey(subject, path: string | null) {
    const { memory } = subject;
    const isSame = memory.key === null && path === memory.path;
    return isSame ? done : reset(subject, null, path);
  },
  create(subject, size: number, mode: 0 | 1) {
    const { world, process, memory } = subject;
    return take(subject, claim(world, process, memory, { call: "create", size, mode }));
  },
  attach(subject, mode: 0 | 1) {
    const { world, process, memory } = subject;
    return take(subject, claim(world, process, memory, { call: "attach", size: 0, mode }));
  },
  createOrAttach(subject, size: number, mode: 0 | 1) {
    const { world, process, memory } = subject;
    const request = { call: "open", size, mode, refuses: false, replaces: true } as const;
    return take(subject, claim(world, process, memory, request));
  },
  open,
  detach(subject) {
    if (subject.memory.attachment === null) return failed(subject, "NotFound");
    detach(subject);
    return success(subject);
  },
  dispose(subject) {
    if (subject.memory.attachment !== null) subject.memory.error = 0;
    detach(subject);
    return done;
  },
  /** The object is collected, and its views too unless one is kept. */
  forget(subject, keepView: boolean, isFreed: boolean) {
    const { world, process, memory, name } = subject;
    const { attachment } = memory;
    const isLocked = attachment?.key != null && world.holders.get(attachment.key) === attachment;
    if (keepView && attachment === null) return null;
    if (isFreed !== (attachment !== null && !keepView && !isLocked)) return null;
    if (keepView) process.kept.push(attachment!);
    if (isFreed) detach(subject);
    Object.assign(process.memories, { [name]: newMemory() });
    return done;
  },
  ...lockRules,
  ...viewRules,
};
