/* Rows made of other rows by their place: windows of a sequence, rows of a table, points of a
 * grid. */
#include "kernels/isa/isa.h"

typedef struct job {
    compute *c;
    const void *args;
} job;

/* to[c] += x[c] */
static void add_row(REAL *to, const REAL *x, int64_t count)
{
    for (int64_t c = 0; c < count; c++)
        to[c] += x[c];
}

/* dx[r] = sum, or += */
static void give_sum(const mat *dx, int64_t r, const REAL *sum, bool accumulate)
{
    REAL *to = (REAL *)dx->data + r * dx->stride;

    if (accumulate)
        add_row(to, sum, dx->cols);
    else
        memcpy(to, sum, (size_t)dx->cols * sizeof *to);
}

/* ---- windows of a sequence ---- */

static void windows_task(void *argument, int thread, int threads)
{
    const job *j = argument;
    const windows_args *a = j->args;
    REAL *room = KERNEL_SCRATCH(j->c, thread), *out = room + a->x.cols;
    int64_t begin, end, cols = a->x.cols;

    pool_share(a->samples * a->count, thread, threads, &begin, &end);
    for (int64_t r = begin; r < end; r++) {
        int64_t sample = r / a->count, first = r % a->count * a->stride - a->padding;
        REAL *y = row_begin(&a->y, r, out);
        for (int64_t i = 0; i < a->width; i++) {
            int64_t at = first + i;
            if (at >= 0 && at < a->rows)
                memcpy(y + i * cols, row_real(&a->x, sample * a->rows + at, room), (size_t)cols * sizeof *y);
            else
                memset(y + i * cols, 0, (size_t)cols * sizeof *y);
        }
        row_store(&a->y, r, y);
    }
}

void KERNEL(windows)(compute *c, const windows_args *args)
{
    job j = {c, args};

    compute_run(c, windows_task, &j);
}

static mat columns_of(mat m, int64_t first, int64_t cols)
{
    m.data = (unsigned char *)m.data + (size_t)first * dtype_size(m.type);
    m.cols = cols;
    return m;
}

static void windows_backward_task(void *argument, int thread, int threads)
{
    const job *j = argument;
    const windows_args *a = j->args;
    int64_t begin, end, cols = a->dx.cols;
    REAL *room = KERNEL_SCRATCH(j->c, thread), *sum = room + cols;

    pool_share(a->samples * a->rows, thread, threads, &begin, &end);
    for (int64_t r = begin; r < end; r++) {
        int64_t sample = r / a->rows, at = r % a->rows + a->padding; /* in window t it is row at - t * stride */
        int64_t t = at < a->width ? 0 : (at - a->width) / a->stride + 1;
        memset(sum, 0, (size_t)cols * sizeof *sum);
        for (; t < a->count && t * a->stride <= at; t++) {
            mat part = columns_of(a->dy, (at - t * a->stride) * cols, cols);
            add_row(sum, row_real(&part, sample * a->count + t, room), cols);
        }
        give_sum(&a->dx, r, sum, a->accumulate);
    }
}

void KERNEL(windows_backward)(compute *c, const windows_args *args)
{
    job j = {c, args};

    compute_run(c, windows_backward_task, &j);
}

/* ---- rows of a table ---- */

static void gather_task(void *argument, int thread, int threads)
{
    const job *j = argument;
    const gather_args *a = j->args;
    REAL *zeros = KERNEL_SCRATCH(j->c, thread);
    int64_t begin, end;

    pool_share(a->y.rows, thread, threads, &begin, &end);
    memset(zeros, 0, (size_t)a->y.cols * sizeof *zeros);
    for (int64_t r = begin; r < end; r++) {
        int64_t id = a->ids[r];
        row_store(&a->y, r, id >= 0 && id < a->count ? (const REAL *)a->table + id * a->y.cols : zeros);
    }
}

void KERNEL(gather)(compute *c, const gather_args *args)
{
    job j = {c, args};

    compute_run(c, gather_task, &j);
}

/* Threads split columns: a row of the table that stands at several places gets their gradients in the order of these.
 */
static void gather_backward_task(void *argument, int thread, int threads)
{
    const job *j = argument;
    const gather_args *a = j->args;
    REAL *room = KERNEL_SCRATCH(j->c, thread);
    int64_t begin, end;

    pool_share(a->dy.cols, thread, threads, &begin, &end);
    for (int64_t r = 0; r < a->dy.rows && begin < end; r++) {
        mat part = columns_of(a->dy, begin, end - begin);
        int64_t id = a->ids[r];
        if (id >= 0 && id < a->count)
            add_row((REAL *)a->dtable + id * a->dy.cols + begin, row_real(&part, r, room), end - begin);
    }
}

void KERNEL(gather_backward)(compute *c, const gather_args *args)
{
    job j = {c, args};

    compute_run(c, gather_backward_task, &j);
}

/* ---- points of a grid ---- */

/* The two points of an axis between which a point of the other one lies, and what it takes of the second. */
typedef struct taps {
    int64_t at[2];
    double second;
} taps;

/* What point o of `out` takes of `in` points. Places are whole numbers, so that a point which lies on another one takes
 * all of that. */
static taps taps_of(int64_t o, int64_t in, int64_t out)
{
    int64_t place = (2 * o + 1) * in - out; /* in units of 1 / (2 out) */
    taps t;

    place = place > 0 ? place : 0;
    t.at[0] = place / (2 * out);
    t.at[1] = t.at[0] + 1 < in ? t.at[0] + 1 : in - 1;
    t.second = (double)(place % (2 * out)) / (double)(2 * out);
    return t;
}

/* What point o of `out` takes of point i of `in`. */
static double share_of(int64_t o, int64_t i, int64_t in, int64_t out)
{
    taps t = taps_of(o, in, out);

    return (t.at[0] == i ? 1 - t.second : 0) + (t.at[1] == i ? t.second : 0);
}

/* The points [*begin, *end) of `out` that may take something of point i: those with a place in (i - 1, i + 1), at the
 * borders whatever lies beyond. */
static void takers_of(int64_t i, int64_t in, int64_t out, int64_t *begin, int64_t *end)
{
    int64_t below = ((2 * i - 1) * out - in) / (2 * in), above = ((2 * i + 3) * out - in) / (2 * in) + 1;

    *begin = i == 0 || below < 0 ? 0 : below;
    *end = i == in - 1 || above > out ? out : above;
}

/* to[c] += factor * x[c] */
static void add_times(REAL *to, double factor, const REAL *x, int64_t count)
{
    for (int64_t c = 0; c < count; c++)
        to[c] += (REAL)factor * x[c];
}

static void upsample_task(void *argument, int thread, int threads)
{
    const job *j = argument;
    const upsample_args *a = j->args;
    REAL *room = KERNEL_SCRATCH(j->c, thread), *out = room + a->x.cols;
    int64_t begin, end, area = a->out_height * a->out_width;

    pool_share(a->samples * area, thread, threads, &begin, &end);
    for (int64_t r = begin; r < end; r++) {
        taps down = taps_of(r % area / a->out_width, a->height, a->out_height),
             across = taps_of(r % a->out_width, a->width, a->out_width);
        memset(out, 0, (size_t)a->x.cols * sizeof *out);
        for (int i = 0; i < 4; i++) {
            int64_t from = (r / area * a->height + down.at[i / 2]) * a->width + across.at[i % 2];
            double share = (i / 2 ? down.second : 1 - down.second) * (i % 2 ? across.second : 1 - across.second);
            if (share != 0)
                add_times(out, share, row_real(&a->x, from, room), a->x.cols);
        }
        row_store(&a->y, r, out);
    }
}

void KERNEL(upsample)(compute *c, const upsample_args *args)
{
    job j = {c, args};

    compute_run(c, upsample_task, &j);
}

static void upsample_backward_task(void *argument, int thread, int threads)
{
    const job *j = argument;
    const upsample_args *a = j->args;
    int64_t begin, end, area = a->height * a->width, cols = a->dx.cols;
    REAL *room = KERNEL_SCRATCH(j->c, thread), *sum = room + cols;

    pool_share(a->samples * area, thread, threads, &begin, &end);
    for (int64_t r = begin; r < end; r++) {
        int64_t y = r % area / a->width, x = r % a->width, top, bottom, left, right;
        takers_of(y, a->height, a->out_height, &top, &bottom);
        takers_of(x, a->width, a->out_width, &left, &right);
        memset(sum, 0, (size_t)cols * sizeof *sum);
        for (int64_t oy = top; oy < bottom; oy++) {
            double down = share_of(oy, y, a->height, a->out_height);
            for (int64_t ox = left; ox < right && down != 0; ox++) {
                double share = down * share_of(ox, x, a->width, a->out_width);
                int64_t from = (r / area * a->out_height + oy) * a->out_width + ox;
                if (share != 0)
                    add_times(sum, share, row_real(&a->dy, from, room), cols);
            }
        }
        give_sum(&a->dx, r, sum, a->accumulate);
    }
}

void KERNEL(upsample_backward)(compute *c, const upsample_args *args)
{
    job j = {c, args};

    compute_run(c, upsample_backward_task, &j);
}
