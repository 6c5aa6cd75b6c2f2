/* How the C and C++ contenders measure: in batches, as timing.ts and commands.ts do. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

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

struct result {
  double ops, ns, per_op;
};

/* Does `operation` for `ms`, or as often as `most`, in batches, so that reading the clock does not count. */
static inline struct result repeat(void (*operation)(void), double ms, int batch, double most) {
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
  struct result found = {ops, end - begin, undisturbed_mean(batches, count) / batch};
  return found;
}

/* The same, and prints how long that took. */
static inline void run(void (*operation)(void), double ms, int batch, double most) {
  struct result found = repeat(operation, ms, batch, most);
  printf("{\"ops\": %.0f, \"ns\": %.0f, \"perOp\": %.3f}\n", found.ops, found.ns, found.per_op);
}

/* The nanoseconds that one call of `operation` takes in the last `ms`, after the warm-up. */
static inline double cost(void (*operation)(void), double ms, int batch) {
  for (int i = 0; i < WARM_UPS; i++) repeat(operation, ms, batch, INFINITY);
  return repeat(operation, ms, batch, INFINITY).per_op;
}
