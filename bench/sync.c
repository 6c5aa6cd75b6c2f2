/*
 * What the primitives are made of, in plain C: `sync JOB COUNT INDEX NAME` takes part as one of COUNT processes
 * in the shared memory NAME, and does what its standard input says, as commands.ts has it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cost.h"

#define FIELDS 100
#define MIB (1 << 20)
#define PAGE 4096
#define PUBLISH_NS 100000

/* One to each cache line, as in the segment that the runtimes use. */
struct pair {
  _Alignas(64) uint32_t ping;
  _Alignas(64) uint32_t pong;
  _Alignas(64) uint32_t stop;
};

static struct shared {
  _Alignas(64) pthread_mutex_t mutex;
  _Alignas(64) int64_t number;
  _Alignas(64) uint32_t sequence;
  double record[FIELDS];
  struct pair pairs[2];
  _Alignas(PAGE) unsigned char mib[2][MIB];
} *shared;

static unsigned char source[MIB];
static struct pair *own;
static unsigned char *own_mib;
static uint32_t seen, mibs;
static double record[FIELDS], sum;
static int is_check;

static void die(const char *what) {
  perror(what);
  exit(1);
}

static void wrong(const char *what) {
  fprintf(stderr, "%s\n", what);
  exit(1);
}

static void notify(uint32_t *word) {
  __atomic_fetch_add(word, 1, __ATOMIC_SEQ_CST);
  syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL);
}

static uint32_t wait_for_change(uint32_t *word, uint32_t since) {
  uint32_t now;
  while ((now = __atomic_load_n(word, __ATOMIC_SEQ_CST)) == since) {
    syscall(SYS_futex, word, FUTEX_WAIT, since, NULL);
  }
  return now;
}

static void mutex_job(void) {
  if (pthread_mutex_lock(&shared->mutex) != 0) wrong("pthread_mutex_lock");
  shared->number++;
  if (pthread_mutex_unlock(&shared->mutex) != 0) wrong("pthread_mutex_unlock");
}

static void counter_job(void) {
  __atomic_fetch_add(&shared->number, 1, __ATOMIC_SEQ_CST);
}

/* The sequence is odd while the writer is at work. */
static void publish(double value) {
  uint32_t before = shared->sequence;
  __atomic_store_n(&shared->sequence, before + 1, __ATOMIC_RELAXED);
  __atomic_thread_fence(__ATOMIC_RELEASE);
  for (int i = 0; i < FIELDS; i++) shared->record[i] = value + i;
  __atomic_store_n(&shared->sequence, before + 2, __ATOMIC_RELEASE);
}

static void read_record(void) {
  for (;;) {
    uint32_t before = __atomic_load_n(&shared->sequence, __ATOMIC_ACQUIRE);
    if (before & 1) continue;
    memcpy(record, shared->record, sizeof record);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (__atomic_load_n(&shared->sequence, __ATOMIC_RELAXED) == before) return;
  }
}

static void check_record(void) {
  for (int i = 0; i < FIELDS; i++) {
    if (record[i] != record[0] + i) wrong("a torn record");
  }
}

static void snapshot_job(void) {
  read_record();
  /* Or else the compiler could leave the copy out. */
  __asm__ volatile("" : : "r"(record) : "memory");
  if (is_check) check_record();
}

static void fields_job(void) {
  snapshot_job();
  double total = 0;
  for (int i = 0; i < FIELDS; i++) total += record[i];
  sum = total;
  __asm__ volatile("" : : "r"(&sum) : "memory");
}

static void write_records(double ms) {
  struct timespec pause = {0, PUBLISH_NS};
  double end = now() + ms * 1e6;
  for (double value = 1; now() < end; value++) {
    publish(value);
    nanosleep(&pause, NULL);
  }
}

static void event_job(void) {
  uint32_t since = __atomic_load_n(&own->pong, __ATOMIC_SEQ_CST);
  notify(&own->ping);
  if (wait_for_change(&own->pong, since) != since + 1) wrong("a round trip too many");
}

static void mib_job(void) {
  mibs++;
  for (int i = 0; i < MIB; i += PAGE) memcpy(source + i, &mibs, sizeof mibs);
  memcpy(own_mib, source, MIB);
  event_job();
}

static void read_mib(void) {
  mibs++;
  for (int i = 0; i < MIB; i += PAGE) {
    if (*(volatile uint32_t *)(own_mib + i) != mibs) wrong("not the bytes that were written");
  }
  if (!is_check) return;
  for (int i = 0; i < MIB; i++) {
    if (i % PAGE >= 4 && own_mib[i] != (i & 0xff)) wrong("a byte is not what was written");
  }
}

static void answer(int is_mib) {
  for (;;) {
    seen = wait_for_change(&own->ping, seen);
    if (__atomic_exchange_n(&own->stop, 0, __ATOMIC_SEQ_CST) != 0) return;
    if (is_mib) read_mib();
    notify(&own->pong);
  }
}

static void initialize(void) {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
  if (pthread_mutex_init(&shared->mutex, &attributes) != 0) wrong("pthread_mutex_init");
  publish(1);
}

static void attach(const char *name, int is_first) {
  int file = shm_open(name, O_RDWR | (is_first ? O_CREAT | O_EXCL : 0), 0600);
  if (file == -1) die("shm_open");
  if (is_first && ftruncate(file, sizeof *shared) == -1) die("ftruncate");
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (shared == MAP_FAILED) die("mmap");
  if (is_first) initialize();
}

int main(int argc, char **argv) {
  if (argc != 5) wrong("usage: sync JOB COUNT INDEX NAME");
  const char *name = argv[1];
  int count = atoi(argv[2]), index = atoi(argv[3]);
  attach(argv[4], index == 0);
  own = &shared->pairs[index / 2 % 2];
  own_mib = shared->mib[index / 2 % 2];
  for (int i = 0; i < MIB; i++) source[i] = (unsigned char)i;

  int is_event = strcmp(name, "event") == 0, is_mib = strcmp(name, "mib") == 0;
  int is_fields = strcmp(name, "fields") == 0;
  int is_snapshot = is_fields || strcmp(name, "snapshot") == 0;
  int is_pair = is_event || is_mib, is_writer = is_snapshot && count > 1 && index == count - 1;
  void (*job)(void) = is_event      ? event_job
                      : is_mib      ? mib_job
                      : is_fields   ? fields_job
                      : is_snapshot ? snapshot_job
                      : strcmp(name, "mutex") == 0 ? mutex_job
                                                   : counter_job;
  char line[64];
  puts("ready");
  fflush(stdout);
  while (fgets(line, sizeof line, stdin) != NULL) {
    double ms = atof(line + strcspn(line, " "));
    is_check = strncmp(line, "check", 5) == 0;
    if (strncmp(line, "total", 5) == 0) {
      printf("{\"total\": %lld}\n", (long long)shared->number);
    } else if (is_writer) {
      write_records(ms);
      puts("{}");
    } else if (is_pair && index % 2 == 1) {
      answer(is_mib);
      puts("{}");
    } else {
      run(job, ms, is_mib ? 1 : is_event ? 10 : job == counter_job ? 5000 : 500, INFINITY);
      if (is_pair) {
        __atomic_store_n(&own->stop, 1, __ATOMIC_SEQ_CST);
        notify(&own->ping);
      }
    }
    fflush(stdout);
  }
  if (index == 0) shm_unlink(argv[4]);
  return 0;
}
