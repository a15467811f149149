/* IDX files (MNIST and its relatives): sizes, then unsigned bytes; plain or gzipped. */
#ifndef INLAY_FORMATS_IDX_H
#define INLAY_FORMATS_IDX_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define IDX_MAX_RANK 3

typedef struct idx_file {
    void *stream;
    const char *path; /* the caller's */
    int rank;
    uint32_t sizes[IDX_MAX_RANK]; /* the first: how many items */
} idx_file;

/* Opens a file of unsigned bytes with `rank` dimensions and reads their sizes. */
inlay_status idx_open(idx_file *f, const char *path, int rank, inlay_error *err);
/* Reads the next item, `size` bytes. `index` is for the message. */
inlay_status idx_read(const idx_file *f, uint32_t index, void *out, size_t size, inlay_error *err);
/* Checks what is behind the last item: nothing may follow, and a gzipped file's checksum must be right. */
inlay_status idx_finish(const idx_file *f, inlay_error *err);
void idx_close(idx_file *f); /* all zero accepted */

#endif
