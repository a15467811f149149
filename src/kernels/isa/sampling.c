/* Rows made of other rows by their place: windows of a sequence, rows of a table. */
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
