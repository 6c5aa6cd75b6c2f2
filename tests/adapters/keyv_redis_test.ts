/** A control of the tests of our Keyv store: Keyv's suite, as it is run here, passes with Redis too. */
import { after, before, describe } from "node:test";
import { describeKeyvSuite } from "../support/keyv_suite.ts";
import { library, needsLibraries } from "../support/libraries.ts";
import { needsRedis, RedisServer } from "../support/redis.ts";
import { onceOnly } from "../support/support.ts";

describe("with a server of Redis", { ...needsLibraries, ...onceOnly, ...needsRedis }, () => {
  const skip = needsLibraries.skip ?? onceOnly.skip ?? needsRedis.skip;
  if (skip !== undefined) return;
  let server: RedisServer | undefined;

  before(async () => {
    server = await RedisServer.start();
  });
  after(() => server?.[Symbol.dispose]());

  const { default: KeyvRedis } = library("@keyv/redis");
  describeKeyvSuite("@keyv/test-suite on @keyv/redis", {
    open: () => new KeyvRedis({ socket: { path: server!.path } }),
    close: (store) => store.disconnect(),
  });
});
