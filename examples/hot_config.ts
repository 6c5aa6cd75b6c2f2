/**
 * A configuration that all processes follow while they run. Start some, and change it from another terminal:
 *
 *     bun examples/hot_config.ts
 *     bun examples/hot_config.ts greeting=Servus perSecond=50
 *
 * A process reads its configuration for every job, since that costs less than a microsecond and never waits:
 * it gets all of the last record, never a part of an old one with a part of a new one.
 */
import process from "node:process";
import { layout } from "../collections/mod.ts";
import { Event, type RecordOf, RecordSnapshot } from "../sync/mod.ts";

const fields = { greeting: "text:32", perSecond: "u32", isOpen: "bool" } as const;
type Config = RecordOf<typeof fields>;
const shape = layout({ hasChanged: Event, snapshot: RecordSnapshot.of(fields) });

// An orderly end detaches. Before the segment is opened, so that no signal comes in between.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit());

using shared = shape.open("configuration", {
  initialize: ({ snapshot }) =>
    snapshot.publish({ greeting: "hello", perSecond: 10, isOpen: true }),
});
const { memory, hasChanged, snapshot } = shared;

function config(): Config {
  return snapshot.read()!; // there is one from the beginning
}

/** Of `perSecond=50`, what belongs into the record. */
function parse(setting: string): Partial<Config> {
  const [name, value = ""] = setting.split("=");
  if (name === "greeting") return { greeting: value };
  if (name === "perSecond") return { perSecond: Number(value) };
  if (name === "isOpen") return { isOpen: value === "true" };
  throw new Error(`there is no ${name}; there are ${Object.keys(fields).join(", ")}`);
}

const settings = process.argv.slice(2);
if (settings.length > 0) {
  const changes = Object.assign({}, ...settings.map(parse)) as Partial<Config>;
  // Reading, changing and publishing is one step for others who change it: they wait for the lock. Those who
  // only read do not.
  memory.withLock(() => snapshot.publish({ ...config(), ...changes }));
  hasChanged.notifyAll();
  console.log("published", JSON.stringify(config()));
} else {
  for (let shown = "";;) {
    // From before the look: what is published after it ends the wait at once.
    const since = hasChanged.sequence;
    const now = JSON.stringify(config());
    if (now !== shown) console.log("running with", shown = now);
    await hasChanged.waitAsync({ since });
  }
}
