/* How the C and C++ contenders measure: the same as timing.ts and commands.ts. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define MEASURE_NS 150e6
#define WARM_UPS 6
#define MAX_BATCHES 10000

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e9 + t.tv_nsec;
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

/* The mean without the batches during which the machine did something else. */
static double undisturbed_mean(double *batches, int count) {
  double sum = 0;
  int used = 0;
  qsort(batches, count, sizeof *batches, compare);
  while (used < count && batches[used] <= 2 * batches[count / 2]) sum += batches[used++];
  return sum / used;
}

/* Does `operation` for `ms`, or as often as `most`, and prints how long that took. */
static inline void run(void (*operation)(void), double ms, int batch, double most) {
  static double batches[MAX_BATCHES];
  int count = 0;
  double ops = 0, begin = now(), end = begin;
  while (end - begin < ms * 1e6 && count < MAX_BATCHES && ops < most) {
    double start = end;
    for (int i = 0; i < batch; i++) operation();
    end = now();
    ops += batch;
    batches[count++] = end - start;
  }
  printf("{\"ops\": %.0f, \"ns\": %.0f, \"perOp\": %.3f}\n", ops, end - begin,
         undisturbed_mean(batches, count) / batch);
}

static inline double cost_once(void (*operation)(void), int batch) {
  static double batches[MAX_BATCHES];
  int count = 0;
  double begin = now(), end = begin;
  while (end - begin < MEASURE_NS && count < MAX_BATCHES) {
    double start = end;
    for (int i = 0; i < batch; i++) operation();
    end = now();
    batches[count++] = end - start;
  }
  return undisturbed_mean(batches, count) / batch;
}

/* The nanoseconds that one call of `operation` takes after the warm-up. */
static inline double cost(void (*operation)(void), int batch) {
  for (int i = 0; i < WARM_UPS; i++) cost_once(operation, batch);
  return cost_once(operation, batch);
}
