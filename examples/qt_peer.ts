/**
 * Hands readings of a thermometer to a Qt program. Qt, a library for programs with windows in C++ or Python,
 * has named shared memory and semaphores of its own, QSharedMemory and QSystemSemaphore; this module speaks
 * the same protocol. Start both:
 *
 *     deno run --allow-ffi examples/qt_peer.ts
 *     python3 examples/qt_peer.py            # needs PyQt: apt-get install python3-pyqt6
 */
import { SharedMemory, SystemSemaphore } from "../mod.ts";

// The same names in Qt are the same objects.
using memory = SharedMemory.open("thermometer", { size: 16 });
using isReady = new SystemSemaphore("thermometer: reading is ready", 0);
using isTaken = new SystemSemaphore("thermometer: reading is taken", 0);

// In C: struct { uint32_t number; double celsius; }, whose double begins at byte 8.
const reading = memory.view(DataView);
const LITTLE_ENDIAN = true; // as the processor has it

console.log("waiting for the Qt program");
for (const [i, celsius] of [20.5, 21.25, 22].entries()) {
  memory.withLock(() => { // the lock that QSharedMemory.lock() takes
    reading.setUint32(0, i + 1, LITTLE_ENDIAN);
    reading.setFloat64(8, celsius, LITTLE_ENDIAN);
  });
  isReady.release(); // acquire() in the Qt program returns
  if (!await isTaken.acquireAsync({ timeout: 60_000 })) throw new Error(isTaken.errorString());
  console.log(`the Qt program has taken ${celsius} °C`);
}
