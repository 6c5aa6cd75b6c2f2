/*
 * What a map and a rate limiter are compared with: a chained hash table in shared memory under a robust mutex, in
 * plain C. `map JOB:RANGE COUNT INDEX NAME` takes part as one of COUNT processes in the shared memory NAME, and does
 * what its standard input says, as commands.ts has it. The entries are those of map_data.ts.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cost.h"

#define ENTRIES 100000
#define HOT_ENTRIES 1000
#define KEY_BYTES 16
#define VALUE_BYTES 100
#define SET_EVERY 10
#define BUCKETS (1 << 17)
#define ORDER (1 << 20)
#define INTERVAL_NS 1000.0
#define BURST 1000000.0
#define BATCH 500
#define UNTIMED 15

struct record {
  uint32_t next, hash, key_bytes, value_bytes;
  char key[KEY_BYTES];
  union {
    unsigned char bytes[VALUE_BYTES];
    double number; /* a count, or when an allowance is whole again */
  } value;
};

static struct shared {
  _Alignas(64) pthread_mutex_t mutex;
  uint32_t count;
  _Alignas(64) uint32_t buckets[BUCKETS];
  struct record records[ENTRIES + 1];
} *shared;

static char keys[ENTRIES][KEY_BYTES + 1];
static uint32_t order[ORDER], position, changes;
static unsigned char value[VALUE_BYTES], copy[VALUE_BYTES];

static void die(const char *what) {
  perror(what);
  exit(1);
}

static void wrong(const char *what) {
  fprintf(stderr, "%s\n", what);
  exit(1);
}

static uint32_t hash_of(const char *key, uint32_t length) {
  uint32_t hash = 0x9747b28c ^ length;
  for (uint32_t i = 0; i < length; i += 4) {
    uint32_t word = 0;
    memcpy(&word, key + i, length - i < 4 ? length - i : 4);
    hash = (hash ^ word) * 0x9e3779b1u;
    hash = hash << 15 | hash >> 17;
  }
  hash = (hash ^ hash >> 16) * 0x85ebca6bu;
  hash = (hash ^ hash >> 13) * 0xc2b2ae35u;
  return hash ^ hash >> 16;
}

static void lock(void) {
  int error = pthread_mutex_lock(&shared->mutex);
  if (error == EOWNERDEAD) error = pthread_mutex_consistent(&shared->mutex);
  if (error != 0) wrong("pthread_mutex_lock");
}

static void unlock(void) {
  if (pthread_mutex_unlock(&shared->mutex) != 0) wrong("pthread_mutex_unlock");
}

static struct record *find(const char *key, uint32_t length, uint32_t hash) {
  for (uint32_t i = shared->buckets[hash & (BUCKETS - 1)]; i != 0; i = shared->records[i].next) {
    struct record *record = &shared->records[i];
    if (record->hash != hash || record->key_bytes != length) continue;
    if (memcmp(record->key, key, length) == 0) return record;
  }
  return NULL;
}

static struct record *find_or_add(const char *key, uint32_t length, uint32_t hash) {
  struct record *record = find(key, length, hash);
  if (record != NULL) return record;
  if (shared->count == ENTRIES) wrong("the table is full");
  uint32_t index = ++shared->count, *bucket = &shared->buckets[hash & (BUCKETS - 1)];
  record = &shared->records[index];
  record->hash = hash;
  record->key_bytes = length;
  memcpy(record->key, key, length);
  record->next = *bucket;
  *bucket = index;
  return record;
}

/* Copies a value; returns its length, or -1 if there is none. */
static int get(const char *key, uint32_t length, unsigned char *into) {
  uint32_t hash = hash_of(key, length);
  int found = -1;
  lock();
  struct record *record = find(key, length, hash);
  if (record != NULL) {
    found = (int)record->value_bytes;
    memcpy(into, record->value.bytes, record->value_bytes);
  }
  unlock();
  return found;
}

static void set(const char *key, uint32_t length, const unsigned char *from, uint32_t bytes) {
  uint32_t hash = hash_of(key, length);
  lock();
  struct record *record = find_or_add(key, length, hash);
  record->value_bytes = bytes;
  memcpy(record->value.bytes, from, bytes);
  unlock();
}

static double incr(const char *key, uint32_t length) {
  uint32_t hash = hash_of(key, length);
  lock();
  struct record *record = find_or_add(key, length, hash);
  double number = ++record->value.number;
  unlock();
  return number;
}

static int take(const char *key, uint32_t length) {
  uint32_t hash = hash_of(key, length);
  lock();
  struct record *record = find_or_add(key, length, hash);
  double time = now();
  double ahead = record->value.number > time ? record->value.number - time : 0;
  int is_allowed = ahead + INTERVAL_NS <= BURST * INTERVAL_NS;
  if (is_allowed) record->value.number = time + ahead + INTERVAL_NS;
  unlock();
  return is_allowed;
}

static uint32_t next_entry(void) {
  return order[position++ & (ORDER - 1)];
}

static void get_entry(uint32_t entry) {
  if (get(keys[entry], KEY_BYTES, copy) != VALUE_BYTES) wrong("a missing value");
}

static void set_entry(uint32_t entry) {
  memcpy(value, &entry, sizeof entry);
  set(keys[entry], KEY_BYTES, value, VALUE_BYTES);
}

static void get_job(void) {
  get_entry(next_entry());
}

static void set_job(void) {
  set_entry(next_entry());
}

static void incr_job(void) {
  incr(keys[next_entry()], KEY_BYTES);
}

static void take_job(void) {
  if (!take(keys[next_entry()], KEY_BYTES)) wrong("refused");
}

static void mix_job(void) {
  if (position % SET_EVERY == 0) set_job();
  else get_job();
}

static void renew_value(void) {
  changes++;
  memset(value, (int)changes, VALUE_BYTES);
  memcpy(value + 4, &changes, sizeof changes);
}

static void check_value(uint32_t entry) {
  uint32_t found, change;
  get_entry(entry);
  memcpy(&found, copy, sizeof found);
  memcpy(&change, copy + 4, sizeof change);
  if (found != entry) wrong("the value of another entry");
  for (int i = 8; i < VALUE_BYTES; i++) {
    if (copy[i] != (change & 0xff)) wrong("a torn value");
  }
}

static int is_set;

static void check_job(void) {
  uint32_t entry = next_entry();
  renew_value();
  if (is_set) set_entry(entry);
  check_value(entry);
}

/* Prints the ns of single operations, without those of reading the clock, as 1,000 quantiles at most. */
static void print_latencies(void (*job)(void), double ms) {
  static double times[1 << 16];
  int count = 0;
  for (int i = 0; i < 1000; i++) {
    double start = now();
    times[i] = now() - start;
  }
  qsort(times, 1000, sizeof *times, compare);
  double clock = times[500], end = now() + ms * 1e6;
  do {
    for (int i = 0; i < UNTIMED; i++) job();
    double start = now();
    job();
    times[count++] = now() - start;
  } while (count < 1 << 16 && now() < end);
  qsort(times, count, sizeof *times, compare);
  int most = count < 1000 ? count : 1000;
  printf("{\"ops\": %d, \"times\": [", count * (UNTIMED + 1));
  for (int i = 0; i < most; i++) {
    double time = times[(int)((i + 0.5) * count / most)] - clock;
    printf("%s%.0f", i == 0 ? "" : ", ", time > 0 ? time : 0);
  }
  puts("]}");
}

static void initialize(int has_values) {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  if (pthread_mutex_init(&shared->mutex, &attributes) != 0) wrong("pthread_mutex_init");
  renew_value();
  for (uint32_t i = 0; has_values && i < ENTRIES; i++) set_entry(i);
}

static void attach(const char *name, int is_first, int has_values) {
  int file = shm_open(name, O_RDWR | (is_first ? O_CREAT | O_EXCL : 0), 0600);
  if (file == -1) die("shm_open");
  if (is_first && ftruncate(file, sizeof *shared) == -1) die("ftruncate");
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (shared == MAP_FAILED) die("mmap");
  if (is_first) initialize(has_values);
}

static double total(void) {
  double sum = 0;
  for (uint32_t i = 1; i <= shared->count; i++) sum += shared->records[i].value.number;
  return sum;
}

int main(int argc, char **argv) {
  if (argc != 5) wrong("usage: map JOB:RANGE COUNT INDEX NAME");
  const char *job_name = argv[1];
  int is_hot = strcmp(job_name + strcspn(job_name, ":"), ":hot") == 0;
  int is_incr = strncmp(job_name, "incr", 4) == 0, is_take = strncmp(job_name, "take", 4) == 0;
  int is_mix = strncmp(job_name, "mix", 3) == 0, index = atoi(argv[3]);
  is_set = is_mix || strncmp(job_name, "set", 3) == 0;
  uint32_t random = 1;
  for (uint32_t i = 0; i < ORDER; i++) {
    random = random * 1664525 + 1013904223;
    order[i] = (random >> 8) % (is_hot ? HOT_ENTRIES : ENTRIES);
  }
  for (int i = 0; i < ENTRIES; i++) snprintf(keys[i], sizeof keys[i], "key:%012d", i);
  position = (uint32_t)index * (ORDER / 8);
  attach(argv[4], index == 0, !is_incr && !is_take);
  if (index != 0) renew_value();

  void (*job)(void) = is_incr   ? incr_job
                      : is_take ? take_job
                      : is_mix  ? mix_job
                      : is_set  ? set_job
                                : get_job;
  char line[64];
  puts("ready");
  fflush(stdout);
  while (fgets(line, sizeof line, stdin) != NULL) {
    double ms = atof(line + strcspn(line, " "));
    int is_check = strncmp(line, "check", 5) == 0;
    if (strncmp(line, "total", 5) == 0) printf("{\"total\": %.0f}\n", total());
    else if (strncmp(line, "latencies", 9) == 0) print_latencies(job, ms);
    else if (is_check && !is_incr && !is_take) run(check_job, ms, 1, INFINITY);
    else run(job, ms, BATCH, INFINITY);
    fflush(stdout);
  }
  if (index == 0) shm_unlink(argv[4]);
  return 0;
}
