import { S_IFDIR, S_IFMT } from "../unix/linux_constants.ts";
import { BackendError } from "../failure.ts";
import { EEXIST, errnoText, failure } from "../unix/errno.ts";
import { pathStatus, realpath, statCall, userTemporaryFolder } from "../unix/files.ts";
import { cString, type Libc } from "../unix/libc.ts";
import { loginName, ownUid, userName } from "../unix/users.ts";

/** The permissions of a folder that only its user may use. */
const PRIVATE_FOLDER = 0o700;

/** Returns the folder where Qt puts key files, without symbolic links: `TMPDIR`, or else the system's own folder. */
export function temporaryFolder(libc: Libc): string {
  const folder = libc.getenv("TMPDIR") || userTemporaryFolder(libc) || "/tmp";
  const resolved = realpath(libc, folder);
  if (typeof resolved === "string") return resolved === "/" ? "" : resolved;
  const text =
    `the folder of the key files, ${folder}, cannot be used; create it or set TMPDIR to another`;
  throw failure("realpath", resolved, { [resolved]: ["KeyError", text] });
}

/**
 * Returns Qt's `RuntimeLocation`: `XDG_RUNTIME_DIR`, or else `runtime-USER` in the folder of the key files. As in Qt,
 * a missing folder is created. A folder that is not private is neither used nor changed.
 */
export function runtimeFolder(libc: Libc): string {
  if (libc.os === "darwin") return `${libc.getenv("HOME") ?? ""}/Library/Application Support`;
  const uid = ownUid(libc);
  const chosen = libc.getenv("XDG_RUNTIME_DIR");
  if (chosen && privateFolderProblem(libc, chosen, uid) === null) return chosen;
  const folder = `${temporaryFolder(libc)}/runtime-${loginName(libc, uid) ?? uid}`;
  const problem = privateFolderProblem(libc, folder, uid);
  if (problem === null) return folder;
  throw new BackendError(
    "KeyError",
    `there is no folder for this user's runtime files: ${folder} ${problem}; set XDG_RUNTIME_DIR to a folder of this ` +
      "user's with the permissions 0700" + (chosen ? `, which ${chosen} is not` : ""),
  );
}

/** Returns why a folder is not private to the user, or `null` if it is. The folder is created if it does not exist. */
function privateFolderProblem(libc: Libc, folder: string, uid: number): string | null {
  const path = cString(folder);
  if (libc.c.mkdir(path, PRIVATE_FOLDER) === 0) return null;
  const errno = libc.errno();
  if (errno !== EEXIST) return `cannot be created [mkdir: ${errnoText(errno)}]`;
  const status = pathStatus(libc, path, false); // it must not follow a link, which any user may have put there
  if (typeof status === "number") return `cannot be used [${statCall(libc)}: ${errnoText(status)}]`;
  if ((status.mode & S_IFMT) !== S_IFDIR) return "is not a folder";
  if (status.uid !== uid) return `belongs to ${userName(libc, status.uid)}, another user`;
  const permissions = status.mode & 0o777;
  if (permissions === PRIVATE_FOLDER) return null;
  return `has the permissions 0${permissions.toString(8)}, so that others may use it too`;
}
