/**
 * This module finds out how much memory the control groups leave to this process. Linux kills a process that exceeds
 * this limit, while exceeding other limits is an error. The files are those of cgroups(7), of both versions.
 */

/** Returns the text of a file, `null` if it cannot be read. */
export type ReadText = (path: string) => string | null;

export interface MemoryRoom {
  /** The number of further bytes that this process may use. */
  readonly bytes: number;
  /** The file that defines the limit. */
  readonly file: string;
}

interface Version {
  readonly limit: string;
  readonly usage: string;
  /** The prefix of those rows of `memory.stat` that include the groups below. */
  readonly total: string;
  readonly swapRoom: (read: ReadText, folder: string, room: number, free: number) => number;
}

const V1: Version = {
  limit: "memory.limit_in_bytes",
  usage: "memory.usage_in_bytes",
  total: "total_",
  swapRoom(read, folder, room, free) {
    // The file limits memory and swap together. It does not exist if the system does not account for swap.
    const limit = number(read(`${folder}/memory.memsw.limit_in_bytes`));
    const usage = number(read(`${folder}/memory.memsw.usage_in_bytes`));
    return limit === null || usage === null ? free : clamp(limit - usage - room, free);
  },
};

const V2: Version = {
  limit: "memory.max",
  usage: "memory.current",
  total: "",
  swapRoom(read, folder, _room, free) {
    const limit = number(read(`${folder}/memory.swap.max`));
    const usage = number(read(`${folder}/memory.swap.current`));
    return limit === null || usage === null ? free : clamp(limit - usage, free);
  },
};

/** Returns the smallest room that one of the groups leaves, `null` if there is no limit or none can be read. */
export function memoryRoom(read: ReadText): MemoryRoom | null {
  const group = memoryGroup(read);
  if (group === null) return null;
  let least: MemoryRoom | null = null;
  for (const folder of group.folders) {
    const room = roomOf(read, folder, group.version);
    if (room !== null && (least === null || room.bytes < least.bytes)) least = room;
  }
  return least;
}

/** Returns the folders of this process's group and of the groups that contain it. */
function memoryGroup(read: ReadText): { version: Version; folders: string[] } | null {
  const groups = (read("/proc/self/cgroup") ?? "").trim().split("\n").map((line) => {
    const [, id, controllers, path] = /^(\d+):([^:]*):(.*)$/.exec(line) ?? [];
    return { id, controllers: controllers?.split(",") ?? [], path: path ?? "/" };
  });
  const first = groups.find(({ controllers }) => controllers.includes("memory"));
  const own = first ?? groups.find(({ id, controllers }) => id === "0" && controllers[0] === "");
  if (own === undefined) return null;
  for (const line of (read("/proc/self/mountinfo") ?? "").split("\n")) {
    // A line looks like this: `42 32 0:39 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory`
    const [mount, system] = line.split(" - ").map((part) => part.split(" "));
    const [, , , root, point] = mount ?? [];
    const [type, , options] = system ?? [];
    const isIt = first === undefined
      ? type === "cgroup2"
      : type === "cgroup" && options?.split(",").includes("memory");
    if (!isIt || root === undefined || point === undefined) continue;
    return {
      version: first === undefined ? V2 : V1,
      folders: foldersOf(unescaped(root), unescaped(point), own.path),
    };
  }
  return null;
}

/**
 * Returns the folders from the group of this process up to the mounted one. Only a part of the tree may be mounted, as
 * in a container.
 */
function foldersOf(root: string, point: string, path: string): string[] {
  const prefix = root === "/" ? "" : root;
  const below = path === prefix || path.startsWith(`${prefix}/`) ? path.slice(prefix.length) : "";
  const names = below.split("/").filter((name) => name !== "" && name !== "..");
  return names.reduceRight<string[]>(
    (folders, _, index) => [...folders, `${point}/${names.slice(0, index + 1).join("/")}`],
    [],
  ).concat(point);
}

function roomOf(read: ReadText, folder: string, version: Version): MemoryRoom | null {
  const file = `${folder}/${version.limit}`;
  const limit = number(read(file)); // "max" means no limit
  const usage = limit === null ? null : number(read(`${folder}/${version.usage}`));
  if (limit === null || usage === null) return null;
  const { total } = version;
  const counts = new Map(
    (read(`${folder}/memory.stat`) ?? "").split("\n").map((row) => {
      const [name = "", count] = row.split(" ");
      return [name, Number(count)];
    }),
  );
  const count = (name: string) => counts.get(total + name) ?? 0;
  // The kernel reclaims this memory before it kills a process.
  const cached = count("inactive_file") + count("active_file") + count("slab_reclaimable");
  const room = Math.max(0, limit - usage + cached);
  const swap = version.swapRoom(read, folder, room, freeSwap(read));
  return { bytes: room + swap, file };
}

/** Returns the free swap of the system, in bytes. */
function freeSwap(read: ReadText): number {
  const [, kib] = /^SwapFree: *(\d+) kB$/m.exec(read("/proc/meminfo") ?? "") ?? [];
  return Number(kib ?? 0) * 1024;
}

function clamp(bytes: number, most: number): number {
  return Math.min(Math.max(0, bytes), most);
}

function number(text: string | null): number | null {
  return text !== null && /^\d+\n?$/.test(text) ? Number(text) : null;
}

/** Decodes a path of mountinfo, which writes white space and backslashes as octal numbers. */
function unescaped(path: string): string {
  return path.replace(/\\(\d{3})/g, (_, octal) => String.fromCharCode(parseInt(octal, 8)));
}
