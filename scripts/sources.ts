/** The sources that are published, as paths from the root of the repository. */
import { readdirSync } from "node:fs";
import path from "node:path";

const root = path.dirname(import.meta.dirname!);

const FOLDERS = ["core", "backends", "ffi", "sync"];

function modulesIn(folder: string, recursive: boolean): string[] {
  return readdirSync(path.join(root, folder), { recursive, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => path.join(folder, name).replaceAll("\\", "/")).sort();
}

/** All modules of the package. */
export function sourceFiles(): string[] {
  return [...modulesIn("", false), ...FOLDERS.flatMap((folder) => modulesIn(folder, true))];
}
