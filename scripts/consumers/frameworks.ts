/** The frameworks of docs/frameworks.md: how each program is built, and how its processes are started. */
import path from "node:path";
import { blocksOf } from "../markdown.ts";
import { type Project, runtime } from "./project.ts";

type Start = (port: number) => readonly [command: string, ...args: string[]];

interface Framework {
  /** Its heading on the page. */
  readonly heading: string;
  readonly build?: (project: Project, folder: string) => void;
  /** The processes, which share the value. */
  readonly starts: (project: Project) => readonly Start[];
}

const NEXT = "next/dist/bin/next";
const NITRO = "nitropack/dist/cli/index.mjs";

function next(bundler: string): Framework {
  const start = (project: Project): Start => (port) => {
    return [runtime("node").command, project.program(NEXT), "start", "--port", String(port)];
  };
  return {
    heading: "Next.js",
    build: (project, folder) => void project.run(folder, NEXT, "build", bundler),
    starts: (project) => [start(project), start(project)],
  };
}

const bunServer: Start = () => [runtime("bun").command, "server.mjs"];
const denoServer: Start = (port) => {
  const permissions = ["--allow-ffi", "--allow-env"];
  return [runtime("deno").command, "serve", ...permissions, "--port", String(port), "server.mjs"];
};
const nodeProgram = (file: string): Start => () => [runtime("node").command, file];

export const FRAMEWORKS: Readonly<Record<string, Framework>> = {
  "next-turbopack": next("--turbopack"),
  "next-webpack": next("--webpack"),
  hono: {
    heading: "Hono",
    starts: () => [nodeProgram("node.mjs"), nodeProgram("node.mjs"), bunServer, denoServer],
  },
  elysia: { heading: "Elysia", starts: () => [bunServer, bunServer] },
  nitro: {
    heading: "Nitro and Nuxt",
    build: (project, folder) => void project.run(folder, NITRO, "build"),
    starts: () => Array(2).fill(nodeProgram(path.join(".output", "server", "index.mjs"))),
  },
};

/** The files below a heading of a page. */
function filesBelow(page: string, heading: string): Record<string, string> {
  const section = page.split(/^(?=## )/m).find((part) => part.startsWith(`## ${heading}\n`));
  if (section === undefined) throw new Error(`there is no heading ${heading}`);
  const blocks = blocksOf(section).filter(({ file }) => file !== "");
  return Object.fromEntries(blocks.map(({ file, text }) => [file, text]));
}

/** Which process computed a page, and which one served it. */
function pidsOf(page: string): readonly [by: string, served: string] {
  const [, by, served] = /computed by (\d+), served by (\d+)/.exec(page) ?? [];
  if (by === undefined || served === undefined) throw new Error(`not the page: ${page}`);
  return [by, served];
}

/** Throws unless all processes of a framework's program serve the value that one of them computed. */
export async function checkFramework(
  project: Project,
  name: string,
  page: string,
): Promise<string> {
  const { heading, build, starts } = FRAMEWORKS[name]!;
  const folder = project.write(name, filesBelow(page, heading));
  build?.(project, folder);
  try {
    const all = starts(project);
    const fetches: (() => Promise<string>)[] = [];
    for (const start of all) {
      const [command] = start(0);
      fetches.push(await project.serve(folder, command, (port) => start(port).slice(1)));
    }
    const pids: (readonly [by: string, served: string])[] = [];
    for (const fetchPage of fetches) pids.push(pidsOf(await fetchPage()));
    const makers = new Set(pids.map(([by]) => by));
    const servers = new Set(pids.map(([, served]) => served));
    if (servers.size === all.length && makers.size === 1 && servers.isSupersetOf(makers)) {
      return `${all.length} processes served one value`;
    }
    throw new Error(`[computed by, served by]: ${JSON.stringify(pids)}`);
  } finally {
    await project.endServers();
    project.cleanUp();
  }
}
