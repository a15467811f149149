/* A softmax over few parts for every row: the attention of adapter fusion (arXiv 2005.00247). */
#include "kernels/isa/isa.h"

typedef struct mix_job {
    compute *c;
    const mix_args *a;
} mix_job;

static REAL dot(const REAL *x, const REAL *y, int64_t count)
{
    vec sum = v_zero();
    int64_t c = 0;
    REAL total;

    for (; c + VW <= count; c += VW)
        sum = v_fma(v_load(x + c), v_load(y + c), sum);
    total = v_sum(sum);
    for (; c < count; c++)
        total += x[c] * y[c];
    return total;
}

static void add_times(REAL *y, REAL factor, const REAL *x, int64_t count)
{
    for (int64_t c = 0; c < count; c++)
        y[c] += factor * x[c];
}

static void forward_task(void *argument, int thread, int threads)
{
    const mix_job *job = argument;
    const mix_args *a = job->a;
    REAL *in_q = KERNEL_SCRATCH(job->c, thread), *in = in_q + a->q.cols, *out = in + a->q.cols + a->v.cols;
    int64_t begin, end;

    pool_share(a->y.rows, thread, threads, &begin, &end);
    for (int64_t r = begin; r < end; r++) {
        const REAL *q = row_real(&a->q, r, in_q);
        REAL *w = (REAL *)a->weights.data + r * a->parts, top, sum = 0;
        for (int64_t n = 0; n < a->parts; n++)
            w[n] = dot(q, row_real(&a->k, r * a->parts + n, in), a->q.cols);
        top = w[0];
        for (int64_t n = 1; n < a->parts; n++)
            top = w[n] > top ? w[n] : top;
        for (int64_t n = 0; n < a->parts; n++)
            sum += w[n] = (REAL)exp((double)(w[n] - top));
        memset(out, 0, (size_t)a->v.cols * sizeof *out);
        for (int64_t n = 0; n < a->parts; n++) {
            w[n] /= sum;
            add_times(out, w[n], row_real(&a->v, r * a->parts + n, in), a->v.cols);
        }
        row_store(&a->y, r, out);
    }
}

void KERNEL(mix)(compute *c, const mix_args *args)
{
    mix_job job = {c, args};

    compute_run(c, forward_task, &job);
}

/* to[r] (+)= factor * x */
static void give(const mat *to, int64_t r, REAL factor, const REAL *x, bool add)
{
    REAL *row = (REAL *)to->data + r * to->stride;

    for (int64_t c = 0; to->data && c < to->cols; c++)
        row[c] = (add ? row[c] : 0) + factor * x[c];
}

static void backward_task(void *argument, int thread, int threads)
{
    const mix_job *job = argument;
    const mix_args *a = job->a;
    REAL *in_q = KERNEL_SCRATCH(job->c, thread), *in_dy = in_q + a->q.cols, *in = in_dy + a->v.cols,
         *dq = in + a->q.cols + a->v.cols, *dw = dq + a->q.cols;
    int64_t begin, end;

    pool_share(a->q.rows, thread, threads, &begin, &end);
    for (int64_t r = begin; r < end; r++) {
        const REAL *q = row_real(&a->q, r, in_q), *dy = row_real(&a->dy, r, in_dy),
                   *w = (const REAL *)a->weights.data + r * a->parts;
        REAL mean = 0;
        memset(dq, 0, (size_t)a->q.cols * sizeof *dq);
        for (int64_t n = 0; n < a->parts; n++) {
            dw[n] = dot(dy, row_real(&a->v, r * a->parts + n, in), a->v.cols);
            mean += w[n] * dw[n];
        }
        for (int64_t n = 0; n < a->parts; n++) {
            REAL ds = w[n] * (dw[n] - mean);
            give(&a->dv, r * a->parts + n, w[n], dy, a->accumulate_v);
            give(&a->dk, r * a->parts + n, ds, q, a->accumulate_k);
            add_times(dq, ds, row_real(&a->k, r * a->parts + n, in), a->q.cols);
        }
        give(&a->dq, r, 1, dq, a->accumulate_q);
    }
}

void KERNEL(mix_backward)(compute *c, const mix_args *args)
{
    mix_job job = {c, args};

    compute_run(c, backward_task, &job);
}
