/** What other processes do at the worst moment of a create, attach or detach. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  IPC_CREAT,
  IPC_EXCL,
  IPC_RMID,
  IPC_STAT,
  O_CREAT,
  O_EXCL,
  O_RDWR,
} from "../../backends/unix/linux_constants.ts";
import type { Segment } from "../../backends/types.ts";
import { type Interrupted, interrupted } from "./interrupted.ts";
import { LOCK_KEY, POSIX, SEGMENT_KEY, SYSTEM_V } from "./keys.ts";

const USERS = [1000, 1000, 1000] as const;
const CREATE = IPC_CREAT | IPC_EXCL | 0o600;
/** As a program that ends: it does not wait for the lock. */
const AT_EXIT = { lockHeld: false, wait: false };

function leave(process: Interrupted, segment: Segment, options = { lockHeld: false, wait: true }) {
  process.run(() => {
    segment.unmap();
    segment.release(options);
  });
}

/** The key that `ftok` makes of the key file of the segment, as `shmget` gets it from another program. */
function keyOf(process: Interrupted): number {
  const { out } = process.answer("statx", -100, SEGMENT_KEY, 0);
  const { dev, ino } = out as Record<string, number>;
  return 0x51 << 24 | dev! << 16 | ino! & 0xffff;
}

describe("attach() by a native key", () => {
  test("finds the next segment if the one that it has found is removed before shmat", () => {
    interrupted(USERS, ([user, other]) => {
      const old = other!.create();
      let next: Segment;
      user!.before("shmat", () => {
        leave(other!, old);
        next = other!.create();
      });
      assert.equal(user!.idAt(user!.attach(null)), other!.idAt(next!));
    });
  });

  test("does not stay attached to a segment that was removed although others use it", () => {
    interrupted(USERS, ([user, other]) => {
      const removed = other!.idAt(other!.create());
      const key = keyOf(other!);
      let next = -1;
      user!.before("shmat", () => {
        other!.call("shmctl", removed, IPC_RMID);
        next = other!.call("shmget", key, 100, CREATE);
      });
      assert.equal(user!.idAt(user!.attach(null)), next);
      const { attached } = other!.answer("shmctl", removed, IPC_STAT).out as Record<string, number>;
      assert.equal(attached, 1);
    });
  });

  test("finds the next segment also if another user has the key of the old one by then", () => {
    interrupted([1000, 1000, 1001], ([user, other, stranger]) => {
      const old = other!.create();
      const key = keyOf(other!);
      let next: Segment;
      user!.before("shmat", () => {
        leave(other!, old);
        other!.call("unlink", SEGMENT_KEY);
        stranger!.call("shmget", key, 100, CREATE);
        next = other!.create();
      });
      assert.equal(user!.idAt(user!.attach(null)), other!.idAt(next!));
    });
  });
});

describe("attach()", () => {
  test("removes the lock that it has opened if there is no segment any more", () => {
    interrupted(USERS, ([user, other], leftovers) => {
      other!.call("open", SEGMENT_KEY, O_RDWR | O_CREAT | O_EXCL, 0o640);
      const id = other!.call("shmget", keyOf(other!), 100, CREATE);
      user!.before("shmat", () => {
        other!.call("shmctl", id, IPC_RMID);
        other!.call("unlink", SEGMENT_KEY);
      });
      assert.throws(() => user!.attach(), { code: "NotFound" });
      assert.deepEqual(leftovers(), []);
    });
  });

  test("deletes the key file that the last user has left to it", () => {
    interrupted(USERS, ([user, holder], leftovers) => {
      const segment = holder!.create();
      assert.equal(holder!.run(() => holder!.lock.acquire(0)), true);
      const options = { lockHeld: true, wait: true };
      user!.before("shmat", () => leave(holder!, segment, options));
      assert.throws(() => user!.attach(), { code: "NotFound" });
      assert.deepEqual(leftovers(), []);
    });
  });

  test("without the lock is not taken in by its own attachment: the holder may be removing", () => {
    interrupted(USERS, ([user, holder], leftovers) => {
      const segment = holder!.create();
      assert.equal(holder!.run(() => holder!.lock.acquire(0)), true);
      user!.before("shmat", () => {
        holder!.run(() => segment.unmap());
        user!.before("shmget", () => {
          holder!.run(() => segment.release({ lockHeld: true, wait: true }));
        });
      });
      assert.throws(() => user!.attach(), { code: "NotFound" });
      assert.deepEqual(leftovers(), []);
    });
  });
});

describe("open()", () => {
  test("removes the segment that it refuses if the last user leaves meanwhile", () => {
    interrupted(USERS, ([user, other], leftovers) => {
      const segment = other!.create();
      user!.before("flock", () => leave(other!, segment, AT_EXIT));
      assert.throws(() => user!.open(200), { code: "InvalidSize" });
      assert.deepEqual(leftovers(), []);
    });
  });

  test("keeps the segment that it refuses if its last user, which leaves meanwhile, has kept it", () => {
    interrupted(USERS, ([user, other], leftovers) => {
      const segment = other!.create();
      other!.run(() => segment.setPersistent!(true));
      user!.before("flock", () => leave(other!, segment, AT_EXIT));
      assert.throws(() => user!.open(200), { code: "InvalidSize" });
      assert.ok(leftovers().includes("segment 0 created by P1"), leftovers().join());
    });
  });

  test("leaves the segment that it refuses to one that attaches then", () => {
    interrupted(USERS, ([user, other, third], leftovers) => {
      const segment = other!.create();
      let used: Segment;
      user!.before("flock", () => {
        leave(other!, segment, AT_EXIT);
        user!.before("semop", () => user!.before("semop", () => used = third!.attach()));
      });
      assert.throws(() => user!.open(200), { code: "InvalidSize" });
      const next = user!.attach();
      assert.deepEqual([third!.idAt(used!), user!.idAt(next)], [0, 0]);
      leave(third!, used!);
      leave(user!, next);
      assert.deepEqual(leftovers(), []);
    });
  });
});

describe("detach() of the last one", () => {
  test("removes the rest of a segment that was removed meanwhile", () => {
    interrupted(USERS, ([creator, other], leftovers) => {
      const segments = [creator!.create(), other!.attach()] as const;
      other!.call("shmctl", 0, IPC_RMID);
      leave(creator!, segments[0]);
      leave(other!, segments[1]);
      assert.deepEqual(leftovers(), []);
    });
  });

  test("leaves the lock to the segment of a key file that has replaced its own", () => {
    interrupted(USERS, ([creator, other], leftovers) => {
      const segment = creator!.create();
      other!.call("unlink", SEGMENT_KEY);
      other!.create();
      leave(creator!, segment);
      const files = [SEGMENT_KEY, LOCK_KEY].map((path) => path.slice(5));
      const kept = ["segment 1 created by P1", "semaphore 0", ...files];
      assert.deepEqual(leftovers().toSorted(), kept.toSorted());
    });
  });
});

describe("create() that loses against another program", () => {
  const losing = (user: Interrupted, other: Interrupted) => {
    user.before("shmget", () => {
      const id = other.call("shmget", keyOf(other), 100, CREATE);
      other.call("shmat", id, 0);
    });
    assert.throws(() => user.create(), { code: "AlreadyExists" });
  };

  test("leaves that its key file, and removes the lock", () => {
    interrupted(USERS, ([user, other], leftovers) => {
      losing(user!, other!);
      assert.deepEqual(leftovers(), ["segment 0 created by P1", SEGMENT_KEY.slice(5)]);
    });
  });

  test("releases the lock that others have created", () => {
    interrupted(USERS, ([user, other, third], leftovers) => {
      assert.equal(third!.run(() => third!.lock.acquire(0)), true);
      third!.run(() => third!.lock.release());
      losing(user!, other!);
      assert.equal(third!.run(() => third!.lock.acquire(0)), true);
      assert.ok(leftovers().includes(LOCK_KEY.slice(5)));
    });
  });
});

describe("the creator of the lock", () => {
  test("removes all, also if the others leave while it gives up the lock", () => {
    interrupted(USERS, ([creator, other], leftovers) => {
      const segment = creator!.create();
      const used = other!.attach();
      creator!.before("flock", () => leave(other!, used, AT_EXIT));
      leave(creator!, segment);
      assert.deepEqual(leftovers(), []);
    });
  });
});

describe("a user of the segment that holds the lock", () => {
  test("removes all if the others, which could not acquire the lock, leave meanwhile", () => {
    interrupted(USERS, ([creator, user], leftovers) => {
      const segment = creator!.create();
      const used = user!.attach();
      assert.equal(user!.run(() => user!.lock.acquire(0)), true);
      user!.before("flock", () => leave(creator!, segment, AT_EXIT));
      leave(user!, used, { lockHeld: true, wait: true });
      assert.deepEqual(leftovers(), []);
    });
  });
});

describe("a segment that was kept, and whose lifetime is ended while the last but one leaves,", () => {
  const cases = [
    ["System V", SYSTEM_V, ["statx", "flock"]],
    ["POSIX", POSIX, ["statx", "flock", "close"]],
  ] as const;
  for (const [name, key, calls] of cases) {
    for (const call of calls) {
      test(`goes with the last one (${name}, before ${call})`, () => {
        interrupted(USERS, ([creator, other], leftovers) => {
          const [segment, used] = [creator!.create(), other!.attach()];
          for (const [user, one] of [[creator!, segment], [other!, used]] as const) {
            user.run(() => one.setPersistent!(true));
          }
          let isEnded = false;
          other!.before(call, () => {
            isEnded = true;
            creator!.run(() => segment.setPersistent!(false));
            leave(creator!, segment);
          });
          leave(other!, used);
          assert.deepEqual([isEnded, leftovers()], [true, []]);
        }, key);
      });
    }
  }
});

describe("the mark of a key file", () => {
  const MARKED = 0o1740;

  /** Leaves a marked key file behind, as a segment does that was kept until the system was started again. */
  function leaveMarked(process: Interrupted, secondsBeforeStart: number | null): void {
    const fd = process.call("open", SEGMENT_KEY, O_RDWR | O_CREAT | O_EXCL, 0o640);
    process.call("fchmod", fd, MARKED);
    process.call("close", fd);
    if (secondsBeforeStart !== null) process.changedBeforeStart(SEGMENT_KEY, secondsBeforeStart);
  }

  test("means nothing for a segment that was created after a new start of the system", () => {
    interrupted(USERS, ([user, other], leftovers) => {
      leaveMarked(other!, 100);
      const segment = user!.create();
      assert.equal(user!.isPersistent(), false);
      user!.run(() => segment.respectPersistence!());
      leave(user!, segment);
      assert.deepEqual(leftovers(), []);
    });
  });

  test("is renewed by a segment that is to stay", () => {
    const ways: ((user: Interrupted) => Segment)[] = [
      (user) => user.open(100, { isPersistent: true }),
      (user) => user.open(100, { isPersistent: true, initialize() {} }),
      (user) => {
        const segment = user.create();
        user.run(() => segment.setPersistent!(true));
        return segment;
      },
    ];
    for (const open of ways) {
      interrupted(USERS, ([user, other]) => {
        leaveMarked(other!, 100);
        const segment = open(user!);
        assert.equal(user!.isPersistent(), true);
        user!.run(() => segment.respectPersistence!());
        leave(user!, segment);
        assert.equal(user!.isPersistent(), true);
      });
    }
  });

  test("may be another container's if it is younger than the start of the system", () => {
    for (const seconds of [null, -1, -100]) {
      interrupted(USERS, ([user, other]) => {
        leaveMarked(other!, seconds);
        user!.create();
        assert.equal(user!.isPersistent(), true);
      });
    }
  });

  test("does not hold up those who attach just after it was set", () => {
    interrupted(USERS, ([user, other]) => {
      const segment = user!.create();
      const begun = user!.wait(10_000);
      user!.run(() => segment.setPersistent!(true));
      other!.attach();
      assert.ok(user!.wait(0) - begun < 100, `${user!.wait(0) - begun} ms`);
    });
  });

  test("is taken back if the segment that was to stay cannot be created", () => {
    interrupted(USERS, ([user, other]) => {
      const fd = other!.call("open", SEGMENT_KEY, O_RDWR | O_CREAT | O_EXCL, 0o640);
      other!.call("flock", fd, 1 | 4); // so the file stays
      let made = -1;
      user!.before("fchmod", () => {
        made = other!.call("shmget", keyOf(other!), 100, CREATE);
        user!.before("shmctl", () => other!.call("shmctl", made, IPC_RMID));
      });
      const request = { isPersistent: true, existing: "refuse" } as const;
      assert.throws(() => user!.open(100, request), { code: "AlreadyExists" });
      const { mode } = other!.answer("statx", -100, SEGMENT_KEY, 0).out as Record<string, number>;
      assert.equal(mode! & 0o7777, 0o640);
    });
  });
});
