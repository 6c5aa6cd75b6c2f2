// The original: what the same operations cost in Qt itself.
#include <QtCore/QSharedMemory>
#include <QtCore/QString>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <sys/ipc.h>
#include <sys/sem.h>

#include "cost.h"

namespace {

constexpr int segmentBytes = 4096;

void require(bool ok, const char *what, const QSharedMemory &memory) {
  if (ok) return;
  std::fprintf(stderr, "%s: %s\n", what, qPrintable(memory.errorString()));
  std::exit(1);
}

// The value of the semaphore behind `memory`: 1 when free, 0 when locked.
int semaphoreValue(const QSharedMemory &memory) {
  QString path = memory.nativeKey();
  path.replace("qipc_sharedmemory_", "qipc_systemsem_");
  return semctl(semget(ftok(qPrintable(path), 'Q'), 1, 0600), 0, GETVAL);
}

} // namespace

int main(int argc, char **argv) {
  if (argc == 2 && std::string(argv[1]) == "--version") {
    std::printf("%s\n", qVersion());
    return 0;
  }
  const bool createOnly = argc == 3 && std::string(argv[2]) == "create";
  if (argc != 2 && !createOnly) {
    std::fprintf(stderr, "usage: qt KEY [create]\n");
    return 2;
  }
  const QString key = QString::fromUtf8(argv[1]);

  // Static, for a function pointer can be made only of a lambda that captures nothing.
  static QSharedMemory created(key + "-create"), memory(key);
  const double create = cost([] {
    require(created.create(segmentBytes), "create", created);
    require(created.detach(), "detach", created);
  }, 20);
  if (createOnly) {
    std::printf("{\"create+detach\": %.2f}\n", create);
    return 0;
  }

  QSharedMemory kept(key);
  require(kept.create(segmentBytes), "create", kept);
  const double attach = cost([] {
    require(memory.attach(), "attach", memory);
    require(memory.detach(), "detach", memory);
  }, 50);

  require(memory.attach() && memory.size() == segmentBytes, "attach", memory);
  require(memory.lock() && semaphoreValue(memory) == 0, "locked, but free", memory);
  require(memory.unlock() && semaphoreValue(memory) == 1, "unlocked, but not free", memory);
  const double lock = cost([] {
    require(memory.lock(), "lock", memory);
    require(memory.unlock(), "unlock", memory);
  }, 500);
  require(memory.detach() && kept.detach(), "detach", memory);

  std::printf("{\"lock+unlock\": %.2f, \"create+detach\": %.2f, \"attach+detach\": %.2f}\n", lock,
              create, attach);
  return 0;
}
