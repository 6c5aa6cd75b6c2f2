/** Runs Keyv's own tests of stores, which are written for Vitest, with node:test. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { library, needsLibraries } from "./libraries.ts";
import { leaveNothingBehind, slow } from "./support.ts";

/** What the suite asks of an expectation. */
function expectation(value: unknown) {
  return {
    toBe: (expected: unknown) => assert.strictEqual(value, expected),
    toEqual: (expected: unknown) => assert.deepEqual(value, expected),
    toBeTruthy: () => assert.ok(value),
    toBeFalsy: () => assert.ok(!value),
    toBeNull: () => assert.strictEqual(value, null),
    toBeUndefined: () => assert.strictEqual(value, undefined),
    toBeDefined: () => assert.notStrictEqual(value, undefined),
  };
}

/** What a test of the suite gets, and what is to be asserted at its end: that it has expected as often as it said. */
function testContext() {
  let [count, expected]: [number, number | null] = [0, null];
  const expect = (value: unknown) => {
    count++;
    return expectation(value);
  };
  const assertions = (number: number) => void (expected = number);
  return {
    context: { expect: Object.assign(expect, { assertions }) },
    end: () => assert.ok(expected === null || count === expected, `${count} expectations`),
  };
}

/** A store that a test is done with by closing it. */
export interface TestedStore<Store> {
  open(): Store;
  close(store: Store): unknown;
}

/** The suite expects to read again within a second what it lets live for a second, although a process may stand still. */
const LONGER_MS = 60_000;

/** Keyv 5, whose entries live longer than the suite says; the clock that it sets goes further by as much. */
function patientKeyv() {
  const { default: Keyv } = library("keyv");
  const clock = library("timekeeper");
  const { freeze } = clock;
  clock.freeze = (time: number) => freeze.call(clock, time + LONGER_MS);
  return class extends Keyv {
    set(key: string, value: unknown, ttl?: number): Promise<boolean> {
      return super.set(key, value, ttl !== undefined && ttl >= 1000 ? ttl + LONGER_MS : ttl);
    }
  };
}

const Keyv = needsLibraries.skip === undefined ? patientKeyv() : undefined;

/** Runs `@keyv/test-suite` with Keyv 5. A store is closed at the end of the test that opens it. */
export function describeKeyvSuite<Store>(what: string, { open, close }: TestedStore<Store>): void {
  const { default: all, keyvIteratorTests } = library("@keyv/test-suite");
  const opened: Store[] = [];
  const closeAll = async () => {
    for (const store of opened.splice(0)) await close(store);
  };
  const store = () => {
    opened.push(open());
    return opened.at(-1);
  };
  const hook = (body: () => Promise<void>) => async () => {
    try {
      await body();
    } finally {
      await closeAll();
    }
  };
  // deno-lint-ignore no-explicit-any
  type Body = (context: any) => unknown;
  const vitest = {
    it(name: string, body: Body) {
      test(
        name,
        slow,
        hook(async () => {
          const { context, end } = testContext();
          await body(context);
          end();
        }),
      );
    },
    beforeEach: (body: () => Promise<void>) => beforeEach(hook(body)),
    afterEach: (body: () => Promise<void>) => afterEach(hook(body)),
  };
  describe(what, needsLibraries, () => {
    leaveNothingBehind();
    if (needsLibraries.skip !== undefined) return;
    all(vitest, Keyv, store);
  });
  describe(`${what}: iterators`, needsLibraries, () => {
    leaveNothingBehind();
    if (needsLibraries.skip !== undefined) return;
    keyvIteratorTests(vitest, Keyv, store);
  });
}
