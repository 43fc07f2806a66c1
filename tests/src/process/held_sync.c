/*
 * Loaded into a broker (LD_PRELOAD) to have a test say what the syncs of its log do.
 *
 * HELD_SYNC names a file that exists. Each sync of a segment of the log appends a byte to it, and then takes a
 * shared lock on it: it waits as long as the test holds an exclusive one. If the file with ".fail" behind its name exists
 * by then, the sync fails, as on a broken disk.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

static int is_segment(int fd)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return strstr(path, "/log/segment-") != NULL;
}

int fdatasync(int fd)
{
    const char *name = getenv("HELD_SYNC");
    if (name && is_segment(fd)) {
        char fail[PATH_MAX];
        snprintf(fail, sizeof fail, "%s.fail", name);
        int gate = open(name, O_RDWR | O_APPEND | O_CLOEXEC);
        if (gate >= 0) {
            if (write(gate, ".", 1) == 1)
                while (flock(gate, LOCK_SH) != 0 && errno == EINTR)
                    ;
            close(gate);
        }
        if (access(fail, F_OK) == 0) {
            errno = EIO;
            return -1;
        }
    }
    return (int)syscall(SYS_fdatasync, fd);
}
