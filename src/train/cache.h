/* Feature cache: what lies below the lowest trainable parameter is the same in every epoch, so it is computed once for
 * each image.
 *
 * Exact: a sample's activations do not depend on its batch, so a cached run has the bits of an uncached one. A cache in
 * a folder serves later runs as well: its rows are found again by what they are a function of - checkpoint,
 * preprocessing, the computation, its precision and code, and the bytes of the image. */
#ifndef INLAY_TRAIN_CACHE_H
#define INLAY_TRAIN_CACHE_H

#include "data/loader.h"
#include "train/cache_file.h"
#include "infer/model.h"

#define CACHE_VALUES 8

typedef enum cache_place {
    CACHE_IN_MEMORY,
    CACHE_IN_FILE,  /* a mapped file of this run alone, gone when the run ends */
    CACHE_IN_FOLDER /* a mapped file that other runs share */
} cache_place;

typedef struct feature_cache {
    value values[CACHE_VALUES]; /* where the fixed part of the graph ends */
    int count;
    size_t bytes[CACHE_VALUES], offset[CACHE_VALUES]; /* of one sample's value, and where it lies in the sample's row */
    size_t row;
    const unsigned char *rows; /* sample i's row begins at rows + record[i] * stride */
    size_t stride;
    int64_t *record;     /* [samples] */
    bool *present;       /* [samples]; false: the image could not be read */
    int samples, reused; /* reused: rows that an earlier run computed */
    void *block;         /* CACHE_IN_MEMORY */
    cache_file file;
    image_id *images;   /* CACHE_IN_FOLDER: [samples] */
    file_stamp *stamps; /* of the files when images[] was read */
    int64_t *sums;      /* of the files' bytes, as image_records has them */
    int bad_count, bad_capacity;
    char **bad;    /* messages of unreadable images */
    int cut_count; /* images decoded here whose grey of more than 8 bits was cut at 255 */
} feature_cache;

/* Bytes that a cache of `samples` samples takes in front of `wanted`; 0: nothing can be cached. */
size_t feature_cache_size(const graph *g, value wanted, int samples);

typedef struct cache_request {
    graph *g;
    value wanted, pixels;
    device *dev;
    backbone *b;
    const dataset *data;
    const preprocess *prep;
    image_records *records; /* where it is kept what the images are; may be NULL */
    int workers, batch;
    cache_place place;
    const char *path;                                     /* CACHE_IN_FILE: the file; CACHE_IN_FOLDER: the folder */
    void (*progress)(void *context, int done, int total); /* may be NULL */
    void (*note)(void *context, const char *text);        /* may be NULL */
    bool (*stop)(void *context);                          /* may be NULL; true: give up with INLAY_ERR_INTERRUPTED */
    void *context;
} cache_request;

/* INLAY_ERR_IO: the file could not be written; the message names it. INLAY_ERR_MISMATCH: an image was written
 * meanwhile. */
inlay_status feature_cache_fill(feature_cache *c, const cache_request *request, inlay_error *err);
void feature_cache_free(feature_cache *c);
/* Brings the cached values of sample `index` to place `slot` of the program's batch. */
void feature_cache_load(const feature_cache *c, program *p, const kernels *k, int index, int slot);

#endif
