#define _GNU_SOURCE
#include "train/cache.h"

#include <stdlib.h>
#include <string.h>

#include "base/code.h"
#include "base/json.h"

/* Finds what is to be kept and how it lies in a row; false: nothing can be. */
static bool lay_out(feature_cache *c, const graph *g, value wanted)
{
    c->count = graph_fixed_frontier(g, wanted, c->values, CACHE_VALUES);
    if (c->count > CACHE_VALUES)
        c->count = 0;
    for (int i = 0; i < c->count; i++) {
        c->bytes[i] = value_bytes(g, c->values[i], 1);
        c->offset[i] = c->row;
        c->row += (c->bytes[i] + 63) / 64 * 64;
    }
    return c->count > 0;
}

size_t feature_cache_size(const graph *g, value wanted, int samples)
{
    feature_cache c = {0};

    lay_out(&c, g, wanted);
    return size_product(samples, c.row);
}

/* ---- what a row is a function of ---- */

typedef struct key_writer {
    const cache_request *q;
    FILE *out;
    bool failed;
} key_writer;

/* Describes a frozen parameter that a row depends on: a weight of the backbone is known by the checkpoint; any other
 * value, such as a part of a fusion, by what it is. */
static void describe_param(void *context, const param *p)
{
    key_writer *w = context;
    char hex[65] = "";
    float *values;

    if (backbone_param(w->q->b, p->name) == p)
        return;
    values = memory_array(p->count, sizeof *values);
    if (values)
        param_get(p, w->q->dev, values);
    w->failed |= !values;
    if (values)
        bytes_sha256(values, (size_t)p->count * sizeof *values, hex);
    fprintf(w->out, "values %s\n", hex);
    free(values);
}

static inlay_status describe_values(const feature_cache *c, const cache_request *q, char hex[65], inlay_error *err)
{
    char *text = NULL;
    size_t length = 0;
    key_writer w = {.q = q, .out = open_memstream(&text, &length)};
    bool good = w.out && graph_describe(q->g, c->values, c->count, w.out, describe_param, &w);

    if (w.out && fclose(w.out) != 0)
        good = false;
    good = good && !w.failed;
    if (good)
        bytes_sha256(text, length, hex);
    free(text);
    return good ? INLAY_OK : error_set(err, INLAY_ERR_NOMEM, "out of memory for the feature cache");
}

/* Describes rows. head: what the file says of itself. name: of the file, by all of that but the code, so that another
 * build's file is replaced and not piled up on. */
static inlay_status describe_rows(const feature_cache *c, const cache_request *q, arena *memory, const char **head,
                                  const char **name, inlay_error *err)
{
    json_t *record = preprocess_record(q->prep), *facts = backbone_facts(q->b);
    char *prep = json_dumps(record, JSON_COMPACT | JSON_SORT_KEYS), computation[65], code[65], key[65],
         *built = json_dumps(facts, JSON_COMPACT | JSON_SORT_KEYS);
    const char *what;
    inlay_status status =
        prep && built ? INLAY_OK : error_set(err, INLAY_ERR_NOMEM, "out of memory for the feature cache");

    json_decref(record);
    json_decref(facts);
    if (status == INLAY_OK)
        status = backbone_identify(q->b, err);
    if (status == INLAY_OK)
        status = describe_values(c, q, computation, err);
    if (status == INLAY_OK)
        status = code_identity_loaded(image_load_libraries, code, err);
    if (status == INLAY_OK) {
        what = arena_printf(memory,
                            "inlay feature cache 1\nrow %zu bytes\nbackbone %s\nmodel %s\npreprocessing %s\n"
                            "computation %s\nkernels %s\nweights %s\n",
                            c->row, q->b->sha256, built, prep, computation, q->dev->k->name,
                            dtype_name(graph_frozen_type(q->g)));
        bytes_sha256(what, strlen(what), key);
        *head = arena_printf(memory, "%scode %s\n", what, code);
        *name = arena_printf(memory, "features-%.32s.cache", key);
    }
    free(prep);
    free(built);
    return status;
}

/* ---- images ---- */

typedef struct identify_job {
    feature_cache *c;
    const dataset *data;
    inlay_error *errors; /* [threads]: the first trouble of the moment that each has met */
} identify_job;

/* Identifies an image by its bytes. A file that is not there, or not to be read, has no name; anything else is no fault
 * of the image. */
static inlay_status identify(const identify_job *job, int64_t i, inlay_error *err)
{
    const char *path = job->data->samples[i].path;
    file_map map;
    inlay_status status;

    job->c->images[i][0] = '\0';
    if (!file_stamp_of(path, &job->c->stamps[i]))
        return INLAY_OK;
    status = file_map_open(&map, path, err);
    if (status != INLAY_OK)
        return status == INLAY_ERR_IO ? INLAY_OK : status;
    job->c->sums[i] = image_records_sum(map.data, map.size);
    bytes_sha256(map.data, map.size, job->c->images[i]);
    file_map_close(&map);
    return INLAY_OK;
}

/* Identifies a thread's share of the images by their bytes: a file's time and size may stay the same when it changes,
 * and change when it does not. */
static void identify_images(void *argument, int thread, int threads)
{
    const identify_job *job = argument;
    int64_t begin, end;
    inlay_status status = INLAY_OK;

    pool_share(job->data->count, thread, threads, &begin, &end);
    for (int64_t i = begin; i < end && status == INLAY_OK; i++)
        status = identify(job, i, &job->errors[thread]);
    job->errors[thread].code = status;
}

static inlay_status identify_all(feature_cache *c, const cache_request *q, inlay_error *err)
{
    int threads = pool_threads(q->dev->c.threads);
    inlay_error *errors = calloc((size_t)threads, sizeof *errors);
    inlay_status status = errors ? INLAY_OK : error_set(err, INLAY_ERR_NOMEM, "out of memory for the feature cache");

    if (errors)
        pool_run(q->dev->c.threads, identify_images, &(identify_job){c, q->data, errors});
    for (int i = 0; errors && i < threads && status == INLAY_OK; i++)
        if (errors[i].code != INLAY_OK)
            status = error_set(err, errors[i].code, "%s", errors[i].message);
    free(errors);
    return status;
}

/* Records what images are whose rows are there already: the loader does not read them. */
static inlay_status record_reused(feature_cache *c, const cache_request *q, inlay_error *err)
{
    for (int i = 0; i < c->samples; i++) {
        if (!c->present[i])
            continue;
        TRY(image_records_take(q->records, i, c->sums[i], err));
        c->reused++;
    }
    return INLAY_OK;
}

/* Checks that a file is still the one that was identified: only then may a row be kept under its image's name. */
static inlay_status check_unchanged(const feature_cache *c, const dataset *data, int index, inlay_error *err)
{
    file_stamp now;

    if (!c->images || (c->images[index][0] && file_stamp_of(data->samples[index].path, &now) &&
                       file_stamp_same(&now, &c->stamps[index])))
        return INLAY_OK;
    FAIL(err, INLAY_ERR_MISMATCH, "'%s' was changed while the feature cache was filled", data->samples[index].path);
}

/* ---- filling ---- */

static inlay_status open_folder(feature_cache *c, const cache_request *q, inlay_error *err)
{
    arena *memory = arena_new();
    cache_file_request request = {
        .folder = q->path, .row = c->row, .note = q->note, .stop = q->stop, .context = q->context};
    inlay_status status = describe_rows(c, q, memory, &request.head, &request.name, err);

    c->images = calloc((size_t)c->samples + 1, sizeof *c->images);
    c->stamps = calloc((size_t)c->samples + 1, sizeof *c->stamps);
    c->sums = calloc((size_t)c->samples + 1, sizeof *c->sums);
    if (status == INLAY_OK && (!c->images || !c->stamps || !c->sums))
        status = error_set(err, INLAY_ERR_NOMEM, "out of memory for the feature cache");
    if (status == INLAY_OK)
        status = cache_file_open(&c->file, &request, err);
    if (status == INLAY_OK) {
        status = identify_all(c, q, err);
    }
    if (status == INLAY_OK) {
        status = cache_file_find(&c->file, q->dev->c.threads, (const image_id *)c->images, c->samples, c->record,
                                 c->present, err);
    }
    if (status == INLAY_OK)
        status = record_reused(c, q, err);
    arena_free(memory);
    return status;
}

/* Takes room for all rows, in memory or in a file. */
static inlay_status open_place(feature_cache *c, const cache_request *q, inlay_error *err)
{
    for (int i = 0; i < c->samples; i++)
        c->record[i] = i;
    if (q->place == CACHE_IN_MEMORY) {
        c->stride = c->row;
        TRY(memory_alloc(&c->block, size_product(c->samples, c->row),
                         "the feature cache (--feature-cache off does without)", err));
        c->rows = c->block;
        return INLAY_OK;
    }
    if (q->place == CACHE_IN_FOLDER) {
        TRY(open_folder(c, q, err));
    } else {
        TRY(cache_file_open_temporary(&c->file, q->path, c->row, err));
        c->file.records = c->samples;
    }
    return cache_file_reserve(&c->file, err);
}

/* Keeps the row of the batch's sample i. `block`: room for a record of the file. */
static inlay_status keep(feature_cache *c, const cache_request *q, program *p, int i, int index, unsigned char *block,
                         inlay_error *err)
{
    static const image_id nobody = "";
    unsigned char *row = c->block ? (unsigned char *)c->block + (size_t)index * c->stride : block + CACHE_RECORD_HEAD;

    for (int v = 0; v < c->count; v++) {
        const unsigned char *from = program_value(p, c->values[v], q->batch).data;
        q->dev->k->copy_out(row + c->offset[v], from + (size_t)i * c->bytes[v], c->bytes[v]);
    }
    TRY(check_unchanged(c, q->data, index, err));
    if (!c->block)
        TRY(cache_file_write(&c->file, c->record[index], c->images ? c->images[index] : nobody, block, err));
    c->present[index] = true;
    return INLAY_OK;
}

static inlay_status store(feature_cache *c, const cache_request *q, program *p, loader *l, inlay_error *err)
{
    int *indices = calloc((size_t)q->batch, sizeof *indices), got, done = c->reused;
    unsigned char *block = c->block ? NULL : calloc(1, c->file.stride);
    step_info step = {0};
    inlay_status status = indices && (c->block || block)
                              ? INLAY_OK
                              : error_set(err, INLAY_ERR_NOMEM, "out of memory filling the feature cache");

    while (status == INLAY_OK) {
        if (q->stop && q->stop(q->context)) {
            status = error_set(err, INLAY_ERR_INTERRUPTED, "interrupted while the feature cache was filled");
            break;
        }
        status = loader_next(l, q->batch, program_stage(p, q->pixels), indices, &got, err);
        if (status != INLAY_OK || got == 0)
            break;
        program_forward(p, got, &step);
        for (int i = 0; i < got && status == INLAY_OK; i++)
            status = keep(c, q, p, i, indices[i], block, err);
        done += got;
        if (q->progress)
            q->progress(q->context, done, q->data->count);
    }
    free(indices);
    free(block);
    return status;
}

/* Computes the rows of the `count` samples of `order`. */
static inlay_status compute_rows(feature_cache *c, const cache_request *q, const int *order, int count,
                                 inlay_error *err)
{
    program_request plan = {.dev = q->dev, .max_batch = q->batch, .wanted = c->values, .wanted_count = c->count};
    loader_request request = {.data = q->data,
                              .prep = q->prep,
                              .records = q->records,
                              .order = order,
                              .count = count,
                              .workers = q->workers,
                              .ahead = 2 * q->batch};
    program *p = NULL;
    loader *l = NULL;
    inlay_status status = program_new(&p, q->g, &plan, err);

    if (status == INLAY_OK)
        status = loader_new(&l, &request, err);
    if (status == INLAY_OK)
        status = store(c, q, p, l, err);
    c->cut_count = l ? loader_cut_count(l) : 0;
    for (int i = 0; l && i < loader_bad_count(l); i++) {
        char *message = strdup(loader_bad_message(l, i));
        ARRAY_PUSH(c->bad, c->bad_count, c->bad_capacity, message);
    }
    loader_free(l);
    program_free(p);
    return status;
}

static inlay_status fill(feature_cache *c, const cache_request *q, int *order, inlay_error *err)
{
    int missing = 0;

    if (!order || !c->present || !c->record)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory for the feature cache");
    TRY(open_place(c, q, err));
    for (int i = 0; i < c->samples; i++)
        if (!c->present[i])
            order[missing++] = i;
    if (missing > 0)
        TRY(compute_rows(c, q, order, missing, err));
    if (!c->block) {
        TRY(cache_file_map(&c->file, err));
        c->stride = c->file.stride;
        c->rows = c->file.map.data + c->file.head + CACHE_RECORD_HEAD;
    }
    return INLAY_OK;
}

inlay_status feature_cache_fill(feature_cache *c, const cache_request *q, inlay_error *err)
{
    int *order = calloc((size_t)q->data->count + 1, sizeof *order);
    inlay_status status;

    *c = (feature_cache){.samples = q->data->count};
    c->present = calloc((size_t)c->samples + 1, sizeof *c->present);
    c->record = calloc((size_t)c->samples + 1, sizeof *c->record);
    lay_out(c, q->g, q->wanted);
    status = fill(c, q, order, err);
    free(order);
    if (status != INLAY_OK)
        feature_cache_free(c);
    return status;
}

void feature_cache_free(feature_cache *c)
{
    memory_free(c->block);
    cache_file_close(&c->file);
    for (int i = 0; i < c->bad_count; i++)
        free(c->bad[i]);
    free(c->bad);
    free(c->present);
    free(c->record);
    free(c->images);
    free(c->stamps);
    free(c->sums);
    *c = (feature_cache){0};
}

void feature_cache_load(const feature_cache *c, program *p, const kernels *k, int index, int slot)
{
    const unsigned char *row = c->rows + (size_t)c->record[index] * c->stride;

    for (int v = 0; v < c->count; v++) {
        unsigned char *to = program_value(p, c->values[v], 1).data;
        k->copy_in(to + (size_t)slot * c->bytes[v], row + c->offset[v], c->bytes[v]);
    }
}
