/* Attention on tiles, for queries, keys and values that count as rounded to bf16: one head at a time, in blocks of 32
 * query rows. The scores of a block live in the thread's scratch, the whole matrix nowhere; keys and values are laid
 * out once for each head. Probabilities and gradients are rounded to bf16 in front of their products.
 *
 * Right operands are panels as those of weights (gemm_tiles.c): 32 columns, [steps][2 tiles][16][16] pairs. Backward,
 * dV and dK are sums over query rows; they are computed transposed, since pairs of rows of P and of dS are panels as
 * they are made: dV^T = dO^T P, dK^T = Q^T dS. */
#include "kernels/tiles/tile.h"

#include <assert.h>

#include "kernels/isa/attention_rows.h"
#include "kernels/overlays/overlays.h"

#define BLOCK 32                       /* rows of queries, and columns of a panel */
#define STEP_DEPTH (TILE_BYTES / 2)    /* values of a row that a step takes */
#define SPAN_BYTES ((size_t)512 << 10) /* of panels that are kept for the products over query rows */

typedef struct attention_job {
    compute *c;
    const attention_args *a;
} attention_job;

/* Scratch of a thread. */
typedef struct rooms {
    int64_t key_blocks, dim_blocks; /* keys and dims in 32s: panels, and steps */
    int64_t row;                    /* words from row to row of one head, where rows are copied */
    int64_t scores_row;             /* reals from row to row of scores, an odd number of lines */
    weight_rows weights;            /* a block's probabilities, or gradients of scores, bf16 */
    int64_t span;                   /* query rows that the backward pass takes at a time, a multiple of BLOCK */
    int64_t turned_row;             /* words from row to row of a span's transposed rows */
    REAL *q, *dout, *k, *v;         /* room for rows of one head, as words, where they are not read in place */
    REAL *k_columns, *v_columns;    /* panels for products with k^T and v^T: a column for each key */
    REAL *k_depth, *v_depth;        /* with k and v: a column for each dimension */
    REAL *scores, *dscores;         /* of a block, [32][scores_row] */
    REAL *out;                      /* of a block, [32][dims] */
    REAL *p, *ds;                   /* a span's P and dS as panels: a column for each key */
    REAL *q_turned, *dout_turned;   /* a span's rows transposed, [dims][turned_row] */
    REAL *dk, *dv;                  /* of a head, transposed: [dims][keys] */
} rooms;

static void lay_out(rooms *m, const compute *c, int thread, const attention_args *a, bool backward)
{
    REAL *begin = KERNEL_SCRATCH(c, thread), *at = begin;
    int64_t keys, dims, panels, fit, rows = ceil_div(a->q_rows, BLOCK) * BLOCK;

    *m = (rooms){.key_blocks = ceil_div(a->k_rows, BLOCK), .dim_blocks = ceil_div(a->head_dim, BLOCK)};
    keys = m->key_blocks * BLOCK;
    dims = m->dim_blocks * BLOCK;
    panels = m->key_blocks * m->dim_blocks * TILE_STEP_WORDS;
    m->row = m->dim_blocks * TILE_WORDS;
    m->scores_row = keys | TILE_WORDS;
    fit = (int64_t)(SPAN_BYTES / (2 * TILE_STEP) / (size_t)m->key_blocks) * BLOCK;
    m->span = !backward || fit < BLOCK ? BLOCK : fit < rows ? fit : rows;
    m->turned_row = (m->span / 2) | TILE_WORDS;
#define TAKE(field, count) (m->field = at, at += ceil_div(count, 16) * 16)
    TAKE(q, m->span * m->row);
    TAKE(k, keys * m->row);
    TAKE(v, keys * m->row);
    TAKE(k_columns, panels);
    TAKE(scores, BLOCK * m->scores_row);
    TAKE(out, BLOCK * dims);
    m->weights = (weight_rows){(unsigned char *)at, (size_t)(keys / 2 | TILE_WORDS) * sizeof(REAL), true};
    at += BLOCK * (keys / 2 | TILE_WORDS);
    if (!backward) {
        TAKE(v_depth, panels);
    } else {
        TAKE(k_depth, panels);
        TAKE(v_columns, panels);
        TAKE(dout, m->span * m->row);
        TAKE(dscores, BLOCK * m->scores_row);
        TAKE(p, m->key_blocks * (m->span / BLOCK) * TILE_STEP_WORDS);
        TAKE(ds, m->key_blocks * (m->span / BLOCK) * TILE_STEP_WORDS);
        TAKE(q_turned, dims * m->turned_row);
        TAKE(dout_turned, dims * m->turned_row);
        TAKE(dk, dims * keys);
        TAKE(dv, dims * keys);
    }
#undef TAKE
    assert((size_t)(at - begin) * sizeof *at <= c->scratch_size);
    (void)begin;
}

/* ---- operands ---- */

/* Rows of one head as words of two bf16: row i begins at at + i * stride. */
typedef struct head_rows {
    const REAL *at;
    int64_t stride;
} head_rows;

/* Rows [first, first + count) of one head's part of `from`, of which the next `all` can be read: where they lie, or in
 * `room` with zeros up to a whole step. What follows the last is zero in the room and another sample's row in place. */
static head_rows find_rows(REAL *room, const rooms *m, const mat *from, int64_t first, int64_t count, int64_t all,
                           int64_t head, int64_t dim)
{
    mat part = *from;

    part.data = (unsigned char *)from->data + (size_t)(head * dim) * dtype_size(from->type);
    part.cols = dim;
    if (part.type == DTYPE_BF16 && dim % STEP_DEPTH == 0 && part.stride % 2 == 0 &&
        (uintptr_t)part.data % sizeof(REAL) == 0 && first + all <= part.rows)
        return (head_rows){(const REAL *)((const uint16_t *)part.data + first * part.stride), part.stride / 2};
    for (int64_t i = 0; i < all; i++) {
        uint16_t *to = (uint16_t *)(void *)(room + i * m->row);
        mat row = {.data = to, .type = DTYPE_BF16, .rows = 1, .cols = dim, .stride = dim};
        memset(to, 0, (size_t)m->row * sizeof(REAL));
        if (i < count && part.type == DTYPE_BF16)
            memcpy(to, (const uint16_t *)part.data + (first + i) * part.stride, (size_t)dim * sizeof *to);
        else if (i < count)
            row_store(&row, 0, (const REAL *)part.data + (first + i) * part.stride);
    }
    return (head_rows){room, m->row};
}

/* 16 rows from row `first` on, of `count`, 16 words from `word` on; rows behind the last are zero. */
static inline __attribute__((always_inline)) void load_square(vec square[VW], head_rows rows, int64_t first,
                                                              int64_t count, int64_t word)
{
    UNROLL(16)
    for (int j = 0; j < VW; j++)
        square[j] = first + j < count ? v_load(rows.at + (first + j) * rows.stride + word) : v_zero();
}

/* Panels whose columns are rows. */
static void turn_rows(REAL *out, const rooms *m, head_rows rows, int64_t count)
{
    for (int64_t t = 0; t < 2 * m->key_blocks; t++)
        for (int64_t s = 0; s < m->dim_blocks; s++) {
            REAL *to = out + (((t / 2) * m->dim_blocks + s) * 2 + t % 2) * TILE_WORDS_ALL;
            vec square[VW];
            load_square(square, rows, t * TILE_ROWS, count, s * TILE_WORDS);
            v_transpose(square);
            UNROLL(16)
            for (int j = 0; j < VW; j++)
                v_store(to + j * TILE_WORDS, square[j]);
        }
}

/* Pairs of rows 32 * step to 32 * step + 31, 32 columns of each from word `word` on: column i in lane i % 16 of left[]
 * where i < 16, else of right[]. */
static inline __attribute__((always_inline)) void zip_step(vec left[VW], vec right[VW], head_rows rows, int64_t step,
                                                           int64_t count, int64_t word)
{
    UNROLL(16)
    for (int j = 0; j < VW; j++) {
        int64_t r = step * BLOCK + 2 * j;
        const REAL *first = rows.at + r * rows.stride + word;
        v_zip_bf16(r < count ? v_load(first) : v_zero(), r + 1 < count ? v_load(first + rows.stride) : v_zero(),
                   &left[j], &right[j]);
    }
}

/* Panels whose depth goes along rows. */
static void zip_rows(REAL *out, const rooms *m, head_rows rows, int64_t count)
{
    int64_t steps = ceil_div(count, BLOCK);

    for (int64_t s = 0; s < steps; s++)
        for (int64_t d = 0; d < m->dim_blocks; d++) {
            REAL *to = out + (d * m->key_blocks + s) * TILE_STEP_WORDS;
            vec left[VW], right[VW];
            zip_step(left, right, rows, s, count, d * TILE_WORDS);
            for (int j = 0; j < VW; j++) {
                v_store(to + j * TILE_WORDS, left[j]);
                v_store(to + (TILE_ROWS + j) * TILE_WORDS, right[j]);
            }
        }
}

/* Rows transposed, as a left operand: row d of it has pairs of `count` rows' column d. */
static void transpose_rows(REAL *out, const rooms *m, head_rows rows, int64_t count)
{
    for (int64_t s = 0; s < ceil_div(count, BLOCK); s++)
        for (int64_t d = 0; d < m->dim_blocks; d++) {
            REAL *to = out + d * BLOCK * m->turned_row + s * TILE_WORDS;
            vec left[VW], right[VW];
            zip_step(left, right, rows, s, count, d * TILE_WORDS);
            v_transpose(left);
            v_transpose(right);
            for (int j = 0; j < VW; j++) {
                v_store(to + j * m->turned_row, left[j]);
                v_store(to + (TILE_ROWS + j) * m->turned_row, right[j]);
            }
        }
}

/* ---- products ---- */

/* A right operand: panel q of its columns begins at data + q * panel. */
typedef struct right {
    const REAL *data;
    int64_t panel;
} right;

static right panels_of(const REAL *data, int64_t steps)
{
    return (right){data, steps * TILE_STEP_WORDS};
}

/* out[rows][32 panels] (+)= left[rows][32 steps] * right; whole tiles of rows are read and written */
static void multiply(REAL *out, int64_t out_stride, const REAL *left, int64_t left_stride, right r, int64_t rows,
                     int64_t panels, int64_t steps, bool add)
{
    const int64_t row = left_stride * (int64_t)sizeof(REAL), out_row = out_stride * (int64_t)sizeof(REAL);

    for (int64_t i = 0; i < rows; i += BLOCK)
        for (int64_t q = 0; q < panels; q++) {
            REAL *to = out + i * out_stride + q * BLOCK;
            const REAL *from = left + i * left_stride, *panel = r.data + q * r.panel;
            bool half = rows - i <= TILE_ROWS;
            if (add)
                sums_load(to, out_row, half);
            else
                sums_clear();
            for (int64_t s = 0; s < steps; s++, from += TILE_WORDS, panel += TILE_STEP_WORDS) {
                TILE_LOAD(6, panel, TILE_BYTES);
                TILE_LOAD(4, from, row);
                TILE_PRODUCT_BF16(0, 4, 6);
                TILE_LOAD(7, panel + TILE_WORDS_ALL, TILE_BYTES);
                TILE_PRODUCT_BF16(1, 4, 7);
                if (half)
                    continue;
                TILE_LOAD(5, from + TILE_ROWS * left_stride, row);
                TILE_PRODUCT_BF16(2, 5, 6);
                TILE_PRODUCT_BF16(3, 5, 7);
            }
            sums_store(to, out_row, half);
        }
}

/* A block's weights times a right operand whose depth is keys; from whole vectors up to whole steps they are zero. */
static void multiply_weights(const rooms *m, const REAL *depth, int64_t rows, int64_t n)
{
    int64_t width = ceil_div(n, VW) * VW;

    for (int64_t i = 0; i < rows; i++)
        memset(m->weights.at + (size_t)i * m->weights.stride + (size_t)width * sizeof(uint16_t), 0,
               (size_t)(m->key_blocks * BLOCK - width) * sizeof(uint16_t));
    multiply(m->out, m->dim_blocks * BLOCK, (const REAL *)(const void *)m->weights.at,
             (int64_t)(m->weights.stride / sizeof(REAL)), panels_of(depth, m->key_blocks), rows, m->dim_blocks,
             m->key_blocks, false);
}

/* ---- forward ---- */

static head_rows find_keys(const attention_args *a, const rooms *m, int64_t s, int64_t h)
{
    return find_rows(m->k, m, &a->k, s * a->k_rows, a->k_rows, a->k_rows, h, a->head_dim);
}

static head_rows find_values(const attention_args *a, const rooms *m, int64_t s, int64_t h)
{
    return find_rows(m->v, m, &a->v, s * a->k_rows, a->k_rows, a->k_rows, h, a->head_dim);
}

static void forward_block(const attention_args *a, const rooms *m, int64_t s, int64_t h, int64_t first, int64_t count)
{
    int64_t d = a->head_dim, n = a->k_rows, row = s * a->q_rows + first;
    REAL inverse[BLOCK], lse[BLOCK];
    head_rows q = find_rows(m->q, m, &a->q, row, count, count <= TILE_ROWS ? TILE_ROWS : BLOCK, h, d);

    multiply(m->scores, m->scores_row, q.at, q.stride, panels_of(m->k_columns, m->dim_blocks), count, m->key_blocks,
             m->dim_blocks, false);
    prefetch_head(&a->out, row, count, h, d);
    exponentials(m->scores, m->scores_row, m->weights, count, n, factor_of(a), inverse, lse);
    if (a->lse)
        memcpy((REAL *)a->lse + (s * a->heads + h) * a->q_rows + first, lse, (size_t)count * sizeof *lse);
    multiply_weights(m, m->v_depth, count, n);
    put(&a->out, m->out, m->dim_blocks * BLOCK, row, count, h, d, inverse, 1, false);
}

/* Work is shared by blocks of query rows; the keys and values of a head are laid out by each thread that has blocks of
 * it. */
static void forward_task(void *argument, int thread, int threads)
{
    const attention_job *job = argument;
    const attention_args *a = job->a;
    int64_t blocks = ceil_div(a->q_rows, BLOCK), begin, end, laid_for = -1;
    rooms m;

    lay_out(&m, job->c, thread, a, false);
    pool_share(a->samples * a->heads * blocks, thread, threads, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        int64_t s = i / (a->heads * blocks), h = i / blocks % a->heads, first = i % blocks * BLOCK;
        if (i / blocks != laid_for) {
            turn_rows(m.k_columns, &m, find_keys(a, &m, s, h), a->k_rows);
            zip_rows(m.v_depth, &m, find_values(a, &m, s, h), a->k_rows);
            laid_for = i / blocks;
        }
        prefetch_next(a, i / blocks + 1, first, BLOCK);
        forward_block(a, &m, s, h, first, a->q_rows - first < BLOCK ? a->q_rows - first : BLOCK);
    }
}

void KERNEL(attention)(compute *c, const attention_args *args)
{
    attention_job job = {c, args};

    if (!args->rounded)
        BASE(attention)(c, args);
    else
        compute_run(c, forward_task, &job);
}

/* ---- backward ---- */

/* Where the pairs of keys c to c + 15 of rows `row` and row + 1 of a span lie in its panels. */
static inline int64_t pair_place(const rooms *m, int64_t row, int64_t c)
{
    int64_t steps = m->span / BLOCK;

    return ((((c / BLOCK) * steps + row / BLOCK) * 2 + c / VW % 2) * TILE_ROWS + row % BLOCK / 2) * TILE_WORDS;
}

/* Makes P and dS of the block's `count` rows, of which the first is row `first` of the span: P from the kept
 * log-sum-exp, dS = P (dP - rowsum(P dP)). Both become panels, with zeros for rows up to a whole step; dS becomes
 * weights, too. */
static void backward_rows(const attention_args *a, const rooms *m, const REAL *lse, int64_t first, int64_t count)
{
    int64_t n = a->k_rows, width = ceil_div(n, VW) * VW;
    REAL sums[BLOCK];

    for (int64_t i = 0; i < count; i++)
        sums[i] = recall(m->scores + i * m->scores_row, m->dscores + i * m->scores_row, n, factor_of(a), lse[i]);
    for (int64_t i = 0; i < BLOCK; i += 2) {
        const REAL *p = m->scores + i * m->scores_row, *dp = m->dscores + i * m->scores_row;
        bool one = i < count, two = i + 1 < count;
        vec sum = v_set1(one ? sums[i] : 0), sum2 = v_set1(two ? sums[i + 1] : 0);
        for (int64_t c = 0; c < width; c += VW) {
            int64_t to = pair_place(m, first + i, c);
            vec w = one ? v_load(p + c) : v_zero(), w2 = two ? v_load(p + m->scores_row + c) : v_zero(),
                ds = one ? v_mul(w, v_sub(v_load(dp + c), sum)) : v_zero(),
                ds2 = two ? v_mul(w2, v_sub(v_load(dp + m->scores_row + c), sum2)) : v_zero();
            if (one)
                put_weights(m->weights, i, c, ds);
            if (two)
                put_weights(m->weights, i + 1, c, ds2);
            v_store(m->p + to, v_pair_bf16(w, w2));
            v_store(m->ds + to, v_pair_bf16(ds, ds2));
        }
    }
}

/* Query rows [first, first + count) of a head, whose keys and values are laid out. */
static void backward_span(const attention_args *a, const rooms *m, int64_t s, int64_t h, int64_t first, int64_t count)
{
    int64_t d = a->head_dim, n = a->k_rows, row = s * a->q_rows + first, keys = m->key_blocks * BLOCK,
            dims = m->dim_blocks * BLOCK, steps = ceil_div(count, BLOCK),
            whole = ceil_div(count, TILE_ROWS) * TILE_ROWS;
    const REAL *lse = (const REAL *)a->lse + (s * a->heads + h) * a->q_rows + first;
    head_rows q = find_rows(m->q, m, &a->q, row, count, whole, h, d);
    head_rows dout = find_rows(m->dout, m, &a->dout, row, count, whole, h, d);
    const REAL scale = (REAL)a->scale;

    for (int64_t i = 0; i < count; i += BLOCK) {
        int64_t rows = count - i < BLOCK ? count - i : BLOCK;
        multiply(m->scores, m->scores_row, q.at + i * q.stride, q.stride, panels_of(m->k_columns, m->dim_blocks), rows,
                 m->key_blocks, m->dim_blocks, false);
        prefetch_next(a, s * a->heads + h + 1, first + i, rows);
        multiply(m->dscores, m->scores_row, dout.at + i * dout.stride, dout.stride,
                 panels_of(m->v_columns, m->dim_blocks), rows, m->key_blocks, m->dim_blocks, false);
        backward_rows(a, m, lse + i, i, rows);
        if (a->dq.data) {
            multiply_weights(m, m->k_depth, rows, n);
            put(&a->dq, m->out, dims, row + i, rows, h, d, &scale, 0, a->accumulate_q);
        }
    }
    if (a->dv.data) {
        transpose_rows(m->dout_turned, m, dout, count);
        multiply(m->dv, keys, m->dout_turned, m->turned_row, panels_of(m->p, m->span / BLOCK), dims, m->key_blocks,
                 steps, first > 0);
    }
    if (a->dk.data) {
        transpose_rows(m->q_turned, m, q, count);
        multiply(m->dk, keys, m->q_turned, m->turned_row, panels_of(m->ds, m->span / BLOCK), dims, m->key_blocks, steps,
                 first > 0);
    }
}

/* Rows of one head's part of `target` (+)= the columns of from[dims][keys], times a factor. */
static void put_columns(const mat *target, const rooms *m, const REAL *from, const attention_args *a, int64_t s,
                        int64_t h, REAL factor, bool add)
{
    int64_t n = a->k_rows, keys = m->key_blocks * BLOCK, dims = m->dim_blocks * BLOCK;

    for (int64_t first = 0; target->data && first < n; first += VW) {
        int64_t count = n - first < VW ? n - first : VW;
        for (int64_t c = 0; c < dims; c += VW) {
            vec square[VW];
            UNROLL(16)
            for (int j = 0; j < VW; j++)
                square[j] = v_load(from + (c + j) * keys + first);
            v_transpose(square);
            UNROLL(16)
            for (int j = 0; j < VW; j++)
                v_store(m->out + j * dims + c, square[j]);
        }
        put(target, m->out, dims, s * n + first, count, h, a->head_dim, &factor, 0, add);
    }
}

static void backward_task(void *argument, int thread, int threads)
{
    const attention_job *job = argument;
    const attention_args *a = job->a;
    int64_t begin, end;
    rooms m;

    lay_out(&m, job->c, thread, a, true);
    pool_share(a->samples * a->heads, thread, threads, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        int64_t s = i / a->heads, h = i % a->heads;
        head_rows keys = find_keys(a, &m, s, h);
        turn_rows(m.k_columns, &m, keys, a->k_rows);
        turn_rows(m.v_columns, &m, find_values(a, &m, s, h), a->k_rows);
        if (a->dq.data)
            zip_rows(m.k_depth, &m, keys, a->k_rows);
        for (int64_t first = 0; first < a->q_rows; first += m.span)
            backward_span(a, &m, s, h, first, a->q_rows - first < m.span ? a->q_rows - first : m.span);
        put_columns(&a->dk, &m, m.dk, a, s, h, (REAL)a->scale, a->accumulate_k);
        put_columns(&a->dv, &m, m.dv, a, s, h, 1, a->accumulate_v);
    }
}

void KERNEL(attention_backward)(compute *c, const attention_args *args)
{
    attention_job job = {c, args};

    if (!args->rounded)
        BASE(attention_backward)(c, args);
    else
        compute_run(c, backward_task, &job);
}
