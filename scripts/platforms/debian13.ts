/** A Debian 13 in a folder, for what Debian 12 has only older versions of. */
import { aptInstall, run, step } from "./common.ts";
import { isolated } from "./isolated.ts";

/** The mirror that this machine's own sources name. */
function debianMirror(): string {
  const targets = ["Created-By: Packages", "Origin: Debian", "--format", "$(REPO_URI)"];
  const mirrors = run("apt-get", ["indextargets", ...targets]).split("\n");
  return mirrors.find((uri) => uri !== "" && !uri.includes("security")) ??
    "http://deb.debian.org/debian";
}

/** What {@linkcode unpackDebian13} needs. */
export function installTools(): void {
  aptInstall(["mmdebstrap", "debian-archive-keyring", "ca-certificates"]);
}

/** Unpacks the system with these packages and what they need. */
export function unpackDebian13(folder: string, packages: readonly string[], title: string): void {
  const options = ["--variant=minbase", '--aptopt=APT::Install-Recommends "false"'];
  const args = [...options, `--include=${packages.join(",")}`, "trixie", folder, debianMirror()];
  // It mounts within the folder; nothing of that may be left there when it is killed.
  const unpack = isolated('mount -t proc proc /proc; mmdebstrap "$@"', ...args);
  step(title, () => run(...unpack));
}
