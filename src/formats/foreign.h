/* Files that are not what their name says: what they are, and what to do about it. */
#ifndef INLAY_FORMATS_FOREIGN_H
#define INLAY_FORMATS_FOREIGN_H

#include <jansson.h>

#include "base/status.h"

/* For bytes that could not be read as what was expected: "a git-lfs pointer, ..."; NULL: nothing that is known. */
const char *foreign_bytes(const void *data, size_t size);

/* Reads a JSON file; the caller frees *out. Errors name line and column, or what the file is instead. */
inlay_status json_file_load(json_t **out, const char *path, inlay_error *err);

#endif
