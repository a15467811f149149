/* Preloaded into a program under torture: the allocation of number FAIL_MALLOC_AT (counted from 1 over all threads),
 * and with FAIL_MALLOC_ALL=1 every later one, finds no memory. Without that variable it only counts, and writes the
 * count into the file that COUNT_MALLOC names. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* glibc's own, under the names by which a replacement reaches them */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

static atomic_long made;
static long fails_at; /* 0: none */
static bool fails_on;

static bool refused(void)
{
    long number = atomic_fetch_add(&made, 1) + 1;

    if (!fails_at || number < fails_at || (number > fails_at && !fails_on))
        return false;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t size)
{
    return refused() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return refused() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *block, size_t size)
{
    return refused() ? NULL : __libc_realloc(block, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return refused() ? NULL : __libc_memalign(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
    void *block = refused() ? NULL : __libc_memalign(alignment, size);

    if (!block)
        return ENOMEM;
    *out = block;
    return 0;
}

/* Counting begins with the program's own work: what the loader allocated is not counted. */
__attribute__((constructor)) static void begin(void)
{
    const char *at = getenv("FAIL_MALLOC_AT"), *all = getenv("FAIL_MALLOC_ALL");

    atomic_store(&made, 0);
    fails_on = all && *all == '1';
    fails_at = at ? strtol(at, NULL, 10) : 0;
}

__attribute__((destructor)) static void end(void)
{
    const char *path = getenv("COUNT_MALLOC");
    char text[32];
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666) : -1;
    int length = snprintf(text, sizeof text, "%ld\n", atomic_load(&made));

    if (fd < 0)
        return;
    if (write(fd, text, (size_t)length) != length)
        unlink(path);
    close(fd);
}
