#include "train/cache.h"

#include <stdlib.h>
#include <string.h>

size_t feature_cache_size(const graph *g, value wanted, int samples)
{
    value frontier[CACHE_VALUES];
    int count = graph_fixed_frontier(g, wanted, frontier, CACHE_VALUES);
    size_t total = 0;

    if (count == 0 || count > CACHE_VALUES)
        return 0;
    for (int i = 0; i < count; i++)
        total += value_bytes(g, frontier[i], 1);
    return total * (size_t)samples;
}

static inlay_status store(feature_cache *c, const cache_request *q, program *p, loader *l, inlay_error *err)
{
    int *indices = calloc((size_t)q->batch, sizeof *indices), got, done = 0;
    int32_t *labels = calloc((size_t)q->batch, sizeof *labels);
    step_info step = {0};
    inlay_status status = indices && labels ? INLAY_OK : error_set(err, INLAY_ERR_NOMEM, "out of memory filling the feature cache");

    while (status == INLAY_OK) {
        if (q->stop && q->stop(q->context)) {
            status = error_set(err, INLAY_ERR_INTERRUPTED, "interrupted while the feature cache was filled");
            break;
        }
        status = loader_next(l, q->batch, program_value(p, q->pixels, q->batch).data, labels, indices, &got, err);
        if (status != INLAY_OK || got == 0)
            break;
        program_forward(p, got, &step);
        for (int v = 0; v < c->count; v++) {
            const unsigned char *from = program_value(p, c->values[v], got).data;
            for (int i = 0; i < got; i++)
                q->dev->k->copy_out(c->data[v] + (size_t)indices[i] * c->bytes[v], from + (size_t)i * c->bytes[v], c->bytes[v]);
        }
        for (int i = 0; i < got; i++)
            c->present[indices[i]] = true;
        done += got;
        if (q->progress)
            q->progress(q->context, done, q->data->count);
    }
    free(indices);
    free(labels);
    return status;
}

inlay_status feature_cache_fill(feature_cache *c, const cache_request *q, inlay_error *err)
{
    program *p = NULL;
    loader *l = NULL;
    int *order = calloc((size_t)q->data->count + 1, sizeof *order);
    inlay_status status = order ? INLAY_OK : error_set(err, INLAY_ERR_NOMEM, "out of memory for the feature cache");

    *c = (feature_cache){.samples = q->data->count};
    c->count = graph_fixed_frontier(q->g, q->wanted, c->values, CACHE_VALUES);
    c->present = calloc((size_t)c->samples + 1, sizeof *c->present);
    for (int i = 0; status == INLAY_OK && i < c->count; i++) {
        c->bytes[i] = value_bytes(q->g, c->values[i], 1);
        status = memory_alloc((void **)&c->data[i], c->bytes[i] * (size_t)c->samples, "the feature cache (--feature-cache off does without)", err);
    }
    for (int i = 0; order && i < c->samples; i++)
        order[i] = i;
    if (status == INLAY_OK) {
        program_request plan = {.dev = q->dev, .max_batch = q->batch, .wanted = c->values, .wanted_count = c->count};
        status = program_new(&p, q->g, &plan, err);
    }
    if (status == INLAY_OK) {
        loader_request request = {.data = q->data, .prep = q->prep, .order = order, .count = c->samples, .workers = q->workers, .ahead = 2 * q->batch};
        status = loader_new(&l, &request, err);
    }
    if (status == INLAY_OK)
        status = store(c, q, p, l, err);
    for (int i = 0; l && i < loader_bad_count(l); i++) {
        char *message = strdup(loader_bad_message(l, i));
        ARRAY_PUSH(c->bad, c->bad_count, c->bad_capacity, message);
    }
    loader_free(l);
    program_free(p);
    free(order);
    if (status != INLAY_OK)
        feature_cache_free(c);
    return status;
}

void feature_cache_free(feature_cache *c)
{
    for (int i = 0; i < c->count; i++)
        memory_free(c->data[i]);
    for (int i = 0; i < c->bad_count; i++)
        free(c->bad[i]);
    free(c->bad);
    free(c->present);
    *c = (feature_cache){0};
}

void feature_cache_load(const feature_cache *c, program *p, const kernels *k, int index, int slot)
{
    for (int v = 0; v < c->count; v++) {
        unsigned char *to = program_value(p, c->values[v], 1).data;
        k->copy_in(to + (size_t)slot * c->bytes[v], c->data[v] + (size_t)index * c->bytes[v], c->bytes[v]);
    }
}
