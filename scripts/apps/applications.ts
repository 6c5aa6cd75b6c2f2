/** The Qt 5 programs of Debian that are tried: their keys, what their segments contain, and how another instance ends. */
import { readdirSync, readFileSync } from "node:fs";
import os from "node:os";
import path from "node:path";

/** The folders that an application has for itself. */
export interface Place {
  readonly home: string;
  /** The folder of its key files and sockets. */
  readonly temporary: string;
}

export interface Application {
  /** The name of the program, and of its package. */
  readonly name: string;
  /** The size of its segment, in bytes. */
  readonly size: number;
  /** Returns the key of its segment, once it has run in this place. */
  key(place: Place): string;
  /** Says what its first instance shares; throws if this is not as expected. `pid` is that of the first instance. */
  contents(bytes: Uint8Array, pid: number): string;
  /** The bytes that its first instance would write. */
  fill(pid: number): number[];
  /** The exit code of an instance that finds another one. */
  readonly otherEndsWith: number;
  /** Whether an instance that finds another one says so in a window, which has to be closed. */
  readonly showsMessage: boolean;
  /** The name of the socket at which the first instance listens for others, if it has one. */
  socket?(key: string): string;
  /** The text that an instance that finds another one writes at the start of the segment. */
  readonly writes?: string;
  /** The text at the start of the segment that ends the first instance. */
  readonly endsAt?: string;
  /** The key of a semaphore that it has beside the segment. */
  readonly semaphore?: string;
}

/** The only socket in the folder is named after the key. */
function nameOfSocket({ temporary }: Place): string {
  const [name, another] = readdirSync(temporary, { withFileTypes: true })
    .filter((entry) => entry.isSocket()).map((entry) => entry.name);
  if (name === undefined || another !== undefined) {
    throw new Error(`there is not one socket in ${temporary}, but ${name} and ${another}`);
  }
  return name;
}

/** What `qChecksum()` of Qt 5 returns: CRC-16/X-25. */
function qChecksum(bytes: Uint8Array): number {
  let crc = 0xffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ 0x8408 : crc >> 1;
  }
  return ~crc & 0xffff;
}

function expect(isTrue: boolean, what: string): void {
  if (!isTrue) throw new Error(`the segment has other contents: ${what}`);
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

const pidIn = (pid: bigint, own: number) => {
  expect(pid === BigInt(own), `process ${pid}, not ${own}`);
  return `the process id ${pid}`;
};

/** The segment itself is the sign; its only byte is never used. */
const presence = {
  size: 1,
  contents(bytes: Uint8Array) {
    expect(bytes[0] === 0, `the byte ${bytes[0]}`);
    return "one byte, 0";
  },
  fill: () => [0],
};

const ksnip: Application = {
  name: "ksnip",
  ...presence,
  key: () => "KsnipInstanceLock",
  otherEndsWith: 0,
  showsMessage: false,
  socket: () => "org.ksnip.ksnip.singleInstanceServer",
};

const zeal: Application = {
  name: "zeal",
  size: 8,
  key: nameOfSocket,
  contents: (bytes, pid) => pidIn(viewOf(bytes).getBigInt64(0, true), pid),
  fill(pid) {
    const bytes = new Uint8Array(8);
    viewOf(bytes).setBigInt64(0, BigInt(pid), true);
    return [...bytes];
  },
  otherEndsWith: 0,
  showsMessage: false,
  socket: (key) => key,
};

const nixnote: Application = {
  name: "nixnote2",
  size: 512 * 1024,
  key({ home }) {
    const file = path.join(home, ".config/nixnote2/nixnote.conf");
    const key = /^\[MemoryKey\]\nkey=(.+)$/m.exec(readFileSync(file, "utf8"))?.[1];
    if (key === undefined) throw new Error(`${file} has no MemoryKey`);
    return `${key}1`; // the number of the account
  },
  contents(bytes) {
    expect(bytes.every((byte) => byte === 0), "other bytes than 0");
    return "no request: all bytes are 0";
  },
  fill: () => [],
  otherEndsWith: 0,
  showsMessage: false,
  writes: "SHOW_WINDOW",
  endsAt: "IMMEDIATE_SHUTDOWN",
};

/** The layout of the library SingleApplication. */
const SINGLE = { isPrimary: 0, pid: 8, user: 16, checksum: 144, size: 152 } as const;

const flameshot: Application = {
  name: "flameshot",
  size: SINGLE.size,
  key: nameOfSocket,
  contents(bytes, pid) {
    const checksum = viewOf(bytes).getUint16(SINGLE.checksum, true);
    const right = qChecksum(bytes.subarray(0, SINGLE.checksum));
    expect(checksum === right, `the checksum ${checksum}, not ${right}`);
    expect(bytes[SINGLE.isPrimary] === 1, "there is no primary instance");
    const user = new TextDecoder().decode(bytes.subarray(SINGLE.user, SINGLE.checksum));
    const text = pidIn(viewOf(bytes).getBigInt64(SINGLE.pid, true), pid);
    return `${text}, the user ${user.replace(/\0[^]*/, "")} and a right checksum`;
  },
  fill(pid) {
    const bytes = new Uint8Array(SINGLE.size);
    const view = viewOf(bytes);
    bytes[SINGLE.isPrimary] = 1;
    view.setBigInt64(SINGLE.pid, BigInt(pid), true);
    bytes.set(new TextEncoder().encode(os.userInfo().username), SINGLE.user);
    view.setUint16(SINGLE.checksum, qChecksum(bytes.subarray(0, SINGLE.checksum)), true);
    return [...bytes];
  },
  otherEndsWith: 0,
  showsMessage: false,
  socket: (key) => key,
};

const klog: Application = {
  name: "klog",
  ...presence,
  key: () => "klogshm",
  otherEndsWith: 1,
  showsMessage: true,
  semaphore: "klogapp",
};

export const applications: readonly Application[] = [ksnip, zeal, nixnote, flameshot, klog];
