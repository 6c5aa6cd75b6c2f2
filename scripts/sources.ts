/** The files of the package and its tests. */
import { readdirSync } from "node:fs";
import path from "node:path";

const root = path.dirname(import.meta.dirname!);

const FOLDERS = ["core", "backends", "ffi", "sync", "collections", "adapters", "observe"];

function modulesIn(folder: string, recursive: boolean): string[] {
  return readdirSync(path.join(root, folder), { recursive, encoding: "utf8" })
    .filter((name) => name.endsWith(".ts"))
    .map((name) => path.join(folder, name).replaceAll("\\", "/")).sort();
}

/** All modules of the package, as paths from the root of the repository. */
export function sourceFiles(): string[] {
  return [...modulesIn("", false), ...FOLDERS.flatMap((folder) => modulesIn(folder, true))];
}

/** The files with tests, as paths from the folder of the tests. */
export function testFiles(): string[] {
  return readdirSync(path.join(root, "tests"), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith("_test.ts") && !name.includes("node_modules"))
    .map((name) => name.replaceAll("\\", "/")).sort();
}
