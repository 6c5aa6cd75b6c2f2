// The same jobs in Qt itself: `qt_jobs JOB COUNT INDEX KEY`, told what to do as commands.ts has it.
#include <QtCore/QSharedMemory>
#include <QtCore/QString>
#include <QtCore/QSystemSemaphore>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <vector>

#include "cost.h"

namespace {

constexpr int mib = 1 << 20, page = 4096;

// The kernel keeps a sum of what a process did to a semaphore, to undo it, and refuses what exceeds 32,767: so many
// round trips of all runs together are possible, and these are of one.
constexpr int roundTripsMax = 2000;

struct Shared {
  std::int64_t number;
  std::atomic<std::uint32_t> stop;
  alignas(page) unsigned char bytes[mib];
};

[[noreturn]] void wrong(const QString &what) {
  std::fprintf(stderr, "%s\n", qPrintable(what));
  std::exit(1);
}

// The value of the semaphore behind `memory`: 1 when free, 0 when locked.
int semaphoreValue(const QSharedMemory &memory) {
  QString path = memory.nativeKey();
  path.replace("qipc_sharedmemory_", "qipc_systemsem_");
  return semctl(semget(ftok(qPrintable(path), 'Q'), 1, 0600), 0, GETVAL);
}

struct Jobs {
  QSharedMemory memory, other, created;
  QSystemSemaphore ping, pong;
  Shared *shared = nullptr;
  std::vector<unsigned char> source;
  std::uint32_t mibs = 0;
  bool isCheck = false;

  // Without a segment of its own where others are made: a tmpfs numbers its files one after the other, and sooner or later
  // a new one has the number, and so the System V key, of that segment's.
  Jobs(const QString &key, int bytes)
      : memory(key), other(key), created(key + "-create"), ping(key + "-ping", 0),
        pong(key + "-pong", 0), source(mib) {
    if (bytes > 0) {
      // create() of what exists sets the lock to free, and lets later processes make another one: increments were lost.
      if (!memory.attach() && !memory.create(bytes)) wrong(memory.errorString());
      shared = static_cast<Shared *>(memory.data());
    }
    for (int i = 0; i < mib; i++) source[i] = static_cast<unsigned char>(i);
  }

  void lockAndUnlock() {
    if (!memory.lock()) wrong(memory.errorString());
    if (isCheck && semaphoreValue(memory) != 0) wrong("locked, but free");
    if (!memory.unlock()) wrong(memory.errorString());
    if (isCheck && semaphoreValue(memory) != 1) wrong("unlocked, but not free");
  }

  void attachAndDetach() {
    if (!other.attach()) wrong(other.errorString());
    if (isCheck && other.size() != memory.size()) wrong("attached to something else");
    if (!other.detach()) wrong(other.errorString());
  }

  void createAndDetach() {
    if (!created.create(page) || !created.detach()) wrong(created.errorString());
  }

  void increment() {
    if (!memory.lock()) wrong(memory.errorString());
    shared->number++;
    if (!memory.unlock()) wrong(memory.errorString());
  }

  void roundTrip() {
    if (!ping.release() || !pong.acquire()) wrong(ping.errorString() + pong.errorString());
  }

  void handOver() {
    mibs++;
    for (int i = 0; i < mib; i += page) std::memcpy(&source[i], &mibs, sizeof mibs);
    std::memcpy(shared->bytes, source.data(), mib);
    roundTrip();
  }

  void readInPlace() {
    mibs++;
    for (int i = 0; i < mib; i += page) {
      std::uint32_t found;
      std::memcpy(&found, &shared->bytes[i], sizeof found);
      if (found != mibs) wrong("not the bytes that were written");
    }
    for (int i = 0; isCheck && i < mib; i++) {
      if (i % page >= 4 && shared->bytes[i] != (i & 0xff)) wrong("a byte is not as written");
    }
  }

  void answer(bool isMib) {
    for (;;) {
      if (!ping.acquire()) wrong(ping.errorString());
      if (shared->stop.exchange(0) != 0) return;
      if (isMib) readInPlace();
      if (!pong.release()) wrong(pong.errorString());
    }
  }

  void stopAnswering() {
    shared->stop = 1;
    if (!ping.release()) wrong(ping.errorString());
  }
};

Jobs *jobs; // static, as a pointer can be made only of a function that captures nothing

struct Alone {
  void (*act)();
  int batch, bytes; // of the segment, if it needs one
};

/* What is done by one process alone; as in call_jobs.ts and sync_jobs.ts. */
const std::map<std::string, Alone> alone = {
    {"lock", {[] { jobs->lockAndUnlock(); }, 500, page}},
    {"attach", {[] { jobs->attachAndDetach(); }, 50, page}},
    {"create", {[] { jobs->createAndDetach(); }, 20, 0}},
    {"mutex", {[] { jobs->increment(); }, 100, sizeof(Shared)}},
};

} // namespace

int main(int argc, char **argv) {
  if (argc != 5) wrong("usage: qt_jobs JOB COUNT INDEX KEY");
  const std::string job = argv[1];
  const auto one = alone.find(job);
  const bool isAnswering = one == alone.end() && std::atoi(argv[3]) % 2 == 1;
  Jobs all(QString::fromUtf8(argv[4]), one == alone.end() ? sizeof(Shared) : one->second.bytes);
  jobs = &all;
  char line[64];
  std::puts("ready");
  std::fflush(stdout);
  while (std::fgets(line, sizeof line, stdin) != nullptr) {
    const double ms = std::atof(line + std::strcspn(line, " "));
    jobs->isCheck = std::strncmp(line, "check", 5) == 0;
    if (std::strncmp(line, "total", 5) == 0) {
      std::printf("{\"total\": %lld}\n", static_cast<long long>(jobs->shared->number));
    } else if (isAnswering) {
      jobs->answer(job == "mib");
      std::puts("{}");
    } else if (one != alone.end()) {
      run(one->second.act, ms, one->second.batch, INFINITY);
    } else {
      if (job == "mib") run([] { jobs->handOver(); }, ms, 1, roundTripsMax);
      else run([] { jobs->roundTrip(); }, ms, 10, roundTripsMax);
      jobs->stopAnswering();
    }
    std::fflush(stdout);
  }
}
