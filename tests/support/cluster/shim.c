/* Loaded into a server under test (LD_PRELOAD): the file that $ZEOD_TEST_CONTROL names is mapped, and
   says how far its clock is off, whether syncs of files fail, and how much longer they take. Into the file
   $ZEOD_TEST_SYNCED goes how long each file was when it was synced: device, inode, length, 8 bytes each. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct control {
    int64_t clock_offset_s;
    int64_t syncs_fail;
    int64_t sync_ms;
};

static const struct control none;
static const volatile struct control *control = &none;
static int notes = -1;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("ZEOD_TEST_CONTROL");
    const char *synced = getenv("ZEOD_TEST_SYNCED");
    if (synced)
        notes = open(synced, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *map = mmap(NULL, sizeof none, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (map != MAP_FAILED)
        control = map;
}

int clock_gettime(clockid_t id, struct timespec *now)
{
    static int (*real)(clockid_t, struct timespec *);
    if (!real)
        real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, now);
    if (result == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        now->tv_sec += control->clock_offset_s;
    return result;
}

static int sync_file(const char *name, int (**real)(int), int fd)
{
    if (!*real)
        *real = dlsym(RTLD_NEXT, name);
    if (control->syncs_fail) {
        errno = EIO;
        return -1;
    }
    usleep(control->sync_ms * 1000);
    struct stat before;
    int known = notes >= 0 && fstat(fd, &before) == 0 && S_ISREG(before.st_mode);
    int result = (*real)(fd);
    if (result == 0 && known) {
        uint64_t record[3] = {before.st_dev, before.st_ino, before.st_size};
        if (write(notes, record, sizeof record) != sizeof record)
            abort();
    }
    return result;
}

int fsync(int fd)
{
    static int (*real)(int);
    return sync_file("fsync", &real, fd);
}

int fdatasync(int fd)
{
    static int (*real)(int);
    return sync_file("fdatasync", &real, fd);
}
