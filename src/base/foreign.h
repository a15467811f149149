/* Files that are not what their name says: what they are, and what to do about it. */
#ifndef INLAY_BASE_FOREIGN_H
#define INLAY_BASE_FOREIGN_H

#include <stddef.h>

/* For bytes that could not be read as what was expected: "a git-lfs pointer, ..."; NULL: nothing that is known. */
const char *foreign_bytes(const void *data, size_t size);

#endif
