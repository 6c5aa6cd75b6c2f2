"""Counts together with python_peer.ts, which see."""

import ctypes
import os
import sys
from multiprocessing import resource_tracker, shared_memory

TURNS = 20_000
name = sys.argv[1] if len(sys.argv) > 1 else "counted_with_python"

if sys.version_info >= (3, 13):
    memory = shared_memory.SharedMemory(name, track=False)
else:
    memory = shared_memory.SharedMemory(name)
    # Older versions remove at the end of the program what they have only attached to, unless told not to.
    resource_tracker.unregister("/" + name, "shared_memory")

# The lock is a POSIX semaphore of the same name, with the value 1. Python has no class for that, C has.
libc = ctypes.CDLL(None, use_errno=True)
libc.sem_open.restype = ctypes.c_void_p
semaphore = libc.sem_open(b"/" + name.encode(), os.O_CREAT, 0o600, 1)
if not semaphore:
    sys.exit(f"sem_open: {os.strerror(ctypes.get_errno())}")
semaphore = ctypes.c_void_p(semaphore)


class Locked:
    def __enter__(self):
        while libc.sem_wait(semaphore) != 0:
            pass  # a signal has come

    def __exit__(self, *_):
        libc.sem_post(semaphore)


total = memory.buf[0:8].cast("q")
is_done = memory.buf[8:12].cast("i")
for _ in range(TURNS):
    with Locked():
        total[0] += 1
print(f"Python added {TURNS}")
is_done[0] = 1

libc.sem_close(semaphore)
total.release()
is_done.release()
memory.close()
