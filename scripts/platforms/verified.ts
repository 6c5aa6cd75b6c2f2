/** Where the package runs, and what has shown it: the table of docs/platforms.md. */
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
    verified: "`npm test`, with real Qt 5.15 and 6.4, Python and C; `npm run test:qt` with Qt 6.8",
  },
  {
    name: "Linux arm64, glibc",
    runtimes: "Deno, Bun, Node",
    keys: "System V (default), POSIX",
    verified:
      "`npm run test:arm64`: the runtimes' arm64 builds under qemu, together with x64 processes; nearly all tests in Bun, those of FFI, threads, POSIX and `./sync` in Deno and Node",
  },
  {
    name: "Linux x64, musl",
    runtimes: "Bun",
    keys: "System V (default), POSIX",
    verified:
      "`npm run test:musl`: Bun's musl build, together with glibc processes, and with C programs built for musl",
  },
  {
    name: "Linux arm64, musl",
    runtimes: "Bun",
    keys: "System V (default), POSIX",
    verified: "not run",
  },
  {
    name: "Windows x64",
    runtimes: "Deno, Bun, Node",
    keys: "Windows",
    verified:
      "`npm run test:windows`: all tests that are not about System V or Linux, in the runtimes' Windows builds under Wine 10. Windows itself: not run; the workflow does it",
  },
  {
    name: "macOS arm64, x64",
    runtimes: "Deno, Bun, Node",
    keys: "System V (default), POSIX",
    verified:
      "**not run.** The calls are checked against a recording fake, and passing variadic arguments as Apple does with a simulated callee; the workflow does the rest",
  },
];
