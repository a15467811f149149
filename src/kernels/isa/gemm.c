/* Matrix products with packed weights.
 *
 * A thread takes a block of rows of the left operand, small enough to stay in L2 together with its part of the result,
 * and runs every panel of weights over it. The left operand is read where it lies when it lies as the micro-kernel
 * takes it; else its rows are converted into scratch memory on the way, prologue included, or made there of pixels. y =
 * x W takes its panels transposed from the same packed weights, group by group in the thread's scratch: that costs one
 * pass over the weights, little beside the rows that use them, and no second copy is kept but of int8 weights
 * (graph/param.c). */
#include <assert.h>

#include "kernels/isa/gemm_left.h"

typedef struct gemm_job {
    compute *c;
    const gemm_args *args;
} gemm_job;

/* What a thread multiplies with. */
typedef struct worker {
    const gemm_args *args;
    const micro_kernel *m;
    unsigned char *scratch;
    size_t panel_bytes; /* of a panel as the product takes it: transposed where the weights are */
} worker;

/* Rows of the left operand, from `begin` to `end`: where they lie, or room for a block of them. */
typedef struct left {
    const unsigned char *rows; /* row 0, where they lie */
    size_t stride, row_bytes;
    bool in_place;
} left;

static left find_left(const worker *w)
{
    const mat *x = &w->args->x;
    left l = {.row_bytes = w->m->row_bytes(x->cols), .in_place = w->m->in_place(w->args)};

    l.rows = l.in_place ? x->data : NULL;
    l.stride = l.in_place ? (size_t)x->stride * dtype_size(x->type) : block_stride(l.row_bytes);
    return l;
}

/* A block of rows [at, at + rows) times these panels; rows up to row_end will follow. Of a block in place, a last tile
 * that is not full is converted all the same: behind it there may be no memory. */
static void run_block(const worker *w, const left *l, int64_t at, int64_t rows, int64_t row_end,
                      const panel_range *panels)
{
    const micro_kernel *m = w->m;
    const mat *x = &w->args->x;
    int64_t whole = l->in_place ? rows / m->mr * m->mr : 0, behind = row_end - at - rows;
    row_quant quants[MOST_TILES * MOST_MR];

    for (int64_t i = 0; i < whole && x->type == DTYPE_U8; i++)
        quants[i] = *quant_behind(quantised_row(x, at + i), x->stride);
    for (int64_t i = whole; i < ceil_div(rows, m->mr) * m->mr; i++)
        quants[i] = m->convert(w->scratch + (size_t)(i - whole) * l->stride, w->args, i < rows ? at + i : x->rows,
                               w->scratch + LEFT_BYTES);
    m->block(w->args,
             &(left_block){.first = at,
                           .count = rows,
                           .whole = whole,
                           .in_place = l->in_place ? l->rows + (size_t)at * l->stride : NULL,
                           .room = w->scratch,
                           .stride = l->stride,
                           .quants = quants,
                           .row_bytes = l->row_bytes,
                           .following = !l->in_place    ? 0
                                        : behind < rows ? behind
                                                        : rows},
             panels, w->scratch + LEFT_BYTES + ROOM_BYTES);
}

/* Rows [row_begin, row_end) times these panels. */
static void run_rows(const worker *w, const panel_range *panels, int64_t row_begin, int64_t row_end)
{
    left l = find_left(w);
    int64_t block = block_rows(&w->args->y, l.stride, w->m->mr);

    if (w->args->pixels)
        BASE(patch_room)((REAL *)(void *)(w->scratch + LEFT_BYTES), w->args->pixels);
    for (int64_t at = row_begin; at < row_end; at += block)
        run_block(w, &l, at, row_end - at < block ? row_end - at : block, row_end, panels);
}

/* Rows [row_begin, row_end) of panels [first, last). */
typedef struct part {
    int64_t row_begin, row_end, first, last;
} part;

#define PARTS \
    3 /* of one thread, at most: a begun row of the grid, whole ones, and one that is left to the next thread */

/* What a thread takes of the result, as a grid of half tiles and panels whose cells are shared evenly: row by row of
 * it, or where it has few rows, column by column, so that every weight is read, or transposed, by one thread only. */
static int find_parts(part out[PARTS], const micro_kernel *m, const gemm_args *args, int thread, int threads)
{
    int64_t rows = args->y.rows, panels = ceil_div(args->y.cols, m->nr), halves = ceil_div(rows, m->half_rows),
            tiles = ceil_div(rows, m->mr), begin, end;
    bool by_rows = args->transposed ? rows >= 2 * panels * m->nr : tiles >= 2 * threads || tiles >= panels;
    int64_t inner = by_rows ? panels : halves;
    int count = 0;

    pool_share(halves * panels, thread, threads, &begin, &end);
    while (begin < end) {
        int64_t line = begin / inner, at = begin % inner, lines = 1,
                cells = inner - at < end - begin ? inner - at : end - begin;
        if (cells == inner)
            lines = (end - begin) / inner;
        out[count] = by_rows ? (part){line, line + lines, at, at + cells} : (part){at, at + cells, line, line + lines};
        out[count].row_begin *= m->half_rows;
        out[count].row_end = out[count].row_end * m->half_rows < rows ? out[count].row_end * m->half_rows : rows;
        count++;
        begin += lines * cells;
    }
    return count;
}

static void gemm_task(void *argument, int thread, int threads)
{
    const gemm_job *job = argument;
    const gemm_args *args = job->args;
    const micro_kernel *m = micro_kernel_for(job->c->micro_kernels, args->w->type);
    worker w = {args, m, KERNEL_SCRATCH(job->c, thread), m->panel_bytes(args->x.cols)};
    unsigned char *group = w.scratch + LEFT_BYTES + ROOM_BYTES + BLOCK_ROOM;
    int64_t panels = ceil_div(args->y.cols, m->nr), first = panels, last = 0, room;
    part parts[PARTS];
    int count = find_parts(parts, m, args, thread, threads);

    for (int i = 0; i < count; i++) {
        first = parts[i].first < first ? parts[i].first : first;
        last = parts[i].last > last ? parts[i].last : last;
    }
    room = args->transposed ? (int64_t)(GROUP_BYTES / w.panel_bytes) : panels;
    for (int64_t q = first; q < last; q += room) {
        int64_t end = last - q < room ? last : q + room;
        const unsigned char *at = (const unsigned char *)args->w->data + (size_t)q * w.panel_bytes;
        if (args->transposed) {
            m->transpose(group, args->w, q, end - q);
            at = group;
        }
        for (int i = 0; i < count; i++) {
            int64_t from = parts[i].first > q ? parts[i].first : q, to = parts[i].last < end ? parts[i].last : end;
            if (from < to)
                run_rows(&w, &(panel_range){at + (size_t)(from - q) * w.panel_bytes, w.panel_bytes, from, to - from},
                         parts[i].row_begin, parts[i].row_end);
        }
    }
    v_stream_end(); /* of kept act_grads */
}

void KERNEL(gemm)(compute *c, const gemm_args *args)
{
    gemm_job job = {c, args};

    assert(!args->transposed || micro_kernel_for(c->micro_kernels, args->w->type)->transpose);
    compute_run(c, gemm_task, &job);
}

typedef struct prologue_job {
    compute *c;
    const mat *y, *x;
    const gemm_prologue *in;
} prologue_job;

static void prologue_task(void *argument, int thread, int threads)
{
    const prologue_job *job = argument;
    REAL *room = KERNEL_SCRATCH(job->c, thread);
    int64_t begin, end;

    pool_share(job->x->rows, thread, threads, &begin, &end);
    for (int64_t r = begin; r < end; r++) {
        REAL *to = row_begin(job->y, r, room);
        prologue_row(to, job->x, r, job->in);
        row_store(job->y, r, to);
    }
}

void KERNEL(apply_prologue)(compute *c, const mat *y, const mat *x, const gemm_prologue *in)
{
    prologue_job job = {c, y, x, in};

    compute_run(c, prologue_task, &job);
}
