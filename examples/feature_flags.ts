/**
 * Flags that all processes of a service follow, and that are changed while it runs. Each program below may be started in
 * any of the runtimes:
 *
 *     node examples/feature_flags.ts                         # a process that follows the flags; start several
 *     node examples/feature_flags.ts set checkout=new dark=true
 *     node examples/feature_flags.ts show
 */
import process from "node:process";
import { json, SharedValue } from "../collections/mod.ts";

type Flags = Record<string, string | number | boolean>;

// An orderly end detaches. Before the segment is opened, so that no signal comes in between.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit());

using flags = SharedValue.open<Flags>("feature flags", {
  maxBytes: 2 ** 20,
  codec: json,
  initial: { checkout: "old", dark: false },
});

/** Reads `name=value`, with a value as in JSON, or a text. */
function parsed(setting: string): [string, Flags[string]] {
  const [name = "", text = ""] = setting.split(/=(.*)/s);
  try {
    return [name, JSON.parse(text)];
  } catch {
    return [name, text];
  }
}

const [command, ...settings] = process.argv.slice(2);
if (command === "set") {
  // Two of these at once lose nothing: the function is called again if another process was faster.
  flags.update((old) => ({ ...old, ...Object.fromEntries(settings.map(parsed)) }));
  console.log(`version ${flags.version}: ${JSON.stringify(flags.value)}`);
} else if (command === "show") {
  console.log(`version ${flags.version}: ${JSON.stringify(flags.value)}`);
} else {
  // `ref`: this program does nothing else. A server goes on without it, and looks at `flags.value` for each request.
  for await (const { checkout, dark } of flags.changes({ from: 0, ref: true })) {
    console.log(`process ${process.pid}: ${checkout} checkout, ${dark ? "dark" : "light"}`);
  }
}
