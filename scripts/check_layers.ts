/**
 * Checks the rules by which the sources depend on each other (docs/internals.md): an import points to a lower storey, or
 * within its own folder, and never in a circle; only ffi/ knows a runtime, only backends/ an operating system.
 */
import { readFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { sourceFiles } from "./sources.ts";

const root = path.dirname(import.meta.dirname!);

/** From the lowest storey to the highest: what belongs to it, by the beginning of its path or by its name. */
const STOREYS: readonly (readonly [name: string, parts: readonly string[]])[] = [
  ["texts and numbers", [
    "errors.ts",
    "custom_inspect.ts",
    "printable.ts",
    "registry.ts",
    "context.ts",
  ]],
  ["the FFI", ["ffi/"]],
  ["what all backends share", [
    ...["backends/failure.ts", "backends/platform.ts", "backends/timing.ts"],
    ...["backends/in_flight.ts", "backends/sha1.ts"],
    ...["backends/shell_word.ts", "backends/capabilities.ts", "backends/inventory.ts"],
  ]],
  ["the calls of a system", ["backends/unix/", "backends/win32/"]],
  ["interfaces of backends", [
    ...["backends/types.ts", "backends/peek_types.ts", "backends/native_key.ts"],
  ]],
  ["futexes", ["backends/futex/"]],
  ["mechanisms", [
    ...["backends/systemv/", "backends/posix/", "backends/posix_darwin/", "backends/windows/"],
    "backends/mutex/",
  ]],
  ["the choice of a backend", [
    ...["backends/mod.ts", "backends/inspection.ts", "backends/clock.ts"],
    ...["backends/process_text.ts", "backends/peek.ts"],
  ]],
  ["native keys", ["native_ipc_key.ts"]],
  ["what the classes share", ["core/"]],
  ["classes", ["shared_memory.ts", "system_semaphore.ts", "inspect.ts"]],
  ["primitives", ["sync/"]],
  ["collections", ["collections/"]],
  ["adapters", ["adapters/"]],
  ["what is seen from outside", ["observe/"]],
  ["entry points", [
    "mod.ts",
    "metrics.ts",
    "testing.ts",
    "cli_starter.ts",
    "cli_table.ts",
    "cli_contents.ts",
    "cli_top.ts",
    "cli.ts",
  ]],
];

const RUNTIME = /\b(?:Deno\.\w|Bun\.\w|process\.versions|bun:ffi|node:ffi)/;
const SYSTEM = /\bprocess\.(?:platform|arch)\b/;

interface Import {
  readonly from: string;
  readonly to: string;
}

function storeyOf(file: string): number {
  const storey = STOREYS.findIndex(([, parts]) =>
    parts.some((part) => part.endsWith("/") ? file.startsWith(part) : file === part)
  );
  if (storey === -1) {
    throw new Error(`${file} belongs to no storey: name it in scripts/check_layers.ts`);
  }
  return storey;
}

/** A source without its comments, which may show programs. */
function codeOf(text: string): string {
  return text.replace(/\/\*[^]*?\*\//g, "").replace(/(^|\s)\/\/.*$/gm, "$1");
}

function importsOf(file: string, code: string): Import[] {
  const specifiers = /\b(?:from|import)\s*\(?"(\.[^"]+)"/g;
  return [...code.matchAll(specifiers)].map(([, specifier]) => ({
    from: file,
    to: path.posix.join(path.posix.dirname(file), specifier!),
  }));
}

/** What is wrong with one import, `null` if nothing is. */
function problemOf({ from, to }: Import): string | null {
  const [lower, higher] = [storeyOf(to), storeyOf(from)];
  if (lower > higher) {
    return `imports ${to}: "${STOREYS[higher]![0]}" is a lower storey than "${STOREYS[lower]![0]}"`;
  }
  if (!from.startsWith("backends/") && /^backends\/(unix|win32)\/(?!shared_)/.test(to)) {
    return `imports ${to}: only backends/ knows the calls of a system`;
  }
  const isSame = lower === higher && path.posix.dirname(from) === path.posix.dirname(to);
  if (lower === higher && !isSame) {
    return `imports ${to}: folders of one storey do not know each other`;
  }
  return null;
}

/** The circles that the imports make, each once. */
function circlesOf(imports: readonly Import[]): string[] {
  const next = Map.groupBy(imports, ({ from }) => from);
  const circles = new Set<string>();
  const done = new Set<string>();
  const visit = (file: string, above: readonly string[]) => {
    const begin = above.indexOf(file);
    if (begin !== -1) {
      circles.add([...above.slice(begin), file].join(" imports "));
    } else if (!done.has(file)) {
      for (const { to } of next.get(file) ?? []) visit(to, [...above, file]);
      done.add(file);
    }
  };
  for (const file of next.keys()) visit(file, []);
  return [...circles];
}

/** What is wrong with these sources: path and text of each. */
export function problemsOfLayers(sources: ReadonlyMap<string, string>): string[] {
  const codes = [...sources].map(([file, text]) => [file, codeOf(text)] as const);
  const imports = codes.flatMap(([file, code]) => importsOf(file, code));
  const rules = codes.flatMap(([file, code]) => {
    const [runtime] = file.startsWith("ffi/") ? [] : RUNTIME.exec(code) ?? [];
    const mayKnow = /^(backends|ffi)\//.test(file);
    const [system] = mayKnow ? [] : SYSTEM.exec(code) ?? [];
    return [
      ...runtime === undefined ? [] : [`${file}: says ${runtime}: only ffi/ knows a runtime`],
      ...system === undefined ? [] : [`${file}: says ${system}: only backends/ knows a system`],
    ];
  });
  return [
    ...imports.flatMap((one) => {
      const problem = problemOf(one);
      return problem === null ? [] : [`${one.from}: ${problem}`];
    }),
    ...circlesOf(imports).map((circle) => `${circle}: a circle`),
    ...rules,
  ];
}

if (import.meta.main) {
  const sources = new Map(
    sourceFiles().map((file) => [file, readFileSync(path.join(root, file), "utf8")]),
  );
  const problems = problemsOfLayers(sources);
  for (const problem of problems) console.error(problem);
  process.exitCode = problems.length > 0 ? 1 : 0;
}
