import { platformSafeName } from "../backends/native_key.ts";
import type { IpcObjectInfo } from "../backends/inventory.ts";

type Named = Pick<IpcObjectInfo, "type" | "keyFile" | "nativeKey">;

const QT_NAME = /qipc_(\w+?)_([A-Za-z]*?)([0-9a-f]{40})$/;

/**
 * Returns `visits 40f8c56c…` for `/tmp/qipc_sharedmemory_visits40f8c56c…`: the letters of a key and the start of its
 * hash, or only the key if it consists of letters.
 */
export function shortened(thing: Named): string {
  const type = thing.type === "posix" ? "posix:" : "";
  const [, kind, letters, hash] = QT_NAME.exec(thing.keyFile!) ?? [];
  if (hash === undefined) return type === "" ? thing.keyFile! : type + (thing.nativeKey ?? "");
  const name = kind === "creating" ? "(unfinished)" : letters;
  return type + (keyOf(thing) ?? `${name} ${hash.slice(0, 8)}…`.trimStart());
}

/** Returns a key as programs give it, or `null` if only its letters and its hash are known. */
export function keyOf({ keyFile }: Pick<Named, "keyFile">): string | null {
  const [, kind, letters, hash] = QT_NAME.exec(keyFile ?? "") ?? [];
  if (!letters || kind === "creating") return null;
  return platformSafeName(letters, "") === letters + hash ? letters : null;
}
