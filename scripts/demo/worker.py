"""One worker of the demonstration, on real Qt: worker.py <key> <slot> <seconds> <lock>"""

import json
import os
import sys
import time

try:
    from PyQt6.QtCore import QSharedMemory
except ImportError:
    from PyQt5.QtCore import QSharedMemory

# The layout of layout.ts, in 64-bit words.
PHASE, TOTAL = 0, 8
WAITING, RUNNING = 0, 1
GATE_TIMEOUT_SECONDS = 90


def check(done, memory):
    if not done:
        sys.exit(memory.errorString())


def pass_gate(words):
    timeout = time.monotonic() + GATE_TIMEOUT_SECONDS
    while words[PHASE] == WAITING:
        if time.monotonic() > timeout:
            sys.exit("the start gate did not open")
        time.sleep(0.001)


def main(key, slot, seconds, locked):
    memory = QSharedMemory(key)
    check(memory.attach(), memory)
    pointer = memory.data()
    pointer.setsize(memory.size())
    pointer.setwriteable(True)
    words = memoryview(pointer).cast("B").cast("Q")
    pid = 16 + slot * 8
    count = pid + 1
    words[pid] = os.getpid()
    pass_gate(words)

    increments = 0
    start = time.monotonic()
    end = start + seconds
    while time.monotonic() < end and words[PHASE] == RUNNING:
        if locked:
            check(memory.lock(), memory)
        words[TOTAL] += 1
        words[count] += 1
        if locked:
            check(memory.unlock(), memory)
        increments += 1
    elapsed = time.monotonic() - start
    words.release()
    check(memory.detach(), memory)
    print(json.dumps({"count": increments, "seconds": elapsed}))


main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), sys.argv[4] == "lock")
