/* A lock on a name, for one process at a time. It is the kernel's (flock) and ends with the process, however that
 * ends; the file that carries it may stay behind and then means nothing. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"

#define ATTEMPTS 10
#define PAUSE_NS 20000000 /* one that only asks whether it is held has it for an instant */

int file_check_name(int fd, const char *path)
{
    struct stat mine, named;

    if (fstat(fd, &mine) != 0)
        return errno;
    if (lstat(path, &named) != 0)
        return errno;
    return mine.st_dev == named.st_dev && mine.st_ino == named.st_ino ? 0 : ENOENT;
}

/* Takes the lock of an open file. 0: taken. EWOULDBLOCK: another process has it. */
static int take(int fd)
{
    for (int i = 0; flock(fd, LOCK_EX | LOCK_NB) != 0; i++) {
        if (errno != EINTR && (errno != EWOULDBLOCK || i == ATTEMPTS))
            return errno;
        nanosleep(&(struct timespec){0, PAUSE_NS}, NULL);
    }
    return 0;
}

/* Whether flock failed because the file system has no locks at all. */
static bool has_no_locks(int cause)
{
    return cause == ENOSYS || cause == EOPNOTSUPP || cause == ENOLCK;
}

/* Opens the file that carries the lock. A link in its place is not followed: others may have put it there. */
static inlay_status open_lock(file_lock *lock, const char *path, inlay_error *err)
{
    lock->fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0666);
    if (lock->fd < 0 && errno == ELOOP)
        FAIL(err, INLAY_ERR_IO, "cannot write '%s': it is a symbolic link", path);
    return lock->fd < 0 ? file_error(err, "write", path) : INLAY_OK;
}

inlay_status file_lock_take(file_lock *lock, const char *path, bool *held, inlay_error *err)
{
    inlay_status status = INLAY_OK;
    int cause = 0, named = 0;

    *lock = (file_lock){.fd = -1, .path = strdup(path)};
    *held = false;
    if (!lock->path)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory locking '%s'", path);
    do {
        if (lock->fd >= 0)
            close(lock->fd);
        named = 0;
        status = open_lock(lock, path, err);
        cause = status == INLAY_OK ? take(lock->fd) : 0;
        if (status == INLAY_OK && cause == 0) /* whoever held it before took it away at its end */
            cause = named = file_check_name(lock->fd, path);
    } while (named == ENOENT);
    *held = cause == EWOULDBLOCK;
    lock->none = has_no_locks(cause);
    if (cause && !*held && !lock->none) {
        errno = cause;
        status = file_error(err, "lock", path);
    }
    if (status != INLAY_OK || *held) {
        if (lock->fd >= 0)
            close(lock->fd);
        free(lock->path);
        *lock = (file_lock){.fd = -1};
    }
    return status;
}

/* The file is taken away while it is held, and whoever gets it next looks whether it is still there: nobody's lock is
 * removed. */
void file_lock_release(file_lock *lock)
{
    if (!lock->path)
        return;
    unlink(lock->path);
    close(lock->fd);
    free(lock->path);
    *lock = (file_lock){.fd = -1};
}

/* Opens what a killed process left, for a lock. In a folder of several users a file of another may be read only. */
static int open_leftover(const char *path)
{
    const int common = O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK;
    int fd = open(path, O_RDWR | common);

    return fd < 0 && errno == EACCES ? open(path, O_RDONLY | common) : fd;
}

/* Takes away what a killed process left at `path`. 0: done, or it was gone already. EWOULDBLOCK: its process lives. */
static int take_leftover(const char *path)
{
    int fd = open_leftover(path), cause;

    if (fd < 0 && errno == ELOOP) /* a link is nobody's work */
        return unlink(path) == 0 || errno == ENOENT ? 0 : errno;
    if (fd < 0)
        return errno == ENOENT ? 0 : errno;
    cause = take(fd);
    if ((cause == 0 ? file_check_name(fd, path) == 0 : has_no_locks(cause)) && unlink(path) != 0 && errno != ENOENT)
        cause = errno;
    close(fd);
    return has_no_locks(cause) ? 0 : cause;
}

/* A temporary file is locked before it is written: only who has its lock takes it away or gives it another name. */
int file_open_temporary(const char *path)
{
    for (int i = 0; i < ATTEMPTS; i++) {
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666), cause;
        if (fd < 0 && errno != EEXIST)
            return -1;
        cause = fd < 0 ? take_leftover(path) : take(fd);
        if (fd >= 0 && (cause == 0 ? file_check_name(fd, path) == 0 : has_no_locks(cause)))
            return fd;
        if (fd >= 0) /* another took it for a leftover before it was locked */
            close(fd);
        if (cause && cause != EWOULDBLOCK) {
            errno = cause;
            return -1;
        }
        if (fd < 0 && cause)
            break;
    }
    errno = EWOULDBLOCK;
    return -1;
}

bool file_lock_held(const char *path)
{
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    bool held = fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;

    if (fd >= 0)
        close(fd);
    return held;
}
