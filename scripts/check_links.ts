/**
 * Follows every relative link and anchor of every Markdown file, and looks for the tests that they
 * name. Nothing is asked of the network. `node scripts/check_links.ts`.
 */
import path from "node:path";
import process from "node:process";
import { markdownFiles, problemsOf } from "./markdown.ts";
import { testFiles } from "./sources.ts";

const root = path.dirname(import.meta.dirname!);
const tests = new Set(testFiles().map((file) => path.basename(file)));
const problems = markdownFiles(root).flatMap((file) => problemsOf(root, file, tests));
for (const problem of problems) console.error(problem);
process.exitCode = problems.length > 0 ? 1 : 0;
