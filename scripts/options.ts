import process from "node:process";

/** What `parse` makes of the arguments; ends the process for `--help` and for wrong ones. */
export function parseOrExit<Options>(help: string, parse: () => Options | "help"): Options {
  try {
    const options = parse();
    if (options !== "help") return options;
    console.log(help.trimEnd());
    process.exit(0);
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}\nTry --help.`);
    process.exit(2);
  }
}
