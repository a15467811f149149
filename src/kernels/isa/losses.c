/* Losses: scalars over the rows of a batch, summed in double precision and in the order of the rows. */
#include "kernels/isa/isa.h"

/* to[r] (+)= values; `room` holds a row */
static void give_row(const mat *to, int64_t r, REAL *values, bool add, REAL *room)
{
    if (add) {
        const REAL *old = row_real(to, r, room);
        for (int64_t c = 0; c < to->cols; c++)
            values[c] += old[c];
    }
    row_store(to, r, values);
}

static void give_loss(void *to, double loss, bool add)
{
    *(REAL *)to = (REAL)(loss + (add ? (double)*(REAL *)to : 0));
}

/* One row: its loss, and `scale` times its gradient into `out` when that is wanted. With smoothing e the target is (1 -
 * e) at the label plus e / classes everywhere. */
static double cross_entropy_row(const cross_entropy_args *a, int64_t r, double scale, REAL *room, REAL *out)
{
    const REAL *z = row_real(&a->logits, r, room);
    int64_t classes = a->logits.cols;
    double top = (double)z[0], sum = 0, mean = 0, lse;

    for (int64_t c = 1; c < classes; c++)
        top = (double)z[c] > top ? (double)z[c] : top;
    for (int64_t c = 0; c < classes; c++) {
        sum += exp((double)z[c] - top);
        mean += (double)z[c];
    }
    lse = log(sum) + top;
    for (int64_t c = 0; out && c < classes; c++) {
        double target = a->smoothing / (double)classes + (c == a->labels[r] ? 1 - a->smoothing : 0);
        out[c] = (REAL)(scale * (exp((double)z[c] - lse) - target));
    }
    return lse - (1 - a->smoothing) * (double)z[a->labels[r]] - a->smoothing * mean / (double)classes;
}

void KERNEL(cross_entropy)(compute *c, const cross_entropy_args *a)
{
    REAL *room = KERNEL_SCRATCH(c, 0), *out = room + a->logits.cols;
    double total = 0, scale = (a->dloss ? (double)*(const REAL *)a->dloss : 1) / (double)a->count;

    for (int64_t r = 0; r < a->logits.rows; r++) {
        double loss = cross_entropy_row(a, r, scale, room, a->dlogits.data ? out : NULL);
        if (a->dlogits.data)
            give_row(&a->dlogits, r, out, a->accumulate, out + a->logits.cols);
        if (a->losses)
            ((REAL *)a->losses)[r] = (REAL)loss;
        total += loss;
    }
    if (a->loss)
        give_loss(a->loss, total / (double)a->count, a->add_loss);
}

/* ---- binary cross-entropy ---- */

void KERNEL(binary_cross_entropy)(compute *c, const binary_cross_entropy_args *a)
{
    int64_t classes = a->logits.cols;
    REAL *room = KERNEL_SCRATCH(c, 0), *room_t = room + classes, *out = room_t + classes, *out_t = out + classes;
    double total = 0, factor = a->dloss ? a->scale * (double)*(const REAL *)a->dloss : 0;

    for (int64_t r = 0; r < a->logits.rows; r++) {
        const REAL *z = row_real(&a->logits, r, room), *t = row_real(&a->targets, r, room_t);
        double loss = 0;
        for (int64_t i = 0; i < classes; i++) {
            double x = (double)z[i], tail = exp(-fabs(x)), p = (x >= 0 ? 1 : tail) / (1 + tail);
            loss += (x > 0 ? x : 0) - x * (double)t[i] + log1p(tail);
            out[i] = (REAL)(factor * (p - (double)t[i]));
            out_t[i] = (REAL)(-factor * x);
        }
        if (a->dlogits.data)
            give_row(&a->dlogits, r, out, a->accumulate_logits, out_t + classes);
        if (a->dtargets.data)
            give_row(&a->dtargets, r, out_t, a->accumulate_targets, out_t + classes);
        if (a->losses)
            ((REAL *)a->losses)[r] = (REAL)(a->scale * loss);
        total += a->scale * loss;
    }
    if (a->loss)
        give_loss(a->loss, total, a->add_loss);
}

/* ---- cross-entropy of rows with weights ---- */

typedef struct cross_entropy_job {
    compute *c;
    const cross_entropy_args *a;
} cross_entropy_job;

static void row_cross_entropy_task(void *argument, int thread, int threads)
{
    const cross_entropy_job *job = argument;
    const cross_entropy_args *a = job->a;
    int64_t cols = a->logits.cols, begin, end;
    REAL *room = KERNEL_SCRATCH(job->c, thread), *out = room + cols, *old = out + cols;
    double dloss = a->dloss ? (double)*(const REAL *)a->dloss : 1;

    pool_share(a->logits.rows, thread, threads, &begin, &end);
    for (int64_t r = begin; r < end; r++) {
        double weight = (double)a->weights[r], loss = 0;
        if (weight != 0)
            loss = weight * cross_entropy_row(a, r, dloss * weight, room, a->dlogits.data ? out : NULL);
        else
            memset(out, 0, (size_t)cols * sizeof *out);
        if (a->dlogits.data)
            give_row(&a->dlogits, r, out, a->accumulate, old);
        if (a->losses)
            ((REAL *)a->losses)[r] = (REAL)loss;
    }
}

void KERNEL(row_cross_entropy)(compute *c, const cross_entropy_args *a)
{
    cross_entropy_job job = {c, a};
    double total = 0;

    compute_run(c, row_cross_entropy_task, &job);
    for (int64_t r = 0; a->loss && r < a->logits.rows; r++)
        total += (double)((const REAL *)a->losses)[r];
    if (a->loss)
        give_loss(a->loss, total, a->add_loss);
}

/* ---- consistency ---- */

/* p[c] = log softmax(z) */
static void log_softmax(double *p, const REAL *z, int64_t classes)
{
    double top = (double)z[0], sum = 0, lse;

    for (int64_t c = 1; c < classes; c++)
        top = (double)z[c] > top ? (double)z[c] : top;
    for (int64_t c = 0; c < classes; c++)
        sum += exp((double)z[c] - top);
    lse = log(sum) + top;
    for (int64_t c = 0; c < classes; c++)
        p[c] = (double)z[c] - lse;
}

void KERNEL(consistency)(compute *c, const consistency_args *a)
{
    int64_t classes = a->a.cols;
    double *p = KERNEL_SCRATCH(c, 0), *q = p + classes, total = 0;
    double factor = (a->dloss ? (double)*(const REAL *)a->dloss : 1) / (2 * (double)a->count);
    REAL *room = (REAL *)(q + classes), *out = room + classes;

    for (int64_t r = 0; r < a->a.rows; r++) {
        log_softmax(p, row_real(&a->a, r, room), classes);
        log_softmax(q, row_real(&a->b, r, room), classes);
        for (int64_t i = 0; i < classes; i++)
            total += (exp(p[i]) - exp(q[i])) * (p[i] - q[i]);
        for (int side = 0; side < 2; side++) {
            const mat *to = side ? &a->db : &a->da;
            for (int64_t i = 0; i < classes; i++)
                out[i] = (REAL)((side ? -factor : factor) * (exp(p[i]) - exp(q[i])));
            if (to->data)
                give_row(to, r, out, side ? a->accumulate_b : a->accumulate_a, room);
        }
    }
    if (a->loss)
        give_loss(a->loss, total / (2 * (double)a->count), a->add_loss);
}

/* ---- distance ---- */

typedef struct distance_job {
    compute *c;
    const distance_args *a;
} distance_job;

static void distance_task(void *argument, int thread, int threads)
{
    const distance_job *job = argument;
    const distance_args *a = job->a;
    int64_t cols = a->a.cols, begin, end;
    REAL *in = KERNEL_SCRATCH(job->c, thread), *in_b = in + cols, *out = in_b + cols, *room = out + cols;
    double factor = a->dloss ? 2 * a->scale * (double)*(const REAL *)a->dloss : 0;

    pool_share(a->a.rows, thread, threads, &begin, &end);
    for (int64_t r = begin; r < end; r++) {
        const REAL *x = row_real(&a->a, r, in), *y = a->b.data ? row_real(&a->b, r, in_b) : NULL;
        double sum = 0;
        for (int64_t i = 0; i < cols; i++) {
            double d = (double)x[i] - (y ? (double)y[i] : i == r ? 1 : 0);
            sum += d * d;
            out[i] = (REAL)(factor * d);
        }
        if (a->losses)
            ((REAL *)a->losses)[r] = (REAL)(a->scale * sum);
        for (int64_t i = 0; a->db.data && i < cols; i++)
            in_b[i] = -out[i];
        if (a->da.data)
            give_row(&a->da, r, out, a->accumulate_a, room);
        if (a->db.data)
            give_row(&a->db, r, in_b, a->accumulate_b, room);
    }
}

void KERNEL(distance)(compute *c, const distance_args *args)
{
    distance_job job = {c, args};
    double total = 0;

    compute_run(c, distance_task, &job);
    for (int64_t r = 0; args->loss && r < args->a.rows; r++)
        total += (double)((const REAL *)args->losses)[r];
    if (args->loss)
        give_loss(args->loss, total, args->add_loss);
}
