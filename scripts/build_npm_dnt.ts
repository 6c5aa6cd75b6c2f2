/**
 * Builds an npm package with dnt instead, which has CommonJS too: `deno run -A scripts/build_npm_dnt.ts`.
 * For those whose tools cannot `require` an ES module; what is published is scripts/pack.ts's.
 */
import { copyFileSync, readFileSync } from "node:fs";
import path from "node:path";
import { COMMAND, PACKAGE_FIELDS } from "./package_fields.ts";

/** Not a literal in the import, so that whoever cannot reach JSR can check everything else. */
const DNT = "jsr:@deno/dnt@^0.42";
const { build, emptyDir } = await import(DNT);

const root = path.dirname(import.meta.dirname!);
const outDir = path.join(root, "dist/dnt");
const { name, version, license, exports } = JSON.parse(
  readFileSync(path.join(root, "deno.json"), "utf8"),
);
const { "./cli": cli, ...modules } = exports as Record<string, string>;

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
  compilerOptions: { lib: ["ESNext"], target: "Latest", esModuleInterop: true },
  postBuild: () => {
    for (const file of ["README.md", "CHANGELOG.md", "LICENSE"]) {
      copyFileSync(path.join(root, file), path.join(outDir, file));
    }
  },
});
