/* LayerNorm over whole rows or groups of columns; statistics in two passes over the row. */
#include "kernels/isa/isa.h"

#define PARAM_CHUNK 64 /* rows whose weight gradients are summed before they are added to the total */

typedef struct norm_job {
    compute *c;
    const layernorm_args *args;
} norm_job;

static inline vec load_n(const REAL *p, int n)
{
    return n == VW ? v_load(p) : v_load_part(p, n);
}

static inline void store_n(REAL *p, vec v, int n)
{
    if (n == VW)
        v_store(p, v);
    else
        v_store_part(p, v, n);
}

/* Four partial sums hide the latency of the additions; they are joined in a fixed order. */
static REAL sum_of(const REAL *x, int64_t n)
{
    vec total[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
    int64_t c = 0;

    for (; c + 4 * VW <= n; c += 4 * VW)
        for (int j = 0; j < 4; j++)
            total[j] = v_add(total[j], v_load(x + c + j * VW));
    for (; c < n; c += VW)
        total[0] = v_add(total[0], load_n(x + c, n - c < VW ? (int)(n - c) : VW));
    return v_sum(v_add(v_add(total[0], total[1]), v_add(total[2], total[3])));
}

static REAL squares_of(const REAL *x, REAL mean, int64_t n)
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

static void norm_group(REAL *y, const REAL *x, const layernorm_args *a, REAL *mean_out, REAL *rstd_out)
{
    const REAL *w = a->weight, *b = a->bias;
    REAL mean = sum_of(x, a->width) / (REAL)a->width;
    REAL variance = squares_of(x, mean, a->width) / (REAL)a->width, rstd = (REAL)(1.0 / sqrt((double)variance + a->eps));
    vec centre = v_set1(mean), scale = v_set1(rstd);

    for (int64_t c = 0; c < a->width; c += VW) {
        int n = a->width - c < VW ? (int)(a->width - c) : VW;
        vec v = v_mul(v_sub(load_n(x + c, n), centre), scale);
        if (w)
            v = v_mul(v, load_n(w + c, n));
        if (b)
            v = v_add(v, load_n(b + c, n));
        store_n(y + c, v, n);
    }
    if (mean_out)
        *mean_out = mean;
    if (rstd_out)
        *rstd_out = rstd;
}

static void norm_task(void *argument, int thread, int threads)
{
    const norm_job *job = argument;
    const layernorm_args *a = job->args;
    REAL *in = KERNEL_SCRATCH(job->c, thread), *out = in + a->x.cols, *mean = a->mean, *rstd = a->rstd;
    int64_t begin, end;

    pool_share(a->x.rows, thread, threads, &begin, &end);
    for (int64_t r = begin; r < end; r++) {
        const REAL *x = row_real(&a->x, r, in);
        REAL *y = row_begin(&a->y, r, out);
        for (int64_t g = 0; g < a->groups; g++)
            norm_group(y + g * a->width, x + g * a->width, a, mean ? mean + r * a->groups + g : NULL, rstd ? rstd + r * a->groups + g : NULL);
        row_store(&a->y, r, y);
    }
}

void KERNEL(layernorm)(compute *c, const layernorm_args *args)
{
    norm_job job = {c, args};

    pool_run(c->threads, norm_task, &job);
}

/* With xhat = (x - mean) rstd and g = dy * weight: dx = rstd (g - mean(g) - xhat mean(g xhat)). */
static void backward_group(REAL *dx, const REAL *dy, const REAL *x, const layernorm_args *a, REAL mean, REAL rstd)
{
    const REAL *w = a->weight;
    vec centre = v_set1(mean), scale = v_set1(rstd), sum_g = v_zero(), sum_gx = v_zero(), mean_g, mean_gx;

    for (int64_t c = 0; c < a->width; c += VW) {
        int n = a->width - c < VW ? (int)(a->width - c) : VW;
        vec g = load_n(dy + c, n);
        if (w)
            g = v_mul(g, load_n(w + c, n));
        sum_g = v_add(sum_g, g);
        sum_gx = v_fma(g, v_mul(v_sub(load_n(x + c, n), centre), scale), sum_gx);
    }
    mean_g = v_set1(v_sum(sum_g) / (REAL)a->width);
    mean_gx = v_set1(v_sum(sum_gx) / (REAL)a->width);
    for (int64_t c = 0; c < a->width; c += VW) {
        int n = a->width - c < VW ? (int)(a->width - c) : VW;
        vec g = load_n(dy + c, n), xhat = v_mul(v_sub(load_n(x + c, n), centre), scale), v;
        if (w)
            g = v_mul(g, load_n(w + c, n));
        v = v_mul(scale, v_sub(v_sub(g, mean_g), v_mul(xhat, mean_gx)));
        if (a->accumulate)
            v = v_add(v, load_n(dx + c, n));
        store_n(dx + c, v, n);
    }
}

static void backward_task(void *argument, int thread, int threads)
{
    const norm_job *job = argument;
    const layernorm_args *a = job->args;
    REAL *in = KERNEL_SCRATCH(job->c, thread), *in_dy = in + a->x.cols, *out = in_dy + a->x.cols;
    const REAL *mean = a->mean, *rstd = a->rstd;
    int64_t begin, end;

    pool_share(a->x.rows, thread, threads, &begin, &end);
    for (int64_t r = begin; r < end; r++) {
        const REAL *x = row_real(&a->x, r, in), *dy = row_real(&a->dy, r, in_dy);
        REAL *dx = row_begin(&a->dx, r, out);
        if (a->accumulate && dx == out)
            memcpy(out, row_real(&a->dx, r, out), (size_t)a->dx.cols * sizeof *out);
        for (int64_t g = 0; g < a->groups; g++) {
            int64_t at = r * a->groups + g, skip = g * a->width;
            backward_group(dx + skip, dy + skip, x + skip, a, mean[at], rstd[at]);
        }
        row_store(&a->dx, r, dx);
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
        pool_run(c->threads, params_task, &job);
    if (args->need_dx)
        pool_run(c->threads, backward_task, &job);
}
