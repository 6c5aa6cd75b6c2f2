/**
 * Whether what is passed arrives where Apple's arm64 has variadic arguments: with functions that look for
 * theirs as Apple's do, called through this runtime's own FFI. `npm run test:arm64`.
 */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, test } from "node:test";
import { cString, Libc } from "../../../backends/unix/libc.ts";
import { DarwinPosixLibrary } from "../../../backends/posix_darwin/library.ts";
import { selectFfi } from "../../../ffi/mod.ts";
import type { CFunctions, CSignatures, Ffi } from "../../../ffi/types.ts";

const library = process.env["SHARED_MEMORY_TEST_APPLE_VARIADIC"];
const skip = library === undefined || process.arch !== "arm64"
  ? { skip: "needs arm64 and a library for it; npm run test:arm64 has both" }
  : {};

const VARIADIC = ["open", "semctl", "shm_open", "sem_open"];

/** The runtime's FFI, with a library that has nothing but the variadic functions. */
function variadicFfi(): Ffi {
  const ffi = selectFfi();
  const load = (_libraries: readonly string[], signatures: CSignatures) => {
    const found = Object.entries(signatures).filter(([name]) => VARIADIC.includes(name));
    return ffi.load([library!], Object.fromEntries(found));
  };
  return { ...ffi, load: load as Ffi["load"] };
}

const NAME = cString("Apple"); // which begins with 0x41
const [FLAGS, MODE, VALUE] = [0xa02, 0o640, 0x7fff];

describe("variadic arguments as Apple's arm64 passes them", skip, () => {
  const libc = () => new Libc(variadicFfi(), "arm64", "darwin");

  test("arrive in open()", () => {
    assert.equal(libc().c.open(NAME, FLAGS, MODE), 0x41a02000 | MODE);
  });

  test("arrive in semctl(), a number or an address", () => {
    const { semctl } = libc().c;
    assert.equal(semctl(7, 1, 8, 5n), 0x7180005);
    const address = 0x1234_5678_9abc_def0n; // of which all 64 bits count
    assert.equal(semctl(7, 1, 2, address), 0x7120000 | 0x1234 ^ 0x5678 ^ 0x9abc ^ 0xdef0);
  });

  test("arrive in shm_open() and sem_open()", () => {
    const { c } = new DarwinPosixLibrary(libc());
    assert.equal(c.shm_open(NAME, FLAGS, MODE), 0x41a02000 | MODE);
    const all = 0x41n << 48n | BigInt(FLAGS) << 32n | BigInt(MODE) << 16n | BigInt(VALUE);
    assert.equal(c.sem_open(NAME, FLAGS, MODE, VALUE), all);
  });

  test("arrive every time, whatever the stack held", () => {
    const { open } = libc().c;
    for (let mode = 0; mode < 0o1000; mode++) assert.equal(open(NAME, 0, mode) & 0xfff, mode);
  });

  test("do not arrive if they are passed as if they were fixed", () => {
    const signature = { open: { args: ["buffer", "i32", "u32"], returns: "i32" } } as const;
    const { open }: CFunctions<typeof signature> = selectFfi().load([library!], signature);
    const modes = Array.from({ length: 0o1000 }, (_, mode) => mode);
    assert.ok(modes.some((mode) => (open(NAME, 0, mode) & 0xfff) !== mode));
  });
});
