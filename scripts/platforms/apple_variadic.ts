/** Builds the library by which tests/backends/posix_darwin/apple_variadic_test.ts checks how Apple's arm64 passes arguments. */
import path from "node:path";
import { aptInstall, root, run } from "./common.ts";

const SOURCE = path.join(root, "tests/fixtures/apple_variadic.S");

/** The variables of the test, for runtimes for Linux on arm64. */
export function buildAppleVariadic(folder: string): Readonly<Record<string, string>> {
  aptInstall(["binutils-aarch64-linux-gnu"]);
  const object = path.join(folder, "apple_variadic.o");
  const library = path.join(folder, "apple_variadic.so");
  run("aarch64-linux-gnu-as", ["-o", object, SOURCE]);
  run("aarch64-linux-gnu-ld", ["-shared", "-o", library, object]);
  return { SHARED_MEMORY_TEST_APPLE_VARIADIC: library };
}
