/* Pruning a fusion of adapters: in every layer the parts that get most attention stay (AdapterDrop, arXiv 2010.11918).
 */
#ifndef INLAY_COMPOSE_PRUNE_H
#define INLAY_COMPOSE_PRUNE_H

#include "data/loader.h"
#include "infer/session.h"

typedef struct prune_usage {
    arena *memory;
    int layers, parts, images;
    double *mean; /* [layers, parts]: attention over images and tokens; below 0 where a part is not fused in a layer */
    int bad_count;
    const char **bad; /* unreadable images */
    int cut_count;    /* images whose grey of more than 8 bits was cut at 255 */
} prune_usage;

typedef struct prune_request {
    session *s; /* with a fusion adapter */
    const dataset *data;
    int64_t batch;
    int workers;
    void (*progress)(void *context, int done, int total); /* may be NULL */
    void *context;
} prune_request;

/* Runs the data through the model. In the last block only those tokens count that the head reads. */
inlay_status prune_measure(prune_usage *out, const prune_request *request, inlay_error *err);
void prune_free(prune_usage *u);

/* The `keep` most used parts of a layer in ascending order, all where there are no more; of equal ones the lower is
 * kept. Returns how many. */
int prune_layer(const prune_usage *u, int layer, int keep, int *parts);
/* prune_layer's parts of all layers, as the fusion's option `keep` is written. */
const char *prune_text(arena *memory, const prune_usage *u, int keep);

/* Saves a loaded fusion with another `keep`: a softmax over what is left, nothing is trained again. `preprocessing`,
 * `record`: as for adapter_save. */
inlay_status prune_write(const adapter *a, const device *d, const char *keep, const char *folder,
                         const void *preprocessing, const void *record, inlay_error *err);

#endif
