#include "kernels/device.h"

#include <stdlib.h>

#include "base/arena.h"
#include "kernels/choice.h"

inlay_status device_open(device *d, const kernels *k, int threads, inlay_error *err)
{
    *d = (device){.k = k};
    if (!k)
        TRY(kernels_choose(&d->k, err));
    if (threads == 0)
        threads = pool_processors();
    TRY(pool_new(&d->c.threads, threads, err));
    d->c.scratch_size = d->k->scratch_size;
    d->c.micro_kernels = d->k->micro_kernels;
    d->c.begin = d->k->begin;
    d->c.end = d->k->end;
    if (d->c.scratch_size)
        d->c.scratch = calloc((size_t)threads, sizeof *d->c.scratch);
    for (int i = 0; i < threads && d->c.scratch_size; i++) {
        void *block = d->c.scratch ? aligned_alloc(64, (d->c.scratch_size + 63) & ~(size_t)63) : NULL;
        if (!block) {
            size_t size = d->c.scratch_size;
            device_close(d);
            FAIL(err, INLAY_ERR_NOMEM, "out of memory: %.1f MB of scratch for each of %d threads", (double)size / 1e6,
                 threads);
        }
        d->c.scratch[i] = block;
    }
    return INLAY_OK;
}

void device_plan(const device *d, budget *room)
{
    budget_set(room, "scratch of the threads", size_product(pool_threads(d->c.threads), d->c.scratch_size),
               "fewer --threads");
}

void device_close(device *d)
{
    for (int i = 0; d->c.scratch && d->c.threads && i < pool_threads(d->c.threads); i++)
        free(d->c.scratch[i]);
    free(d->c.scratch);
    pool_free(d->c.threads);
    *d = (device){0};
}

/* ---- copies ---- */

#define CHUNK 512 /* values that are converted at a time */

void device_set_f32(const device *d, void *array, const float *values, int64_t count)
{
    double wide[CHUNK];

    if (d->k->real == DTYPE_F32) {
        d->k->copy_in(array, values, (size_t)count * sizeof(float));
        return;
    }
    for (int64_t done = 0, now; done < count; done += now) {
        now = count - done < CHUNK ? count - done : CHUNK;
        for (int64_t i = 0; i < now; i++)
            wide[i] = (double)values[done + i];
        d->k->copy_in((double *)array + done, wide, (size_t)now * sizeof *wide);
    }
}

void device_get_f32(const device *d, float *out, const void *array, int64_t count)
{
    double wide[CHUNK];

    if (d->k->real == DTYPE_F32) {
        d->k->copy_out(out, array, (size_t)count * sizeof(float));
        return;
    }
    for (int64_t done = 0, now; done < count; done += now) {
        now = count - done < CHUNK ? count - done : CHUNK;
        d->k->copy_out(wide, (const double *)array + done, (size_t)now * sizeof *wide);
        for (int64_t i = 0; i < now; i++)
            out[done + i] = (float)wide[i];
    }
}
