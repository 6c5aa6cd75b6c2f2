/*
 * What a queue is compared with: a ring of records of different sizes in shared memory under a robust mutex, and a message
 * queue of System V, in plain C. `ring JOB COUNT INDEX NAME` takes part as one of COUNT processes, and does what its
 * standard input says, as commands.ts has it:
 *
 * - `ring` sends a message of 100 bytes through the ring and receives it, and `msg` through msgsnd and msgrcv;
 * - `queue` does so through a ring whose messages have entries in a table, as those of a SharedQueue do: with a number, an
 *   order, a state and a place in a list. The stores that other processes rely on after a kill are atomic there too;
 * - in `msg-crew` every second process sends, and the others receive.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/time.h>
#include <unistd.h>

#include "cost.h"

#define MESSAGE_BYTES 100
#define UNITS (1 << 17)
#define MASK (UNITS - 1)
#define ENTRIES 4096
#define BATCH 500

/* A record has a unit with the number of its bytes, and the bytes. It never wraps: a length of -1 skips to the end. */
static struct shared {
  _Alignas(64) pthread_mutex_t mutex;
  _Alignas(64) uint32_t head;
  _Alignas(64) uint32_t tail;
  uint32_t waiting;
  int queue;
  uint32_t writer, first, last, count, free, fresh, live, largest, finishing;
  double sent, received, next_order;
  struct entry {
    uint32_t state, position, length, next, before, generation, most, reason;
    double id, order, time, until;
  } table[ENTRIES];
  _Alignas(64) uint64_t units[UNITS];
} *shared;

static struct message {
  long type;
  unsigned char bytes[MESSAGE_BYTES];
} message = {.type = 1}, received;

static uint32_t number;
static volatile sig_atomic_t is_over;

static void die(const char *what) {
  perror(what);
  exit(1);
}

static void wrong(const char *what) {
  fprintf(stderr, "%s\n", what);
  exit(1);
}

static void lock(void) {
  int error = pthread_mutex_lock(&shared->mutex);
  if (error == EOWNERDEAD) error = pthread_mutex_consistent(&shared->mutex);
  if (error != 0) wrong("pthread_mutex_lock");
}

static void unlock(void) {
  if (pthread_mutex_unlock(&shared->mutex) != 0) wrong("pthread_mutex_unlock");
}

static int try_send(const unsigned char *bytes, uint32_t length) {
  uint32_t size = 1 + (length + 7) / 8;
  lock();
  uint32_t tail = shared->tail, place = tail & MASK, skipped = 0;
  if (place + size > UNITS) {
    skipped = UNITS - place;
    place = 0;
  }
  int fits = tail + skipped + size - shared->head <= UNITS;
  if (fits) {
    if (skipped > 0) shared->units[tail & MASK] = UINT64_MAX;
    shared->units[place] = length;
    memcpy(&shared->units[place + 1], bytes, length);
    __atomic_store_n(&shared->tail, tail + skipped + size, __ATOMIC_SEQ_CST);
  }
  int is_waited_for = __atomic_load_n(&shared->waiting, __ATOMIC_SEQ_CST) != 0;
  unlock();
  if (is_waited_for) wrong("nobody waits here");
  return fits;
}

/* Copies the oldest message; returns its length, or -1 if there is none. */
static int try_receive(unsigned char *into) {
  int length = -1;
  lock();
  uint32_t head = shared->head;
  if (head != shared->tail) {
    uint32_t place = head & MASK;
    if (shared->units[place] == UINT64_MAX) {
      head += UNITS - place;
      place = 0;
    }
    length = (int)shared->units[place];
    memcpy(into, &shared->units[place + 1], length);
    __atomic_store_n(&shared->head, head + 1 + (length + 7) / 8, __ATOMIC_SEQ_CST);
  }
  unlock();
  return length;
}

static void stamp(void) {
  number++;
  memcpy(message.bytes, &number, sizeof number);
}

static void begin_change(void) {
  lock();
  if (shared->writer != 0) wrong("a change was not ended");
  shared->writer = 1;
}

static void end_change(void) {
  shared->writer = 0;
  unlock();
}

/* Frees the records at the head that have no entry, so that one of `size` units can follow at `place`. */
static void drop_oldest(uint32_t size, uint32_t place) {
  while (UNITS - (place + size - shared->head) < 2 * shared->largest) {
    uint64_t record = shared->units[shared->head & MASK];
    uint32_t number = (uint32_t)(record >> 32);
    int is_used = number < ENTRIES && shared->table[number].state != 0 && shared->table[number].position == shared->head;
    if (is_used) wrong("the oldest message is in the way");
    __atomic_exchange_n(&shared->head, shared->live == 0 ? shared->tail : shared->head + (uint32_t)record, __ATOMIC_SEQ_CST);
  }
}

static int queue_send(const unsigned char *bytes, uint32_t length) {
  uint32_t size = 1 + (length + 7) / 8;
  begin_change();
  uint32_t number = shared->free != 0 ? shared->free - 1 : shared->fresh;
  int fits = number < ENTRIES && shared->live + size + UNITS / 16 <= UNITS;
  if (fits) {
    struct entry *entry = &shared->table[number];
    uint32_t tail = shared->tail, place = tail, left = UNITS - (tail & MASK);
    if (left < size) place += left;
    if (size > shared->largest) shared->largest = size;
    drop_oldest(size, place);
    if (place != tail) shared->units[tail & MASK] = (uint64_t)UINT32_MAX << 32 | left;
    shared->units[place & MASK] = (uint64_t)number << 32 | size;
    memcpy(&shared->units[(place & MASK) + 1], bytes, length);
    shared->tail = place + size;
    if (shared->free != 0) shared->free = entry->next;
    else shared->fresh = number + 1;
    *entry = (struct entry){.position = place, .length = length, .before = shared->last, .most = 3,
                            .id = shared->sent + 1, .order = shared->next_order++};
    if (shared->last == 0) shared->first = number + 1;
    else shared->table[shared->last - 1].next = number + 1;
    shared->last = number + 1;
    shared->count++;
    __atomic_store_n(&entry->state, 1, __ATOMIC_SEQ_CST);
    shared->sent++;
    shared->live += size;
  }
  int is_waited_for = shared->waiting != 0;
  end_change();
  if (is_waited_for) wrong("nobody waits here");
  return fits;
}

static int queue_receive(unsigned char *into) {
  int length = -1;
  begin_change();
  uint32_t number = shared->first - 1;
  if (shared->first != 0) {
    struct entry *entry = &shared->table[number];
    uint64_t *record = &shared->units[entry->position & MASK];
    uint32_t size = 1 + (entry->length + 7) / 8;
    if (entry->state != 1 || *record != ((uint64_t)number << 32 | size)) wrong("a damaged message");
    length = (int)entry->length;
    memcpy(into, record + 1, entry->length);
    shared->first = entry->next;
    if (entry->next == 0) shared->last = 0;
    else shared->table[entry->next - 1].before = 0;
    shared->count--;
    shared->finishing = 1;
    __atomic_store_n(&entry->state, 0, __ATOMIC_SEQ_CST);
    shared->received++;
    shared->live -= size;
    entry->next = shared->free;
    shared->free = number + 1;
  }
  int is_waited_for = shared->waiting != 0;
  end_change();
  if (is_waited_for) wrong("nobody waits here");
  return length;
}

static void queue_job(void) {
  stamp();
  if (!queue_send(message.bytes, MESSAGE_BYTES)) wrong("the queue is full");
  if (queue_receive(received.bytes) != MESSAGE_BYTES) wrong("a missing message");
}

static void ring_job(void) {
  stamp();
  if (!try_send(message.bytes, MESSAGE_BYTES)) wrong("the ring is full");
  if (try_receive(received.bytes) != MESSAGE_BYTES) wrong("a missing message");
}

static void msg_job(void) {
  stamp();
  if (msgsnd(shared->queue, &message, MESSAGE_BYTES, 0) == -1) die("msgsnd");
  if (msgrcv(shared->queue, &received, MESSAGE_BYTES, 0, 0) != MESSAGE_BYTES) die("msgrcv");
}

static void (*job)(void);

static void check_job(void) {
  job();
  if (memcmp(message.bytes, received.bytes, MESSAGE_BYTES) != 0) wrong("another message");
}

static void on_alarm(int signal) {
  (void)signal;
  is_over = 1;
}

/* Sends or receives for `ms`; the alarm ends a call that waits, and comes again in case it came just before the call. */
static void crew_run(int is_sender, double ms) {
  double ops = 0, begin = now();
  long us = (long)(ms * 1000);
  struct itimerval time = {{0, 1000}, {us / 1000000, us % 1000000}}, none = {{0, 0}, {0, 0}};
  is_over = 0;
  setitimer(ITIMER_REAL, &time, NULL);
  while (!is_over) {
    long result = is_sender ? msgsnd(shared->queue, &message, MESSAGE_BYTES, 0)
                            : msgrcv(shared->queue, &received, MESSAGE_BYTES, 0, 0);
    if (result == (is_sender ? 0 : MESSAGE_BYTES)) ops++;
    else if (errno != EINTR) die(is_sender ? "msgsnd" : "msgrcv");
  }
  setitimer(ITIMER_REAL, &none, NULL);
  double ns = now() - begin;
  if (is_sender) puts("{}");
  else printf("{\"ops\": %.0f, \"ns\": %.0f, \"perOp\": %.3f}\n", ops, ns, ns / (ops > 0 ? ops : 1));
}

static void attach(const char *name, int is_first) {
  int file = shm_open(name, O_RDWR | (is_first ? O_CREAT | O_EXCL : 0), 0600);
  if (file == -1) die("shm_open");
  if (is_first && ftruncate(file, sizeof *shared) == -1) die("ftruncate");
  shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (shared == MAP_FAILED) die("mmap");
  if (!is_first) return;
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  if (pthread_mutex_init(&shared->mutex, &attributes) != 0) wrong("pthread_mutex_init");
  shared->queue = msgget(IPC_PRIVATE, 0600);
  if (shared->queue == -1) die("msgget");
}

static int created = -1;

static void remove_queue(void) {
  if (created != -1) msgctl(created, IPC_RMID, NULL);
}

int main(int argc, char **argv) {
  if (argc != 5) wrong("usage: ring JOB COUNT INDEX NAME");
  int index = atoi(argv[3]), is_crew = strcmp(argv[1], "msg-crew") == 0;
  attach(argv[4], index == 0);
  if (index == 0) created = shared->queue;
  atexit(remove_queue);
  struct sigaction action = {0}; /* without SA_RESTART: the alarm ends a call that waits */
  action.sa_handler = on_alarm;
  sigaction(SIGALRM, &action, NULL);
  job = strcmp(argv[1], "queue") == 0 ? queue_job : strcmp(argv[1], "ring") == 0 ? ring_job : msg_job;
  char line[64];
  puts("ready");
  fflush(stdout);
  while (fgets(line, sizeof line, stdin) != NULL) {
    double ms = atof(line + strcspn(line, " "));
    if (is_crew) crew_run(index % 2 == 0, ms);
    else if (strncmp(line, "check", 5) == 0) run(check_job, ms, 1, INFINITY);
    else run(job, ms, BATCH, INFINITY);
    fflush(stdout);
  }
  if (index == 0) shm_unlink(argv[4]);
  return 0;
}
