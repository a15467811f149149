/* Status codes and messages. Every function that can fail returns an inlay_status and fills the caller's inlay_error with one line
 * that says what was expected, what was found, and where. Nothing here prints or exits. */
#ifndef INLAY_BASE_STATUS_H
#define INLAY_BASE_STATUS_H

#include "inlay/inlay.h"

/* Sets `err` (which may be NULL) and returns `code`. The message starts in lower case and has no full stop. */
inlay_status error_set(inlay_error *err, inlay_status code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Puts "text: " in front of the message already in `err`: adds where to what. Returns err's code. */
inlay_status error_prefix(inlay_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define FAIL(err, code, ...)                     \
    do {                                         \
        error_set((err), (code), __VA_ARGS__);   \
        return (code);                           \
    } while (0)
#define TRY(expression)                              \
    do {                                             \
        inlay_status try_status_ = (expression);     \
        if (try_status_ != INLAY_OK)                 \
            return try_status_;                      \
    } while (0)

#endif
