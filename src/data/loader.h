/* Reads and preprocesses samples in worker threads ahead of the consumer, in the order asked for. */
#ifndef INLAY_DATA_LOADER_H
#define INLAY_DATA_LOADER_H

#include "data/image_records.h"
#include "data/preprocess.h"

typedef struct loader loader;

typedef struct loader_request {
    const dataset *data;
    const preprocess *prep;
    image_records *records; /* where it is kept what the images are; may be NULL */
    const int *order;       /* sample indices to read, [count]; kept by the caller while the loader lives */
    int count;
    int workers; /* >= 1 */
    int ahead;   /* images decoded ahead of the consumer at most */
    bool augment;
    uint64_t seed; /* of the augmentation */
    uint32_t epoch;
} loader_request;

/* Sets the parts of reading `count` images in a budget: those of a ring of `ahead` of them at most, and decoding. */
void loader_plan(budget *room, const preprocess *p, int64_t ahead, int64_t count);
inlay_status loader_new(loader **out, const loader_request *request, inlay_error *err);
void loader_free(loader *l); /* stops the workers; NULL accepted */

/* Copies up to `wanted` samples, in order, into pixels (preprocess_pixel_bytes each) and indices (index into
 * data->samples). Unreadable images are skipped and remembered: *got may then be smaller at the end of the order only,
 * a batch is filled from the samples that follow. *got = 0: the end. Trouble of the moment, such as too many open
 * files, is no fault of an image and ends the reading with its error. */
inlay_status loader_next(loader *l, int wanted, void *pixels, int *indices, int *got, inlay_error *err);

/* Unreadable images met so far: how many, each one's message (names the file) and index into data->samples. Valid until
 * loader_free. */
int loader_bad_count(const loader *l);
const char *loader_bad_message(const loader *l, int index);
int loader_bad_sample(const loader *l, int index);
/* Images handed out so far whose grey of more than 8 bits was cut at 255. */
int loader_cut_count(const loader *l);

#endif
