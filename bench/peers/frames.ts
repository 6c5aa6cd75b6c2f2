/** Messages on a stream: 8 bytes, the length of what follows and what it is, and then that. */
import { Buffer } from "node:buffer";
import type { Socket } from "node:net";

export const Kind = { increment: 0, total: 1, echo: 2, bytes: 3 } as const;

export function send(socket: Socket, kind: number, body: Uint8Array | null = null): void {
  const head = Buffer.alloc(8);
  head.writeUInt32LE(body?.length ?? 0, 0);
  head.writeUInt32LE(kind, 4);
  socket.write(head);
  if (body !== null) socket.write(body);
}

/** Calls `onMessage` with each. */
export function receive(socket: Socket, onMessage: (kind: number, body: Buffer) => void): void {
  let chunks: Buffer[] = [];
  let length = 0;
  socket.on("data", (chunk: Buffer) => {
    chunks.push(chunk);
    length += chunk.length;
    while (length >= 8) {
      if (chunks[0]!.length < 8) chunks = [Buffer.concat(chunks)];
      const bytes = 8 + chunks[0]!.readUInt32LE(0);
      if (length < bytes) return;
      const all = chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks);
      onMessage(all.readUInt32LE(4), all.subarray(8, bytes));
      chunks = [all.subarray(bytes)];
      length -= bytes;
    }
  });
}
