/** A row of the table in docs/platforms.md: a platform where the package runs, and the tests that have shown it. */
export interface PlatformStatus {
  readonly name: string;
  readonly runtimes: string;
  readonly keys: string;
  readonly verified: string;
}

export const PLATFORMS: readonly PlatformStatus[] = [
  {
    name: "Linux x64, glibc",
    runtimes: "Deno, Bun, Node",
    keys: "System V (default), POSIX",
    verified:
      "`npm test` runs all tests, with real Qt 5.15 and 6.4, Python and C. `npm run test:qt` runs the tests of native keys with Qt 6.8.",
  },
  {
    name: "Linux arm64, glibc",
    runtimes: "Deno, Bun, Node",
    keys: "System V (default), POSIX",
    verified:
      "`npm run test:arm64` runs the runtimes' arm64 builds under qemu, together with x64 processes: nearly all tests in Bun; in Deno and Node those of FFI, threads, POSIX and `./sync`.",
  },
  {
    name: "Linux x64, musl",
    runtimes: "Bun",
    keys: "System V (default), POSIX",
    verified:
      "`npm run test:musl` runs Bun's musl build, together with glibc processes and with C programs built for musl.",
  },
  {
    name: "Linux arm64, musl",
    runtimes: "Bun",
    keys: "System V (default), POSIX",
    verified: "**No test has been run.**",
  },
  {
    name: "Windows x64",
    runtimes: "Deno, Bun, Node",
    keys: "Windows",
    verified:
      "`npm run test:windows` runs all tests that are not about System V or Linux, in the runtimes' Windows builds under Wine 10. **No test has been run on Windows itself**; the workflow would run them.",
  },
  {
    name: "macOS arm64, x64",
    runtimes: "Deno, Bun, Node",
    keys: "System V (default), POSIX",
    verified:
      "**No test has been run on macOS**; the workflow would run them. The calls are checked against a recording fake, and Apple's way to pass variadic arguments against a simulated callee.",
  },
];
