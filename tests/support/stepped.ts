/** The functions that lock and unlock mutexes by `Atomics`, with a call after each statement at which a process can die. */
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const source = fileURLToPath(new URL("../../backends/mutex/atomic_pthread.ts", import.meta.url));

export interface Stepped {
  readonly file: string;
  /** After how many calls each statement of interest comes. */
  readonly numbers: {
    readonly begin: number;
    readonly locked: number;
    readonly beforeRelease: number;
    readonly released: number;
  };
}

/** Writes them as a module into `folder`. After its statement `number` it calls `afterStatement(number)`. */
export function writeStepped(folder: string): Stepped {
  const text = readFileSync(source, "utf8")
    .replace(/ from "(\.[^"]+)"/g, (_, to) => ` from ${JSON.stringify(urlOf(to))}`);
  const begin = text.indexOf("    lock(mutex, ms) {");
  const end = text.indexOf("\n  };\n}", begin);
  const lines = text.slice(begin, end).split("\n");
  const stepped: string[] = [];
  for (const line of lines) {
    const isStatement = /;( \/\/.*)?$/.test(line) && !/^\s*(const|\/\/)|return /.test(line);
    const isEnd = isStatement || line === "      }";
    stepped.push(
      isEnd ? `${line.replace(/ \/\/.*/, "")} afterStatement(${count(stepped)});` : line,
    );
  }
  const numberAfter = (statement: string, isBlock = false) => {
    const first = stepped.findIndex((line) => line.includes(statement));
    const last = isBlock
      ? stepped.findIndex((line, i) => i > first && line.startsWith("      }"))
      : first;
    return Number(/afterStatement\((\d+)\)/.exec(stepped[last] ?? "")?.[1] ?? NaN);
  };
  const numbers = {
    begin: numberAfter("list[PENDING] = link;"),
    locked: numberAfter("Atomics.compareExchange(words, LOCK, 0, thread)", true),
    beforeRelease: numberAfter("pointers[USER] = 0;"),
    released: numberAfter("Atomics.compareExchange(words, LOCK, thread, 0)", true),
  };
  if (Object.values(numbers).some(Number.isNaN)) throw new Error(`other statements than expected`);
  const file = path.join(folder, "stepped_pthread.ts");
  const declaration = "declare function afterStatement(number: number): void;\n";
  writeFileSync(file, declaration + text.slice(0, begin) + stepped.join("\n") + text.slice(end));
  return { file, numbers };
}

function urlOf(specifier: string): string {
  return new URL(specifier, new URL("../../backends/mutex/", import.meta.url)).href;
}

function count(lines: readonly string[]): number {
  return lines.filter((line) => line.includes(" afterStatement(")).length;
}
