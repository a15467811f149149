/* Structures that cross the C interface say their own size, so that a program built against an older and shorter one
 * goes on working. */
#ifndef INLAY_API_SIZED_H
#define INLAY_API_SIZED_H

#include <string.h>

/* Copies what a caller's structure holds into `known`; what it is too short for stays as it is. `given` may be NULL. */
#define SIZED_TAKE(known, given)                                                                      \
    do {                                                                                              \
        if (given)                                                                                    \
            memcpy(&(known), (given), (given)->size < sizeof(known) ? (given)->size : sizeof(known)); \
    } while (0)

/* Fills what a caller's structure has room for, and leaves its size. */
#define SIZED_GIVE(out, value)                                                  \
    do {                                                                        \
        size_t size_ = (out)->size;                                             \
        (value).size = size_;                                                   \
        memcpy((out), &(value), size_ < sizeof(value) ? size_ : sizeof(value)); \
    } while (0)

#endif
