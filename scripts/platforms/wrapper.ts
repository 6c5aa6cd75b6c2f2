/** Commands that start a program with what it needs, for those who start a runtime by one name. */
import { renameSync, writeFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/** Writes a script that becomes `command` with its own arguments behind; returns its path. */
export function writeWrapper(
  folder: string,
  name: string,
  env: Readonly<Record<string, string | undefined>>,
  command: readonly string[],
): string {
  const variables = Object.entries(env).map(([key, value]) =>
    value === undefined ? `unset ${key}\n` : `export ${key}=${quoted(value)}\n`
  );
  return replaceFile(
    path.join(folder, name),
    `#!/bin/sh\n${variables.join("")}exec ${command.map(quoted).join(" ")} "$@"\n`,
  );
}

/** At once, as somebody may be starting the old one. */
export function replaceFile(file: string, text: string): string {
  const unfinished = `${file}.${process.pid}`;
  writeFileSync(unfinished, text, { mode: 0o755 });
  renameSync(unfinished, file);
  return file;
}
