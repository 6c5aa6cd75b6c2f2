/**
 * Sessions of several processes, which a restart of all of them does not end. In any runtime:
 *
 *     node examples/sessions.ts login ann          # prints the id of a new session
 *     bun examples/sessions.ts visit ID            # who it is, and the number of visits
 *     deno run --allow-ffi examples/sessions.ts logout ID
 *     node examples/sessions.ts stop               # ends all sessions
 */
import process from "node:process";
import { json, SharedMap } from "../collections/mod.ts";

interface Session {
  readonly user: string;
  readonly visits: number;
}

const sessions = SharedMap.open<Session>("sessions", {
  bytes: 16 * 2 ** 20,
  codec: json,
  ttl: 1_800_000, // half an hour after the last visit
  lifetime: "until-removed", // also if no process runs
});

const [command, argument = ""] = process.argv.slice(2);
if (command === "login") {
  const id = crypto.randomUUID();
  sessions.set(id, { user: argument, visits: 0 });
  console.log(id);
} else if (command === "visit") {
  // Two processes may do this at once: no visit is lost, as the function is called again if the value has changed.
  const session = sessions.update(
    argument,
    (old) => old && { ...old, visits: old.visits + 1 },
    { ttl: 1_800_000 },
  );
  console.log(session ? `${session.user}, visit ${session.visits}` : "there is no such session");
} else if (command === "logout") {
  console.log(sessions.delete(argument) ? "logged out" : "there is no such session");
} else if (command === "stop") {
  console.log(`${sessions.size} sessions ended`);
  sessions.remove(); // the segment goes with the last process that uses it
} else {
  console.error("login USER, visit ID, logout ID or stop");
  process.exitCode = 2;
}
