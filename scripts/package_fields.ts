/** What npm shows of the package and does with it, of which deno.json says nothing. */
import process from "node:process";

/** The repository, which npm's provenance must find in the package: a workflow of GitHub's knows it. */
function repositoryFields() {
  const { GITHUB_SERVER_URL, GITHUB_REPOSITORY } = process.env;
  if (!GITHUB_SERVER_URL || !GITHUB_REPOSITORY) return {};
  const url = `${GITHUB_SERVER_URL}/${GITHUB_REPOSITORY}`;
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
