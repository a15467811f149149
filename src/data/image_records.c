#include "data/image_records.h"

#include <stdlib.h>

enum { NOT_READ = 0, NOT_THERE = -1 };

static void look_at(image_records *r, int index)
{
    file_stamp stamp;
    bool there = file_stamp_of(r->data->samples[index].path, &stamp);

    r->size[index] = there ? (int64_t)stamp.size : NOT_THERE;
    r->modified[index] = there ? stamp.modified : 0;
}

inlay_status image_records_new(image_records *r, const dataset *d, inlay_error *err)
{
    size_t count = (size_t)d->count + 1;

    *r = (image_records){.data = d,
                         .size = calloc(count, sizeof *r->size),
                         .modified = calloc(count, sizeof *r->modified),
                         .sum = calloc(count, sizeof *r->sum)};
    if (!r->size || !r->modified || !r->sum) {
        image_records_free(r);
        FAIL(err, INLAY_ERR_NOMEM, "out of memory for the records of %d images", d->count);
    }
    for (int i = 0; i < d->count; i++)
        look_at(r, i);
    return INLAY_OK;
}

void image_records_free(image_records *r)
{
    free(r->size);
    free(r->modified);
    free(r->sum);
    *r = (image_records){0};
}

/* The sum of an image's bytes; positive, and so neither of the marks. */
int64_t image_records_sum(const void *bytes, size_t size)
{
    int64_t sum = (int64_t)(bytes_sum(bytes, size) >> 1);

    return sum ? sum : 1;
}

static inlay_status compare(const image_records *r, int index, int64_t was, int64_t is, inlay_error *err)
{
    const char *path = r->data->samples[index].path;

    if (was == NOT_READ || was == is)
        return INLAY_OK;
    FAIL(err, INLAY_ERR_MISMATCH, "'%s' %s; put it back, or begin anew (--overwrite)", path,
         is == NOT_THERE    ? "was read by this run before and cannot be opened any more"
         : was == NOT_THERE ? "could not be opened by this run before and can be now"
                            : "is another image than this run read before");
}

inlay_status image_records_read(image_records *r, int index, const void *bytes, size_t size, inlay_error *err)
{
    return r ? image_records_take(r, index, image_records_sum(bytes, size), err) : INLAY_OK;
}

inlay_status image_records_take(image_records *r, int index, int64_t sum, inlay_error *err)
{
    if (!r)
        return INLAY_OK;
    TRY(compare(r, index, r->sum[index], sum, err));
    r->sum[index] = sum;
    return INLAY_OK;
}

inlay_status image_records_failed(image_records *r, int index, inlay_error *err)
{
    if (!r)
        return INLAY_OK;
    TRY(compare(r, index, r->sum[index], NOT_THERE, err));
    r->sum[index] = NOT_THERE;
    return INLAY_OK;
}

/* Reads an image again whose time is another: that alone says nothing, the bytes do. */
static inlay_status read_again(image_records *r, int index, inlay_error *err)
{
    file_map map;
    inlay_status status = file_map_open(&map, r->data->samples[index].path, err);

    if (status == INLAY_ERR_IO)
        return image_records_failed(r, index, err);
    TRY(status);
    status = image_records_read(r, index, map.data, map.size, err);
    file_map_close(&map);
    return status;
}

inlay_status image_records_resume(image_records *r, const int64_t *size, const int64_t *modified, const int64_t *sum,
                                  inlay_error *err)
{
    for (int i = 0; i < r->data->count; i++) {
        bool same = size[i] == r->size[i] && modified[i] == r->modified[i];
        r->sum[i] = sum[i];
        if (sum[i] != NOT_READ && !same)
            TRY(read_again(r, i, err));
    }
    return INLAY_OK;
}
