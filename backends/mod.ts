import process from "node:process";
import { isSupported, NativeIpcKeyType, schemeOf } from "../native_ipc_key.ts";
import { BackendError } from "./failure.ts";
import { loadPosix } from "./posix/mod.ts";
import { loadDarwinPosix } from "./posix_darwin/mod.ts";
import { loadSystemV } from "./systemv/mod.ts";
import type { Backend } from "./types.ts";
import { loadWindows } from "./windows/mod.ts";

/** Loads the backend of a key type. The caller has checked that this system supports the type. */
function load(type: NativeIpcKeyType): Backend {
  switch (type) {
    case NativeIpcKeyType.Windows:
      return loadWindows();
    case NativeIpcKeyType.PosixRealtime:
      return process.platform === "darwin" ? loadDarwinPosix() : loadPosix();
    default: // the type of a System V key is its project id
      return loadSystemV(type);
  }
}

const backends = new Map<NativeIpcKeyType, Backend>();

/**
 * Returns the backend of this system for a key type, loaded on first use.
 *
 * @throws {BackendError} `KeyError` if this system has no such keys
 */
export function backendOf(type: NativeIpcKeyType): Backend {
  let backend = backends.get(type);
  if (backend === undefined) backends.set(type, backend = load(checked(type)));
  return backend;
}

function checked(type: NativeIpcKeyType): NativeIpcKeyType {
  const { platform } = process;
  if (isSupported(type, platform)) return type;
  const text = type === 0
    ? "the key has no type"
    : `${platform} has no objects of type ${schemeOf(type)}`;
  throw new BackendError("KeyError", `${text}; see SharedMemory.isKeyTypeSupported()`);
}
