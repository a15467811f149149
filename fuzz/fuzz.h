/* What the fuzz targets share: a folder in memory for parsers that are given a path. */
#ifndef FUZZ_FUZZ_H
#define FUZZ_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

#define FUZZ_PATH 256

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Ends the target with a message: something that must hold does not. */
#define FUZZ_MUST(condition)                                                \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                        \
        }                                                                   \
    } while (0)

static char fuzz_folder_[64];

static inline void fuzz_remove_folder(void)
{
    char command[128];

    snprintf(command, sizeof command, "rm -rf '%s'", fuzz_folder_);
    if (system(command) != 0)
        fprintf(stderr, "'%s' stays\n", fuzz_folder_);
}

/* The target's own folder, in memory where the system has such a place; removed at the end. */
static inline const char *fuzz_folder(void)
{
    if (!fuzz_folder_[0]) {
        snprintf(fuzz_folder_, sizeof fuzz_folder_, "%s/inlay-fuzz-XXXXXX",
                 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        FUZZ_MUST(mkdtemp(fuzz_folder_));
        atexit(fuzz_remove_folder);
    }
    return fuzz_folder_;
}

/* Writes a file there; its path in `path`. */
static inline void fuzz_write(char path[FUZZ_PATH], const char *name, const void *data, size_t size)
{
    FILE *out;

    snprintf(path, FUZZ_PATH, "%s/%s", fuzz_folder(), name);
    out = fopen(path, "wb");
    FUZZ_MUST(out && fwrite(data, 1, size, out) == size && fclose(out) == 0);
}

/* A link there to a file of the tests' data. */
static inline void fuzz_link(const char *name, const char *target)
{
    char path[2 * FUZZ_PATH];

    snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name);
    FUZZ_MUST(symlink(target, path) == 0);
}

/* A parser either succeeds or gives a message of one line. */
static inline void fuzz_check_error(inlay_status status, const inlay_error *err)
{
    if (status != INLAY_OK)
        FUZZ_MUST(err->message[0] && memchr(err->message, '\0', sizeof err->message) && !strchr(err->message, '\n'));
}

#endif
