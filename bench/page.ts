/** Writes tables into docs/performance.md, between the markers that it has for each. */
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { findRuntime } from "../scripts/runtimes.ts";
import { here } from "./programs.ts";

/** What the repository shows. */
export const published = {
  page: join(here, "../docs/performance.md"),
  chart: join(here, "../docs/performance.svg"),
  collectionsChart: join(here, "../docs/collections.svg"),
};

export const today = () => new Date().toISOString().slice(0, 10);

/** Writes the tables, by their names, into the page. */
export function fill(page: string, tables: Readonly<Record<string, string>>): void {
  writeFileSync(page, filled(readFileSync(page, "utf8"), tables));
  format(page);
}

/** Replaces what is between the markers of each table. */
function filled(page: string, tables: Readonly<Record<string, string>>): string {
  return Object.entries(tables).reduce((text, [name, content]) => {
    const block = new RegExp(`(<!-- table ${name}[^>]*-->\n)[^]*?(<!-- end -->)`);
    if (!block.test(text)) throw new Error(`the page has no place for the table ${name}`);
    return text.replace(block, (_, start, end) => `${start}\n${content}\n\n${end}`);
  }, page);
}

/** As `npm run check` wants the files of the repository. */
export function format(file: string): void {
  const deno = findRuntime("deno");
  if ("missing" in deno) return;
  const config = ["--config", join(here, "../deno.json")];
  execFileSync(deno.command, ["fmt", "--quiet", ...config, file], { stdio: "inherit" });
}
