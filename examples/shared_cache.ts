/**
 * A cache for several Bun servers on one port. Each page takes a second to compute: one server does it, and all of them
 * answer from memory then. Kill servers as you like: the cache stays whole.
 *
 *     bun examples/shared_cache.ts 8000
 *     bun examples/shared_cache.ts 8000
 *     time curl localhost:8000/some/page    # a second the first time, at once for the next minute
 */
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { SharedMap, utf8 } from "../collections/mod.ts";
import { serve } from "./bun.ts";

// An orderly end detaches. Before the segment is opened, so that no signal comes in between.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit());

const pages = SharedMap.open<string>("pages", {
  bytes: 64 * 2 ** 20, // when it is full, pages that nobody asks for go first
  codec: utf8,
  ttl: 60_000, // ms
});

/** Stands for a database and a template. */
async function render(path: string): Promise<string> {
  await delay(1000);
  return `page ${path}, made by process ${process.pid}\n`;
}

const server = serve({
  port: Number(process.argv[2] ?? 8000),
  hostname: "127.0.0.1",
  reusePort: true,
  async fetch(request) {
    const { pathname } = new URL(request.url);
    // One process computes a page, however many ask for it; if that process is killed, another one does.
    const page = await pages.getOrSet(pathname, () => render(pathname));
    return new Response(page, { headers: { "x-process": `${process.pid}` } });
  },
});
console.log(`http://127.0.0.1:${server.port}`);
