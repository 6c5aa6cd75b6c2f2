import { spawnSync } from "node:child_process";
import path from "node:path";
import process from "node:process";

/**
 * Runs a script in the runtime that started this one, and returns its exit code; `null` if no other runtime started it.
 * `bunx` and `bun run` start a command in the runtime that its first line names, which is Node. Like npm, they tell the
 * command their own name in the environment.
 */
export function runInStarter(script: string, args: readonly string[]): number | null {
  const { npm_config_user_agent: agent = "", npm_execpath: execPath = "" } = process.env;
  const [, name] = /^(bun|deno)\//.exec(agent) ?? [];
  if (name === undefined) return null;
  const command = path.basename(execPath).startsWith(name) ? execPath : name;
  const flags = name === "deno" ? ["run", "--allow-ffi"] : [];
  const { status, error } = spawnSync(command, [...flags, script, ...args], { stdio: "inherit" });
  return error === undefined ? status ?? 1 : null;
}
