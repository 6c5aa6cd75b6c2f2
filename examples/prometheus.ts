/**
 * Servers whose `/metrics` shows the numbers of all of them, whichever Prometheus asks: they count in shared
 * memory. Start some, on ports of their own:
 *
 *     bun examples/prometheus.ts 8001
 *     deno run --allow-ffi --allow-net examples/prometheus.ts 8002
 *     curl localhost:8001 localhost:8002 localhost:8001/metrics
 */
import { createServer } from "node:http";
import process from "node:process";
import { SharedMemory } from "../mod.ts";
import { CounterBlock } from "../sync/mod.ts";

// An orderly end detaches. Before the segment is opened, so that no signal comes in between.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit());

// Not `using`: that would let go of the memory at the end of this file, where a server only begins.
//
// Numbers with names, found by name: programs of other versions may bring more of them. The numbers stay as long
// as one of the processes runs.
const memory = SharedMemory.open("metrics", {
  size: CounterBlock.bytesFor(200),
  initialize: (bytes) => void CounterBlock.create(bytes, 0, 200),
});
const metrics = CounterBlock.at(memory.view(Uint8Array));

const runtime = process.versions["deno"] ? "deno" : process.versions["bun"] ? "bun" : "node";

// Asked for once: afterwards a counter is one atomic addition. A name has room for 48 bytes, labels included, so
// take labels of which there are few: never a user, a path, or a process.
const requests = metrics.counter(`http_requests_total{runtime="${runtime}"}`);
const seconds = metrics.gauge(`http_busy_seconds_total{runtime="${runtime}"}`); // a float
const lastAt = metrics.gauge("http_last_request_seconds");

/** In Prometheus' text format: a type before each metric, and all of its series together. */
function exposition(): string {
  const lines: string[] = [];
  let last = "";
  for (const [series, value] of [...metrics.values()].sort(([a], [b]) => a < b ? -1 : 1)) {
    const metric = series.replace(/\{.*/, "");
    if (metric !== last) {
      lines.push(`# TYPE ${metric} ${metric.endsWith("_total") ? "counter" : "gauge"}`);
    }
    lines.push(`${series} ${value}`);
    last = metric;
  }
  return lines.join("\n") + "\n";
}

const server = createServer((request, response) => {
  if (request.url === "/metrics") {
    response.setHeader("content-type", "text/plain; version=0.0.4; charset=utf-8");
    response.end(exposition());
    return;
  }
  const start = performance.now();
  const text = `hello from ${runtime}\n`; // the work
  requests.add();
  seconds.add((performance.now() - start) / 1000);
  lastAt.set(Date.now() / 1000);
  response.end(text);
});
server.listen(Number(process.argv[2] ?? 8000), "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${(server.address() as { port: number }).port}/metrics`);
});
