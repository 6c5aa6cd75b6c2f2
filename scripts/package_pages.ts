/**
 * The pages of the published packages, whose readers have neither docs/ nor examples/ beside them, and the names of the
 * package's modules. `node scripts/package_pages.ts` rewrites the pages in place, for JSR.
 */
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { withLinks } from "./markdown.ts";
import { MANIFEST, repositoryPage } from "./package_fields.ts";

const root = path.dirname(import.meta.dirname!);

/** The pages that the packages have. What changed stands in the repository. */
export const PAGES = ["README.md"] as const;

/** What the package has of what the pages link to. */
const PACKED = new Set<string>([...PAGES, "LICENSE"]);

const { name, version, exports } = MANIFEST;
const modules = new Map(
  Object.entries(exports).map(([module, source]) => [
    path.normalize(source),
    path.posix.join(name, module),
  ]),
);

/**
 * In a text of `folder`, the names that its modules have for others.
 *
 * @param imports finds what comes before a path in quotation marks, and the path
 */
export function packageNames(text: string, folder: string, imports: RegExp): string {
  return text.replace(imports, (line, start: string, source: string) => {
    const module = modules.get(path.join(folder, source));
    return module === undefined ? line : `${start}"${module}"`;
  });
}

/**
 * A page of the repository as the packages have it. What it links to is in the repository at this version,
 * or, where it is not known which one that is, is named without a link.
 */
export function packagePage(
  page: string,
  repository: string | undefined = repositoryPage(),
): string {
  const text = readFileSync(path.join(root, page), "utf8");
  return withLinks(text, (target, isImage) => {
    if (/^(?:[a-z][a-z+.-]*:|#)/i.test(target) || PACKED.has(target.split("#")[0]!)) return target;
    if (repository === undefined) return null;
    return `${repository}/${isImage ? "raw" : "blob"}/v${version}/${target}`;
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const page of PAGES) {
    writeFileSync(path.join(root, page), packagePage(page));
  }
}
