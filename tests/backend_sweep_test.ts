/** The search for semaphores whose remover was killed between the deletion of key file and semaphore. */
import { describe, test } from "node:test";
import { SystemSemaphoreMode } from "../mod.ts";
import { FIRST_PID_NAMESPACE } from "./fixtures/fake_ffi.ts";
import * as fake from "./fixtures/fake_system.ts";
import { script, setUp } from "./fixtures/fake_system.ts";

const { Open } = SystemSemaphoreMode;
const { JOIN, OPEN_LOCK, OPEN_NEW_SEMAPHORE } = fake;

/** A row of the kernel's table: of this user, and marked by its remover, unless told otherwise. */
function row(
  {
    key = 0x51000009,
    semid = 21,
    perms = 610,
    uid = 1000,
    cuid = 1000,
    otime = 1.7e9,
    ctime = 1.7e9,
  } = {},
): string {
  return ` ${key} ${semid} ${perms} 1 ${uid} 100 ${cuid} 100 ${otime} ${ctime}`;
}

function setUpTable(...rows: string[]) {
  const setup = setUp();
  const header =
    "       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime";
  setup.ffi.files.set("/proc/sysvipc/sem", [header, ...rows, ""].join("\n"));
  return setup;
}

/** Making a semaphore, and what comes before the `semget` that makes it. */
const MAKING = (...sweep: string[]) => {
  const [open, statx, ...others] = OPEN_NEW_SEMAPHORE(1).split("\n");
  return script(open!, statx!, ...sweep, ...others, JOIN);
};
const DEAD = (id: number) => `semctl(${id}, 0, GETPID) = 77\nkill(77, 0) = ESRCH`;
const REMOVED = (id: number) => `semctl(${id}, 0, IPC_RMID) = 0`;

describe("who makes a semaphore", () => {
  test("removes those whose remover was killed after he had marked them", () => {
    const { ffi, backend } = setUpTable(row(), row({ semid: 22, perms: 710 }));
    const steps = MAKING(DEAD(21), REMOVED(21), DEAD(22), REMOVED(22));
    ffi.play(steps, () => backend.semaphores.open("/q/sem", 1, Open));
  });

  test("removes those whose maker was killed before he did more", () => {
    const { ffi, backend } = setUpTable(row({ otime: 0 }));
    const steps = MAKING("semctl(21, 0, GETPID) = 0", REMOVED(21));
    ffi.play(steps, () => backend.semaphores.open("/q/sem", 1, Open));
  });

  test("removes those too if only somebody who waited has left a time of use", () => {
    const { ffi, backend } = setUpTable(row());
    ffi.pidNamespace = FIRST_PID_NAMESPACE;
    const steps = MAKING("semctl(21, 0, GETPID) = 0", REMOVED(21));
    ffi.play(steps, () => backend.semaphores.open("/q/sem", 1, Open));
  });

  const later = Math.trunc(Date.now() / 1000) + 24 * 60 * 60; // than when this test runs
  const others: [name: string, row: string, look: string[]][] = [
    ["are not marked", row({ perms: 700 }), []],
    ["are another user's", row({ uid: 1001 }), []],
    ["were made by another user", row({ cuid: 1001 }), []],
    ["have no key that Qt makes", row({ key: 0x52000009 }), []],
    ["have no key", row({ key: 0 }), []],
    ["are being removed", row(), ["semctl(21, 0, GETPID) = 77", "kill(77, 0) = 0"]],
    ["may be removed in another pid namespace", row(), ["semctl(21, 0, GETPID) = 0"]],
    ["are being made", row({ otime: 0, ctime: later }), ["semctl(21, 0, GETPID) = 0"]],
    ["are gone by then", row(), ["semctl(21, 0, GETPID) = EIDRM"]],
  ];
  for (const [name, row, look] of others) {
    test(`leaves those that ${name}`, () => {
      const { ffi, backend } = setUpTable(row);
      ffi.play(MAKING(...look), () => backend.semaphores.open("/q/sem", 1, Open));
    });
  }

  test("does without the search where there is no /proc", () => {
    const { ffi, backend } = setUp();
    ffi.files.clear();
    ffi.play(MAKING(), () => backend.semaphores.open("/q/sem", 1, Open));
  });

  test("looks for them once", () => {
    const { ffi, backend } = setUpTable(row());
    const making = MAKING(DEAD(21), REMOVED(21));
    ffi.play(making, () => backend.semaphores.open("/q/sem", 1, Open));
    ffi.play(MAKING(), () => backend.semaphores.open("/q/sem", 1, Open));
  });

  test("looks for them, but who only opens one does not", () => {
    const { ffi, backend } = setUpTable(row());
    ffi.play(script(OPEN_LOCK, JOIN), () => backend.semaphores.open("/q/sem", 1, Open));
  });
});
