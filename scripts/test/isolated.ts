/** Runs the tests of one runtime in a process of its own, which can be isolated: `isolated.ts <task> <outcome file>`. */
import { writeFileSync } from "node:fs";
import process from "node:process";
import { testRuntime } from "./runtime.ts";

const [task, file] = process.argv.slice(2);
writeFileSync(file!, JSON.stringify(await testRuntime(JSON.parse(task!))));
