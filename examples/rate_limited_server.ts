/**
 * Several Bun servers that allow each client 5 requests per second, and 10 at once, all of them together. Start some,
 * all on one port (Linux shares the connections out), or give each a port of its own:
 *
 *     bun examples/rate_limited_server.ts 8000
 *     bun examples/rate_limited_server.ts 8000
 *     for i in $(seq 20); do curl -s -o /dev/null -w "%{http_code} " localhost:8000; done
 */
import process from "node:process";
import { RateLimiter } from "../collections/mod.ts";
import { serve } from "./bun.ts";

// An orderly end detaches. Before the segment is opened, so that no signal comes in between.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit());

// Not `using`: that would let go of the memory at the end of this file, where a server only begins.
const limiter = RateLimiter.open("rate limits", {
  limit: 5,
  window: 1000, // ms
  burst: 10,
  keys: 10_000, // clients that have used some of their allowance at the same time: 1 MB
});

const server = serve({
  port: Number(process.argv[2] ?? 8000),
  hostname: "127.0.0.1",
  reusePort: true,
  fetch(request, server) {
    // Who the client is: its address. Behind a proxy it would be what that puts into a header.
    const client = server.requestIP(request)?.address ?? "unknown";
    const { allowed, remaining, retryAfter } = limiter.take(client);
    if (allowed) return new Response(`hello from process ${process.pid}, ${remaining} left\n`);
    return new Response("too many requests\n", {
      status: 429,
      headers: { "retry-after": `${Math.ceil(retryAfter / 1000)}` },
    });
  },
});
console.log(`http://127.0.0.1:${server.port}`);
