"""Real Qt, whose failing create() resets the lock of a segment: qt_peer.py <key>. A dot for each round."""

import sys
import time

try:
    from PyQt6.QtCore import QSharedMemory
except ImportError:
    from PyQt5.QtCore import QSharedMemory

while True:
    memory = QSharedMemory(sys.argv[1])
    if memory.create(4096) or memory.attach():
        time.sleep(0.002)
        memory.detach()
    del memory
    print(".", end="", flush=True)
    time.sleep(0.005)
