import { S_IFDIR, S_IFMT } from "../unix/linux_constants.ts";
import { BackendError } from "../failure.ts";
import { EEXIST, errnoFailure, errnoText } from "../unix/errno.ts";
import { cString, type Libc } from "../unix/libc.ts";

/** What only its user may use, the folder itself included. */
const PRIVATE_FOLDER = 0o700;

/** Where Qt puts key files: `TMPDIR`, else the system's own folder, without symbolic links. */
export function temporaryFolder(libc: Libc): string {
  const folder = libc.getenv("TMPDIR") || libc.temporaryFolder() || "/tmp";
  const resolved = libc.realpath(folder);
  if (typeof resolved === "string") return resolved === "/" ? "" : resolved;
  throw errnoFailure(
    "KeyError",
    `the folder of the key files, ${folder}, cannot be used; create it or set TMPDIR to another ` +
      `[realpath: ${errnoText(resolved)}]`,
    "realpath",
    resolved,
  );
}

/**
 * Qt's `RuntimeLocation`: `XDG_RUNTIME_DIR`, or else `runtime-USER` in the folder of the key files. As in Qt a missing
 * one is created, and one that is not private is not used; then nothing of it is changed.
 */
export function runtimeFolder(libc: Libc): string {
  if (libc.os === "darwin") return `${libc.getenv("HOME") ?? ""}/Library/Application Support`;
  const uid = libc.ownUid();
  const chosen = libc.getenv("XDG_RUNTIME_DIR");
  if (chosen && privateFolderProblem(libc, chosen, uid) === null) return chosen;
  const folder = `${temporaryFolder(libc)}/runtime-${libc.loginName(uid) ?? uid}`;
  const problem = privateFolderProblem(libc, folder, uid);
  if (problem === null) return folder;
  throw new BackendError(
    "KeyError",
    `there is no folder for this user's runtime files: ${folder} ${problem}; set XDG_RUNTIME_DIR to a folder of this ` +
      "user's with the permissions 0700" + (chosen ? `, which ${chosen} is not` : ""),
  );
}

/** Why a folder is not one that only the user can use, `null` if it is; created if there is none. */
function privateFolderProblem(libc: Libc, folder: string, uid: number): string | null {
  const path = cString(folder);
  if (libc.c.mkdir(path, PRIVATE_FOLDER) === 0) return null;
  const errno = libc.errno();
  if (errno !== EEXIST) return `cannot be created [mkdir: ${errnoText(errno)}]`;
  const status = libc.pathStatus(path, false); // not through a link, which anybody may have put there
  if (typeof status === "number") return `cannot be used [${libc.statCall}: ${errnoText(status)}]`;
  if ((status.mode & S_IFMT) !== S_IFDIR) return "is not a folder";
  if (status.uid !== uid) return `belongs to ${libc.userName(status.uid)}, another user`;
  const permissions = status.mode & 0o777;
  if (permissions === PRIVATE_FOLDER) return null;
  return `has the permissions 0${permissions.toString(8)}, so that others may use it too`;
}
