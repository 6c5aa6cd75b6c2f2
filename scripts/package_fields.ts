/** What the published packages are: deno.json, and what npm shows and does, of which that says nothing. */
import { readFileSync } from "node:fs";
import process from "node:process";

interface Manifest {
  readonly name: string;
  readonly version: string;
  readonly license: string;
  /** The source of each module, by what others import it as. */
  readonly exports: Readonly<Record<string, string>>;
}

/** deno.json. */
export const MANIFEST: Manifest = JSON.parse(
  readFileSync(new URL("../deno.json", import.meta.url), "utf8"),
);

/** The repository's page, which a workflow of GitHub's knows. */
export function repositoryPage(): string | undefined {
  const { GITHUB_SERVER_URL, GITHUB_REPOSITORY } = process.env;
  return GITHUB_SERVER_URL && GITHUB_REPOSITORY && `${GITHUB_SERVER_URL}/${GITHUB_REPOSITORY}`;
}

/** The repository, which npm's provenance must find in the package. */
function repositoryFields() {
  const url = repositoryPage();
  if (!url) return {};
  return {
    homepage: `${url}#readme`,
    bugs: { url: `${url}/issues` },
    repository: { type: "git", url: `git+${url}.git` },
  };
}

/** Fields of package.json. */
export const PACKAGE_FIELDS = {
  description:
    "Named shared memory and system-wide locks between processes, with the semantics of " +
    "QSharedMemory, for Deno, Bun and Node, without a native add-on",
  keywords: [
    ...["shared-memory", "ipc", "shm", "semaphore", "mutex", "lock", "mmap", "ffi"],
    ...["deno", "bun", "QSharedMemory", "QSystemSemaphore"],
  ],
  ...repositoryFields(),
  engines: { node: ">=26.9", bun: ">=1.4", deno: ">=2.9" },
  sideEffects: false,
};

/** The name of the command, which the export `./cli` of deno.json is. */
export const COMMAND = "shared-memory";
