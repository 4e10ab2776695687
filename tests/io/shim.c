/* A file system with less: SHIM_FLOCK, SHIM_FSYNC are the errno that locking, or syncing a folder, gives. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

int flock(int file, int operation) {
  char *number = getenv("SHIM_FLOCK");
  if (number) { errno = atoi(number); return -1; }
  return ((int (*)(int, int))dlsym(RTLD_NEXT, "flock"))(file, operation);
}

int fsync(int file) {
  char *number = getenv("SHIM_FSYNC");
  struct stat facts;
  if (number && !fstat(file, &facts) && S_ISDIR(facts.st_mode)) { errno = atoi(number); return -1; }
  return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(file);
}
