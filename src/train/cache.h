/* Feature cache: what lies below the lowest trainable parameter is the same in every epoch, so it is computed once for each image.
 *
 * Exact: a sample's activations do not depend on its batch, so a cached run has the bits of an uncached one. */
#ifndef INLAY_TRAIN_CACHE_H
#define INLAY_TRAIN_CACHE_H

#include "data/loader.h"
#include "graph/program.h"

#define CACHE_VALUES 8

typedef struct feature_cache {
    value values[CACHE_VALUES]; /* where the fixed part of the graph ends */
    int count;
    size_t bytes[CACHE_VALUES]; /* of one sample */
    unsigned char *data[CACHE_VALUES];
    bool *present;              /* [samples]; false: the image could not be read */
    int samples;
    int bad_count, bad_capacity;
    char **bad;                 /* messages of unreadable images */
} feature_cache;

/* Bytes that a cache of `samples` samples takes in front of `wanted`; 0: nothing can be cached. */
size_t feature_cache_size(const graph *g, value wanted, int samples);

typedef struct cache_request {
    graph *g;
    value wanted, pixels;
    device *dev;
    const dataset *data;
    const preprocess *prep;
    int workers, batch;
    void (*progress)(void *context, int done, int total); /* may be NULL */
    bool (*stop)(void *context);                          /* may be NULL; true: give up with INLAY_ERR_INTERRUPTED */
    void *context;
} cache_request;

inlay_status feature_cache_fill(feature_cache *c, const cache_request *request, inlay_error *err);
void feature_cache_free(feature_cache *c);
/* Brings the cached values of sample `index` to place `slot` of the program's batch. */
void feature_cache_load(const feature_cache *c, program *p, const kernels *k, int index, int slot);

#endif
