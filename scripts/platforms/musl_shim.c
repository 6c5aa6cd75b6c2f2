/*
 * What Debian's libstdc++ and libgcc_s want from glibc and musl does not have, so that Bun for musl
 * runs with them. It is loaded in place of glibc's loader, which libstdc++ names as a dependency.
 */
#define _GNU_SOURCE
#include <link.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* libstdc++ leaves out atomic instructions where this is not 0. */
char __libc_single_threaded = 0;

/* libgcc_s has these itself, under a version that musl does not look at: a processor without extras. */
unsigned int __cpu_model[4];

int __cpu_indicator_init(void) {
  return 0;
}

uint32_t arc4random(void) {
  uint32_t number;
  if (getentropy(&number, sizeof number) != 0) abort();
  return number;
}

size_t __strftime_l(char *text, size_t size, const char *format, const struct tm *tm, locale_t locale) {
  return strftime_l(text, size, format, tm, locale);
}

/* <dlfcn.h> of glibc for x86-64: how libgcc's unwinder finds the tables for an address. */
struct dl_find_object {
  unsigned long long flags;
  void *map_start, *map_end;
  struct link_map *link_map;
  void *eh_frame;
  unsigned long long reserved[7];
};

struct search {
  uintptr_t address;
  struct dl_find_object *result;
};

static int look_into(struct dl_phdr_info *info, size_t size, void *data) {
  (void)size;
  struct search *search = data;
  const ElfW(Phdr) *code = NULL, *tables = NULL;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr) *part = &info->dlpi_phdr[i];
    uintptr_t offset = search->address - info->dlpi_addr - part->p_vaddr;
    if (part->p_type == PT_LOAD && offset < part->p_memsz) code = part;
    if (part->p_type == PT_GNU_EH_FRAME) tables = part;
  }
  if (code == NULL || tables == NULL) return 0;
  char *start = (char *)info->dlpi_addr + code->p_vaddr;
  *search->result = (struct dl_find_object){
    .map_start = start,
    .map_end = start + code->p_memsz,
    .eh_frame = (char *)info->dlpi_addr + tables->p_vaddr,
  };
  return 1;
}

int _dl_find_object(void *address, struct dl_find_object *result) {
  struct search search = {(uintptr_t)address, result};
  return dl_iterate_phdr(look_into, &search) == 1 ? 0 : -1;
}

/* Destructors of C++'s thread_local objects: of a thread that ends, and of the one that exits. */
struct destructor {
  void (*call)(void *);
  void *object;
  struct destructor *next;
};

static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void destroy(void *list) {
  for (struct destructor *first = list, *next; first != NULL; first = next) {
    next = first->next;
    first->call(first->object);
    free(first);
  }
}

static void destroy_own(void) {
  void *list = pthread_getspecific(key);
  pthread_setspecific(key, NULL);
  destroy(list);
}

static void prepare(void) {
  if (pthread_key_create(&key, destroy) != 0 || atexit(destroy_own) != 0) abort();
}

int __cxa_thread_atexit_impl(void (*call)(void *), void *object, void *library) {
  (void)library; /* glibc keeps it loaded meanwhile; nothing here is ever unloaded */
  pthread_once(&once, prepare);
  struct destructor *added = malloc(sizeof *added);
  if (added == NULL) return -1;
  *added = (struct destructor){call, object, pthread_getspecific(key)};
  return pthread_setspecific(key, added);
}
