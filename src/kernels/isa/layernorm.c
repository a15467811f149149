/* LayerNorm over whole rows or groups of columns; statistics in two passes over the row. */
#include "kernels/isa/row_quant.h"

#define ROWS 8         /* that are at work at a time */
#define PARAM_CHUNK 64 /* rows whose weight gradients are summed before they are added to the total */

typedef struct norm_job {
    compute *c;
    const layernorm_args *args;
} norm_job;

/* Four partial sums hide the latency of the additions; they are joined in a fixed order. */
static inline REAL sum_of(const REAL *x, int64_t n)
{
    vec total[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
    int64_t c = 0;

    for (; c + 4 * VW <= n; c += 4 * VW)
        for (int j = 0; j < 4; j++)
            total[j] = v_add(total[j], v_load(x + c + j * VW));
    for (; c < n; c += VW)
        total[0] = v_add(total[0], v_load_n(x + c, n - c < VW ? (int)(n - c) : VW));
    return v_sum(v_add(v_add(total[0], total[1]), v_add(total[2], total[3])));
}

static inline REAL squares_of(const REAL *x, REAL mean, int64_t n)
{
    vec total[4] = {v_zero(), v_zero(), v_zero(), v_zero()}, centre = v_set1(mean);
    int64_t c = 0;

    for (; c + 4 * VW <= n; c += 4 * VW)
        for (int j = 0; j < 4; j++) {
            vec d = v_sub(v_load(x + c + j * VW), centre);
            total[j] = v_fma(d, d, total[j]);
        }
    for (; c + VW <= n; c += VW) {
        vec d = v_sub(v_load(x + c), centre);
        total[0] = v_fma(d, d, total[0]);
    }
    if (c < n) {
        REAL rest[VW] = {0};
        for (int64_t i = c; i < n; i++)
            rest[i - c] = x[i] - mean;
        total[1] = v_fma(v_load(rest), v_load(rest), total[1]);
    }
    return v_sum(v_add(v_add(total[0], total[1]), v_add(total[2], total[3])));
}

/* Row r of a matrix of bytes, from bf16; zeros up to where its quant lies. */
static void store_quantised(const mat *y, int64_t r, const uint16_t *values)
{
    uint8_t *to = quantised_row(y, r);
    row_quant *quant = quant_behind(to, y->stride);

    memset(to + y->cols, 0, (size_t)((unsigned char *)quant - to - y->cols));
    *quant = quantise_row(to, values, y->cols);
}

/* Rows [first, first + count), group g: what one row's sums wait for, the others' hide. `room` is for a row that
 * becomes bytes. */
static void norm_rows(const layernorm_args *a, const REAL *const *x, int64_t first, int count, int64_t g,
                      uint16_t *room)
{
    const REAL *w = a->weight, *b = a->bias;
    const bool quantised = a->y.type == DTYPE_U8;
    const mat y =
        quantised ? (mat){.data = room, .type = DTYPE_BF16, .rows = 1, .cols = a->y.cols, .stride = a->y.cols} : a->y;
    int64_t width = a->width, skip = g * width;
    REAL mean[ROWS], rstd[ROWS];

    for (int i = 0; i < count; i++)
        mean[i] = sum_of(x[i] + skip, width) / (REAL)width;
    for (int i = 0; i < count; i++)
        rstd[i] = squares_of(x[i] + skip, mean[i], width) / (REAL)width;
    for (int i = 0; i < count; i++)
        rstd[i] = (REAL)(1.0 / sqrt((double)rstd[i] + a->eps));
    for (int i = 0; i < count; i++) {
        vec centre = v_set1(mean[i]), scale = v_set1(rstd[i]);
        int64_t place = quantised ? 0 : row_place(&y, first + i);
        for (int64_t c = 0; c < width; c += VW) {
            int n = width - c < VW ? (int)(width - c) : VW;
            vec v = v_mul(v_sub(v_load_n(x[i] + skip + c, n), centre), scale);
            if (w)
                v = v_mul(v, v_load_n(w + c, n));
            if (b)
                v = v_add(v, v_load_n(b + c, n));
            v_store_mat(&y, place, skip + c, v, n);
        }
        if (quantised)
            store_quantised(&a->y, first + i, room);
        if (a->mean)
            ((REAL *)a->mean)[(first + i) * a->groups + g] = mean[i];
        if (a->rstd)
            ((REAL *)a->rstd)[(first + i) * a->groups + g] = rstd[i];
    }
}

static void norm_task(void *argument, int thread, int threads)
{
    const norm_job *job = argument;
    const layernorm_args *a = job->args;
    REAL *room = KERNEL_SCRATCH(job->c, thread);
    const REAL *x[ROWS];
    int64_t begin, end;

    pool_share(a->x.rows, thread, threads, &begin, &end);
    for (int64_t r = begin; r < end; r += ROWS) {
        int count = end - r < ROWS ? (int)(end - r) : ROWS;
        for (int i = 0; i < count; i++)
            x[i] = row_real(&a->x, r + i, room + i * a->x.cols);
        for (int64_t g = 0; g < a->groups; g++)
            norm_rows(a, x, r, count, g, (uint16_t *)(void *)(room + ROWS * a->x.cols));
    }
}

void KERNEL(layernorm)(compute *c, const layernorm_args *args)
{
    norm_job job = {c, args};

    compute_run(c, norm_task, &job);
}

/* With xhat = (x - mean) rstd and g = dy * weight: dx = rstd (g - mean(g) - xhat mean(g xhat)). */
static void backward_rows(const layernorm_args *a, const REAL *const *x, const REAL *const *dy, int64_t first,
                          int count, int64_t g)
{
    const REAL *w = a->weight, *mean = (const REAL *)a->mean + first * a->groups + g,
               *rstd = (const REAL *)a->rstd + first * a->groups + g;
    const mat to = a->dx;
    int64_t width = a->width, skip = g * width;
    bool add = a->accumulate;
    REAL mean_g[ROWS], mean_gx[ROWS];

    for (int i = 0; i < count; i++) {
        vec centre = v_set1(mean[i * a->groups]), scale = v_set1(rstd[i * a->groups]), sum_g = v_zero(),
            sum_gx = v_zero();
        for (int64_t c = 0; c < width; c += VW) {
            int n = width - c < VW ? (int)(width - c) : VW;
            vec v = v_load_n(dy[i] + skip + c, n);
            if (w)
                v = v_mul(v, v_load_n(w + c, n));
            sum_g = v_add(sum_g, v);
            sum_gx = v_fma(v, v_mul(v_sub(v_load_n(x[i] + skip + c, n), centre), scale), sum_gx);
        }
        mean_g[i] = v_sum(sum_g) / (REAL)width;
        mean_gx[i] = v_sum(sum_gx) / (REAL)width;
    }
    for (int i = 0; i < count; i++) {
        vec centre = v_set1(mean[i * a->groups]), scale = v_set1(rstd[i * a->groups]), shift = v_set1(mean_g[i]),
            slope = v_set1(mean_gx[i]);
        int64_t place = row_place(&to, first + i);
        for (int64_t c = 0; c < width; c += VW) {
            int n = width - c < VW ? (int)(width - c) : VW;
            vec v = v_load_n(dy[i] + skip + c, n), xhat = v_mul(v_sub(v_load_n(x[i] + skip + c, n), centre), scale);
            if (w)
                v = v_mul(v, v_load_n(w + c, n));
            v = v_mul(scale, v_sub(v_sub(v, shift), v_mul(xhat, slope)));
            if (add)
                v = v_add(v, v_load_mat(&to, place, skip + c, n));
            v_store_mat(&to, place, skip + c, v, n);
        }
    }
}

static void backward_task(void *argument, int thread, int threads)
{
    const norm_job *job = argument;
    const layernorm_args *a = job->args;
    REAL *room = KERNEL_SCRATCH(job->c, thread), *room_dy = room + ROWS * a->x.cols;
    const REAL *x[ROWS], *dy[ROWS];
    int64_t begin, end;

    pool_share(a->x.rows, thread, threads, &begin, &end);
    for (int64_t r = begin; r < end; r += ROWS) {
        int count = end - r < ROWS ? (int)(end - r) : ROWS;
        for (int i = 0; i < count; i++) {
            x[i] = row_real(&a->x, r + i, room + i * a->x.cols);
            dy[i] = row_real(&a->dy, r + i, room_dy + i * a->dy.cols);
        }
        for (int64_t g = 0; g < a->groups; g++)
            backward_rows(a, x, dy, r, count, g);
    }
}

/* Threads split the columns of a group; each sums all rows, chunk by chunk. */
static void params_task(void *argument, int thread, int threads)
{
    const norm_job *job = argument;
    const layernorm_args *a = job->args;
    REAL *in = KERNEL_SCRATCH(job->c, thread), *in_dy = in + a->x.cols, *dw = in_dy + a->x.cols, *db = dw + a->width;
    const REAL *mean = a->mean, *rstd = a->rstd;
    int64_t begin, end;

    pool_share(a->width, thread, threads, &begin, &end);
    for (int64_t first = 0; first < a->x.rows && begin < end; first += PARAM_CHUNK) {
        int64_t last = first + PARAM_CHUNK < a->x.rows ? first + PARAM_CHUNK : a->x.rows;
        memset(dw + begin, 0, (size_t)(end - begin) * sizeof *dw);
        memset(db + begin, 0, (size_t)(end - begin) * sizeof *db);
        for (int64_t r = first; r < last; r++) {
            const REAL *x = row_real(&a->x, r, in), *dy = row_real(&a->dy, r, in_dy);
            for (int64_t g = 0; g < a->groups; g++) {
                REAL centre = mean[r * a->groups + g], scale = rstd[r * a->groups + g];
                for (int64_t c = begin; c < end; c++) {
                    dw[c] += dy[g * a->width + c] * ((x[g * a->width + c] - centre) * scale);
                    db[c] += dy[g * a->width + c];
                }
            }
        }
        for (int64_t c = begin; c < end; c++) {
            bool add = a->accumulate_params || first > 0;
            if (a->dweight)
                ((REAL *)a->dweight)[c] = add ? ((REAL *)a->dweight)[c] + dw[c] : dw[c];
            if (a->dbias)
                ((REAL *)a->dbias)[c] = add ? ((REAL *)a->dbias)[c] + db[c] : db[c];
        }
    }
}

void KERNEL(layernorm_backward)(compute *c, const layernorm_args *args)
{
    norm_job job = {c, args};

    if (args->dweight || args->dbias)
        compute_run(c, params_task, &job);
    if (args->need_dx)
        compute_run(c, backward_task, &job);
}
