/** What console.log shows of the objects, in each runtime. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import process from "node:process";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { inspect } from "node:util";
import { NativeIpcKey, NativeIpcKeyType, SharedMemory, SystemSemaphore } from "../../mod.ts";
import {
  Counter,
  CounterBlock,
  Event,
  Gauge,
  Mutex,
  RecordSnapshot,
  Snapshot,
} from "../../sync/mod.ts";
import {
  leaveNothingBehind,
  ownRuntime,
  sizeOf,
  slow,
  transferOnly,
  uniqueKey,
} from "../support/support.ts";

type Inspect = (value: unknown, options?: { colors?: boolean; depth?: number }) => string;

/** `util.inspect`, and what the runtime's console.log uses. */
const inspects: readonly Inspect[] = [
  inspect,
  ...["Deno", "Bun"].flatMap((name) => {
    const runtime = Reflect.get(globalThis, name) as { inspect: Inspect } | undefined;
    return runtime === undefined ? [] : [runtime.inspect];
  }),
];

/** Compares what is shown with `expected`, with every string in double quotation marks on one line. */
function assertShown(value: unknown, expected: string): void {
  for (const inspect of inspects) {
    const text = inspect(value).replace(/'/g, '"').replace(
      /,?\s*\n\s*(\S)/g,
      (text, next) => `${text.startsWith(",") && next !== "}" ? "," : ""} ${next}`,
    );
    assert.equal(text, expected);
  }
}

describe("what console.log shows", () => {
  leaveNothingBehind();

  test("is the key, size and state of a segment, and whether this object holds its lock", async () => {
    const key = uniqueKey("logged");
    const shown = (size: number, attached: boolean, locked: boolean) =>
      `SharedMemory { key: "${key}", size: ${size}, attached: ${attached}, locked: ${locked} }`;
    using memory = new SharedMemory(key);
    assertShown(memory, shown(0, false, false));
    assert.equal(memory.create(64), true, memory.errorString());
    assertShown(memory, shown(sizeOf(64), true, false));
    assert.equal(memory.lock(), true, memory.errorString());
    assertShown(memory, shown(sizeOf(64), true, true));
    using other = new SharedMemory(key);
    assert.equal(other.attach(), true, other.errorString());
    assertShown(other, shown(sizeOf(64), true, false)); // at once: nothing is asked of the system
    memory.unlock();
    await other.withLockAsync(() => assertShown(other, shown(sizeOf(64), true, true)));
    assertShown(other, shown(sizeOf(64), true, false));
    memory.detach();
    assertShown(memory, shown(0, false, false));
  });

  test("is no key, or the native key, of what has no other", () => {
    const state = "size: 0, attached: false, locked: false";
    assertShown(new SharedMemory(), `SharedMemory { key: null, ${state} }`);
    const key = new NativeIpcKey("/logged", NativeIpcKeyType.PosixRealtime);
    assertShown(new SharedMemory(key), `SharedMemory { key: "posix:/logged", ${state} }`);
    assertShown(new SystemSemaphore(), "SystemSemaphore { key: null, open: false, acquired: 0 }");
  });

  test("is the key of a semaphore, and what this object has acquired", () => {
    const key = uniqueKey("logged");
    const shown = (open: boolean, acquired: number) =>
      `SystemSemaphore { key: "${key}", open: ${open}, acquired: ${acquired} }`;
    const semaphore = new SystemSemaphore(key, 2);
    assertShown(semaphore, shown(true, 0));
    semaphore.acquire();
    assertShown(semaphore, shown(true, 1));
    semaphore.release();
    semaphore[Symbol.dispose]();
    assertShown(semaphore, shown(false, 0));
  });

  test("is the parts of a native key, with the name of its type", () => {
    const { SystemV, Windows } = NativeIpcKeyType;
    const shown = (parts: string) => `NativeIpcKey { ${parts} }`;
    const legacy = new NativeIpcKey("/tmp/x", SystemV, "orders");
    assertShown(legacy, shown('type: "systemv", nativeKey: "/tmp/x", legacyKey: "orders"'));
    assertShown(new NativeIpcKey("x", Windows), shown('type: "windows", nativeKey: "x"'));
    assertShown(new NativeIpcKey("x", 84), shown('type: "systemv-84", nativeKey: "x"'));
    assertShown(new NativeIpcKey("", 0), shown('type: "invalid", nativeKey: ""'));
  });

  /** Primitives in a new segment, and what is shown of them when they are attached and detached. */
  function primitives(memory: SharedMemory): [object, attached: string, detached?: string][] {
    assert.equal(memory.create(4096), true, memory.errorString());
    const view = memory.data()!;
    const counter = Counter.create(view, 128);
    counter.set(-5);
    const gauge = Gauge.create(view, 192);
    gauge.set(0.25);
    const event = Event.create(view, 256);
    event.notify();
    return [
      [Mutex.create(view, 0), "held: false, abandoned: false", "held: false, abandoned: false"],
      [counter, "value: -5n"],
      [gauge, "value: 0.25"],
      [event, "sequence: 1"],
      [CounterBlock.create(view, 320, 3), "capacity: 3", "capacity: 3"],
      [Snapshot.create(view, 1024, 5), "recordBytes: 5", "recordBytes: 5"],
      [
        RecordSnapshot.create(view, 2048, { users: "u32" }),
        "recordBytes: 4",
        "recordBytes: 4",
      ],
    ];
  }

  function assertPrimitives(shown: ReturnType<typeof primitives>, isAttached: boolean): void {
    for (const [object, attached, detached] of shown) {
      const rest = isAttached ? attached : detached;
      const fields = [`attached: ${isAttached}`, ...(rest === undefined ? [] : [rest])];
      assertShown(object, `${object.constructor.name} { ${fields.join(", ")} }`);
    }
  }

  test("is the kind and value of a primitive, and after detach only what it knows itself", () => {
    using memory = new SharedMemory(uniqueKey("logged"));
    const shown = primitives(memory);
    assertPrimitives(shown, true);
    const mutex = shown[0]![0] as Mutex;
    mutex.withLock(() => {
      assertShown(mutex, "Mutex { attached: true, held: true, abandoned: false }");
    });
    mutex.lock();
    memory.detach();
    assertPrimitives(shown, false);
  });

  test("is that a primitive is not attached once its buffer was transferred", transferOnly, () => {
    using memory = new SharedMemory(uniqueKey("logged"));
    const shown = primitives(memory);
    const { buffer } = memory.data()!;
    structuredClone(buffer, { transfer: [buffer] });
    assertPrimitives(shown, false);
  });

  test("is only the name of what was not constructed, and throws for nothing", () => {
    const classes = [SharedMemory, SystemSemaphore, NativeIpcKey];
    const inSegments = [Mutex, Event, Counter, Gauge, CounterBlock, Snapshot, RecordSnapshot];
    for (const { name, prototype } of [...classes, ...inSegments]) {
      for (const inspect of inspects) {
        assert.match(inspect(Object.create(prototype)), new RegExp(`^${name} \\{`));
        assert.equal(typeof inspect(prototype), "string");
        assert.equal(
          typeof inspect(Object.setPrototypeOf({ constructor: null }, prototype)),
          "string",
        );
      }
    }
    for (const inspect of inspects) {
      assert.match(inspect(new Proxy(new SharedMemory("logged"), {})), /^SharedMemory \{/);
    }
  });

  test("has the name of a derived class", () => {
    class Orders extends SharedMemory {}
    const state = "size: 0, attached: false, locked: false";
    assertShown(new Orders("logged"), `Orders { key: "logged", ${state} }`);
  });

  test("goes as deep, and is as colourful, as the runtime was asked for", () => {
    const memory = new SharedMemory("logged");
    for (const inspect of inspects) {
      assert.match(inspect({ a: { memory } }), /SharedMemory \{/);
      assert.match(inspect({ a: { b: { memory } } }, { depth: 0 }), /\[Object/);
      const coloured = inspect([memory], { colors: true });
      assert.ok(["0", "false"].some((value) => coloured.includes(`\u001b[33m${value}`)), coloured);
    }
    assert.equal(inspect([memory], { depth: 0 }), "[ [SharedMemory] ]");
  });

  test("is right at the end of the program, before and after everything is detached", slow, () => {
    const key = uniqueKey("logged");
    const program = fileURLToPath(new URL("../fixtures/logged_at_exit.ts", import.meta.url));
    const { command, args } = ownRuntime;
    const env = { ...process.env, NO_COLOR: "1" };
    const { stdout, stderr } = spawnSync(command, [...args, program, key], {
      env,
      encoding: "utf8",
    });
    assert.equal(stderr, "");
    const shown = (attached: boolean) => [
      `SharedMemory { key: "${key}", size: ${attached ? sizeOf(64) : 0}, ` +
      `attached: ${attached}, locked: ${attached} }`,
      `SystemSemaphore { key: "${key}", open: true, acquired: 0 }`,
      `Mutex { attached: ${attached}, held: ${attached}, abandoned: false }`,
    ];
    // A runtime breaks long lines.
    const words = stdout.replaceAll("'", '"').split(/\s+/).join(" ").trim();
    assert.equal(words, [...shown(true), ...shown(false)].join(" "));
  });
});
