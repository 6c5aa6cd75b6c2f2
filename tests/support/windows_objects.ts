/** What Windows knows of named objects, through calls of ntdll.dll that only tests may rely on. */
import process from "node:process";
import { selectFfi } from "../../ffi/mod.ts";
import { platformSafeName } from "../../backends/native_key.ts";

// <winternl.h>
const SEMAPHORE_QUERY_STATE = 1;
const DIRECTORY_QUERY = 1;
const LIST_BYTES = 1 << 20;
/** `OBJECT_ATTRIBUTES`, a `UNICODE_STRING` and its text, as far apart as they are laid out here. */
const STRING = 48;
const TEXT = 64;

function load() {
  const ffi = selectFfi();
  const kernel = ffi.load(["kernel32.dll"], {
    LocalAlloc: { args: ["u32", "u64"], returns: "u64" },
    CloseHandle: { args: ["u64"], returns: "i32" },
    OpenSemaphoreW: { args: ["u32", "i32", "buffer"], returns: "u64" },
    ProcessIdToSessionId: { args: ["u32", "buffer"], returns: "i32" },
    GetProcessHandleCount: { args: ["u64", "buffer"], returns: "i32" },
  });
  const nt = ffi.load(["ntdll.dll"], {
    NtOpenDirectoryObject: { args: ["buffer", "u32", "u64"], returns: "u32" },
    // (directory, list, bytes, one entry only, from the start, ULONG *context, ULONG *length)
    NtQueryDirectoryObject: {
      args: ["u64", "u64", "u32", "u32", "u32", "buffer", "buffer"],
      returns: "u32",
    },
    NtQuerySemaphore: { args: ["u64", "u32", "buffer", "u32", "u64"], returns: "u32" },
  });
  const session = new Uint32Array(1);
  kernel.ProcessIdToSessionId(process.pid, new Uint8Array(session.buffer));
  const memory = kernel.LocalAlloc(0, BigInt(LIST_BYTES));
  return {
    ffi,
    kernel,
    nt,
    session: session[0]!,
    memory,
    view: ffi.arrayBuffer(memory, LIST_BYTES),
  };
}

let loaded: ReturnType<typeof load> | undefined;
const system = () => loaded ??= load();

function wide(text: string): Uint8Array {
  return new Uint8Array(Uint16Array.from(text + "\0", (unit) => unit.charCodeAt(0)).buffer);
}

/** The value of the semaphore of a name, or -1 if there is none. */
export function valueOf(name: string): number {
  const { kernel, nt } = system();
  const handle = kernel.OpenSemaphoreW(SEMAPHORE_QUERY_STATE, 0, wide(name));
  if (handle === 0n) return -1;
  const information = new Int32Array(2); // current and maximum
  nt.NtQuerySemaphore(handle, 0, new Uint8Array(information.buffer), 8, 0n);
  kernel.CloseHandle(handle);
  return information[0]!;
}

/** The value of the semaphore that a key of `SystemSemaphore`, or the lock of one of `SharedMemory`, has. */
export function keyValue(key: string): number {
  return valueOf(platformSafeName(key, "qipc_systemsem_"));
}

/** How many handles this process has. */
export function handleCount(): number {
  const count = new Uint32Array(1);
  system().kernel.GetProcessHandleCount(2n ** 64n - 1n, new Uint8Array(count.buffer));
  return count[0]!;
}

/** The named objects of this session. */
export function objectNames(): string[] {
  const { kernel, nt, session, memory, view } = system();
  const path = wide(`\\Sessions\\${session}\\BaseNamedObjects`);
  const data = new DataView(view);
  new Uint8Array(view).fill(0, 0, TEXT);
  data.setUint32(0, STRING, true); // the length of OBJECT_ATTRIBUTES
  data.setBigUint64(16, memory + BigInt(STRING), true);
  data.setUint16(STRING, path.length - 2, true);
  data.setUint16(STRING + 2, path.length, true);
  data.setBigUint64(STRING + 8, memory + BigInt(TEXT), true);
  new Uint8Array(view).set(path, TEXT);
  const handle = new BigUint64Array(1);
  const status = nt.NtOpenDirectoryObject(new Uint8Array(handle.buffer), DIRECTORY_QUERY, memory);
  if (status !== 0) throw new Error(`NtOpenDirectoryObject: ${status.toString(16)}`);
  const context = new Uint8Array(4);
  const length = new Uint8Array(4);
  const names: string[] = [];
  for (let isFirst = 1;; isFirst = 0) {
    const result = nt.NtQueryDirectoryObject(
      ...[handle[0]!, memory, LIST_BYTES, 0, isFirst, context, length] as const,
    );
    if (result !== 0 && result !== 0x105) break; // STATUS_MORE_ENTRIES
    // Entries of two strings each, the name and the type; the last one is empty.
    for (let at = 0; data.getBigUint64(at + 8, true) !== 0n; at += 32) {
      const text = Number(data.getBigUint64(at + 8, true) - memory);
      const bytes = new Uint8Array(view, text, data.getUint16(at, true));
      names.push(new TextDecoder("utf-16le").decode(bytes));
    }
  }
  kernel.CloseHandle(handle[0]!);
  return names;
}
