/** The lifetime "until-removed" of a segment, and `adopt`. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { statSync, unlinkSync, writeFileSync } from "node:fs";
import process from "node:process";
import { describe, test } from "node:test";
import { defaultInspection } from "../../backends/inspection.ts";
import { cleanup, inspect } from "../../inspect.ts";
import { AccessMode, type NativeIpcKey, type OpenOptions, SharedMemory } from "../../mod.ts";
import { chosenKey, keyOf, keyTypes, sourceOf } from "../support/key_types.ts";
import {
  type Agent,
  ipcObjects,
  ipcObjectsSince,
  isolatedOnly,
  leaveNothingBehind,
  linuxOnly,
  needsQt,
  ownRuntime,
  runtimes,
  slow,
  startAgent,
  startAgentThrough,
  startQt,
  uniqueKey,
} from "../support/support.ts";

const KEPT = { size: 64, lifetime: "until-removed" } as const;

/** Has an agent open a segment; `options` is JavaScript. */
async function open(agent: Agent, key: NativeIpcKey, options = "", name = "m"): Promise<void> {
  await agent.run(`
    objects.${name} = library.SharedMemory.open(
      ${sourceOf(key)}, { size: 64, lifetime: "until-removed", ${options} });
  `);
}

/** Has an agent open a segment, and stop before it has said whether it accepts what is there. */
async function acceptFor(agent: Agent, key: NativeIpcKey, options = ""): Promise<void> {
  await agent.run(`
    const options = { size: 64, lifetime: "until-removed", ${options} };
    library.SharedMemory.openAccepted(${sourceOf(key)}, options, () => {
      console.log('{ "value": "accepting" }'); // this answers the request
      for (;;);
    });
  `);
}

/** Returns what `inspect()` lists of a key. */
function segmentsOf(key: NativeIpcKey) {
  return inspect().segments.filter(({ nativeKey }) => nativeKey?.endsWith(key.nativeKey));
}

/** Takes away what a test has kept. */
function remove(key: NativeIpcKey): void {
  using memory = SharedMemory.open(key, KEPT);
  memory.remove();
}

const persistent = keyTypes.filter(({ capabilities, name }) =>
  capabilities.persistent && !name.includes("project id")
);

const cannot = process.platform !== "linux" || process.getuid?.() !== 0 ||
    spawnSync("unshare", ["--pid", "--fork", "true"]).status !== 0
  ? { skip: "needs root and the namespaces of Linux" }
  : {};
const inNamespace = { ...slow, ...cannot };
const onLinuxAlone = { ...linuxOnly, ...isolatedOnly };

for (const keyType of persistent) {
  describe(`a segment of the lifetime "until-removed" (${keyType.name})`, () => {
    leaveNothingBehind();
    const before = ipcObjects();
    const newKey = () => keyOf(keyType);

    test("stays with its bytes when its only user detaches, and goes after remove()", () => {
      const key = newKey();
      {
        using memory = SharedMemory.open(key, { ...KEPT, initialize: (bytes) => bytes.fill(5) });
        memory.bytes[0] = 6;
      }
      {
        const fill = () => assert.fail("filled again");
        using memory = SharedMemory.open(key, { ...KEPT, initialize: fill });
        assert.deepEqual([...memory.bytes.subarray(0, 2)], [6, 5]);
        assert.equal(memory.tryLock(0) && memory.unlock(), true, memory.errorString());
        memory.remove();
        assert.equal(memory.bytes[0], 6);
      }
      assert.throws(() => SharedMemory.open(key), { code: "NotFound" });
      assert.deepEqual(ipcObjectsSince(before), []);
    });

    for (const runtime of runtimes) {
      test(
        `stays when ${runtime.name} ends, in order or killed, also with the lock`,
        slow,
        async () => {
          const key = newKey();
          for (const [value, ending] of [[1, "end"], [2, "kill"], [3, "end"]] as const) {
            const agent = startAgent(runtime);
            await open(agent, key);
            await agent.run(`
            if (objects.m.bytes[0] !== ${value - 1}) throw new Error(String(objects.m.bytes[0]));
            objects.m.bytes[0] = ${value};
            ${value > 1 ? "objects.m.lock();" : ""}
          `);
            await agent[ending]();
          }
          using memory = SharedMemory.open(key, KEPT);
          assert.equal(memory.bytes[0], 3);
          assert.equal(memory.tryLock(5000) && memory.unlock(), true, memory.errorString());
          memory.remove();
        },
      );
    }

    test("is removed by its last user after remove() in another process", slow, async () => {
      const key = newKey();
      const agent = startAgent(ownRuntime);
      await open(agent, key);
      {
        using memory = SharedMemory.open(key);
        memory.remove();
      }
      using memory = SharedMemory.open(key);
      assert.equal(memory.byteLength, 64);
      memory[Symbol.dispose]();
      assert.equal(await agent.end(), 0);
      assert.throws(() => SharedMemory.open(key), { code: "NotFound" });
      assert.deepEqual(ipcObjectsSince(before), []);
    });

    test("is removed if the last object to detach has not passed the option", () => {
      const key = newKey();
      const kept = SharedMemory.open(key, KEPT);
      using other = SharedMemory.open(key, { size: 64 });
      kept[Symbol.dispose]();
      assert.equal(other.detach(), true);
      assert.throws(() => SharedMemory.open(key), { code: "NotFound" });
      assert.deepEqual(ipcObjectsSince(before), []);
    });

    test('begins anew with stale: "replace", and stays then', () => {
      const key = newKey();
      for (const value of [1, 2]) {
        using memory = SharedMemory.open(key, { ...KEPT, stale: "replace" });
        assert.equal(memory.bytes[0], 0);
        memory.bytes[0] = value;
      }
      using memory = SharedMemory.open(key, KEPT);
      assert.equal(memory.bytes[0], 2);
      memory.remove();
    });

    test("is adopted once, with its bytes, by the first of those that open it", () => {
      const key = newKey();
      let adopted = 0;
      const options: OpenOptions = {
        ...KEPT,
        initialize: (bytes) => void (bytes[0] = 1),
        adopt(bytes) {
          adopted++;
          assert.equal(bytes[0], 1);
          bytes[1] = 2;
        },
      };
      {
        using _first = SharedMemory.open(key, options);
        using _second = SharedMemory.open(key, options);
        assert.equal(adopted, 0);
      }
      using first = SharedMemory.open(key, options);
      using second = SharedMemory.open(key, options);
      assert.deepEqual([adopted, first.bytes[1], second.bytes[1]], [1, 2, 2]);
      assert.equal(second.tryLock(0) && second.unlock(), true, second.errorString());
      first.remove();
    });

    test("is adopted by a process that only attaches too, which creates none", () => {
      const key = newKey();
      let adopted = 0;
      const options = { ...KEPT, disposition: "attach", adopt: () => void adopted++ } as const;
      assert.throws(() => SharedMemory.open(key, options), { code: "NotFound" });
      {
        using _memory = SharedMemory.open(key, KEPT);
      }
      using memory = SharedMemory.open(key, options);
      using _other = SharedMemory.open(key, options);
      assert.equal(adopted, 1);
      memory.remove();
    });

    test(
      "is adopted by one of many processes, and the others wait until it has been",
      slow,
      async () => {
        const key = newKey();
        {
          using _memory = SharedMemory.open(key, KEPT);
        }
        const agents = [...runtimes, ...runtimes].map((runtime) => startAgent(runtime));
        await Promise.all(agents.map((agent) => agent.run("")));
        const start = Date.now() + 100;
        const seen = await Promise.all(agents.map((agent) =>
          agent.run(`
          while (Date.now() < ${start});
          let adopted = 0;
          objects.m = library.SharedMemory.open(${sourceOf(key)}, {
            size: 64, lifetime: "until-removed", timeout: 20_000,
            adopt(bytes) {
              adopted = 1;
              bytes[0]++;
              const end = performance.now() + 200;
              while (performance.now() < end);
              bytes[1]++;
            },
          });
          return [adopted, ...objects.m.bytes.subarray(0, 2)];
        `) as Promise<number[]>
        ));
        assert.equal(seen.filter(([adopted]) => adopted === 1).length, 1, JSON.stringify(seen));
        for (const [, first, second] of seen) assert.deepEqual([first, second], [1, 1]);
        await agents[0]!.run("objects.m.remove()");
        await Promise.all(agents.map((agent) => agent.end()));
        assert.deepEqual(ipcObjectsSince(before), []);
      },
    );

    test("is adopted anew if adopt throws, or if its process is killed in it", slow, async () => {
      const key = newKey();
      {
        using _memory = SharedMemory.open(key, KEPT);
      }
      const mine = new Error("mine");
      const adopt = (bytes: Uint8Array) => {
        bytes[0]!++;
        throw mine;
      };
      assert.throws(() => SharedMemory.open(key, { ...KEPT, adopt }), (error) => error === mine);
      const victim = startAgent(ownRuntime);
      await open(
        victim,
        key,
        `adopt(bytes) {
        bytes[0]++;
        console.log('{ "value": "adopting" }'); // this answers the request
        for (;;);
      }`,
      );
      await victim.kill();
      using memory = SharedMemory.open(key, {
        ...KEPT,
        adopt: (bytes) => void (bytes[0]!++),
      });
      assert.equal(memory.bytes[0], 3);
      memory.remove();
    });

    test(
      "is not adopted while a process of another pid namespace uses it",
      inNamespace,
      async () => {
        const key = newKey();
        const agent = startAgentThrough(ownRuntime, [
          ...["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"],
        ]);
        await open(agent, key);
        {
          const adopt = () => assert.fail("adopted");
          using _memory = SharedMemory.open(key, { ...KEPT, adopt });
        }
        await agent.kill();
        let adopted = 0;
        using memory = SharedMemory.open(key, { ...KEPT, adopt: () => void adopted++ });
        assert.equal(adopted, 1);
        memory.remove();
      },
    );

    test("begins anew if whoever opens it has not passed the option, as after a crash", () => {
      const key = newKey();
      {
        using memory = SharedMemory.open(key, KEPT);
        memory.bytes.fill(1);
      }
      using memory = SharedMemory.open(key, { size: 64 });
      assert.equal(memory.bytes[0], 0);
    });

    test(
      "is listed, and only removed by cleanup() on request",
      { ...slow, ...onLinuxAlone },
      () => {
        const key = newKey();
        const keys = [String(key)];
        const find = () => segmentsOf(key);
        {
          using _memory = SharedMemory.open(key, KEPT);
          assert.deepEqual(find().map((one) => [one.persistent, one.stale]), [[true, false]]);
          const { removed } = cleanup({ persistent: true, keys });
          assert.deepEqual(removed, [], "in use");
        }
        const [found] = find();
        assert.deepEqual([found?.persistent, found?.stale, found?.attached], [true, false, 0]);
        assert.match(found!.reason, /kept until it is removed/);
        assert.deepEqual(cleanup({ keys }).removed, []);
        assert.equal(cleanup({ keys, persistent: true, dryRun: true }).removed.length, 1);
        assert.equal(find().length, 1);
        const { removed, failed } = cleanup({ keys, persistent: true });
        assert.deepEqual([removed.map(({ kind }) => kind), failed], [["segment"], []]);
        assert.deepEqual(ipcObjectsSince(before), []);
      },
    );

    test(
      "is kept by a cleanup() that has found it stale before",
      { ...slow, ...onLinuxAlone },
      async () => {
        const key = newKey();
        const agent = startAgent(ownRuntime);
        await agent.run(`objects.m = library.SharedMemory.open(${sourceOf(key)}, { size: 64 })`);
        await agent.kill();
        const [found] = segmentsOf(key);
        assert.equal(found?.stale, true, found?.reason);
        {
          using memory = SharedMemory.open(key, { ...KEPT, adopt() {} });
          memory.bytes[0] = 7;
        }
        assert.match(String(defaultInspection().remove(found!)), /come into use/);
        using memory = SharedMemory.open(key, KEPT);
        assert.equal(memory.bytes[0], 7);
        memory.remove();
      },
    );

    for (const initialize of ["", "initialize() {},"]) {
      const how = initialize === "" ? "created" : "filled";
      test(
        `stays if its process is killed as soon as it has been ${how}`,
        { ...slow, ...onLinuxAlone },
        async () => {
          const key = newKey();
          const agent = startAgent(ownRuntime);
          await acceptFor(agent, key, initialize);
          assert.deepEqual(segmentsOf(key).map(({ persistent }) => persistent), [true]);
          await agent.kill();
          const [found] = segmentsOf(key);
          assert.deepEqual([found?.persistent, found?.stale, found?.attached], [true, false, 0]);
          using memory = SharedMemory.open(key, KEPT);
          assert.equal(memory.tryLock(5000) && memory.unlock(), true, memory.errorString());
          memory.remove();
        },
      );
    }

    test(
      "is only what a segment becomes that the program has accepted",
      { ...slow, ...onLinuxAlone },
      async () => {
        const key = newKey();
        using memory = SharedMemory.open(key, { size: 64 });
        const agent = startAgent(ownRuntime);
        await acceptFor(agent, key);
        assert.deepEqual(segmentsOf(key).map(({ persistent }) => persistent), [false]);
        await agent.kill();
        const mine = new Error("mine");
        const refuse = () => {
          throw mine;
        };
        const open = () => SharedMemory.openAccepted(key, KEPT, refuse);
        assert.throws(open, (error) => error === mine);
        assert.deepEqual(segmentsOf(key).map(({ persistent }) => persistent), [false]);
        assert.equal(memory.detach(), true);
        assert.deepEqual(ipcObjectsSince(before), []);
      },
    );

    test("stays, with its bytes, if the program that finds it does not accept it", () => {
      const key = newKey();
      {
        using memory = SharedMemory.open(key, KEPT);
        memory.bytes[0] = 7;
      }
      const mine = new Error("mine");
      const refuse = () => {
        throw mine;
      };
      for (const options of [KEPT, { ...KEPT, adopt() {} }, { ...KEPT, adopt: refuse }]) {
        const open = () => SharedMemory.openAccepted(key, options, refuse);
        assert.throws(open, (error) => error === mine);
      }
      using memory = SharedMemory.open(key, KEPT);
      assert.equal(memory.bytes[0], 7);
      memory.remove();
    });
  });
}

describe('the lifetime "until-removed"', () => {
  leaveNothingBehind();

  test("does not keep a System V segment that nobody finds any more", linuxOnly, () => {
    const before = ipcObjects();
    const key = SharedMemory.legacyNativeKey(uniqueKey());
    const memory = SharedMemory.open(key, KEPT);
    unlinkSync(key.nativeKey);
    assert.equal(memory.detach(), true);
    assert.deepEqual(ipcObjectsSince(before), []);
    remove(key); // a new one is as good as ever
    assert.deepEqual(ipcObjectsSince(before), []);
  });

  for (const version of [5, 6] as const) {
    const options = { ...slow, ...needsQt(version) };
    test(
      `does not bind Qt ${version}, which removes the segment if it is last`,
      options,
      async () => {
        const before = ipcObjects();
        const key = uniqueKey();
        const kept = SharedMemory.open(key, KEPT);
        const qt = startQt(version);
        await qt.request("memory", "m", key);
        assert.equal(await qt.call("m", "attach"), true);
        kept[Symbol.dispose]();
        assert.equal(await qt.call("m", "detach"), true);
        assert.equal(await qt.end(), 0);
        assert.throws(() => SharedMemory.open(key), { code: "NotFound" });
        assert.deepEqual(ipcObjectsSince(before), []);
      },
    );
  }

  test("is refused where it cannot be noted, and changes nothing there", () => {
    const others = keyTypes.filter(({ capabilities }) => !capabilities.persistent);
    for (const keyType of others) {
      const open = () => SharedMemory.open(keyOf(keyType), KEPT);
      assert.throws(open, { reason: "Unsupported", message: /until-removed/ });
    }
    for (const keyType of keyTypes.filter(({ name }) => name === "System V")) {
      const key = chosenKey(keyType);
      using memory = SharedMemory.open(key, { size: 64 });
      const { mode } = statSync(key.nativeKey);
      const open = () => SharedMemory.open(key, KEPT);
      assert.throws(open, { reason: "Unsupported", message: /key file of your own choice/ });
      assert.equal(memory.byteLength, 64);
      assert.equal(statSync(key.nativeKey).mode, mode);
      memory.remove(); // there is nothing to end
      assert.equal(memory.byteLength, 64);
    }
  });

  test("that is refused before adopt is called leaves neither the lock nor an attachment", {
    ...slow,
    ...linuxOnly,
  }, async () => {
    for (const keyType of persistent) {
      const key = keyType.name === "POSIX" ? keyOf(keyType) : chosenKey(keyType);
      const path = keyType.name === "POSIX" ? `/dev/shm/${key.nativeKey}` : "";
      if (path !== "") writeFileSync(path, new Uint8Array(64)); // as a program in C creates it
      else {
        const agent = startAgent(ownRuntime);
        await agent.run(`objects.m = library.SharedMemory.open(${sourceOf(key)}, { size: 64 })`);
        await agent.kill();
      }
      const adopt = () => assert.fail("adopted");
      assert.throws(() => SharedMemory.open(key, { ...KEPT, adopt }), { reason: "Unsupported" });
      const agent = startAgent(ownRuntime);
      const adopted = await agent.run(`
        let adopted = false;
        const adopt = () => void (adopted = true);
        objects.m = library.SharedMemory.open(
          ${sourceOf(key)}, { size: 64, stale: "keep", timeout: 1000, adopt });
        if (!objects.m.tryLock(1000) || !objects.m.unlock()) throw new Error(objects.m.errorString());
        return adopted;
      `);
      // A segment that is still attached somewhere would not be adopted, and a new one is not.
      if (path !== "") assert.equal(adopted, true);
      assert.equal(await agent.end(), 0);
      if (path !== "") unlinkSync(path);
    }
  });

  test(
    "is not ended by remove() for a POSIX object of another program, as it has none",
    linuxOnly,
    () => {
      for (const keyType of persistent.filter(({ name }) => name === "POSIX")) {
        const key = keyOf(keyType);
        const path = `/dev/shm/${key.nativeKey}`;
        writeFileSync(path, new Uint8Array(64));
        const { mode } = statSync(path);
        {
          using memory = SharedMemory.open(key);
          memory.remove();
        }
        assert.equal(statSync(path).mode, mode);
        unlinkSync(path);
      }
    },
  );

  test("is ended by remove() only for an object that is attached", () => {
    using memory = new SharedMemory(uniqueKey());
    assert.throws(() => memory.remove(), { reason: "NotAttached" });
  });

  test("and adopt are refused with options that contradict them", () => {
    const adopt = () => {};
    const wrong: unknown[] = [
      { lifetime: "for ever" },
      { size: 64, adopt },
      { lifetime: "until-removed", adopt },
      { ...KEPT, adopt: 5 },
      { ...KEPT, adopt, mode: AccessMode.ReadOnly },
    ];
    for (const options of wrong) {
      assert.throws(() => SharedMemory.open(uniqueKey(), options as OpenOptions), TypeError);
    }
  });
});
