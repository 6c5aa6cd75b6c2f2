// The same jobs in Qt itself: `qt_jobs JOB COUNT INDEX KEY`, told what to do as commands.ts has it.
#include <QtCore/QSharedMemory>
#include <QtCore/QString>
#include <QtCore/QSystemSemaphore>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
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

struct Jobs {
  QSharedMemory memory;
  QSystemSemaphore ping, pong;
  Shared *shared;
  std::vector<unsigned char> source;
  std::uint32_t mibs = 0;
  bool isCheck = false;

  explicit Jobs(const QString &key)
      : memory(key), ping(key + "-ping", 0), pong(key + "-pong", 0), source(mib) {
    if (!memory.create(sizeof(Shared)) && !memory.attach()) wrong(memory.errorString());
    shared = static_cast<Shared *>(memory.data());
    for (int i = 0; i < mib; i++) source[i] = static_cast<unsigned char>(i);
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

template <typename Operation> void run(double ms, int batch, double opsMax, Operation operation) {
  static double batches[MAX_BATCHES];
  int count = 0;
  double ops = 0, begin = now(), end = begin;
  while (end - begin < ms * 1e6 && count < MAX_BATCHES && ops < opsMax) {
    const double start = end;
    for (int i = 0; i < batch; i++) operation();
    end = now();
    ops += batch;
    batches[count++] = end - start;
  }
  std::printf("{\"ops\": %.0f, \"ns\": %.0f, \"perOp\": %.3f}\n", ops, end - begin,
              undisturbed_mean(batches, count) / batch);
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 5) wrong("usage: qt_jobs JOB COUNT INDEX KEY");
  const std::string job = argv[1];
  const bool isAnswering = job != "mutex" && std::atoi(argv[3]) % 2 == 1;
  Jobs jobs(QString::fromUtf8(argv[4]));
  char line[64];
  std::puts("ready");
  std::fflush(stdout);
  while (std::fgets(line, sizeof line, stdin) != nullptr) {
    const double ms = std::atof(line + std::strcspn(line, " "));
    jobs.isCheck = std::strncmp(line, "check", 5) == 0;
    if (std::strncmp(line, "total", 5) == 0) {
      std::printf("{\"total\": %lld}\n", static_cast<long long>(jobs.shared->number));
    } else if (isAnswering) {
      jobs.answer(job == "mib");
      std::puts("{}");
    } else if (job == "mutex") {
      run(ms, 100, 1e9, [&jobs] { jobs.increment(); });
    } else {
      if (job == "mib") run(ms, 1, roundTripsMax, [&jobs] { jobs.handOver(); });
      else run(ms, 10, roundTripsMax, [&jobs] { jobs.roundTrip(); });
      jobs.stopAnswering();
    }
    std::fflush(stdout);
  }
}
