/* Steps of the optimisers: AdamW, SGD with momentum, and what clipping the gradients' norm takes. A sweep goes over
 * many tensors at once: every thread takes a share of all their values, wherever a tensor begins. */
#include "kernels/isa/isa.h"

#define FOR_VECTORS(c, n, count)                  \
    for (int64_t c = 0; (c) < (count); (c) += VW) \
        for (int32_t n = (count) - (c) < VW ? (int)((count) - (c)) : VW; n; (n) = 0)

/* What a mask lets through, as 0 and 1. */
static inline vec open_entries(const unsigned char *mask, int n)
{
    REAL room[VW] = {0};

    for (int j = 0; j < n; j++)
        room[j] = mask[j];
    return v_load(room);
}

/* ---- sweeps ---- */

typedef struct sweep {
    const void *args; /* [count] of `size` bytes */
    size_t size;
    int count;
    int64_t (*values)(const void *args); /* of one tensor */
    void (*part)(const void *args, int64_t begin, int64_t end);
} sweep;

static void sweep_task(void *argument, int thread, int threads)
{
    const sweep *s = argument;
    int64_t total = 0, begin, end;

    for (int i = 0; i < s->count; i++)
        total += s->values((const char *)s->args + (size_t)i * s->size);
    pool_share(total, thread, threads, &begin, &end);
    for (int i = 0; i < s->count && end > 0; i++) {
        const void *args = (const char *)s->args + (size_t)i * s->size;
        int64_t count = s->values(args);
        if (begin < count)
            s->part(args, begin > 0 ? begin : 0, end < count ? end : count);
        begin -= count;
        end -= count;
    }
}

/* ---- AdamW ---- */

static vec adamw_decay(const adamw_args *a, int64_t i, int n, vec p, REAL decay)
{
    if (!a->mask || a->decay_masked)
        return v_mul(p, v_set1(decay));
    return v_fma(v_mul(p, open_entries(a->mask + i, n)), v_set1(decay - 1), p);
}

/* Values [begin, end) of one tensor. */
static void adamw_part(const void *args, int64_t begin, int64_t end)
{
    const adamw_args *a = args;
    REAL *value = a->value, *m = a->m, *v = a->v;
    const REAL *grad = a->grad;
    double correction1 = a->uncorrected ? 1 : 1 - pow(a->beta1, (double)a->step);
    double correction2 = a->uncorrected ? 1 : 1 - pow(a->beta2, (double)a->step);
    REAL decay = (REAL)(1 - a->lr * a->weight_decay);
    REAL b1 = (REAL)(1 - a->beta1), b2 = (REAL)a->beta2, c2 = (REAL)(1 - a->beta2);
    REAL root = (REAL)sqrt(correction2), eps = (REAL)a->eps, rate = (REAL)(a->lr / correction1);

    FOR_VECTORS(c, n, end - begin)
    {
        int64_t i = begin + c;
        vec g = v_load_n(grad + i, n), mm = v_load_n(m + i, n), vv = v_load_n(v + i, n), p = v_load_n(value + i, n);
        vec denominator;
        if (a->mask)
            g = v_mul(g, open_entries(a->mask + i, n));
        if (!a->decay_last)
            p = adamw_decay(a, i, n, p, decay);
        mm = v_fma(v_sub(g, mm), v_set1(b1), mm);
        vv = v_fma(v_mul(g, g), v_set1(c2), v_mul(vv, v_set1(b2)));
        denominator = v_add(v_div(v_sqrt(vv), v_set1(root)), v_set1(eps));
        p = v_sub(p, v_mul(v_set1(rate), v_div(mm, denominator)));
        if (a->decay_last)
            p = adamw_decay(a, i, n, p, decay);
        v_store_n(m + i, mm, n);
        v_store_n(v + i, vv, n);
        v_store_n(value + i, p, n);
    }
}

static int64_t adamw_values(const void *args)
{
    return ((const adamw_args *)args)->count;
}

void KERNEL(adamw)(compute *c, const adamw_args *args, int count)
{
    sweep s = {args, sizeof *args, count, adamw_values, adamw_part};

    compute_run(c, sweep_task, &s);
}

/* ---- SGD ---- */

static void sgd_part(const void *args, int64_t begin, int64_t end)
{
    const sgd_args *a = args;
    REAL *value = a->value, *m = a->m;
    const REAL *grad = a->grad;
    vec decay = v_set1((REAL)a->weight_decay), momentum = v_set1((REAL)a->momentum), rate = v_set1((REAL)-a->lr);

    FOR_VECTORS(c, n, end - begin)
    {
        int64_t i = begin + c;
        vec g = v_load_n(grad + i, n), p = v_load_n(value + i, n), d = v_mul(decay, p);
        if (a->mask) {
            vec open = open_entries(a->mask + i, n);
            g = v_mul(g, open);
            d = a->decay_masked ? d : v_mul(d, open);
        }
        g = v_fma(v_load_n(m + i, n), momentum, v_add(g, d));
        v_store_n(m + i, g, n);
        v_store_n(value + i, v_fma(rate, g, p), n);
    }
}

static int64_t sgd_values(const void *args)
{
    return ((const sgd_args *)args)->count;
}

void KERNEL(sgd)(compute *c, const sgd_args *args, int count)
{
    sweep s = {args, sizeof *args, count, sgd_values, sgd_part};

    compute_run(c, sweep_task, &s);
}

/* ---- clipping ---- */

/* Doubles in eight lanes: the order of the sum depends on neither threads nor the vectors' width. */
static double square_sum(const gradient_args *a)
{
    const REAL *grad = a->grad;
    double lanes[8] = {0}, total = 0;

    for (int64_t i = 0; i < a->count; i++) {
        double g = !a->mask || a->mask[i] ? (double)grad[i] : 0;
        lanes[i & 7] += g * g;
    }
    for (int i = 0; i < 8; i++)
        total += lanes[i];
    return total;
}

typedef struct square_job {
    const gradient_args *args;
    double *sums;
    int count;
} square_job;

/* Whole tensors for each thread. */
static void square_task(void *argument, int thread, int threads)
{
    const square_job *job = argument;

    for (int i = thread; i < job->count; i += threads)
        job->sums[i] = square_sum(&job->args[i]);
}

void KERNEL(square_sums)(compute *c, double *sums, const gradient_args *args, int count)
{
    square_job job = {args, sums, count};

    compute_run(c, square_task, &job);
}

static void scale_part(const void *args, int64_t begin, int64_t end)
{
    const gradient_args *a = args;
    REAL *grad = a->grad;

    FOR_VECTORS(c, n, end - begin)
    {
        REAL *at = grad + begin + c;
        v_store_n(at, v_mul(v_load_n(at, n), v_set1((REAL)a->factor)), n);
    }
}

static int64_t gradient_values(const void *args)
{
    return ((const gradient_args *)args)->count;
}

void KERNEL(scale_gradients)(compute *c, const gradient_args *args, int count)
{
    sweep s = {args, sizeof *args, count, gradient_values, scale_part};

    compute_run(c, sweep_task, &s);
}
