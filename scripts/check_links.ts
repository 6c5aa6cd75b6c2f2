/**
 * Follows every relative link and anchor of every Markdown file, and looks for the tests that they
 * name. Nothing is asked of the network. `node scripts/check_links.ts`.
 */
import { readdirSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { markdownFiles, problemsOf } from "./markdown.ts";

const root = path.dirname(import.meta.dirname!);
const tests = new Set(readdirSync(path.join(root, "tests")));
const problems = markdownFiles(root).flatMap((file) => problemsOf(root, file, tests));
for (const problem of problems) console.error(problem);
process.exitCode = problems.length > 0 ? 1 : 0;
