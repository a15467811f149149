/* Element by element: activations, affine maps, sums, dropout, column sums. */
#include "kernels/isa/isa.h"

#define CHUNK 64 /* rows that are summed before they are added to a column's total */

#define FOR_VECTORS(c, n, count)                  \
    for (int64_t c = 0; (c) < (count); (c) += VW) \
        for (int32_t n = (count) - (c) < VW ? (int)((count) - (c)) : VW; n; (n) = 0)

/* ---- map ---- */

typedef struct map_job {
    compute *c;
    const map_args *a;
} map_job;

static void map_task(void *argument, int thread, int threads)
{
    const map_job *job = argument;
    const map_args *a = job->a;
    REAL *in = KERNEL_SCRATCH(job->c, thread), *out = in + a->x.cols;
    int64_t begin, end;

    pool_share(a->x.rows, thread, threads, &begin, &end);
    for (int64_t r = begin; r < end; r++) {
        const REAL *x = row_real(&a->x, r, in);
        REAL *y = row_begin(&a->y, r, out);
        FOR_VECTORS(c, n, a->x.cols)
        v_store_n(y + c, v_activate(a->act, v_load_n(x + c, n)), n);
        row_store(&a->y, r, y);
    }
}

void KERNEL(map)(compute *c, const map_args *args)
{
    map_job job = {c, args};

    compute_run(c, map_task, &job);
}

static void map_backward_task(void *argument, int thread, int threads)
{
    const map_job *job = argument;
    const map_args *a = job->a;
    REAL *in = KERNEL_SCRATCH(job->c, thread), *in_dy = in + a->x.cols;
    int64_t begin, end;

    pool_share(a->x.rows, thread, threads, &begin, &end);
    for (int64_t r = begin; r < end; r++) {
        const REAL *x = row_real(&a->x, r, in), *dy = row_real(&a->dy, r, in_dy);
        REAL *dx = (REAL *)a->dx.data + r * a->dx.stride;
        FOR_VECTORS(c, n, a->x.cols)
        {
            vec v = v_mul(v_load_n(dy + c, n), v_activate_grad(a->act, v_load_n(x + c, n)));
            v_store_n(dx + c, a->accumulate ? v_add(v_load_n(dx + c, n), v) : v, n);
        }
    }
}

void KERNEL(map_backward)(compute *c, const map_args *args)
{
    map_job job = {c, args};

    compute_run(c, map_backward_task, &job);
}

/* ---- affine ---- */

typedef struct affine_job {
    compute *c;
    const affine_args *a;
} affine_job;

static void affine_task(void *argument, int thread, int threads)
{
    const affine_job *job = argument;
    const affine_args *a = job->a;
    REAL *in = KERNEL_SCRATCH(job->c, thread), *out = in + a->x.cols;
    const REAL *gamma = a->gamma, *beta = a->beta;
    vec factor = v_set1((REAL)a->factor);
    int64_t begin, end;

    pool_share(a->x.rows, thread, threads, &begin, &end);
    for (int64_t r = begin; r < end; r++) {
        const REAL *x = row_real(&a->x, r, in);
        REAL *y = row_begin(&a->y, r, out);
        FOR_VECTORS(c, n, a->x.cols)
        {
            vec v = v_mul(v_load_n(x + c, n), factor);
            if (gamma)
                v = v_mul(v, v_load_n(gamma + c, n));
            if (beta)
                v = v_add(v, v_load_n(beta + c, n));
            v_store_n(y + c, v, n);
        }
        row_store(&a->y, r, y);
    }
}

void KERNEL(affine)(compute *c, const affine_args *args)
{
    affine_job job = {c, args};

    compute_run(c, affine_task, &job);
}

static void affine_backward_task(void *argument, int thread, int threads)
{
    const affine_job *job = argument;
    const affine_args *a = job->a;
    const REAL *gamma = a->gamma;
    vec factor = v_set1((REAL)a->factor);
    int64_t begin, end;

    pool_share(a->dy.rows, thread, threads, &begin, &end);
    for (int64_t r = begin; r < end; r++) {
        const REAL *dy = row_real(&a->dy, r, KERNEL_SCRATCH(job->c, thread));
        REAL *dx = (REAL *)a->dx.data + r * a->dx.stride;
        FOR_VECTORS(c, n, a->dy.cols)
        {
            vec v = v_mul(v_load_n(dy + c, n), factor);
            if (gamma)
                v = v_mul(v, v_load_n(gamma + c, n));
            v_store_n(dx + c, a->accumulate ? v_add(v_load_n(dx + c, n), v) : v, n);
        }
    }
}

/* ---- column sums ---- */

typedef struct column_job {
    compute *c;
    const column_sum_args *a;
    double factor;
} column_job;

/* Threads split columns; for each of the `modulo` outputs the rows are summed chunk by chunk. */
static void column_task(void *argument, int thread, int threads)
{
    const column_job *job = argument;
    const column_sum_args *a = job->a;
    REAL *in = KERNEL_SCRATCH(job->c, thread), *in_other = in + a->dy.cols, *sum = in_other + a->dy.cols;
    int64_t begin, end, step = a->modulo > 0 ? a->modulo : 1;

    pool_share(a->dy.cols, thread, threads, &begin, &end);
    for (int64_t slot = 0; slot < step && begin < end; slot++) {
        REAL *out = (REAL *)a->out + slot * a->dy.cols;
        for (int64_t first = slot; first < a->dy.rows || first == slot; first += CHUNK * step) {
            bool add = a->accumulate || first > slot;
            memset(sum + begin, 0, (size_t)(end - begin) * sizeof *sum);
            for (int64_t r = first; r < a->dy.rows && r < first + CHUNK * step; r += step) {
                const REAL *dy = row_real(&a->dy, r, in),
                           *other = a->other.data ? row_real(&a->other, r, in_other) : NULL;
                vec scale = v_set1((REAL)job->factor * (a->row_scale ? (REAL)a->row_scale[r / a->row_group] : 1));
                FOR_VECTORS(c, n, end - begin)
                {
                    vec v = v_mul(v_load_n(dy + begin + c, n), scale);
                    v_store_n(sum + begin + c,
                              other ? v_fma(v, v_load_n(other + begin + c, n), v_load_n(sum + begin + c, n))
                                    : v_add(v, v_load_n(sum + begin + c, n)),
                              n);
                }
            }
            for (int64_t c = begin; c < end; c++)
                out[c] = add ? out[c] + sum[c] : sum[c];
        }
    }
}

void KERNEL(column_sum)(compute *c, const column_sum_args *args)
{
    column_job job = {c, args, 1};

    compute_run(c, column_task, &job);
}

void KERNEL(affine_backward)(compute *c, const affine_args *args)
{
    affine_job job = {c, args};
    column_sum_args gamma = {
        .out = args->dgamma, .dy = args->dy, .other = args->x, .row_group = 1, .accumulate = args->accumulate_params};
    column_sum_args beta = {.out = args->dbeta, .dy = args->dy, .row_group = 1, .accumulate = args->accumulate_params};
    column_job gamma_job = {c, &gamma, args->factor};

    if (args->dgamma)
        compute_run(c, column_task, &gamma_job);
    if (args->dbeta)
        KERNEL(column_sum)(c, &beta);
    if (args->need_dx)
        compute_run(c, affine_backward_task, &job);
}

/* ---- add ---- */

typedef struct add_job {
    compute *c;
    const add_args *a;
} add_job;

static void add_task(void *argument, int thread, int threads)
{
    const add_job *job = argument;
    const add_args *a = job->a;
    REAL *in = KERNEL_SCRATCH(job->c, thread), *in_b = in + a->a.cols, *out = in_b + a->a.cols;
    int64_t begin, end;

    pool_share(a->a.rows, thread, threads, &begin, &end);
    for (int64_t r = begin; r < end; r++) {
        const REAL *x = row_real(&a->a, r, in), *b = a->b.data ? row_real(&a->b, r, in_b) : NULL;
        const REAL *table = a->table ? (const REAL *)a->table + (r % a->table_rows) * a->a.cols : NULL;
        REAL *y = row_begin(&a->y, r, out);
        vec scale = v_set1((REAL)a->factor * (a->row_scale ? (REAL)a->row_scale[r / a->row_group] : 1));
        if (y != x)
            memcpy(y, x, (size_t)a->a.cols * sizeof *y);
        if (b)
            FOR_VECTORS(c, n, a->b.cols)
        v_store_n(y + a->offset + c, v_fma(v_load_n(b + c, n), scale, v_load_n(y + a->offset + c, n)), n);
        if (table)
            FOR_VECTORS(c, n, a->a.cols)
        v_store_n(y + c, v_add(v_load_n(y + c, n), v_load_n(table + c, n)), n);
        row_store(&a->y, r, y);
    }
}

void KERNEL(add)(compute *c, const add_args *args)
{
    add_job job = {c, args};

    compute_run(c, add_task, &job);
}

/* ---- multiply ---- */

typedef struct multiply_job {
    compute *c;
    const multiply_args *a;
} multiply_job;

static void multiply_task(void *argument, int thread, int threads)
{
    const multiply_job *job = argument;
    const multiply_args *args = job->a;
    REAL *in = KERNEL_SCRATCH(job->c, thread), *in_b = in + args->a.cols, *out = in_b + args->a.cols;
    int64_t begin, end;

    pool_share(args->a.rows, thread, threads, &begin, &end);
    for (int64_t r = begin; r < end; r++) {
        const REAL *a = row_real(&args->a, r, in), *b = row_real(&args->b, r, in_b);
        REAL *y = row_begin(&args->y, r, out);
        FOR_VECTORS(c, n, args->a.cols)
        {
            vec u = v_load_n(a + c, n), v = v_load_n(b + c, n);
            v_store_n(y + c, args->accumulate ? v_fma(u, v, v_load_n(y + c, n)) : v_mul(u, v), n);
        }
        row_store(&args->y, r, y);
    }
}

void KERNEL(multiply)(compute *c, const multiply_args *args)
{
    multiply_job job = {c, args};

    compute_run(c, multiply_task, &job);
}

/* ---- dropout ---- */

typedef struct dropout_job {
    compute *c;
    const dropout_args *a;
} dropout_job;

static void dropout_task(void *argument, int thread, int threads)
{
    const dropout_job *job = argument;
    const dropout_args *a = job->a;
    REAL *in = KERNEL_SCRATCH(job->c, thread), *out = in + a->x.cols;
    uint32_t limit = (uint32_t)(a->rate * 4294967296.0), words[4] = {0};
    REAL keep = (REAL)(1 / (1 - a->rate));
    int64_t begin, end;

    pool_share(a->x.rows, thread, threads, &begin, &end);
    for (int64_t r = begin; r < end; r++) {
        const REAL *x = row_real(&a->x, r, in);
        REAL *y = row_begin(&a->y, r, out);
        for (int64_t c = 0; c < a->x.cols; c++) {
            uint64_t index = (uint64_t)(a->first + r * a->x.cols + c);
            REAL v;
            if (c == 0 || (index & 3) == 0)
                rng_block(words, a->stream, (uint32_t)(index >> 2));
            v = words[index & 3] >= limit ? x[c] * keep : 0;
            y[c] = a->accumulate ? y[c] + v : v;
        }
        row_store(&a->y, r, y);
    }
}

void KERNEL(dropout)(compute *c, const dropout_args *args)
{
    dropout_job job = {c, args};

    compute_run(c, dropout_task, &job);
}
