/* Status codes and messages. Every function that can fail returns an inlay_status and fills the caller's inlay_error
 * with one line that says what was expected, what was found, and where. Nothing here prints or exits. */
#ifndef INLAY_BASE_STATUS_H
#define INLAY_BASE_STATUS_H

#include "inlay/inlay.h"

/* error_set(err, code, format, ...) sets `err` (which may be NULL) and returns `code`. The message starts in lower case
 * and has no full stop. The way through error_same shows compiler and analyser in the caller which status comes back,
 * so that they know what does not run then. */
#define error_set(err, code, ...) error_same((code), error_write((err), (code), __VA_ARGS__))
inlay_status error_write(inlay_error *err, inlay_status code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static inline inlay_status error_same(inlay_status code, inlay_status written)
{
    (void)written;
    return code;
}

/* Puts "text: " in front of the message already in `err`: adds where to what. Returns err's code. */
inlay_status error_prefix(inlay_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define FAIL(err, code, ...)                   \
    do {                                       \
        error_set((err), (code), __VA_ARGS__); \
        return (code);                         \
    } while (0)
#define TRY(expression)                          \
    do {                                         \
        inlay_status try_status_ = (expression); \
        if (try_status_ != INLAY_OK)             \
            return try_status_;                  \
    } while (0)

#endif
