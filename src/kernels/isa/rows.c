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
        int64_t s = i / a->count, r = i % a->count, yr = s * a->y_group + a->y_first + r,
                xr = s * a->x_group + a->x_first + r;
        if (a->x.type == a->y.type && !a->accumulate) {
            size_t size = dtype_size(a->x.type);
            memcpy((unsigned char *)a->y.data + (size_t)(yr * a->y.stride) * size,
                   (const unsigned char *)a->x.data + (size_t)(xr * a->x.stride) * size, (size_t)a->x.cols * size);
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

    compute_run(c, copy_task, &j);
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

    compute_run(c, mean_task, &j);
}

/* ---- patches ---- */

/* The room holds what is taken from each pixel of a patch's line, what that is divided by, a patch that is normalised
 * but lies as in the image, and the row. */
void KERNEL(patch_room)(REAL *room, const patch_rows *x)
{
    int64_t line = x->patch * x->channels;

    for (int64_t i = 0; i < line; i++) {
        room[i] = (REAL)x->mean[i % x->channels];
        room[line + i] = (REAL)x->std[i % x->channels];
    }
}

static inline REAL load_pixel(const patch_rows *x, int64_t at)
{
    return x->type == DTYPE_U8 ? (REAL)((const uint8_t *)x->pixels)[at] : (REAL)((const float *)x->pixels)[at];
}

static inline vec load_pixels(const patch_rows *x, int64_t at)
{
#if VW > 1
    const void *bytes = (const uint8_t *)x->pixels + at;

    if (x->type != DTYPE_U8)
        return v_load((const float *)x->pixels + at);
#if defined(KERNEL_AVX512)
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)bytes)));
#else
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)bytes)));
#endif
#else
    return load_pixel(x, at);
#endif
}

/* out[line] = a patch's line, which begins at pixel `from` */
static void normalise_line(REAL *out, const patch_rows *x, int64_t from, const REAL *mean, const REAL *std,
                           int64_t line)
{
    for (int64_t i = 0; line < VW && i < line; i++)
        out[i] = (load_pixel(x, from + i) / 255 - mean[i]) / std[i];
    for (int64_t i = 0; line >= VW && i < line; i += VW) {
        int64_t at = i + VW <= line ? i : line - VW; /* the last ones once more, together with what is left */
        v_store(out + at,
                v_div(v_sub(v_div(load_pixels(x, from + at), v_set1(255)), v_load(mean + at)), v_load(std + at)));
    }
}

/* With a constant number of channels the compiler finds the shuffles. */
static void part_colours(REAL *restrict red, REAL *restrict green, REAL *restrict blue, const REAL *restrict pixels,
                         int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        red[i] = pixels[3 * i];
        green[i] = pixels[3 * i + 1];
        blue[i] = pixels[3 * i + 2];
    }
}

/* The patch below this one lies far away, and comes when the others beside it have: its line comes closer meanwhile. */
static void prefetch_line(const patch_rows *x, int64_t from, int64_t line)
{
    const unsigned char *at =
        (const unsigned char *)x->pixels + (size_t)(from + x->patch * x->width * x->channels) * dtype_size(x->type);

    for (size_t i = 0; i < (size_t)line * dtype_size(x->type); i += 64)
        __builtin_prefetch(at + i);
}

const REAL *KERNEL(patch_row)(const patch_rows *x, int64_t r, REAL *room)
{
    int64_t across = x->width / x->patch, down = x->height / x->patch, line = x->patch * x->channels,
            area = x->patch * x->patch, py = r / across % down;
    int64_t corner = (r / (down * across) * x->height + py * x->patch) * x->width * x->channels + r % across * line;
    REAL *pixels = room + 2 * line, *row = pixels + x->patch * line;

    for (int64_t dy = 0; dy < x->patch; dy++) {
        int64_t from = corner + dy * x->width * x->channels;
        if (py + 1 < down)
            prefetch_line(x, from, line);
        normalise_line(pixels + dy * line, x, from, room, room + line, line);
    }
    if (x->channels == 3) {
        part_colours(row, row + area, row + 2 * area, pixels, area);
        return row;
    }
    for (int64_t c = 0; c < x->channels; c++)
        for (int64_t i = 0; i < area; i++)
            row[c * area + i] = pixels[i * x->channels + c];
    return row;
}

typedef struct patch_job {
    compute *c;
    const mat *y;
    const patch_rows *x;
} patch_job;

static void patchify_task(void *argument, int thread, int threads)
{
    const patch_job *j = argument;
    REAL *room = KERNEL_SCRATCH(j->c, thread);
    int64_t begin, end;

    pool_share(j->y->rows, thread, threads, &begin, &end);
    KERNEL(patch_room)(room, j->x);
    for (int64_t r = begin; r < end; r++)
        row_store(j->y, r, KERNEL(patch_row)(j->x, r, room));
}

void KERNEL(patchify)(compute *c, const mat *y, const patch_rows *x)
{
    patch_job j = {c, y, x};

    compute_run(c, patchify_task, &j);
}
