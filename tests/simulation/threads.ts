/**
 * The threads of the simulated processes, and the messages that they send each other. A thread has an entry of its own
 * among the processes of a state, with the memory, the descriptors and the undo of its leader, which is the process.
 */
import { EINTR } from "../../backends/unix/errno.ts";
import { type Answer, block, type Caller, type State, wake } from "./state.ts";

/** What the `wait.word` of a thread is that waits for a message, or for the end of the other threads. */
const INBOX = "inbox";
const THREADS = "threads";

export const threadCalls = {
  /** Starts a thread of the process, which runs the program with this number. Returns its index. */
  thread({ state, index }: Caller, _program: number): Answer {
    const leader = state.processes[index]!;
    return state.processes.push({ ...leader, leader: index, wait: null, inbox: [] }) - 1;
  },

  /** Sends a message to a thread of the same process, or to its leader. The index of the sender stands before the text. */
  post({ state, index, process }: Caller, to: number | "leader", text: string): Answer {
    const receiver = state.processes[to === "leader" ? process.leader : to]!;
    receiver.inbox = [...receiver.inbox, `${index} ${text}`];
    if (receiver.wait?.word === INBOX) wake(receiver, 0);
    return 0;
  },

  /** Waits for a message, which it returns as text, or until a time: then it returns 1. */
  receive({ state, process, mode }: Caller, until: number): Answer {
    const [text, ...rest] = process.inbox;
    if (text === undefined && mode !== 2 && until > state.now) {
      return block(process, state, until, { word: INBOX });
    }
    process.wait = null;
    if (text === undefined) return 1;
    process.inbox = rest;
    return { ret: 0, out: text };
  },

  /**
   * Ends the threads of the process, as Node does when a worker or the program ends: a thread whose call waits ends when
   * that call returns, and runs no code after it. The caller waits for that.
   */
  terminate({ state, index, process }: Caller): Answer {
    for (const other of threadsOf(state, index)) {
      const thread = state.processes[other]!;
      if (other === index) continue;
      if (thread.wait !== null && thread.wait.word !== INBOX) thread.isEnding = true;
      else endThread(state, other);
    }
    if (hasThreads(state, index)) return block(process, state, Infinity, { word: THREADS });
    process.wait = null;
    return 0;
  },
};

/** Returns the indexes of a process and the threads of it that have not ended. */
export function threadsOf({ processes }: State, leader: number): number[] {
  return [...processes.keys()].filter((i) =>
    i === leader || processes[i]!.leader === leader && processes[i]!.stage === "running"
  );
}

/** Whether a process or thread sleeps, or has nothing to do until a time or a message. */
export function waitsForTime({ processes }: State, index: number): boolean {
  const { wait } = processes[index]!;
  return wait !== null && (wait.word === INBOX || wait.word === "" && wait.set === -1);
}

/** Ends a thread. */
export function endThread(state: State, index: number): void {
  const { leader } = state.processes[index]!;
  const nothing = { fds: new Map(), maps: new Map(), undo: new Map() };
  Object.assign(state.processes[index]!, { ...nothing, stage: "reaped", wait: null });
  const process = state.processes[leader]!;
  if (process.wait?.word === THREADS && !hasThreads(state, leader)) wake(process, 0);
}

function hasThreads(state: State, leader: number): boolean {
  return threadsOf(state, leader).length > 1;
}

/** Does to the wait of a thread what a stop of its process does: a wait for a semaphore fails (signal(7)). */
export function interrupt(state: State, index: number): void {
  const process = state.processes[index]!;
  const { wait } = process;
  const set = state.ipc[process.ipc]!.sem.objects.get(wait?.set ?? -1);
  if (wait === null || wait.result !== null || set === undefined) return;
  set.waiters = set.waiters.filter((other) => other !== index);
  wake(process, EINTR);
}
