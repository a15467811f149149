/* Rows moved as wholes: copies between groups of rows, means over rows, patches of images. */
#include "kernels/isa/isa.h"

typedef struct job {
    compute *c;
    const void *args;
} job;

static void copy_task(void *argument, int thread, int threads)
{
    const job *j = argument;
    const copy_rows_args *a = j->args;
    REAL *room = KERNEL_SCRATCH(j->c, thread), *room2 = room + a->x.cols;
    int64_t begin, end;

    pool_share(a->samples * a->count, thread, threads, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        int64_t s = i / a->count, r = i % a->count, yr = s * a->y_group + a->y_first + r, xr = s * a->x_group + a->x_first + r;
        if (a->x.type == a->y.type && !a->accumulate) {
            size_t size = dtype_size(a->x.type);
            memcpy((unsigned char *)a->y.data + (size_t)(yr * a->y.stride) * size, (const unsigned char *)a->x.data + (size_t)(xr * a->x.stride) * size,
                   (size_t)a->x.cols * size);
            continue;
        }
        const REAL *x = row_real(&a->x, xr, room);
        if (a->accumulate) {
            const REAL *old = row_real(&a->y, yr, room2);
            for (int64_t c = 0; c < a->x.cols; c++)
                room2[c] = old[c] + x[c];
            x = room2;
        }
        row_store(&a->y, yr, x);
    }
}

void KERNEL(copy_rows)(compute *c, const copy_rows_args *args)
{
    job j = {c, args};

    pool_run(c->threads, copy_task, &j);
}

static void mean_task(void *argument, int thread, int threads)
{
    const job *j = argument;
    const mean_rows_args *a = j->args;
    REAL *room = KERNEL_SCRATCH(j->c, thread), *sum = room + a->x.cols;
    int64_t begin, end;

    pool_share(a->samples, thread, threads, &begin, &end);
    for (int64_t s = begin; s < end; s++) {
        if (!a->backward) {
            memset(sum, 0, (size_t)a->x.cols * sizeof *sum);
            for (int64_t r = 0; r < a->count; r++) {
                const REAL *x = row_real(&a->x, s * a->group + a->first + r, room);
                for (int64_t c = 0; c < a->x.cols; c++)
                    sum[c] += x[c];
            }
            for (int64_t c = 0; c < a->x.cols; c++)
                sum[c] /= (REAL)a->count;
            row_store(&a->y, s, sum);
            continue;
        }
        const REAL *dy = row_real(&a->x, s, room);
        for (int64_t r = 0; r < a->group; r++) {
            REAL *dx = (REAL *)a->y.data + (s * a->group + r) * a->y.stride;
            bool inside = r >= a->first && r < a->first + a->count;
            for (int64_t c = 0; c < a->x.cols; c++)
                dx[c] = (a->accumulate ? dx[c] : 0) + (inside ? dy[c] / (REAL)a->count : 0);
        }
    }
}

void KERNEL(mean_rows)(compute *c, const mean_rows_args *args)
{
    job j = {c, args};

    pool_run(c->threads, mean_task, &j);
}

static void patchify_task(void *argument, int thread, int threads)
{
    const job *j = argument;
    const patchify_args *a = j->args;
    int64_t across = a->width / a->patch, down = a->height / a->patch, area = a->patch * a->patch, begin, end;
    REAL *room = KERNEL_SCRATCH(j->c, thread);

    pool_share(a->samples * down * across, thread, threads, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        int64_t s = i / (down * across), py = i / across % down, px = i % across;
        REAL *y = row_begin(&a->y, i, room);
        for (int64_t c = 0; c < a->channels; c++) {
            REAL mean = (REAL)a->mean[c], std = (REAL)a->std[c];
            for (int64_t dy = 0; dy < a->patch; dy++) {
                int64_t from = ((s * a->height + py * a->patch + dy) * a->width + px * a->patch) * a->channels + c;
                REAL *to = y + c * area + dy * a->patch;
                for (int64_t dx = 0; dx < a->patch; dx++) {
                    int64_t at = from + dx * a->channels;
                    REAL p = a->pixel_type == DTYPE_U8 ? (REAL)((const uint8_t *)a->pixels)[at] : (REAL)((const float *)a->pixels)[at];
                    to[dx] = (p / (REAL)255 - mean) / std;
                }
            }
        }
        row_store(&a->y, i, y);
    }
}

void KERNEL(patchify)(compute *c, const patchify_args *args)
{
    job j = {c, args};

    pool_run(c->threads, patchify_task, &j);
}
