/** The types of keys that this system has, for tests that run once for each of them. */
import process from "node:process";
import type { Capabilities } from "../../backends/capabilities.ts";
import { keyTypeOf } from "../../backends/mod.ts";
import { type NativeIpcKey, NativeIpcKeyType, SharedMemory, SystemSemaphore } from "../../mod.ts";
import { type Agent, keyFolder, uniqueKey } from "./support.ts";

export interface KeyType {
  readonly name: string;
  readonly type: NativeIpcKeyType;
  readonly capabilities: Capabilities;
}

/** Qt's own tests run for all of these but 200: what the kernel knows such an object by is negative. */
const ALL: readonly [string, NativeIpcKeyType][] = [
  ["System V", NativeIpcKeyType.SystemV],
  ["System V with project id T", "T".charCodeAt(0)],
  ["System V with project id 200", 200],
  ["POSIX", NativeIpcKeyType.PosixRealtime],
  ["Windows", NativeIpcKeyType.Windows],
];

export const keyTypes: readonly KeyType[] = ALL
  .filter(([, type]) => SharedMemory.isKeyTypeSupported(type))
  .map(([name, type]) => ({ name, type, capabilities: keyTypeOf(type)!.capabilities }));

/** One that this system does not have. */
export const unsupportedType: NativeIpcKeyType = process.platform === "win32"
  ? NativeIpcKeyType.PosixRealtime
  : NativeIpcKeyType.Windows;

export function isSystemV({ type }: { type: NativeIpcKeyType }): boolean {
  return type <= 0xff;
}

/** A text that is a name of every type: for System V a path, and no POSIX name may have a slash inside. */
function textOf(type: NativeIpcKeyType, name: string): string {
  return isSystemV({ type }) ? keyFolder + name : name;
}

/** A name that the clean-up after a test knows, which no other test, run or process uses. */
export function uniqueName(): string {
  return `qipc_${uniqueKey("chosen")}`;
}

/** A native key of the user's choice, as Qt's tests make theirs. */
export function chosenKey({ type }: { type: NativeIpcKeyType }, name = uniqueName()): NativeIpcKey {
  return SharedMemory.platformSafeKey(textOf(type, name), type);
}

export function chosenSemaphoreKey({ type }: { type: NativeIpcKeyType }): NativeIpcKey {
  return SystemSemaphore.platformSafeKey(textOf(type, uniqueName()), type);
}

/** The two kinds of native keys that Qt's tests of 6.6 use. */
export const kinds: readonly [string, (type: KeyType) => NativeIpcKey][] = [
  ["legacy", ({ type }) => SharedMemory.legacyNativeKey(uniqueKey(), type)],
  ["chosen", chosenKey],
];

/** A key of the kind that is used most: what `setKey()` uses, where strings have that type. */
export function keyOf(keyType: KeyType): NativeIpcKey {
  return keyType === keyTypes[0]
    ? SharedMemory.legacyNativeKey(uniqueKey(), keyType.type)
    : chosenKey(keyType);
}

export function semaphoreKeyOf(keyType: KeyType): NativeIpcKey {
  return keyType === keyTypes[0]
    ? SystemSemaphore.legacyNativeKey(uniqueKey(), keyType.type)
    : chosenSemaphoreKey(keyType);
}

/** JavaScript that makes a key again. */
export function sourceOf(key: NativeIpcKey): string {
  return `library.NativeIpcKey.fromString(${JSON.stringify(String(key))})`;
}

/** Gives agents an object of a key each. */
export async function giveMemory(
  agents: Agent | readonly Agent[],
  key: NativeIpcKey,
  name = "m",
): Promise<void> {
  const source = `objects.${name} = new library.SharedMemory(${sourceOf(key)});`;
  await Promise.all([agents].flat().map((agent) => agent.run(source)));
}

export async function giveSemaphore(
  agents: Agent | readonly Agent[],
  key: NativeIpcKey,
  value = 0,
  name = "s",
): Promise<void> {
  const source = `objects.${name} = new library.SystemSemaphore(${sourceOf(key)}, ${value});`;
  await Promise.all([agents].flat().map((agent) => agent.run(source)));
}
