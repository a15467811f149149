/* What every image of a data set was when a run read it, so that one that is another later on is found: size, time, and
 * a sum of the bytes. Nothing is read for it: the sums are taken when the images are read anyway, and kept with the
 * run's checkpoint. A run that goes on reads again only those whose time is another, as in a copy of the data. */
#ifndef INLAY_DATA_IMAGE_RECORDS_H
#define INLAY_DATA_IMAGE_RECORDS_H

#include "data/dataset.h"

typedef struct image_records {
    const dataset *data;
    /* [data->count] each */
    int64_t *size;     /* -1: there is no file */
    int64_t *modified; /* in ns since 1970 */
    int64_t *sum;      /* 0: not read yet; -1: was to be read and could not be opened */
    bool compared;     /* whether an earlier part of the run had records, with which these were compared */
} image_records;

/* Sizes and times as they are now. */
inlay_status image_records_new(image_records *r, const dataset *d, inlay_error *err);
void image_records_free(image_records *r);

/* The image was read: INLAY_ERR_MISMATCH where it is not what it was before. `r` NULL: nobody keeps
 * records. */
inlay_status image_records_read(image_records *r, int index, const void *bytes, size_t size, inlay_error *err);
/* image_records_read in two steps, for an image whose sum is taken by one thread and compared by another;
 * image_records_failed: it could not be opened. */
int64_t image_records_sum(const void *bytes, size_t size);
inlay_status image_records_take(image_records *r, int index, int64_t sum, inlay_error *err);
inlay_status image_records_failed(image_records *r, int index, inlay_error *err);

/* Takes over what an earlier part of the run saw of its images: arrays as above. INLAY_ERR_MISMATCH: one that it read
 * is another now; the message names it. */
inlay_status image_records_resume(image_records *r, const int64_t *size, const int64_t *modified, const int64_t *sum,
                                  inlay_error *err);

#endif
