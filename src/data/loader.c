/* Worker threads fill a ring of slots; sample k of the order always goes into slot k % ahead, so the order needs no
 * sorting. */
#include "data/loader.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/pool.h"
#include "base/text.h"

typedef struct slot {
    bool ready;
    inlay_status status;
    bool cut;
    int64_t sum; /* of the file's bytes, where records are kept; 0: it could not be read */
    inlay_error error;
} slot;

struct loader {
    loader_request request;
    size_t image_bytes;
    unsigned char *pixels; /* [ahead, image_bytes] */
    slot *slots;           /* [ahead] */

    pthread_mutex_t lock;
    pthread_cond_t slot_freed, slot_filled;
    int taken;    /* samples that workers have begun */
    int consumed; /* samples that the consumer is done with */
    bool stopping;

    pthread_t *threads;
    int thread_count;

    char **bad; /* only the consumer's thread touches these */
    int *bad_samples;
    int bad_count, bad_capacity, sample_count, sample_capacity, cut_count;
};

#define MAX_IMAGE_BYTES ((size_t)1 << 31)

/* Reads and preprocesses image `index`. s->sum: of the file's bytes; left alone where it could not be read, and of an
 * image whose content the set holds. */
static inlay_status read_image(const loader_request *r, int index, const rng_stream *augment, void *pixels, slot *s,
                               inlay_error *err)
{
    const char *path = r->data->samples[index].path;
    char *bytes;
    size_t size;
    inlay_status status;

    if (r->data->contents && r->data->contents[index].bytes)
        return preprocess_sample(r->prep, r->data, index, augment, pixels, &s->cut, err);
    TRY(file_read(path, MAX_IMAGE_BYTES, &bytes, &size, err));
    if (r->records)
        s->sum = image_records_sum(bytes, size);
    status = preprocess_bytes(r->prep, bytes, size, path, augment, pixels, &s->cut, err);
    free(bytes);
    return status;
}

/* read_image, for which the file's bytes are taken from a share of their own, so that who waits for room for an image
 * holds nothing that another waits for. */
static inlay_status read_within(const loader_request *r, int index, const rng_stream *augment, void *pixels, slot *s,
                                inlay_error *err)
{
    memory_share *files = r->prep->room ? &r->prep->room->files : NULL;
    const char *path = r->data->samples[index].path;
    bool loaded = r->data->contents && r->data->contents[index].bytes;
    char a[TEXT_SHORT], b[TEXT_SHORT];
    file_stamp stamp;
    inlay_status status;

    if (!files || loaded || !file_stamp_of(path, &stamp) || stamp.size > MAX_IMAGE_BYTES)
        return read_image(r, index, augment, pixels, s, err);
    if (!memory_share_take(files, stamp.size))
        FAIL(err, INLAY_ERR_UNSUPPORTED,
             "'%s': the file has %s, the files of images may have %s (a larger --memory allows more)", path,
             text_size(a, stamp.size), text_size(b, files->size));
    status = read_image(r, index, augment, pixels, s, err);
    memory_share_give(files, stamp.size);
    return status;
}

static void fill_slot(loader *l, int position)
{
    const loader_request *r = &l->request;
    int ring = position % r->ahead, index = r->order[position];
    slot *s = &l->slots[ring];
    rng_stream stream = {.seed = r->seed, .purpose = RNG_AUGMENT, .stream = (uint32_t)index, .step = r->epoch};

    s->error = (inlay_error){0};
    s->sum = 0;
    s->status =
        read_within(r, index, r->augment ? &stream : NULL, l->pixels + (size_t)ring * l->image_bytes, s, &s->error);
}

static void *work(void *argument)
{
    loader *l = argument;

    pool_unbind();
    pthread_mutex_lock(&l->lock);
    while (!l->stopping && l->taken < l->request.count) {
        int position;
        if (l->taken - l->consumed >= l->request.ahead) {
            pthread_cond_wait(&l->slot_freed, &l->lock);
            continue;
        }
        position = l->taken++;
        pthread_mutex_unlock(&l->lock);
        fill_slot(l, position);
        pthread_mutex_lock(&l->lock);
        l->slots[position % l->request.ahead].ready = true;
        pthread_cond_signal(&l->slot_filled);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

static inlay_status check_request(const loader_request *r, inlay_error *err)
{
    if (r->workers < 1 || r->ahead < 1 || r->count < 0)
        FAIL(err, INLAY_ERR_USAGE,
             "a loader of %d samples with %d workers and %d images ahead: expected at least 0, 1 and 1", r->count,
             r->workers, r->ahead);
    for (int i = 0; i < r->count; i++)
        if (r->order[i] < 0 || r->order[i] >= r->data->count)
            FAIL(err, INLAY_ERR_USAGE, "the loader is to read sample %d of a set of %d", r->order[i], r->data->count);
    return INLAY_OK;
}

void loader_plan(budget *room, const preprocess *p, int64_t ahead, int64_t count)
{
    size_t ring = size_product(ahead < count ? ahead : count, preprocess_pixel_bytes(p));

    budget_set(room, "images read ahead", ring, "a smaller --batch-size");
    budget_set(room, "decoding", budget_decoding(room), NULL);
}

inlay_status loader_new(loader **out, const loader_request *request, inlay_error *err)
{
    loader *l;
    void *pixels = NULL;
    inlay_status status;

    *out = NULL;
    TRY(check_request(request, err));
    l = calloc(1, sizeof *l);
    if (!l)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory for a loader");
    l->request = *request;
    if (l->request.ahead > request->count) /* no more slots than samples */
        l->request.ahead = request->count > 0 ? request->count : 1;
    l->image_bytes = preprocess_pixel_bytes(request->prep);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->slot_freed, NULL);
    pthread_cond_init(&l->slot_filled, NULL);
    l->slots = calloc((size_t)l->request.ahead, sizeof *l->slots);
    l->threads = calloc((size_t)request->workers, sizeof *l->threads);
    status = memory_alloc(&pixels, size_product(l->request.ahead, l->image_bytes), "the images read ahead", err);
    l->pixels = pixels;
    if (status == INLAY_OK && (!l->slots || !l->threads))
        status = error_set(err, INLAY_ERR_NOMEM, "out of memory for a loader");
    while (status == INLAY_OK && l->thread_count < request->workers) {
        int failure = pthread_create(&l->threads[l->thread_count], NULL, work, l);
        if (failure)
            status = error_set(err, INLAY_ERR_NOMEM, "cannot start reader thread %d: %s", l->thread_count + 1,
                               strerror(failure));
        else
            l->thread_count++;
    }
    if (status != INLAY_OK) {
        loader_free(l);
        return status;
    }
    *out = l;
    return INLAY_OK;
}

void loader_free(loader *l)
{
    if (!l)
        return;
    pthread_mutex_lock(&l->lock);
    l->stopping = true;
    pthread_cond_broadcast(&l->slot_freed);
    pthread_mutex_unlock(&l->lock);
    for (int i = 0; i < l->thread_count; i++)
        pthread_join(l->threads[i], NULL);
    pthread_cond_destroy(&l->slot_freed);
    pthread_cond_destroy(&l->slot_filled);
    pthread_mutex_destroy(&l->lock);
    for (int i = 0; i < l->bad_count; i++)
        free(l->bad[i]);
    free(l->bad);
    free(l->bad_samples);
    free(l->slots);
    free(l->threads);
    memory_free(l->pixels);
    free(l);
}

/* Whether an image is left out: what is wrong with one file only costs that file; trouble of the moment, an image that
 * changed, or a wrong request ends the reading. */
static bool is_bad_image(inlay_status status)
{
    return status == INLAY_ERR_IO || status == INLAY_ERR_FORMAT || status == INLAY_ERR_UNSUPPORTED;
}

/* Records what an image was, in the consumer's thread: what was read ahead and is never used leaves no trace. */
static inlay_status record(const loader_request *r, const slot *s, int index, inlay_error *err)
{
    if (s->sum)
        return image_records_take(r->records, index, s->sum, err);
    return s->status == INLAY_ERR_IO ? image_records_failed(r->records, index, err) : INLAY_OK;
}

static void remember_bad(loader *l, const char *message, int sample_index)
{
    char *copy = strdup(message);

    if (!copy)
        return;
    ARRAY_PUSH(l->bad, l->bad_count, l->bad_capacity, copy);
    ARRAY_PUSH(l->bad_samples, l->sample_count, l->sample_capacity, sample_index);
}

inlay_status loader_next(loader *l, int wanted, void *pixels, int *indices, int *got, inlay_error *err)
{
    const loader_request *r = &l->request;

    *got = 0;
    while (*got < wanted && l->consumed < r->count) { /* only this thread writes `consumed` */
        int position = l->consumed, index = r->order[position];
        slot *s = &l->slots[position % r->ahead];

        pthread_mutex_lock(&l->lock);
        while (!s->ready)
            pthread_cond_wait(&l->slot_filled, &l->lock);
        pthread_mutex_unlock(&l->lock);
        TRY(record(r, s, index, err));
        if (s->status == INLAY_OK) {
            memcpy((unsigned char *)pixels + (size_t)*got * l->image_bytes,
                   l->pixels + (size_t)(position % r->ahead) * l->image_bytes, l->image_bytes);
            indices[*got] = index;
            l->cut_count += s->cut;
            ++*got;
        } else if (is_bad_image(s->status)) {
            remember_bad(l, s->error.message, index);
        } else {
            FAIL(err, s->status, "%s", s->error.message);
        }
        pthread_mutex_lock(&l->lock);
        s->ready = false;
        l->consumed++;
        pthread_cond_signal(&l->slot_freed);
        pthread_mutex_unlock(&l->lock);
    }
    return INLAY_OK;
}

int loader_bad_count(const loader *l)
{
    return l->bad_count;
}

int loader_cut_count(const loader *l)
{
    return l->cut_count;
}

const char *loader_bad_message(const loader *l, int index)
{
    return l->bad[index];
}

int loader_bad_sample(const loader *l, int index)
{
    return l->bad_samples[index];
}
