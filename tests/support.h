/* What several tests use: cmocka with its includes, temporary folders, a small labelled set of images. */
#ifndef TESTS_SUPPORT_H
#define TESTS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/rng.h"

#define ASSERT_OK(expression)                             \
    do {                                                  \
        if ((expression) != INLAY_OK)                     \
            fail_msg("%s: %s", #expression, err.message); \
    } while (0)

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

/* Skips a case that limits or measures what a process takes, which says nothing of a program that a sanitizer watches.
 */
static inline void skip_under_sanitizers(const char *why)
{
#ifdef SANITIZED
    print_message("skipped under sanitizers: %s\n", why);
    skip();
#else
    (void)why;
#endif
}

static inline char *support_folder(void)
{
    static char path[64];

    snprintf(path, sizeof path, "/tmp/inlay-test-XXXXXX");
    assert_non_null(mkdtemp(path));
    return path;
}

/* folder/name, in one of four rooms that take turns. */
static inline const char *support_path(const char *folder, const char *name)
{
    static char paths[4][200];
    static int next;

    next = (next + 1) % 4;
    snprintf(paths[next], sizeof paths[next], "%s/%s", folder, name);
    return paths[next];
}

static inline void support_remove(const char *folder)
{
    char command[256];

    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    assert_int_equal(system(command), 0);
}

/* folder/<split>/<class>/NN.ppm: `per_class` images of side `size` whose colour tells the class, with noise. */
static inline void support_images(const char *folder, const char *split, int classes, int per_class, int size)
{
    inlay_error err;
    char path[512];

    for (int c = 0; c < classes; c++) {
        snprintf(path, sizeof path, "%s/%s/class%d", folder, split, c);
        ASSERT_OK(file_make_folder(path, &err));
        for (int i = 0; i < per_class; i++) {
            FILE *out;
            snprintf(path, sizeof path, "%s/%s/class%d/%02d.ppm", folder, split, c, i);
            out = fopen(path, "wb");
            assert_non_null(out);
            fprintf(out, "P6\n%d %d\n255\n", size, size);
            for (int p = 0; p < size * size * 3; p++) {
                uint32_t noise = rng_u32((rng_stream){.purpose = RNG_TEST,
                                                      .stream = (uint32_t)(c * 1000 + i),
                                                      .step = (uint32_t)split[1]},
                                         (uint64_t)p) >>
                                 25;
                fputc((int)noise + (p % 3 == c % 3 ? 100 : 20), out);
            }
            fclose(out);
        }
    }
}

#endif
