/**
 * Builds the npm package from deno.json: `npm run pack`, or with another folder than dist as argument, and
 * with `--quick` as second one without measuring how long imports take.
 *
 * scripts/package_code.ts makes the JavaScript, and the declarations are TypeScript's own.
 * scripts/package_fields.ts has the fields that deno.json lacks.
 */
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { run, writeCode } from "./package_code.ts";
import { COMMAND, MANIFEST, PACKAGE_FIELDS } from "./package_fields.ts";
import { packageNames, packagePage, PAGES } from "./package_pages.ts";
import { moduleTable } from "./package_sizes.ts";

const root = path.dirname(import.meta.dirname!);
const target = path.resolve(process.argv[2] ?? path.join(root, "dist"));

const { name, version, license, exports } = MANIFEST;
/** Each source that is exported or run, by the name of its file in the package. */
const sources = Object.fromEntries(
  Object.entries(exports).map(([module, source]) => [
    module === "." ? "mod" : path.basename(module),
    path.normalize(source),
  ]),
);
const { cli: _, ...modules } = sources;

/** Writes the declarations that the modules need. */
function declare(folder: string): void {
  const all = mkdtempSync(path.join(path.dirname(folder), "declarations-"));
  const options = {
    ...{ declaration: true, emitDeclarationOnly: true, stripInternal: true },
    ...{ target: "esnext", module: "nodenext", lib: ["esnext", "dom"], types: [] },
    ...{ strict: true, exactOptionalPropertyTypes: true, allowImportingTsExtensions: true },
    ...{ rootDir: root, outDir: all },
    noCheck: true, // `npm run check` has done it, with the types of Deno
  };
  const files = Object.values(modules).map((source) => path.join(root, source));
  const project = path.join(all, "tsconfig.json");
  writeFileSync(project, JSON.stringify({ compilerOptions: options, files }));
  run(path.join(root, "node_modules/typescript/bin/tsc"), ["--project", project], root);

  const wanted = new Set(Object.values(modules));
  for (const source of wanted) {
    const file = source.replace(/\.ts$/, ".d.ts");
    const text = readFileSync(path.join(all, file), "utf8");
    const code = text.replace(/\/\*[^]*?\*\//g, "");
    if (/\bany\b/.test(code)) {
      console.error(`${file} says "any": give what it declares a type`);
      process.exit(1);
    }
    for (const [, other] of code.matchAll(/\b(?:from |import\()"(\.[^"]+\.ts)"/g)) {
      wanted.add(path.join(path.dirname(source), other!));
    }
    mkdirSync(path.dirname(path.join(folder, file)), { recursive: true });
    writeFileSync(path.join(folder, file), published(source, text));
  }
  for (const [name, source] of Object.entries(modules)) {
    if (`${name}.ts` === source) continue;
    const from = `./${source.replace(/\.ts$/, ".js")}`;
    const text = readFileSync(path.join(folder, source.replace(/\.ts$/, ".d.ts")), "utf8");
    const hasDefault = /^export default /m.test(text); // which `*` is without
    const what = hasDefault ? ["{ default }", "*"] : ["*"];
    const lines = what.map((exported) => `export ${exported} from "${from}";\n`);
    writeFileSync(path.join(folder, `${name}.d.ts`), lines.join(""));
  }
}

/** A declaration file as others see it: with the names of the published files and modules. */
function published(source: string, text: string): string {
  const named = packageNames(text, path.dirname(source), /(\* .* from )"(\.\.?\/[^"]*\.ts)"/g);
  const imported = named.replace(/\b(from |import\()"(\.[^"]+)\.ts"/g, '$1"$2.js"');
  // What `using` needs is in no lib before "esnext.disposable", which TypeScript has since 5.2.
  const isDisposable = /\bDisposable\b|\bSymbol\.dispose\b/.test(imported);
  return isDisposable ? `/// <reference lib="esnext.disposable" />\n${imported}` : imported;
}

/** The file of each module, by what others import it as. */
function moduleFiles(): Record<string, string> {
  const names = Object.keys(exports).filter((module) => module !== "./cli");
  return Object.fromEntries(
    names.map((module) => [module, `./${module === "." ? "mod" : path.basename(module)}.js`]),
  );
}

function manifest(): object {
  const exported = Object.entries(moduleFiles()).map(([module, file]) => [
    module,
    { types: file.replace(/\.js$/, ".d.ts"), default: file },
  ]);
  return {
    ...{ name, version, ...PACKAGE_FIELDS, license, type: "module" },
    bin: { [COMMAND]: "./cli.js" },
    // For what does not know `exports`, which finds the other modules by the names of their files.
    ...{ main: "./mod.js", types: "./mod.d.ts" },
    // The command is no module: it would run when it is imported.
    exports: { ...Object.fromEntries(exported), "./package.json": "./package.json" },
  };
}

const folder = mkdtempSync(path.join(os.tmpdir(), "shared-memory-pack-"));
try {
  const unpacked = path.join(folder, "package");
  writeCode(sources, unpacked);
  declare(unpacked);
  writeFileSync(path.join(unpacked, "package.json"), JSON.stringify(manifest(), null, 2) + "\n");
  for (const page of PAGES) {
    writeFileSync(path.join(unpacked, page), packagePage(page));
  }
  copyFileSync(path.join(root, "LICENSE"), path.join(unpacked, "LICENSE"));
  mkdirSync(target, { recursive: true });
  const output = run("npm", ["pack", "--json", "--pack-destination", target], unpacked);
  const [{ filename, size, unpackedSize, entryCount }] = JSON.parse(output);
  const kibibytes = (bytes: number) => `${Math.round(bytes / 1024)} KiB`;
  console.log(path.join(target, filename));
  console.log(
    `${entryCount} files, ${kibibytes(size)} packed, ${kibibytes(unpackedSize)} unpacked`,
  );
  if (process.argv[3] !== "--quick") console.log(moduleTable(folder, moduleFiles()));
} finally {
  rmSync(folder, { recursive: true });
}
