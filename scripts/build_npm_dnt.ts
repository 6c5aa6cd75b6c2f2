/**
 * Builds an npm package with dnt instead, which has CommonJS too: `deno run -A scripts/build_npm_dnt.ts`.
 * For those whose tools cannot `require` an ES module; what is published is scripts/pack.ts's.
 */
import { copyFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { COMMAND, MANIFEST, PACKAGE_FIELDS } from "./package_fields.ts";
import { packagePage, PAGES } from "./package_pages.ts";

/** Not a literal in the import, so that whoever cannot reach JSR can check everything else. */
const DNT = "jsr:@deno/dnt@^0.42";
const { build, emptyDir } = await import(DNT);

const root = path.dirname(import.meta.dirname!);
const outDir = path.join(root, "dist/dnt");
const { name, version, license, exports } = MANIFEST;
const { "./cli": cli, ...modules } = exports;

await emptyDir(outDir);
await build({
  entryPoints: [
    ...Object.entries(modules).map(([name, file]) => ({ name, path: path.join(root, file) })),
    { kind: "bin", name: COMMAND, path: path.join(root, cli!) },
  ],
  outDir,
  package: { name, version, license, ...PACKAGE_FIELDS },
  shims: {}, // each runtime's own FFI is used, which nothing can stand in for
  test: false,
  typeCheck: false, // `npm run check` has done it, with the types of Deno
  skipSourceOutput: true,
  compilerOptions: { lib: ["ESNext", "DOM"], target: "Latest", esModuleInterop: true },
  postBuild: () => {
    for (const page of PAGES) {
      writeFileSync(path.join(outDir, page), packagePage(page));
    }
    copyFileSync(path.join(root, "LICENSE"), path.join(outDir, "LICENSE"));
  },
});
