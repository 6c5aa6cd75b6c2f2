/**
 * How the code of visits.ts is tested, in one process and with another one that is killed:
 *
 *     node --test examples/testing/visits.test.ts
 *     bun test ./examples/testing/visits.test.ts
 *     deno test --allow-ffi --allow-run --allow-env examples/testing/visits.test.ts
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import { after, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { cleanupAfter, uniqueKey } from "../../testing.ts";
import { Visits } from "./visits.ts";

describe("visits", () => {
  cleanupAfter(after); // fails if a test has left something attached, and removes what a killed process has left

  test("are counted for each page", () => {
    using visits = new Visits(uniqueKey("visits")); // another key in each test: none finds what another one has left
    for (const page of ["/", "/news", "/"]) visits.add(page);
    assert.deepEqual(visits.most(2), [["/", 2], ["/news", 1]]);
  });

  test("outlive a process that is killed", async () => {
    const key = uniqueKey("visits");
    using visits = new Visits(key);
    visits.add("/");
    const flags = "Deno" in globalThis ? ["run", "--allow-ffi"] : [];
    const file = fileURLToPath(new URL("visitor.ts", import.meta.url));
    const visitor = spawn(process.execPath, [...flags, file, key, "/"], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    const [line] = await once(visitor.stdout, "data");
    assert.equal(Number(line), 2);
    visitor.kill("SIGKILL");
    await once(visitor, "close");
    assert.equal(visits.add("/"), 3);
  });
});
