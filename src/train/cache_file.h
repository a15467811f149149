/* The file in which a feature cache lies: records of one size, one for each image.
 *
 * A head of whole pages says in text what a row is a function of, the image apart; each record holds the sha256 of its
 * image's file, a checksum, and the row. A row that is there never changes, so a run may read while another adds
 * records; whoever adds holds the lock on the file. What a killed process left is a record whose checksum is wrong,
 * which the next one writes again. */
#ifndef INLAY_TRAIN_CACHE_FILE_H
#define INLAY_TRAIN_CACHE_FILE_H

#include "base/file.h"
#include "base/pool.h"

#define CACHE_RECORD_HEAD 128 /* bytes in front of a record's row */

typedef char image_id[65]; /* sha256 of an image's file; empty: it could not be read */

typedef struct cache_file {
    char *path;
    int fd;             /* -1 once it is mapped */
    size_t head;        /* bytes in front of the first record */
    size_t row, stride; /* bytes of a row and of a record */
    int64_t records;
    file_map map;
} cache_file;

typedef struct cache_file_request {
    const char *folder, *name;
    const char *head; /* text */
    size_t row;
    void (*note)(void *context, const char *text); /* may be NULL: that another process has the lock */
    bool (*stop)(void *context); /* may be NULL; true: do not wait for the lock any longer, INLAY_ERR_INTERRUPTED */
    void *context;
} cache_file_request;

/* Opens the file in `folder`, or makes it, and takes the lock. One with another head is replaced; who still reads it
 * keeps what he has mapped. */
inlay_status cache_file_open(cache_file *f, const cache_file_request *request, inlay_error *err);
/* A file that nobody else sees and that is gone with this process, whatever ends it. */
inlay_status cache_file_open_temporary(cache_file *f, const char *path, size_t row, inlay_error *err);

/* Finds a record for each image, one that it has or a free one: record[count]. there[count]: whether its row is in the
 * file as it was written. */
inlay_status cache_file_find(cache_file *f, pool *threads, const image_id *images, int count, int64_t *record,
                             bool *there, inlay_error *err);
/* Takes the space of all records now: a full disk is known before work is done. */
inlay_status cache_file_reserve(cache_file *f, inlay_error *err);
/* `block`: CACHE_RECORD_HEAD bytes, which are filled here, then the row; f->stride bytes. */
inlay_status cache_file_write(const cache_file *f, int64_t record, const image_id image, unsigned char *block,
                              inlay_error *err);
/* No more is written: gives the lock back and maps the file for reading. */
inlay_status cache_file_map(cache_file *f, inlay_error *err);
void cache_file_close(cache_file *f); /* one that is all zero accepted */

#endif
