/* Inlay: tunes, studies, merges and serves adapters on frozen pre-trained transformers.
 *
 * The public C API. Handles are opaque; every call that can fail returns an inlay_status and fills an inlay_error.
 * Usable from C++. Nothing in the library prints, exits or aborts on bad input. */
#ifndef INLAY_INLAY_H
#define INLAY_INLAY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define INLAY_VERSION_MAJOR 0
#define INLAY_VERSION_MINOR 1
#define INLAY_VERSION_PATCH 0
#define INLAY_VERSION_STRING "0.1.0"

#if defined(__GNUC__)
#define INLAY_API __attribute__((visibility("default")))
#else
#define INLAY_API
#endif

/* name, pinned value, text */
#define INLAY_STATUS_MAP(XX)                                              \
    XX(OK, 0, "ok")                                                       \
    XX(ERR_NOMEM, 1, "out of memory")                                     \
    XX(ERR_USAGE, 2, "unusable argument")                                 \
    XX(ERR_INTERNAL, 3, "internal error")                                 \
    XX(ERR_IO, 10, "input/output error")                                  \
    XX(ERR_FORMAT, 20, "malformed data")                                  \
    XX(ERR_SHAPE, 21, "wrong shape")                                      \
    XX(ERR_UNSUPPORTED, 30, "not supported")                              \
    XX(ERR_MISMATCH, 40, "adapter and backbone do not belong together")   \
    XX(ERR_INTERRUPTED, 50, "interrupted")

typedef enum inlay_status {
#define XX(name, value, text) INLAY_##name = value,
    INLAY_STATUS_MAP(XX)
#undef XX
} inlay_status;

typedef struct inlay_error {
    inlay_status code;
    char message[1024]; /* one line, no full stop */
} inlay_error;

/* A short English name of a status; never NULL. */
INLAY_API const char *inlay_status_name(inlay_status status);

#ifdef __cplusplus
}
#endif
#endif
