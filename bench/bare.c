/*
 * The floor: what the system calls and the memory accesses cost in plain C. `bare MS KEY_FILE` prints the ns of those to
 * elements, in loops that last so long; `bare JOB COUNT INDEX KEY_FILE` makes the calls, and does what its standard input says, as commands.ts has it.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/shm.h>

#include "cost.h"

#define SEGMENT_BYTES 4096
#define ELEMENTS_BYTES 16384

/* semctl(2): the calling program must define this union itself. */
union semun {
  int val;
};

static key_t ipc_key;
static int semaphore;
static unsigned char *elements;
static double total;

static void die(const char *what) {
  perror(what);
  exit(1);
}

static void add_to_semaphore(short value) {
  struct sembuf change = {0, value, SEM_UNDO};
  if (semop(semaphore, &change, 1) == -1) die("semop");
}

static void lock_unlock(void) {
  add_to_semaphore(-1);
  add_to_semaphore(1);
}

static int attach_once(size_t size, int flags) {
  struct shmid_ds status;
  int id = shmget(ipc_key, size, flags | 0600);
  if (id == -1) die("shmget");
  void *address = shmat(id, NULL, 0);
  if (address == (void *)-1) die("shmat");
  if (shmctl(id, IPC_STAT, &status) == -1) die("shmctl(IPC_STAT)");
  if (status.shm_segsz != SEGMENT_BYTES) die("wrong size");
  if (shmdt(address) == -1) die("shmdt");
  return id;
}

static void attach_detach(void) {
  attach_once(0, 0);
}

static void create_detach(void) {
  int id = attach_once(SEGMENT_BYTES, IPC_CREAT | IPC_EXCL);
  if (shmctl(id, IPC_RMID, NULL) == -1) die("shmctl(IPC_RMID)");
}

/* Keeps the compiler from carrying elements over from one pass to the next. */
#define NEW_PASS() __asm__ volatile("" : : "r"(elements) : "memory")

static void sum_uint8(void) {
  NEW_PASS();
  uint32_t sum = 0;
  for (int i = 0; i < ELEMENTS_BYTES; i++) sum += elements[i];
  total = sum;
}

static void increment_int32(void) {
  NEW_PASS();
  int32_t *array = (int32_t *)elements;
  for (int i = 0; i < ELEMENTS_BYTES / 4; i++) array[i]++;
}

static void sum_float64(void) {
  NEW_PASS();
  double *array = (double *)elements, sum = 0;
  for (int i = 0; i < ELEMENTS_BYTES / 8; i++) sum += array[i];
  total = sum;
}

static void check_sum(const char *what, double expected) {
  if (total == expected) return;
  fprintf(stderr, "%s: %f instead of %f\n", what, total, expected);
  exit(1);
}

static int new_segment(size_t size) {
  int id = shmget(ipc_key, size, IPC_CREAT | IPC_EXCL | 0600);
  if (id == -1) die("shmget");
  return id;
}

static void *map(int id) {
  void *address = shmat(id, NULL, 0);
  if (address == (void *)-1) die("shmat");
  return address;
}

static void element_costs(double ms, double ns[3]) {
  int id = new_segment(ELEMENTS_BYTES);
  elements = map(id);
  /* Removed once detached, whatever happens. */
  shmctl(id, IPC_RMID, NULL);

  for (int i = 0; i < ELEMENTS_BYTES; i++) elements[i] = (unsigned char)(i & 0xff);
  ns[0] = cost(sum_uint8, ms, 200) / ELEMENTS_BYTES;
  check_sum("sum of Uint8", ELEMENTS_BYTES / 256 * 255 * 128);

  int32_t *integers = (int32_t *)elements;
  for (int i = 0; i < ELEMENTS_BYTES / 4; i++) integers[i] = 0;
  ns[1] = cost(increment_int32, ms, 200) / (ELEMENTS_BYTES / 4);
  for (int i = 1; i < ELEMENTS_BYTES / 4; i++) {
    total = integers[i];
    check_sum("increments of Int32", integers[0]);
  }

  int count = ELEMENTS_BYTES / 8;
  for (int i = 0; i < count; i++) ((double *)elements)[i] = i;
  ns[2] = cost(sum_float64, ms, 200) / count;
  check_sum("sum of Float64", count * (count - 1.0) / 2);
  shmdt(elements);
}

static void make_semaphore(void) {
  union semun one = {.val = 1};
  semaphore = semget(ipc_key, 1, IPC_CREAT | IPC_EXCL | 0600);
  if (semaphore == -1) die("semget");
  if (semctl(semaphore, 0, SETVAL, one) == -1) die("semctl(SETVAL)");
}

static void check_lock(void) {
  add_to_semaphore(-1);
  if (semctl(semaphore, 0, GETVAL) != 0) die("locked, but the value is not 0");
  add_to_semaphore(1);
  if (semctl(semaphore, 0, GETVAL) != 1) die("free, but the value is not 1");
}

static void obey(const char *job) {
  int is_lock = strcmp(job, "lock") == 0, is_attach = strcmp(job, "attach") == 0;
  int kept = is_attach ? new_segment(SEGMENT_BYTES) : -1;
  void *address = is_attach ? map(kept) : NULL;
  if (is_lock) make_semaphore();
  char line[64];
  puts("ready");
  fflush(stdout);
  while (fgets(line, sizeof line, stdin) != NULL) {
    double ms = atof(line + strcspn(line, " "));
    if (is_lock) check_lock();
    if (is_lock) run(lock_unlock, ms, 500, INFINITY);
    else if (is_attach) run(attach_detach, ms, 50, INFINITY);
    else run(create_detach, ms, 20, INFINITY);
    fflush(stdout);
  }
  if (is_lock && semctl(semaphore, 0, IPC_RMID) == -1) die("semctl(IPC_RMID)");
  if (is_attach && (shmdt(address) == -1 || shmctl(kept, IPC_RMID, NULL) == -1)) die("shmctl");
}

static void print_element_costs(double ms) {
  double ns[3];
  element_costs(ms, ns);
  printf("{\"sum of Uint8\": %.4f, \"increment Int32\": %.4f, \"sum of Float64\": %.4f}\n", ns[0], ns[1], ns[2]);
}

int main(int argc, char **argv) {
  if (argc != 3 && argc != 5) {
    fprintf(stderr, "usage: bare MS KEY_FILE, or bare JOB COUNT INDEX KEY_FILE\n");
    return 2;
  }
  const char *path = argv[argc - 1];
  FILE *file = fopen(path, "wx");
  if (file == NULL) die(path);
  fclose(file);
  ipc_key = ftok(path, 'Q');
  if (ipc_key == -1) die("ftok");
  if (argc == 5) obey(argv[1]);
  else print_element_costs(atof(argv[1]));
  remove(path);
  return 0;
}
