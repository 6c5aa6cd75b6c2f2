/** The programs of the documentation, which import the package by its name, as files outside the repository. */
import { readFileSync } from "node:fs";
import { type Block, blocksOf } from "../../scripts/markdown.ts";
import { MANIFEST } from "../../scripts/package_fields.ts";

const root = new URL("../../", import.meta.url);

/** The blocks of code of a page. */
export function blocksOfPage(page: string): Block[] {
  return blocksOf(readFileSync(new URL(page, root), "utf8"));
}

/** Returns a program that imports the modules of this repository where it has imported those of the package. */
export function runnable(program: string): string {
  return program.replace(
    /"(@[\w-]+\/[\w-]+)((?:\/[\w-]+)*)"/g,
    (text, name: string, more: string) => {
      const source = name === MANIFEST.name ? MANIFEST.exports[`.${more}`] : undefined;
      return source === undefined ? text : JSON.stringify(new URL(source, root).href);
    },
  );
}
