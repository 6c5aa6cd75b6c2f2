/*
 * What a queue is compared with: a ring of records of different sizes in shared memory under a robust mutex, and a message
 * queue of System V, in plain C. `ring JOB COUNT INDEX NAME` takes part as one of COUNT processes, and does what its
 * standard input says, as commands.ts has it:
 *
 * - `ring` sends a message of 100 bytes through the ring and receives it, and `msg` through msgsnd and msgrcv;
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
#define BATCH 500

/* A record has a unit with the number of its bytes, and the bytes. It never wraps: a length of -1 skips to the end. */
static struct shared {
  _Alignas(64) pthread_mutex_t mutex;
  _Alignas(64) uint32_t head;
  _Alignas(64) uint32_t tail;
  uint32_t waiting;
  int queue;
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
  job = strcmp(argv[1], "ring") == 0 ? ring_job : msg_job;
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
