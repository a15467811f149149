/* Attention, one head at a time, in blocks of query rows: the scores of a block live in the thread's scratch, the whole
 * matrix nowhere. All products run through the micro kernel of the matrix product; keys and values are packed once for
 * each head. Queries, keys and values that count as rounded to bf16 are multiplied in pairs where the processor can:
 * probabilities and gradients are then rounded to bf16 in front of their products, and every sum is f32 as ever. */
#include <assert.h>

#include "kernels/isa/attention_rows.h"
#include "kernels/isa/gemm_micro.h"

#define BLOCK_ROWS (24 / MR * MR) /* query rows whose scores are computed at a time */
#define SPAN_BYTES                                                                                                    \
    ((size_t)512 << 10) /* probabilities and gradients of scores that are kept for the products with their transposes \
                         */

typedef struct attention_job {
    compute *c;
    const attention_args *a;
} attention_job;

/* Scratch of a thread, in steps of the micro kernel: a real, or a pair of bf16. Where steps are reals, some operands
 * are one another and need no room. */
typedef struct rooms {
    bool pairs, rounded;
    int64_t keys, dims;  /* columns, padded to whole panels */
    int64_t head, depth; /* steps along a row of one head, and along a row of scores */
    int64_t row;         /* from row to row of one head, >= head */
    int64_t stride; /* from row to row of scores: an odd number of cache lines, so that a column of them spreads over
                       the cache */
    int64_t span;   /* query rows that the backward pass takes at a time, a multiple of BLOCK_ROWS */
    step *k, *v, *q, *dout; /* room for rows of one head, filled with zeros to whole panels and tiles, where they cannot
                               be read in place */
    step *k_columns, *v_columns; /* right operands of products with k^T, v^T: [keys / NR][head][NR] */
    step *k_depth, *v_depth;     /* right operands of products with k, v: [depth][dims] */
    step *q_depth, *dout_depth;
    step *scores, *dscores; /* reals; of a block, or of a span where they are operands themselves */
    step *weights;          /* a block's probabilities, or gradients of scores, as left operand: `stride` apart */
    step *p_transposed, *ds_transposed; /* a span's probabilities and gradients of scores, as left operands of products
                                           with their transposes: [steps along the rows][stride] */
    step *out, *dk, *dv;                /* reals, [rows][dims]: a block's result; of a head */
} rooms;

static void lay_out(rooms *m, const compute *c, int thread, const attention_args *a, bool backward)
{
    step *begin = KERNEL_SCRATCH(c, thread), *at = begin;
    bool pairs = HAVE_PAIRS && a->rounded;
    int64_t n = a->k_rows, d = a->head_dim, fit, score_rows, rows;

    *m = (rooms){.pairs = pairs,
                 .rounded = a->rounded,
                 .keys = round_up(n, NR),
                 .dims = round_up(d, NR),
                 .head = pairs ? (d + 1) / 2 : d,
                 .depth = pairs ? (n + 1) / 2 : n};
    m->row = pairs ? round_up(m->head, 16) : m->dims;
    m->stride = round_up(m->keys + MR, 16) | 16;
    fit =
        (int64_t)(SPAN_BYTES / (size_t)m->stride / (pairs ? sizeof(step) : 2 * sizeof(step))) / BLOCK_ROWS * BLOCK_ROWS;
    rows = round_up(a->q_rows, BLOCK_ROWS);
    m->span = !backward || fit < BLOCK_ROWS ? BLOCK_ROWS : fit < rows ? fit : rows;
    score_rows = pairs ? BLOCK_ROWS : m->span;
#define TAKE(field, count) (m->field = at, at += round_up(count, 16))
    TAKE(q, m->span * m->row);
    TAKE(k, m->keys * m->row);
    TAKE(v, m->keys * m->row);
    TAKE(k_columns, m->keys * m->head);
    TAKE(scores, score_rows * m->stride);
    TAKE(out, BLOCK_ROWS * m->dims);
    m->weights = m->scores;
    m->k_depth = m->k;
    m->v_depth = m->v;
    if (pairs) {
        TAKE(weights, BLOCK_ROWS * m->stride);
        TAKE(k_depth, m->depth * m->dims);
        TAKE(v_depth, m->depth * m->dims);
    }
    if (backward) {
        TAKE(dout, m->span * m->row);
        TAKE(v_columns, m->keys * m->head);
        TAKE(dscores, score_rows * m->stride);
        TAKE(dk, round_up(n, MR) * m->dims);
        TAKE(dv, round_up(n, MR) * m->dims);
        m->p_transposed = m->scores;
        m->ds_transposed = m->dscores;
        m->q_depth = m->q;
        m->dout_depth = m->dout;
        if (pairs) {
            TAKE(p_transposed, m->span / 2 * m->stride);
            TAKE(ds_transposed, m->span / 2 * m->stride);
            TAKE(q_depth, m->span / 2 * m->dims);
            TAKE(dout_depth, m->span / 2 * m->dims);
        } else {
            m->weights = m->dscores;
        }
    }
#undef TAKE
    assert((size_t)(at - begin) * sizeof *at <= c->scratch_size);
    (void)begin;
}

/* ---- operands ---- */

/* Rows [first, first + count) of one head's part of `from`, in steps; zero rows follow up to `all`. */
static void take_rows(step *out, const rooms *m, const mat *from, int64_t first, int64_t count, int64_t all,
                      int64_t head, int64_t dim)
{
    mat part = *from;

    part.data = (unsigned char *)from->data + (size_t)(head * dim) * dtype_size(from->type);
    part.cols = dim;
    for (int64_t i = 0; i < all; i++) {
        step *to = out + i * m->row;
        memset(to + m->head - 1, 0, (size_t)(m->row - m->head + 1) * sizeof *to);
        if (i >= count) {
            memset(to, 0, (size_t)m->head * sizeof *to);
        } else if (m->pairs && part.type != DTYPE_BF16) {
            mat pairs = {.data = to, .type = DTYPE_BF16, .rows = 1, .cols = dim, .stride = dim};
            row_store(&pairs, 0, (const REAL *)part.data + (first + i) * part.stride);
        } else if (m->pairs) {
            memcpy(to, (const uint16_t *)part.data + (first + i) * part.stride, (size_t)dim * sizeof(uint16_t));
        } else {
            const REAL *row = row_real(&part, first + i, (REAL *)to);
            for (int64_t c = 0; m->rounded && c < dim; c += VW) {
                int n = dim - c < VW ? (int)(dim - c) : VW;
                v_store_part((REAL *)to + c, v_round_bf16(v_load_n(row + c, n)), n);
            }
            if (!m->rounded && row != (REAL *)to)
                memcpy(to, row, (size_t)dim * sizeof *to);
        }
    }
}

/* Rows of one head, in steps: row i begins at at + i * stride. */
typedef struct head_rows {
    const step *at;
    int64_t stride;
} head_rows;

/* Rows [first, first + count) of one head's part of `from`, of which the next `all` can be read: where they lie when
 * they are steps already, else in `room`. What follows the last is zero in the room and another sample's row in place.
 */
static head_rows find_rows(step *room, const rooms *m, const mat *from, int64_t first, int64_t count, int64_t all,
                           int64_t head, int64_t dim)
{
    if (m->pairs && from->type == DTYPE_BF16 && dim % 2 == 0 && from->stride % 2 == 0 &&
        (uintptr_t)from->data % sizeof(step) == 0 && first + all <= from->rows)
        return (head_rows){(const step *)from->data + (first * from->stride + head * dim) / 2, from->stride / 2};
    take_rows(room, m, from, first, count, all, head, dim);
    return (head_rows){room, m->row};
}

/* A right operand whose columns are rows, `count` of them; zeros fill it up to `all`, a multiple of NR. */
static void turn_rows(step *out, const rooms *m, head_rows rows, int64_t count, int64_t all)
{
    for (int64_t i = 0; i < all; i += VW) {
        step *to = out + i / NR * NR * m->head + i % NR;
        const step *from = rows.at + i * rows.stride;
        int64_t s = 0, full = count - i < VW ? count - i : VW;
        for (; s + VW <= m->head; s += VW) {
            vec square[VW];
            for (int j = 0; j < VW; j++)
                square[j] = j < full ? v_load((const REAL *)(from + j * rows.stride + s)) : v_zero();
            v_transpose(square);
            for (int j = 0; j < VW; j++)
                v_store((REAL *)(to + (s + j) * NR), square[j]);
        }
        for (; s < m->head; s++)
            for (int j = 0; j < VW; j++)
                to[s * NR + j] = j < full ? from[j * rows.stride + s] : 0;
    }
}

#if defined(KERNEL_BF16)

/* n <= 0: nothing */
static inline vec load_steps(const step *from, int n)
{
    return n == VW ? v_load((const REAL *)from) : n > 0 ? v_load_part((const REAL *)from, n) : v_zero();
}

#endif

/* A right operand whose depth goes along rows: of pairs, each step holds two of them. */
static void zip_rows(step *out, const rooms *m, head_rows rows, int64_t count)
{
#if defined(KERNEL_BF16)
    for (int64_t i = 0; m->pairs && i < count; i += 2) {
        const step *first = rows.at + i * rows.stride, *second = first + rows.stride;
        step *to = out + i / 2 * m->dims;
        for (int64_t s = 0; s < m->dims / 2; s += VW) {
            int n = m->head - s < VW ? (int)(m->head - s) : VW;
            vec left, right;
            v_zip_bf16(load_steps(first + s, n), i + 1 < count ? load_steps(second + s, n) : v_zero(), &left, &right);
            v_store((REAL *)(to + 2 * s), left);
            v_store((REAL *)(to + 2 * s + VW), right);
        }
    }
#else
    (void)out; /* the rows are the operand */
    (void)m;
    (void)rows;
    (void)count;
#endif
}

/* ---- products ---- */

/* A right operand: panel q of its columns begins at data + q * panel, its steps are `next` apart. */
typedef struct right {
    const step *data;
    int64_t panel, next;
} right;

static inline __attribute__((always_inline)) void multiply_as(bool pairs, step *out, int64_t out_stride,
                                                              const step *left, int64_t left_stride, right r,
                                                              int64_t count, int64_t cols, int64_t steps)
{
    for (int64_t q = 0; q * NR < cols; q++)
        for (int64_t p = 0; p < count; p += MR) {
            REAL *to = (REAL *)(out + p * out_stride + q * NR);
            const step *from = left + p * left_stride, *panel = r.data + q * r.panel;
            if (cols - q * NR <= VW)
                micro_rows(to, out_stride, from, left_stride, 1, panel, r.next, steps, count - p, 1, pairs, false);
            else
                micro_rows(to, out_stride, from, left_stride, 1, panel, r.next, steps, count - p, NV, pairs, false);
        }
}

/* out[count][cols] = left[count][steps] * right; whole tiles of rows are read and written */
static void multiply(const rooms *m, step *out, int64_t out_stride, const step *left, int64_t left_stride, right r,
                     int64_t count, int64_t cols, int64_t steps)
{
    if (m->pairs && HAVE_PAIRS)
        multiply_as(true, out, out_stride, left, left_stride, r, count, cols, steps);
    else
        multiply_as(false, out, out_stride, left, left_stride, r, count, cols, steps);
}

static inline __attribute__((always_inline)) void add_transposed_as(bool pairs, step *total, const step *transposed,
                                                                    const step *rows, const rooms *m, int64_t n,
                                                                    int64_t steps)
{
    for (int64_t q = 0; q < m->dims; q += NR)
        for (int64_t p = 0; p < n; p += MR)
            micro_rows((REAL *)(total + p * m->dims + q), m->dims, transposed + p, 1, m->stride, rows + q, m->dims,
                       steps, n - p, NV, pairs, true);
}

/* total[n][dims] += transposed^T rows over the rows of a span. The last tile may reach beyond column n of the scores:
 * that lands in rows of `total` that nobody reads. */
static void add_transposed(step *total, const step *transposed, const step *rows, const rooms *m, int64_t n,
                           int64_t count)
{
    if (m->pairs && HAVE_PAIRS)
        add_transposed_as(true, total, transposed, rows, m, n, (count + 1) / 2);
    else
        add_transposed_as(false, total, transposed, rows, m, n, count);
}

/* ---- forward ---- */

static weight_rows weights_of(const rooms *m)
{
    return (weight_rows){(unsigned char *)m->weights, (size_t)m->stride * sizeof(step), m->pairs};
}

static void forward_block(const attention_args *a, const rooms *m, int64_t s, int64_t h, int64_t first, int64_t count)
{
    int64_t d = a->head_dim, n = a->k_rows, row = s * a->q_rows + first;
    REAL inverse[BLOCK_ROWS], lse[BLOCK_ROWS];
    head_rows q = find_rows(m->q, m, &a->q, row, count, round_up(count, MR_HALF), h, d);

    multiply(m, m->scores, m->stride, q.at, q.stride, (right){m->k_columns, NR * m->head, NR}, count, n, m->head);
    prefetch_head(&a->out, row, count, h, d);
    exponentials((REAL *)m->scores, m->stride, weights_of(m), count, n, factor_of(a), inverse, lse);
    if (a->lse)
        memcpy((REAL *)a->lse + (s * a->heads + h) * a->q_rows + first, lse, (size_t)count * sizeof *lse);
    multiply(m, m->out, m->dims, m->weights, m->stride, (right){m->v_depth, NR, m->dims}, count, d, m->depth);
    put(&a->out, (const REAL *)m->out, m->dims, row, count, h, d, inverse, 1, false);
}

static head_rows find_keys(const attention_args *a, const rooms *m, int64_t s, int64_t h)
{
    return find_rows(m->k, m, &a->k, s * a->k_rows, a->k_rows, a->k_rows, h, a->head_dim);
}

static head_rows find_values(const attention_args *a, const rooms *m, int64_t s, int64_t h)
{
    return find_rows(m->v, m, &a->v, s * a->k_rows, a->k_rows, a->k_rows, h, a->head_dim);
}

/* Work is shared by blocks of query rows; the keys and values of a head are packed by each thread that has blocks of
 * it. */
static void forward_task(void *argument, int thread, int threads)
{
    const attention_job *job = argument;
    const attention_args *a = job->a;
    int64_t blocks = (a->q_rows + BLOCK_ROWS - 1) / BLOCK_ROWS, begin, end, packed_for = -1;
    rooms m;

    lay_out(&m, job->c, thread, a, false);
    pool_share(a->samples * a->heads * blocks, thread, threads, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        int64_t s = i / (a->heads * blocks), h = i / blocks % a->heads, first = i % blocks * BLOCK_ROWS;
        if (i / blocks != packed_for) {
            turn_rows(m.k_columns, &m, find_keys(a, &m, s, h), a->k_rows, m.keys);
            zip_rows(m.v_depth, &m, find_values(a, &m, s, h), a->k_rows);
            packed_for = i / blocks;
        }
        prefetch_next(a, i / blocks + 1, first, BLOCK_ROWS);
        forward_block(a, &m, s, h, first, a->q_rows - first < BLOCK_ROWS ? a->q_rows - first : BLOCK_ROWS);
    }
}

void KERNEL(attention)(compute *c, const attention_args *args)
{
    attention_job job = {c, args};

    compute_run(c, forward_task, &job);
}

/* ---- backward ---- */

/* Makes P and dS of `count` rows from row `first` of the span: P from the kept log-sum-exp, dS = P (dP - rowsum(P dP)).
 * P goes to p_transposed, dS to ds_transposed and weights. */
static void backward_rows(const attention_args *a, const rooms *m, const REAL *lse, int64_t first, int64_t count)
{
    int64_t n = a->k_rows, width = round_up(n, VW), at = m->pairs ? 0 : first; /* where the scores of `first` lie */
    REAL sums[BLOCK_ROWS];

    for (int64_t i = 0; i < count; i++)
        sums[i] = recall((REAL *)(m->scores + (at + i) * m->stride), (const REAL *)(m->dscores + (at + i) * m->stride),
                         n, factor_of(a), lse[i]);
#if defined(KERNEL_BF16)
    for (int64_t i = 0; m->pairs && i < count; i += 2) {
        const REAL *p = (const REAL *)(m->scores + i * m->stride), *dp = (const REAL *)(m->dscores + i * m->stride);
        step *p_to = m->p_transposed + (first + i) / 2 * m->stride,
             *ds_to = m->ds_transposed + (first + i) / 2 * m->stride;
        bool two = i + 1 < count;
        vec sum = v_set1(sums[i]), sum2 = v_set1(two ? sums[i + 1] : 0);
        for (int64_t c = 0; c < width; c += VW) {
            vec w = v_load(p + c), w2 = two ? v_load(p + m->stride + c) : v_zero();
            vec ds = v_mul(w, v_sub(v_load(dp + c), sum)),
                ds2 = two ? v_mul(w2, v_sub(v_load(dp + m->stride + c), sum2)) : v_zero();
            put_weights(weights_of(m), i, c, ds);
            if (two)
                put_weights(weights_of(m), i + 1, c, ds2);
            v_store((REAL *)(p_to + c), v_pair_bf16(w, w2));
            v_store((REAL *)(ds_to + c), v_pair_bf16(ds, ds2));
        }
    }
#endif
    for (int64_t i = 0; !m->pairs && i < count; i++) {
        const REAL *p = (const REAL *)(m->scores + (at + i) * m->stride);
        REAL *ds = (REAL *)(m->dscores + (at + i) * m->stride);
        vec sum = v_set1(sums[i]);
        for (int64_t c = 0; c < width; c += VW)
            v_store(ds + c, v_mul(v_load(p + c), v_sub(v_load(ds + c), sum)));
    }
}

/* Query rows [first, first + count) of a head, whose keys and values are packed. */
static void backward_span(const attention_args *a, const rooms *m, int64_t s, int64_t h, int64_t first, int64_t count)
{
    int64_t d = a->head_dim, n = a->k_rows, row = s * a->q_rows + first;
    const REAL *lse = (const REAL *)a->lse + (s * a->heads + h) * a->q_rows + first;
    head_rows q = find_rows(m->q, m, &a->q, row, count, round_up(count, MR_HALF), h, d);
    head_rows dout = find_rows(m->dout, m, &a->dout, row, count, round_up(count, MR_HALF), h, d);
    const REAL scale = (REAL)a->scale;

    for (int64_t i = 0; i < count; i += BLOCK_ROWS) {
        int64_t rows = count - i < BLOCK_ROWS ? count - i : BLOCK_ROWS, at = m->pairs ? 0 : i * m->stride;
        multiply(m, m->scores + at, m->stride, q.at + i * q.stride, q.stride, (right){m->k_columns, NR * m->head, NR},
                 rows, n, m->head);
        prefetch_next(a, s * a->heads + h + 1, first + i, rows);
        prefetch_head(&a->dq, row + i, rows, h, d);
        prefetch_head(&a->dk, s * n + first + i, rows, h, d);
        prefetch_head(&a->dv, s * n + first + i, rows, h, d);
        multiply(m, m->dscores + at, m->stride, dout.at + i * dout.stride, dout.stride,
                 (right){m->v_columns, NR * m->head, NR}, rows, n, m->head);
        backward_rows(a, m, lse + i, i, rows);
        if (a->dq.data) {
            multiply(m, m->out, m->dims, m->weights + at, m->stride, (right){m->k_depth, NR, m->dims}, rows, d,
                     m->depth);
            put(&a->dq, (const REAL *)m->out, m->dims, row + i, rows, h, d, &scale, 0, a->accumulate_q);
        }
    }
    if (a->dv.data) {
        zip_rows(m->dout_depth, m, dout, count);
        add_transposed(m->dv, m->p_transposed, m->dout_depth, m, n, count);
    }
    if (a->dk.data) {
        zip_rows(m->q_depth, m, q, count);
        add_transposed(m->dk, m->ds_transposed, m->q_depth, m, n, count);
    }
}

static void backward_task(void *argument, int thread, int threads)
{
    const attention_job *job = argument;
    const attention_args *a = job->a;
    int64_t n = a->k_rows, d = a->head_dim, begin, end;
    const REAL scale = (REAL)a->scale, one = 1;
    rooms m;

    lay_out(&m, job->c, thread, a, true);
    pool_share(a->samples * a->heads, thread, threads, &begin, &end);
    for (int64_t i = begin; i < end; i++) {
        int64_t s = i / a->heads, h = i % a->heads, total = round_up(n, MR) * m.dims;
        head_rows keys = find_keys(a, &m, s, h);
        turn_rows(m.k_columns, &m, keys, n, m.keys);
        turn_rows(m.v_columns, &m, find_values(a, &m, s, h), n, m.keys);
        if (a->dq.data)
            zip_rows(m.k_depth, &m, keys, n);
        memset(m.dk, 0, (size_t)total * sizeof *m.dk);
        memset(m.dv, 0, (size_t)total * sizeof *m.dv);
        for (int64_t first = 0; first < a->q_rows; first += m.span)
            backward_span(a, &m, s, h, first, a->q_rows - first < m.span ? a->q_rows - first : m.span);
        put(&a->dk, m.dk, m.dims, s * n, n, h, d, &scale, 0, a->accumulate_k);
        put(&a->dv, m.dv, m.dims, s * n, n, h, d, &one, 0, a->accumulate_v);
    }
}

void KERNEL(attention_backward)(compute *c, const attention_args *args)
{
    attention_job job = {c, args};

    compute_run(c, backward_task, &job);
}
