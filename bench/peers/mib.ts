/** What is handed over: 1 MiB, each page of which begins with its number. */
export const mib = 2 ** 20;
const page = 4096;

export function stamped(bytes: Uint8Array, number: number): Uint8Array {
  const words = new Uint32Array(bytes.buffer);
  for (let i = 0; i < mib; i += page) words[i >> 2] = number;
  return bytes;
}

export function requireStamped(bytes: Uint8Array, number: number): void {
  if (bytes.length !== mib) throw new Error(`${bytes.length} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let i = 0; i < mib; i += page) {
    if (view.getUint32(i, true) !== number) throw new Error("not the bytes that were written");
  }
}
