/*
 * What the module's own protections cost the kernel: the system calls that it makes, one for one, in C. A
 * lock is taken and given back by two steps at a time, so that a value that a peer has raised lets nobody
 * in; key files are looked at again before they are trusted or removed; a semaphore is marked before its
 * file goes, so that no kill leaves it for ever.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cost.h"

#define SEGMENT_BYTES 4096
#define REMOVING 0610

/* semctl(2): the calling program must define this union itself. */
union semun {
  int val;
  struct semid_ds *buf;
};

static char segment_file[4096], semaphore_file[4096];
static int semaphore;

static int checked(int result, const char *what) {
  if (result != -1) return result;
  perror(what);
  exit(1);
}

static void change(short first, short first_flags, short second, short second_flags) {
  struct sembuf steps[] = {{0, first, first_flags}, {0, second, second_flags}};
  checked(semtimedop(semaphore, steps, 2, NULL), "semtimedop");
}

static void lock(void) {
  change(-1, SEM_UNDO, 0, IPC_NOWAIT);
}

static void unlock(void) {
  change(0, IPC_NOWAIT, 1, SEM_UNDO);
}

static void lock_unlock(void) {
  lock();
  unlock();
}

/* The key of an open file, as ftok makes it; no file has two names, or another's. */
static key_t key_of(int file) {
  struct statx status;
  checked(statx(file, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &status), "statx");
  return 'Q' << 24 | (int)(status.stx_dev_minor & 0xff) << 16 | (int)(status.stx_ino & 0xffff);
}

static int new_file(const char *path) {
  return checked(open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640), path);
}

static int new_semaphore(int file) {
  struct sembuf steps[] = {{0, 0, IPC_NOWAIT}, {0, 1, 0}, {0, -1, SEM_UNDO}};
  semaphore = checked(semget(key_of(file), 1, IPC_CREAT | IPC_EXCL | 0600), "semget");
  checked(semtimedop(semaphore, steps, 3, NULL), "semtimedop");
  return semaphore;
}

static void remove_semaphore(int file) {
  struct semid_ds status;
  union semun argument = {.buf = &status};
  checked(semctl(semaphore, 0, IPC_STAT, argument), "semctl(IPC_STAT)");
  status.sem_perm.mode = REMOVING;
  checked(semctl(semaphore, 0, IPC_SET, argument), "semctl(IPC_SET)");
  key_of(file);
  checked(unlink(semaphore_file), "unlink");
  checked(semctl(semaphore, 0, IPC_RMID), "semctl(IPC_RMID)");
}

static void create_detach(void) {
  struct statx status;
  struct shmid_ds segment_status;
  statx(AT_FDCWD, segment_file, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS, &status);
  int semaphores_file = new_file(semaphore_file);
  new_semaphore(semaphores_file);
  key_of(semaphores_file);
  int file = new_file(segment_file);
  int id = checked(shmget(key_of(file), SEGMENT_BYTES, IPC_CREAT | IPC_EXCL | 0600), "shmget");
  void *address = shmat(id, NULL, 0);
  unlock();

  checked(shmdt(address), "shmdt");
  lock();
  checked(shmctl(id, IPC_STAT, &segment_status), "shmctl(IPC_STAT)");
  if (segment_status.shm_nattch != 0) abort();
  checked(shmctl(id, IPC_RMID, NULL), "shmctl(IPC_RMID)");
  key_of(file);
  checked(unlink(segment_file), "unlink");
  remove_semaphore(semaphores_file);
  close(semaphores_file);
  close(file);
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: guarded PATH\n");
    return 2;
  }
  snprintf(segment_file, sizeof segment_file, "%s-segment", argv[1]);
  snprintf(semaphore_file, sizeof semaphore_file, "%s-semaphore", argv[1]);
  double create = cost(create_detach, 20);
  int file = new_file(semaphore_file);
  new_semaphore(file);
  unlock();
  double pair = cost(lock_unlock, 500);
  lock();
  remove_semaphore(file);
  close(file);
  printf("{\"lock+unlock\": %.2f, \"create+detach\": %.2f}\n", pair, create);
  return 0;
}
