import { printable } from "../printable.ts";
import { thisPlatform } from "./platform.ts";
import { processDetails } from "./unix/processes.ts";
import { sharedLibrary } from "./unix/shared_libc.ts";

/** What is known of a process, or of the process that a thread belongs to. */
export interface ProcessDetails {
  /** The number of the process. */
  readonly pid: number;
  /** The command with which it was started, shortened and without control characters; `null` if that is not known. */
  readonly command: string | null;
  /** A stopped process, by SIGSTOP or a debugger, goes on when it gets SIGCONT. `null` if the state is not known. */
  readonly state: "running" | "stopped" | "dead" | null;
}

/** A command is shown with at most this number of characters. */
const COMMAND_MAX = 60;

/**
 * Returns what is known of a process.
 *
 * @param number the number of the process, or on Linux that of one of its threads
 */
export function describeProcess(number: number): ProcessDetails {
  if (thisPlatform().os === "win32") return { pid: number, command: null, state: null };
  const { pid, words, name, state } = processDetails(sharedLibrary(), number);
  // Of paths, the file names: the text is for people, and folders make it long.
  const command = words.length === 0 ? name : words.map(fileName).join(" ");
  return { pid, command: command === null ? null : shortened(printable(command)), state };
}

/** Returns a process as a text for error messages: `process 123 (node server.js), stopped`. */
export function processText(number: number): string {
  const { pid, command, state } = describeProcess(number);
  const name = command === null ? `process ${pid}` : `process ${pid} (${command})`;
  return state === "stopped" || state === "dead" ? `${name}, ${state},` : name;
}

function fileName(word: string): string {
  return word.startsWith("/") ? word.slice(word.lastIndexOf("/") + 1) : word;
}

function shortened(command: string): string {
  return command.length <= COMMAND_MAX ? command : `${command.slice(0, COMMAND_MAX - 1)}…`;
}
