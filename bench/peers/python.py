"""Python's multiprocessing: `python.py JOB COUNT INDEX FOLDER`, told what to do as commands.ts has it.

The other process of a pair is a child of this one, as multiprocessing has it.
"""

import json
import multiprocessing
import sys
import time
from multiprocessing import shared_memory

MIB = 2**20
PAGE = 4096
WORD = 4


def undisturbed_mean(batches):
    batches.sort()
    used = [ns for ns in batches if ns <= 2 * batches[len(batches) // 2]]
    return sum(used) / len(used)


def repeat(ms, batch, operation):
    batches = []
    begin = end = time.perf_counter_ns()
    while end - begin < ms * 1e6:
        start = end
        for _ in range(batch):
            operation()
        end = time.perf_counter_ns()
        batches.append(end - start)
    per_op = undisturbed_mean(batches) / batch
    return {"ops": len(batches) * batch, "ns": end - begin, "perOp": per_op}


def words(buffer):
    return buffer.cast("I")[:: PAGE // WORD]


def serve(ping, pong, name):
    """The child: reads in place what it is told is there."""
    memory = shared_memory.SharedMemory(name, track=False) if sys.version_info >= (3, 13) else (
        shared_memory.SharedMemory(name)
    )
    number = 0
    while True:
        ping.acquire()
        command = memory.buf[MIB]
        if command == 2:
            break
        if command == 1:
            number = (number + 1) & 0xFFFFFFFF
            view = words(memory.buf[:MIB])
            if any(view[i] != number for i in range(len(view))):
                sys.exit("not the bytes that were written")
            view.release()
        pong.release()
    memory.close()


def main():
    job = sys.argv[1]
    context = multiprocessing.get_context("fork")
    value = context.Value("q", 0)
    ping, pong = context.Semaphore(0), context.Semaphore(0)
    memory = child = None
    source = bytearray(i & 0xFF for i in range(MIB))
    number = 0

    def increment():
        with value.get_lock():
            value.value += 1

    def round_trip():
        ping.release()
        pong.acquire()

    def hand_over():
        nonlocal number
        number = (number + 1) & 0xFFFFFFFF
        stamp = number.to_bytes(WORD, "little")
        for i in range(0, MIB, PAGE):
            source[i : i + WORD] = stamp
        memory.buf[:MIB] = source
        round_trip()

    if job != "mutex":
        memory = shared_memory.SharedMemory(create=True, size=MIB + PAGE)
        memory.buf[MIB] = 1 if job == "mib" else 0
        child = context.Process(target=serve, args=(ping, pong, memory.name))
        child.start()
    operation, batch = {
        "mutex": (increment, 50),
        "event": (round_trip, 10),
        "mib": (hand_over, 1),
    }[job]

    print("ready", flush=True)
    for line in sys.stdin:
        command, _, ms = line.partition(" ")
        if command.strip() == "total":
            answer = {"total": value.value}
        else:
            answer = repeat(float(ms), batch, operation)
        print(json.dumps(answer), flush=True)
    if child is not None:
        memory.buf[MIB] = 2
        ping.release()
        child.join()
        memory.close()
        memory.unlink()


main()
