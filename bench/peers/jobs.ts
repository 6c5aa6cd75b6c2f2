/**
 * What people use today, doing the same jobs under one runtime: `<runtime> jobs.ts PEER JOB COUNT INDEX FOLDER`
 * takes part as one of COUNT processes, and does what its standard input says.
 */
import process from "node:process";
import { type Job, obey, repeat, repeatAsync } from "../commands.ts";
import { mib, requireStamped, stamped } from "./mib.ts";

/** A store without notifications: who waits for a change looks again and again. */
export interface PollingStore {
  /** Adds one under mutual exclusion, also with all other processes. */
  increment(): void;
  total(): number;
  /** Of a number by name. */
  set(name: string, value: number): void;
  get(name: string): number;
  write(bytes: Uint8Array): void;
  read(): Uint8Array;
  close(): void;
}

/** What answers, after something that travels. */
export interface Connection {
  /** Sends it and waits for the answer. */
  increment(): Promise<void>;
  total(): Promise<number>;
  roundTrip(): Promise<void>;
  handOver(bytes: Uint8Array): Promise<void>;
  close(): void | Promise<void>;
}

const [peer, name, , indexText, folder] = process.argv.slice(2);
if (folder === undefined) throw new Error("usage: jobs.ts PEER JOB COUNT INDEX FOLDER");
const index = Number(indexText);

function polling(store: PollingStore): Job {
  const end = () => store.close();
  if (name === "mutex") {
    return {
      run: (ms) => repeat(ms, 10, () => store.increment()),
      total: () => store.total(),
      end,
    };
  }
  let number = 0;
  const waitFor = (name: string, value: number) => {
    for (;;) {
      const found = store.get(name);
      if (found === value || found < 0) return found;
    }
  };
  if (index % 2 === 0) {
    const source = Uint8Array.from({ length: mib }, (_, i) => i);
    const ask = () => {
      number++;
      if (name === "mib") store.write(stamped(source, number));
      store.set("ping", number);
      if (waitFor("pong", number) !== number) throw new Error("no answer");
    };
    return {
      run(ms) {
        const result = repeat(ms, 1, ask);
        store.set("ping", -number);
        waitFor("pong", -number);
        for (const name of ["ping", "pong"]) store.set(name, number);
        return result;
      },
      end,
    };
  }
  return {
    run() {
      for (;;) {
        if (waitFor("ping", number + 1) < 0) {
          store.set("pong", -number);
          return {};
        }
        number++;
        if (name === "mib") requireStamped(store.read(), number);
        store.set("pong", number);
      }
    },
    end,
  };
}

function connected(connection: Connection): Job {
  const source = Uint8Array.from({ length: mib }, (_, i) => i);
  let number = 0;
  const operations: Record<string, () => Promise<void>> = {
    mutex: () => connection.increment(),
    event: () => connection.roundTrip(),
    mib: () => connection.handOver(stamped(source, ++number)),
  };
  return {
    run: (ms) => repeatAsync(ms, 1, operations[name!]!),
    total: () => connection.total(),
    end: () => connection.close(),
  };
}

const { open } = await import(`./${peer}.ts`) as {
  open(folder: string, index: number, job: string): Promise<
    { store: PollingStore } | { connection: Connection } | { server: Job }
  >;
};
const opened = await open(folder, index, name!);
if ("store" in opened) await obey(polling(opened.store));
else if ("connection" in opened) await obey(connected(opened.connection));
else await obey(opened.server);
