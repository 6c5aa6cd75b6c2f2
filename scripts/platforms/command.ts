/** The command line of the platforms. */
import process from "node:process";
import { parseArgs } from "node:util";
import { giveUp, requireDebianRoot } from "./common.ts";
import { argumentsFor, type Name, type Plan } from "./plan.ts";
import { type Platform, testPlatform } from "./suite.ts";

function parse(usage: string) {
  const args = process.argv.slice(2);
  try {
    return parseArgs({
      args: args[0] === "--" ? args.slice(1) : args,
      allowPositionals: true,
      options: {
        runtime: { type: "string", multiple: true },
        filter: { type: "string" },
        deadline: { type: "string", default: "1200" },
        core: { type: "boolean" },
        "setup-only": { type: "boolean" },
        help: { type: "boolean" },
      },
    });
  } catch (error) {
    giveUp(`${error instanceof Error ? error.message : error}\n\n${usage}`);
  }
}

/** Returns the exit code. */
export async function runPlatform(
  usage: string,
  runtimes: readonly Name[],
  plan: Plan,
  setUp: () => Platform,
): Promise<number> {
  const { values, positionals } = parse(usage);
  if (values.help) {
    console.log(usage);
    return 0;
  }
  const unknown = values.runtime?.find((name) => !runtimes.some((known) => known === name));
  if (unknown !== undefined) giveUp(`This platform has no ${unknown}.\n\n${usage}`);
  requireDebianRoot();
  let platform: Platform;
  try {
    platform = setUp();
  } catch (error) {
    giveUp(`It could not be set up: ${error instanceof Error ? error.message : error}`);
  }
  console.log(platform.description);
  if (values["setup-only"]) return 0;
  const chosen = runtimes.filter((name) => values.runtime?.includes(name) ?? true);
  const args = [`--deadline=${values.deadline}`];
  if (values.filter !== undefined) args.push(`--filter=${values.filter}`);
  const files = [...positionals, ...(values.core ? argumentsFor(plan.core) : [])];
  return await testPlatform(platform, plan, chosen, files, args);
}
