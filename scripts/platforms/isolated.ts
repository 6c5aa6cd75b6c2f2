/** A shell script whose mounts and processes are gone when it ends, or when we are killed. */
export function isolated(script: string, ...args: string[]): [command: string, args: string[]] {
  const namespaces = ["--mount", "--pid", "--ipc", "--propagation", "private"];
  return ["setpriv", [
    ...["--pdeathsig", "SIGKILL", "unshare", ...namespaces, "--fork", "--kill-child"],
    ...["sh", "-euc", script, "sh", ...args],
  ]];
}
