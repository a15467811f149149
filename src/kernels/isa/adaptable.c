/* What adaptable adapters learn: a rational activation, and a gate for each sample. */
#include "kernels/isa/isa.h"

typedef struct rational_job {
    compute *c;
    const rational_args *a;
} rational_job;

/* P, Q and their slopes at x; signs[j]: what |.| multiplies the slope of b_j x^j with. */
static REAL evaluate(const rational_args *a, REAL x, REAL *q_out, REAL *slope, REAL signs[4])
{
    const REAL *n = a->numerator, *d = a->denominator;
    REAL p = n[5], p_slope = 0, q = 0, q_slope = 0, power = 1;

    for (int i = 4; i >= 0; i--) {
        p_slope = p_slope * x + p;
        p = p * x + n[i];
    }
    for (int j = 0; j < 4; j++) {
        REAL term, rise = (REAL)(j + 1) * d[j] * power;
        power *= x;
        term = d[j] * power;
        signs[j] = term < 0 || (term == 0 && power < 0) ? -1 : 1; /* at b = 0: the side on which b grows */
        q += a->safe ? term : signs[j] * term;
        q_slope += a->safe ? rise : signs[j] * rise;
    }
    if (a->safe) {
        REAL sign = q < 0 ? -1 : 1;
        for (int j = 0; j < 4; j++)
            signs[j] = sign;
        q *= sign;
        q_slope *= sign;
    }
    q += 1;
    *q_out = q;
    *slope = (p_slope - p / q * q_slope) / q;
    return p / q;
}

static void forward_task(void *argument, int thread, int threads)
{
    const rational_job *job = argument;
    const rational_args *a = job->a;
    REAL *in = KERNEL_SCRATCH(job->c, thread), *out = in + a->x.cols, q, slope, signs[4];
    int64_t begin, end;

    pool_share(a->x.rows, thread, threads, &begin, &end);
    for (int64_t r = begin; r < end; r++) {
        const REAL *x = row_real(&a->x, r, in);
        REAL *y = row_begin(&a->y, r, out);
        for (int64_t c = 0; c < a->x.cols; c++)
            y[c] = evaluate(a, x[c], &q, &slope, signs);
        row_store(&a->y, r, y);
    }
}

void KERNEL(rational)(compute *c, const rational_args *args)
{
    rational_job job = {c, args};

    compute_run(c, forward_task, &job);
}

/* Each row's share of the coefficients' gradients goes to `terms`; they are summed over the rows afterwards, in one
 * order. */
static void backward_task(void *argument, int thread, int threads)
{
    const rational_job *job = argument;
    const rational_args *a = job->a;
    REAL *in = KERNEL_SCRATCH(job->c, thread), *in_dy = in + a->x.cols, *out = in_dy + a->x.cols,
         *room = out + a->x.cols;
    int64_t begin, end;

    pool_share(a->x.rows, thread, threads, &begin, &end);
    for (int64_t r = begin; r < end; r++) {
        const REAL *x = row_real(&a->x, r, in), *dy = row_real(&a->dy, r, in_dy),
                   *old = a->accumulate && a->dx.data ? row_real(&a->dx, r, room) : NULL;
        REAL *terms = (REAL *)a->terms + r * 10;
        memset(terms, 0, 10 * sizeof *terms);
        for (int64_t c = 0; c < a->x.cols; c++) {
            REAL q, slope, signs[4], y = evaluate(a, x[c], &q, &slope, signs), power = 1, share = dy[c] / q;
            for (int i = 0; i < 6; i++) {
                terms[i] += share * power;
                power *= x[c];
                if (i < 4)
                    terms[6 + i] -= share * y * signs[i] * power;
            }
            out[c] = dy[c] * slope + (old ? old[c] : 0);
        }
        if (a->dx.data)
            row_store(&a->dx, r, out);
    }
}

void KERNEL(rational_backward)(compute *c, const rational_args *args)
{
    rational_job job = {c, args};
    mat terms = {.data = args->terms, .type = REAL_TYPE, .rows = args->x.rows, .cols = 6, .stride = 10}, lower = terms;

    compute_run(c, backward_task, &job);
    lower.data = (REAL *)args->terms + 6;
    lower.cols = 4;
    if (args->dnumerator)
        KERNEL(column_sum)
    (c, &(column_sum_args){.out = args->dnumerator, .dy = terms, .row_group = 1, .accumulate = true});
    if (args->ddenominator)
        KERNEL(column_sum)
    (c, &(column_sum_args){.out = args->ddenominator, .dy = lower, .row_group = 1, .accumulate = true});
}

/* ---- gate ---- */

typedef struct gate_job {
    compute *c;
    const gate_args *a;
} gate_job;

static double gate_of(const gate_args *a, int64_t sample)
{
    const REAL *l = a->logits;

    return 1 / (1 + exp(-((double)l[1] - (double)l[0] + a->noise[sample]) / a->temperature));
}

static void gate_task(void *argument, int thread, int threads)
{
    const gate_job *job = argument;
    const gate_args *a = job->a;
    REAL *in = KERNEL_SCRATCH(job->c, thread), *out = in + a->x.cols;
    int64_t begin, end;

    pool_share(a->x.rows, thread, threads, &begin, &end);
    for (int64_t r = begin; r < end; r++) {
        const REAL *x = row_real(&a->x, r, in);
        REAL *y = row_begin(&a->y, r, out), w = (REAL)gate_of(a, r / a->group);
        for (int64_t c = 0; c < a->x.cols; c++)
            y[c] = w * x[c];
        row_store(&a->y, r, y);
    }
}

void KERNEL(gate)(compute *c, const gate_args *args)
{
    gate_job job = {c, args};

    compute_run(c, gate_task, &job);
}

static void gate_backward_task(void *argument, int thread, int threads)
{
    const gate_job *job = argument;
    const gate_args *a = job->a;
    REAL *in = KERNEL_SCRATCH(job->c, thread), *in_dy = in + a->x.cols, *out = in_dy + a->x.cols,
         *room = out + a->x.cols;
    int64_t begin, end;

    pool_share(a->x.rows / a->group, thread, threads, &begin, &end);
    for (int64_t s = begin; s < end; s++) {
        REAL w = (REAL)gate_of(a, s), sum = 0;
        for (int64_t r = s * a->group; r < (s + 1) * a->group; r++) {
            const REAL *x = row_real(&a->x, r, in), *dy = row_real(&a->dy, r, in_dy),
                       *old = a->accumulate && a->dx.data ? row_real(&a->dx, r, room) : NULL;
            for (int64_t c = 0; c < a->x.cols; c++) {
                sum += dy[c] * x[c];
                out[c] = w * dy[c] + (old ? old[c] : 0);
            }
            if (a->dx.data)
                row_store(&a->dx, r, out);
        }
        ((REAL *)a->dweights)[s] = sum * w * (1 - w) / (REAL)a->temperature;
    }
}

void KERNEL(gate_backward)(compute *c, const gate_args *args)
{
    gate_job job = {c, args};
    REAL sum = 0, *dlogits = args->dlogits;

    compute_run(c, gate_backward_task, &job);
    for (int64_t s = 0; s < args->x.rows / args->group; s++)
        sum += ((const REAL *)args->dweights)[s];
    if (dlogits) {
        dlogits[0] -= sum;
        dlogits[1] += sum;
    }
}
