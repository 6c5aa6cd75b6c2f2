import { perProcess } from "../context.ts";
import { BackendError } from "./failure.ts";
import type { NativeIpcKeyType } from "./native_key.ts";
import { thisPlatform } from "./platform.ts";
import { POSIX } from "./posix/mod.ts";
import { DARWIN_POSIX } from "./posix_darwin/mod.ts";
import { SYSTEM_V } from "./systemv/mod.ts";
import type { Backend, KeyType } from "./types.ts";
import { WINDOWS } from "./windows/mod.ts";

/** The types of keys of all systems. */
const KEY_TYPES: readonly KeyType[] = [SYSTEM_V, POSIX, DARWIN_POSIX, WINDOWS];

/** Returns the text before the colon for a type; `""` if the type is invalid. */
export function schemeOf(type: NativeIpcKeyType): string {
  return KEY_TYPES.map((keyType) => keyType.schemeOf(type)).find((scheme) => scheme !== "") ?? "";
}

/** Returns the type for the text before the colon; 0 if there is no such type. */
export function typeOf(scheme: string): NativeIpcKeyType {
  return KEY_TYPES.map((keyType) => keyType.typeOf(scheme)).find((type) => type !== 0) ?? 0;
}

/** Returns what is known of a type of keys on a system, this one by default; `null` if the system has no such keys. */
export function keyTypeOf(type: NativeIpcKeyType, os: string = thisPlatform().os): KeyType | null {
  const found = KEY_TYPES.find((one) => one.schemeOf(type) !== "" && one.supports(os));
  return found ?? null;
}

const backendsOfProcess = perProcess(() => new Map<NativeIpcKeyType, Backend>());

/**
 * Returns the backend of this system for a key type, loaded on first use.
 *
 * @throws {BackendError} `KeyError` if this system has no such keys
 */
export function backendOf(type: NativeIpcKeyType): Backend {
  const backends = backendsOfProcess();
  let backend = backends.get(type);
  if (backend === undefined) backends.set(type, backend = load(type));
  return backend;
}

function load(type: NativeIpcKeyType): Backend {
  const keyType = keyTypeOf(type);
  if (keyType !== null) return keyType.load(type);
  const text = type === 0
    ? "the key has no type"
    : `${thisPlatform().os} has no objects of type ${schemeOf(type)}`;
  throw new BackendError("KeyError", `${text}; see SharedMemory.isKeyTypeSupported()`);
}
