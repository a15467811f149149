/* Matrix products with packed weights.
 *
 * A thread takes a block of rows of the left operand, small enough to stay in L2 together with its part of the result,
 * and runs every panel of weights over it. The left operand is read where it lies when it has the product's type
 * already; else its rows are converted into scratch memory on the way, prologue included, or made there of pixels. y =
 * x W takes its panels transposed from the same packed weights, group by group in the thread's scratch: that costs one
 * pass over the weights, little beside the rows that use them, and no second copy is kept but of int8 weights
 * (graph/param.c). */
#include <assert.h>

#include "kernels/isa/gemm_direct.h"
#include "kernels/isa/gemm_left.h"

#define ROOM_BYTES ((size_t)1 << 20) /* of scratch behind a block of the left operand: two rows on their way in */
#define WIDE_BYTES ((size_t)2 << 20) /* a panel of bf16 weights as reals */
#define GROUP_BYTES (SCRATCH_SIZE - LEFT_BYTES - ROOM_BYTES - WIDE_BYTES - 4096)

/* ---- the left operand ---- */

/* The left operand as the micro kernel walks it: row i begins at rows + i * stride, in steps. */
typedef struct left {
    const step *rows;
    int64_t stride;
    int64_t steps;
    bool pairs, in_place;
    step *room; /* of a block, when it is not in place */
} left;

static left find_left(const gemm_args *args, unsigned char *scratch)
{
    const mat *x = &args->x;
    bool bf16 = args->w->type == DTYPE_BF16, pairs = bf16 && HAVE_PAIRS;
    int64_t depth = x->cols, steps = pairs ? ceil_div(depth, 2) : bf16 ? ceil_div(depth, 2) * 2 : depth;
    bool lies = !args->pixels && !has_prologue(&args->in) &&
                !x->samples; /* ... in memory as it is multiplied, but for its type */
    left l = {.steps = steps, .pairs = pairs, .room = (step *)(void *)scratch};

    /* rows a multiple of 4 KB apart fall into the same sets of the first cache */
    l.in_place =
        lies && (size_t)x->stride * dtype_size(x->type) % 4096 &&
        (pairs ? x->type == DTYPE_BF16 && depth % 2 == 0 && x->stride % 2 == 0 && (uintptr_t)x->data % sizeof(step) == 0
               : !bf16 && x->type == REAL_TYPE);
    if (l.in_place) {
        l.rows = x->data;
        l.stride = pairs ? x->stride / 2 : x->stride;
    } else {
        l.rows = l.room;
        l.stride = (ceil_div(steps, 16) * 16) | 16;
    }
    return l;
}

/* Row r of the left operand, in steps, at `out`; rows beyond the last are zero. `room` is left_row's. */
static void convert_row(step *out, const gemm_args *args, int64_t r, const left *l, REAL *room)
{
    const mat *x = &args->x;
    int64_t depth = x->cols, c = 0;
    const REAL *from;

    if (r >= x->rows) {
        memset(out, 0, (size_t)l->steps * sizeof *out);
        return;
    }
    if (l->pairs && !args->pixels && x->type == DTYPE_BF16 && !has_prologue(&args->in)) {
        out[l->steps - 1] = 0;
        memcpy(out, (const uint16_t *)x->data + row_place(x, r) * x->stride, (size_t)depth * sizeof(uint16_t));
        return;
    }
    if (l->pairs && act_grads_bf16(x, &args->in) && depth % 2 == 0) {
        act_grad_row((uint16_t *)(void *)out, x, r, &args->in.act_grad);
        return;
    }
    if (has_prologue(&args->in)) {
        prologue_row(room, x, r, &args->in);
        from = room;
    } else {
        from = left_row(args, r, room);
    }
    if (l->pairs) {
        uint16_t *to = (uint16_t *)(void *)out;
        for (; c + VW <= depth; c += VW)
            v_store_bf16(to + c, v_load(from + c));
        for (; c < depth; c++)
            to[c] = f32_to_bf16((float)from[c]);
        if (depth & 1)
            to[depth] = 0;
    } else if (args->w->type == DTYPE_BF16) {
        for (; c + VW <= depth; c += VW)
            v_store((REAL *)out + c, v_round_bf16(v_load(from + c)));
        for (; c < depth; c++)
            out[c] = (REAL)bf16_to_f32(f32_to_bf16((float)from[c]));
        if (depth & 1)
            out[depth] = 0;
    } else {
        memcpy(out, from, (size_t)depth * sizeof *out);
    }
}

/* ---- the epilogue ---- */

/* One row of a tile: where it lies in each matrix, and its factor. */
typedef struct tile_row {
    int64_t y, act_grad, residual;
    vec factor;
} tile_row;

/* n columns (at most VW) of one row, from the sums to the result */
static inline __attribute__((always_inline)) void finish_vector(const gemm_epilogue *e, const mat *y, vec v,
                                                                const tile_row *at, int64_t col, int n, bool coarse)
{
    vec act_grad;

    if (e->bias)
        v = v_add(v, v_load_n((const REAL *)e->bias + col, n));
    if (e->act == ACT_GELU && coarse)
        v = e->act_grad.data ? v_gelu_and_grad_bf16(v, &act_grad) : v_gelu_bf16(v);
    else
        v = e->act_grad.data ? v_activate_and_grad(e->act, v, &act_grad) : v_activate(e->act, v);
    if (e->act_grad.data)
        v_store_mat(&e->act_grad, at->act_grad, col, act_grad, n);
    if (e->col_scale)
        v = v_mul(v, v_load_n((const REAL *)e->col_scale + col, n));
    if (e->row_scale)
        v = v_mul(v, at->factor);
    if (e->residual.data)
        v = v_add(v, v_load_mat(&e->residual, at->residual, col, n));
    v_store_mat(y, at->y, col, v, n);
}

static inline __attribute__((always_inline)) void finish_rows(const gemm_epilogue e, const mat y, const REAL *tile,
                                                              tile_place at, bool coarse)
{
    const float *scale = e.row_scale;
    int64_t cols = y.cols - at.col;
    row_walk to = walk_rows(&y, at.row), from = walk_rows(&e.residual, at.row),
             factor = walk_begin(NULL, scale ? e.row_group : 0, at.row);

    for (int64_t i = 0; i < at.rows; i++, walk_next(&to), walk_next(&from), walk_next(&factor)) {
        tile_row row = {walk_place(&to), at.row + i, walk_place(&from), v_set1(scale ? (REAL)scale[factor.sample] : 1)};
        if (cols >= NR) {
            UNROLL(4)
            for (int j = 0; j < NV; j++)
                finish_vector(&e, &y, v_load(tile + i * NR + j * VW), &row, at.col + j * VW, VW, coarse);
        } else {
            for (int64_t j = 0; j < cols; j += VW)
                finish_vector(&e, &y, v_load(tile + i * NR + j), &row, at.col + j,
                              VW > 1 && cols - j < VW ? (int)(cols - j) : VW, coarse);
        }
    }
}

/* That of a bottleneck is written out, so that what it lacks costs no tests in front of every vector; others are in
 * gemm_direct.h. */
void KERNEL(finish_tile)(const gemm_args *args, const REAL *tile, tile_place at)
{
    const gemm_epilogue e = args->out; /* copies, which no store through a pointer can change */
    const mat y = args->y;

    if (e.act == ACT_NONE && !e.act_grad.data && e.residual.data && e.residual.type == REAL_TYPE && y.type == REAL_TYPE)
        finish_rows((gemm_epilogue){.bias = e.bias,
                                    .col_scale = e.col_scale,
                                    .row_scale = e.row_scale,
                                    .row_group = e.row_group,
                                    .residual = e.residual},
                    y, tile, at, false);
    else
        finish_rows(e, y, tile, at, coarse_gelu(args->w));
}

void KERNEL(prefetch_tile)(const gemm_args *args, tile_place at)
{
    prefetch_part(&args->y, at.row, at.rows, at.col, NR, true);
    if (args->out.residual.data != args->y.data)
        prefetch_part(&args->out.residual, at.row, at.rows, at.col, NR, false);
}

/* ---- the product ---- */

typedef struct gemm_job {
    compute *c;
    const gemm_args *args;
} gemm_job;

static inline __attribute__((always_inline)) void run_direct(const gemm_args *args, const left *l, const step *rows,
                                                             const step *panel, tile_place at, direct how, bool pairs)
{
    vec sum[MR][NV];

    clear_sums(sum);
    if (at.rows <= MR_HALF)
        micro_sums(sum, rows, l->stride, 1, panel, NR, l->steps, MR_HALF, NV, pairs);
    else
        micro_sums(sum, rows, l->stride, 1, panel, NR, l->steps, MR, NV, pairs);
    finish_direct(args, sum, at, how);
}

static void run_tile(const gemm_args *args, const left *l, const step *rows, const step *panel, tile_place at,
                     direct how)
{
    _Alignas(64) REAL tile[MR * NR];
    bool narrow = args->y.cols - at.col <= VW;

    KERNEL(prefetch_tile)(args, at);
    if (is_direct(args, at, how)) {
        if (l->pairs)
            run_direct(args, l, rows, panel, at, how, HAVE_PAIRS);
        else
            run_direct(args, l, rows, panel, at, how, false);
        return;
    }
#if defined(KERNEL_BF16)
    if (l->pairs) {
        if (narrow)
            micro_rows(tile, NR, rows, l->stride, 1, panel, NR, l->steps, at.rows, 1, true, false);
        else
            micro_rows(tile, NR, rows, l->stride, 1, panel, NR, l->steps, at.rows, NV, true, false);
        KERNEL(finish_tile)(args, tile, at);
        return;
    }
#endif
    if (narrow)
        micro_rows(tile, NR, rows, l->stride, 1, panel, NR, l->steps, at.rows, 1, false, false);
    else
        micro_rows(tile, NR, rows, l->stride, 1, panel, NR, l->steps, at.rows, NV, false, false);
    KERNEL(finish_tile)(args, tile, at);
}

#if !defined(KERNEL_BF16)

/* out[2 * pairs][NR] = a panel of bf16 pairs as reals: where the processor has no product of bf16 pairs, the real one
 * runs on these. */
static void widen_panel(REAL *out, const uint16_t *b, int64_t pairs)
{
    for (int64_t p = 0; p < pairs; p++, b += NR * 2, out += 2 * NR) {
        UNROLL(4)
        for (int j = 0; j < NV; j++) {
#if defined(KERNEL_AVX512)
            __m512i both = _mm512_loadu_si512((const void *)(b + j * VW * 2));
            v_store(out + j * VW, _mm512_castsi512_ps(_mm512_slli_epi32(both, 16)));
            v_store(out + NR + j * VW,
                    _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32((int)0xffff0000u))));
#elif defined(KERNEL_AVX2)
            __m256i both = _mm256_loadu_si256((const __m256i *)(const void *)(b + j * VW * 2));
            v_store(out + j * VW, _mm256_castsi256_ps(_mm256_slli_epi32(both, 16)));
            v_store(out + NR + j * VW,
                    _mm256_castsi256_ps(_mm256_and_si256(both, _mm256_set1_epi32((int)0xffff0000u))));
#else
            out[j] = (REAL)bf16_to_f32(b[2 * j]);
            out[NR + j] = (REAL)bf16_to_f32(b[2 * j + 1]);
#endif
        }
    }
}

#endif

/* A panel of weights as the micro kernel takes it. */
static const step *ready_panel(const packed *w, const unsigned char *panel, int64_t steps, unsigned char *room)
{
#if !defined(KERNEL_BF16)
    if (w->type == DTYPE_BF16) {
        widen_panel((REAL *)(void *)room, (const uint16_t *)(const void *)panel, steps / 2);
        return (const step *)(const void *)room;
    }
#endif
    (void)w;
    (void)steps;
    (void)room;
    return (const step *)(const void *)panel;
}

/* Rows [row_begin, row_end) times panels of columns [first, first + count), which lie at `panels`. */
static void run_block(const gemm_args *args, unsigned char *scratch, const unsigned char *panels, int64_t first,
                      int64_t count, int64_t row_begin, int64_t row_end)
{
    left l = find_left(args, scratch);
    unsigned char *wide = scratch + LEFT_BYTES + ROOM_BYTES;
    REAL *room = (REAL *)(void *)(scratch + LEFT_BYTES);
    int64_t block = block_rows(&args->y, (size_t)l.stride * sizeof(step));
    size_t size = panel_bytes(args->transposed ? args->w->n : args->w->k, args->w->type);
    direct how = direct_of(args);

    if (args->pixels)
        KERNEL(patch_room)(room, args->pixels);
    for (int64_t at = row_begin; at < row_end; at += block) {
        int64_t rows = row_end - at < block ? row_end - at : block, whole = l.in_place ? rows / MR * MR : 0;
        for (int64_t i = whole; i < ceil_div(rows, MR) * MR; i++) /* in place, that is a last tile that is not full */
            convert_row(l.room + (i - whole) * l.stride, args, at + i < row_end ? at + i : args->x.rows, &l, room);
        for (int64_t q = 0; q < count; q++) {
            const step *panel = ready_panel(args->w, panels + (size_t)q * size, l.steps, wide);
            line_range lines = lines_meanwhile(l.in_place ? (size_t)l.steps * sizeof(step) : 0, q, count);
            for (int64_t i = 0; i < rows; i += MR) {
                int64_t next = at + block + i; /* in the next block, what this tile is in this one */
                const step *from = i < whole ? l.rows + (at + i) * l.stride : l.room + (i - whole) * l.stride;
                prefetch_rows(l.rows + next * l.stride, (size_t)l.stride * sizeof(step), row_end - next, lines);
                run_tile(args, &l, from, panel, tile_at(at + i, first + q, rows - i), how);
            }
        }
    }
}

/* Rows [row_begin, row_end) of panels [first, last). */
typedef struct part {
    int64_t row_begin, row_end, first, last;
} part;

#define PARTS \
    3 /* of one thread, at most: a begun row of the grid, whole ones, and one that is left to the next thread */

/* What a thread takes of the result, as a grid of half tiles and panels whose cells are shared evenly: row by row of
 * it, or where it has few rows, column by column, so that every weight is read, or transposed, by one thread only. */
static int find_parts(part out[PARTS], int64_t rows, int64_t panels, bool transposed, int thread, int threads)
{
    int64_t halves = ceil_div(rows, MR_HALF), tiles = ceil_div(rows, MR), begin, end;
    bool by_rows = transposed ? rows >= 2 * panels * NR : tiles >= 2 * threads || tiles >= panels;
    int64_t inner = by_rows ? panels : halves;
    int count = 0;

    pool_share(halves * panels, thread, threads, &begin, &end);
    while (begin < end) {
        int64_t line = begin / inner, at = begin % inner, lines = 1,
                cells = inner - at < end - begin ? inner - at : end - begin;
        if (cells == inner)
            lines = (end - begin) / inner;
        out[count] = by_rows ? (part){line, line + lines, at, at + cells} : (part){at, at + cells, line, line + lines};
        out[count].row_begin *= MR_HALF;
        out[count].row_end = out[count].row_end * MR_HALF < rows ? out[count].row_end * MR_HALF : rows;
        count++;
        begin += lines * cells;
    }
    return count;
}

static void gemm_task(void *argument, int thread, int threads)
{
    const gemm_job *job = argument;
    const gemm_args *args = job->args;
    unsigned char *scratch = KERNEL_SCRATCH(job->c, thread), *group = scratch + LEFT_BYTES + ROOM_BYTES + WIDE_BYTES;
    int64_t panels = ceil_div(args->y.cols, NR), first = panels, last = 0, room;
    size_t size = panel_bytes(args->transposed ? args->w->n : args->w->k, args->w->type);
    part parts[PARTS];
    int count = find_parts(parts, args->y.rows, panels, args->transposed, thread, threads);

    for (int i = 0; i < count; i++) {
        first = parts[i].first < first ? parts[i].first : first;
        last = parts[i].last > last ? parts[i].last : last;
    }
    room = args->transposed ? (int64_t)(GROUP_BYTES / size) : panels;
    for (int64_t q = first; q < last; q += room) {
        int64_t end = last - q < room ? last : q + room;
        const unsigned char *at = (const unsigned char *)args->w->data + (size_t)q * size;
        if (args->transposed) {
            KERNEL(transpose_panels)(group, args->w, q, end - q);
            at = group;
        }
        for (int i = 0; i < count; i++) {
            int64_t from = parts[i].first > q ? parts[i].first : q, to = parts[i].last < end ? parts[i].last : end;
            if (from < to && args->w->type == DTYPE_I8)
                KERNEL(run_int8)
            (args, scratch, at + (size_t)(from - q) * size, from, to - from, parts[i].row_begin, parts[i].row_end);
            else if (from < to) run_block(args, scratch, at + (size_t)(from - q) * size, from, to - from,
                                          parts[i].row_begin, parts[i].row_end);
        }
    }
    v_stream_end(); /* of kept act_grads */
}

void KERNEL(gemm)(compute *c, const gemm_args *args)
{
    gemm_job job = {c, args};

    assert(!args->transposed || args->w->type != DTYPE_I8);
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
