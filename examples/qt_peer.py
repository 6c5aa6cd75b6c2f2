"""Takes the readings of qt_peer.ts, which see: an ordinary Qt program."""

import struct
import sys

try:
    from PyQt6.QtCore import QSharedMemory, QSystemSemaphore
except ImportError:
    from PyQt5.QtCore import QSharedMemory, QSystemSemaphore

memory = QSharedMemory("thermometer")
if not memory.attach():
    sys.exit(f"{memory.errorString()}: start qt_peer.ts first")
is_ready = QSystemSemaphore("thermometer: reading is ready", 0)
is_taken = QSystemSemaphore("thermometer: reading is taken", 0)

for _ in range(3):
    is_ready.acquire()
    memory.lock()
    number, celsius = struct.unpack("@Id", memory.constData().asstring(16))
    memory.unlock()
    print(f"reading {number}: {celsius} °C", flush=True)
    is_taken.release()
