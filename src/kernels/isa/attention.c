/* Attention, one head at a time, in blocks of query rows: the scores of a block live in the thread's scratch, the whole matrix nowhere. Both products of the
 * forward pass and all five of the backward pass run through one micro kernel that takes its left operand where it lies; keys and values are packed once for
 * each head. */
#include <assert.h>

#include "kernels/isa/gemm_micro.h"

#define BLOCK_ROWS (48 / MR * MR) /* query rows in a block */

typedef struct attention_job {
    compute *c;
    const attention_args *a;
} attention_job;

/* Scratch of a thread. Rows of scores are `stride` apart: an odd number of cache lines, so that a column of them spreads over the cache. */
typedef struct rooms {
    REAL *k_columns, *v_columns, *k_rows, *v_rows;      /* packed right operands */
    REAL *q, *dout, *scores, *dscores, *out, *row;      /* of one block */
    REAL *dk, *dv;                                      /* of one head */
    int64_t keys, dims, stride;                         /* keys and dims: padded to whole panels of columns */
} rooms;

static int64_t round_up(int64_t n, int64_t step)
{
    return (n + step - 1) / step * step;
}

static void lay_out(rooms *m, const compute *c, int thread, const attention_args *a, bool backward)
{
    REAL *begin = KERNEL_SCRATCH(c, thread), *at = begin;
    int64_t n = a->k_rows, d = a->head_dim, keys = round_up(n, NR), dims = round_up(d, NR), stride = round_up(keys + MR, 16) | 16;

    *m = (rooms){.keys = keys, .dims = dims, .stride = stride};
#define TAKE(field, count) (m->field = at, at += round_up(count, 16))
    TAKE(row, d);
    TAKE(q, BLOCK_ROWS * dims);
    TAKE(scores, BLOCK_ROWS * stride);
    TAKE(out, BLOCK_ROWS * dims);
    TAKE(k_columns, keys * d);
    if (backward) {
        TAKE(dout, BLOCK_ROWS * dims);
        TAKE(dscores, BLOCK_ROWS * stride);
        TAKE(v_columns, keys * d);
        TAKE(k_rows, n * dims);
        TAKE(dk, round_up(n, MR) * dims);
        TAKE(dv, round_up(n, MR) * dims);
    } else {
        TAKE(v_rows, n * dims);
    }
#undef TAKE
    assert((size_t)(at - begin) * sizeof *at <= c->scratch_size);
    (void)begin;
}

/* ---- operands ---- */

/* Row r of one head's part of `m`, as reals. */
static const REAL *head_row(const mat *m, int64_t r, int64_t head, int64_t dim, REAL *room)
{
    mat part = *m;

    part.data = (unsigned char *)m->data + (size_t)(head * dim) * dtype_size(m->type);
    part.cols = dim;
    return row_real(&part, r, room);
}

/* to[d * NR + 0..3] = rows 0..3 of `from`, which are `stride` apart */
static void turn_four(REAL *to, const REAL *from, int64_t stride, int64_t dim)
{
    int64_t d = 0;

#if defined(KERNEL_AVX2) || defined(KERNEL_AVX512)
    for (; d + 4 <= dim; d += 4) {
        __m128 r0 = _mm_loadu_ps(from + d), r1 = _mm_loadu_ps(from + stride + d), r2 = _mm_loadu_ps(from + 2 * stride + d),
               r3 = _mm_loadu_ps(from + 3 * stride + d);
        _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
        _mm_storeu_ps(to + d * NR, r0);
        _mm_storeu_ps(to + (d + 1) * NR, r1);
        _mm_storeu_ps(to + (d + 2) * NR, r2);
        _mm_storeu_ps(to + (d + 3) * NR, r3);
    }
#endif
    for (; d < dim; d++)
        for (int i = 0; i < 4; i++)
            to[d * NR + i] = from[i * stride + d];
}

/* Panels for the right operand: out[ceil(n / NR)][dim][NR]. Rows of `m` become columns (a product with m^T)... */
static void pack_columns(REAL *out, const mat *m, int64_t first, int64_t n, int64_t head, int64_t dim, REAL *room)
{
    int64_t i = 0;

    if (n % NR)
        memset(out + n / NR * NR * dim, 0, (size_t)(NR * dim) * sizeof *out);
    if (m->type == REAL_TYPE)
        for (; i + 4 <= n; i += 4)
            turn_four(out + i / NR * NR * dim + i % NR, (const REAL *)m->data + (first + i) * m->stride + head * dim, m->stride, dim);
    for (; i < n; i++) {
        const REAL *row = head_row(m, first + i, head, dim, room);
        REAL *to = out + i / NR * NR * dim + i % NR;
        for (int64_t d = 0; d < dim; d++)
            to[d * NR] = row[d];
    }
}

/* ... or stay rows (a product with m): out[ceil(dim / NR)][n][NR]. */
static void pack_depth(REAL *out, const mat *m, int64_t first, int64_t n, int64_t head, int64_t dim, REAL *room)
{
    for (int64_t i = 0; i < n; i++) {
        const REAL *row = head_row(m, first + i, head, dim, room);
        for (int64_t from = 0; from < dim; from += NR) {
            REAL *to = out + from * n + i * NR;
            if (dim - from >= NR)
                memcpy(to, row + from, NR * sizeof *to);
            else
                for (int64_t c = 0; c < NR; c++)
                    to[c] = from + c < dim ? row[from + c] : 0;
        }
    }
}

/* A block's rows, `dims` apart, filled with zeros to whole panels of columns and of rows. */
static void gather(REAL *out, const rooms *m, const mat *from, int64_t first, int64_t count, int64_t head, int64_t dim)
{
    for (int64_t i = 0; i < round_up(count, MR); i++) {
        int64_t used = i < count ? dim : 0;
        if (used)
            memcpy(out + i * m->dims, head_row(from, first + i, head, dim, m->row), (size_t)dim * sizeof *out);
        memset(out + i * m->dims + used, 0, (size_t)(m->dims - used) * sizeof *out);
    }
}

/* ---- products ---- */

/* out[MR][NR] (+)= a b: row i of a at depth p is a[i * a_row + p * a_step], row p of b is b + p * b_step. Each element is one chain of fused multiply-adds
 * in rising depth. */
static inline void micro(REAL *out, int64_t out_stride, const REAL *a, int64_t a_row, int64_t a_step, const REAL *b, int64_t b_step, int64_t depth, bool add)
{
    vec sum[MR][NV];

#pragma GCC unroll 12
    for (int i = 0; i < MR; i++)
#pragma GCC unroll 4
        for (int j = 0; j < NV; j++)
            sum[i][j] = add ? v_load(out + i * out_stride + j * VW) : v_zero();
    for (int64_t p = 0; p < depth; p++) {
        vec right[NV];
#pragma GCC unroll 4
        for (int j = 0; j < NV; j++)
            right[j] = v_load(b + p * b_step + j * VW);
#pragma GCC unroll 12
        for (int i = 0; i < MR; i++) {
            vec left = v_set1(a[i * a_row + p * a_step]);
#pragma GCC unroll 4
            for (int j = 0; j < NV; j++)
                sum[i][j] = v_fma(left, right[j], sum[i][j]);
        }
    }
#pragma GCC unroll 12
    for (int i = 0; i < MR; i++)
#pragma GCC unroll 4
        for (int j = 0; j < NV; j++)
            v_store(out + i * out_stride + j * VW, sum[i][j]);
}

/* out[count][panels * NR] = left[count][depth] * packed right; whole panels of rows are read and written */
static void multiply(REAL *out, int64_t out_stride, const REAL *left, int64_t left_stride, const REAL *right, int64_t count, int64_t panels, int64_t depth)
{
    for (int64_t q = 0; q < panels; q++)
        for (int64_t p = 0; p < count; p += MR)
            micro(out + p * out_stride + q * NR, out_stride, left + p * left_stride, left_stride, 1, right + q * NR * depth, NR, depth, false);
}

/* total[n][dims] += scores[count][n]^T rows[count][dims]. The last panel may reach beyond column n of the scores: that lands in rows of `total` that nobody
 * reads. */
static void add_transposed(REAL *total, const REAL *scores, const REAL *rows, const rooms *m, int64_t n, int64_t count)
{
    for (int64_t q = 0; q < m->dims; q += NR)
        for (int64_t p = 0; p < n; p += MR)
            micro(total + p * m->dims + q, m->dims, scores + p, 1, m->stride, rows + q, m->dims, count, true);
}

/* ---- forward ---- */

/* Scores of `count` rows become exp(scale * (score - largest)), columns from n up to a whole vector 0. sum: what each row adds up to, top: scale * largest.
 * The rows' chains of operations are independent, so each pass goes over all of them. */
static void exponentials(REAL *scores, int64_t stride, int64_t count, int64_t n, REAL scale, REAL *sum, REAL *top)
{
    int64_t width = round_up(n, VW);
    vec factor = v_set1(scale);

    for (int64_t i = 0; i < count; i++) {
        REAL *s = scores + i * stride;
        vec largest;
        for (int64_t c = n; c < width; c++)
            s[c] = (REAL)-1e30;
        largest = v_load(s);
        for (int64_t c = VW; c < width; c += VW)
            largest = v_max(largest, v_load(s + c));
        top[i] = v_hmax(largest) * scale; /* scale > 0 */
    }
    for (int64_t i = 0; i < count; i++) {
        REAL *s = scores + i * stride;
        vec total = v_zero(), shift = v_set1(top[i]);
        for (int64_t c = 0; c < width; c += VW) {
            vec e = v_exp(v_sub(v_mul(v_load(s + c), factor), shift));
            v_store(s + c, e);
            total = v_add(total, e);
        }
        sum[i] = v_sum(total);
    }
}

static void forward_block(const attention_args *a, const rooms *m, int64_t s, int64_t h, int64_t first, int64_t count)
{
    int64_t d = a->head_dim, n = a->k_rows, row = s * a->q_rows + first;
    REAL sum[BLOCK_ROWS], top[BLOCK_ROWS], *lse = a->lse;
    mat out = a->out;

    gather(m->q, m, &a->q, row, count, h, d);
    multiply(m->scores, m->stride, m->q, m->dims, m->k_columns, count, m->keys / NR, d);
    exponentials(m->scores, m->stride, count, n, (REAL)a->scale, sum, top);
    if (lse)
        for (int64_t i = 0; i < count; i++)
            lse[(s * a->heads + h) * a->q_rows + first + i] = top[i] + (REAL)log((double)sum[i]);
    multiply(m->out, m->dims, m->scores, m->stride, m->v_rows, count, m->dims / NR, n);
    out.data = (unsigned char *)out.data + (size_t)(h * d) * dtype_size(out.type);
    out.cols = d;
    for (int64_t i = 0; i < count; i++) {
        REAL *o = m->out + i * m->dims;
        vec inverse = v_set1(1 / sum[i]);
        for (int64_t c = 0; c < d; c += VW)
            v_store(o + c, v_mul(v_load(o + c), inverse));
        row_store(&out, row + i, o);
    }
}

/* Work is shared by blocks of query rows; the keys and values of a head are packed by each thread that has blocks of it. */
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
            pack_columns(m.k_columns, &a->k, s * a->k_rows, a->k_rows, h, a->head_dim, m.row);
            pack_depth(m.v_rows, &a->v, s * a->k_rows, a->k_rows, h, a->head_dim, m.row);
            packed_for = i / blocks;
        }
        forward_block(a, &m, s, h, first, a->q_rows - first < BLOCK_ROWS ? a->q_rows - first : BLOCK_ROWS);
    }
}

void KERNEL(attention)(compute *c, const attention_args *args)
{
    attention_job job = {c, args};

    pool_run(c->threads, forward_task, &job);
}

/* ---- backward ---- */

static void put(const mat *target, const REAL *rows, int64_t stride, int64_t first, int64_t count, int64_t head, int64_t dim, REAL scale, bool add)
{
    if (!target->data)
        return;
    for (int64_t i = 0; i < count; i++) {
        REAL *to = (REAL *)target->data + (first + i) * target->stride + head * dim;
        for (int64_t c = 0; c < dim; c++)
            to[c] = (add ? to[c] : 0) + scale * rows[i * stride + c];
    }
}

/* P from the kept log-sum-exp, in place of the scores; dS = P (dP - rowsum(P dP)), in place of dP */
static void backward_rows(const attention_args *a, const rooms *m, const REAL *lse, int64_t count)
{
    int64_t n = a->k_rows, width = round_up(n, VW);
    vec factor = v_set1((REAL)a->scale);
    REAL sums[BLOCK_ROWS];

    for (int64_t i = 0; i < count; i++) {
        REAL *p = m->scores + i * m->stride, *dp = m->dscores + i * m->stride;
        vec sum = v_zero(), shift = v_set1(lse[i]);
        for (int64_t c = n; c < width; c++)
            p[c] = (REAL)-1e30;
        for (int64_t c = 0; c < width; c += VW) {
            vec e = v_exp(v_sub(v_mul(v_load(p + c), factor), shift));
            v_store(p + c, e);
            sum = v_fma(e, v_load(dp + c), sum);
        }
        sums[i] = v_sum(sum);
    }
    for (int64_t i = 0; i < count; i++) {
        REAL *p = m->scores + i * m->stride, *dp = m->dscores + i * m->stride;
        vec sum = v_set1(sums[i]);
        for (int64_t c = 0; c < width; c += VW)
            v_store(dp + c, v_mul(v_load(p + c), v_sub(v_load(dp + c), sum)));
    }
}

static void backward_head(const attention_args *a, const rooms *m, int64_t s, int64_t h)
{
    int64_t d = a->head_dim, n = a->k_rows, total = round_up(n, MR) * m->dims;
    const REAL *lse = (const REAL *)a->lse + (s * a->heads + h) * a->q_rows;

    pack_columns(m->k_columns, &a->k, s * n, n, h, d, m->row);
    pack_columns(m->v_columns, &a->v, s * n, n, h, d, m->row);
    if (a->dq.data)
        pack_depth(m->k_rows, &a->k, s * n, n, h, d, m->row);
    memset(m->dk, 0, (size_t)total * sizeof *m->dk);
    memset(m->dv, 0, (size_t)total * sizeof *m->dv);
    for (int64_t first = 0; first < a->q_rows; first += BLOCK_ROWS) {
        int64_t count = a->q_rows - first < BLOCK_ROWS ? a->q_rows - first : BLOCK_ROWS, row = s * a->q_rows + first;
        gather(m->q, m, &a->q, row, count, h, d);
        gather(m->dout, m, &a->dout, row, count, h, d);
        multiply(m->scores, m->stride, m->q, m->dims, m->k_columns, count, m->keys / NR, d);
        multiply(m->dscores, m->stride, m->dout, m->dims, m->v_columns, count, m->keys / NR, d);
        backward_rows(a, m, lse + first, count);
        if (a->dv.data)
            add_transposed(m->dv, m->scores, m->dout, m, n, count);
        if (a->dk.data)
            add_transposed(m->dk, m->dscores, m->q, m, n, count);
        if (a->dq.data) {
            multiply(m->out, m->dims, m->dscores, m->stride, m->k_rows, count, m->dims / NR, n);
            put(&a->dq, m->out, m->dims, row, count, h, d, (REAL)a->scale, a->accumulate_q);
        }
    }
    put(&a->dk, m->dk, m->dims, s * n, n, h, d, (REAL)a->scale, a->accumulate_k);
    put(&a->dv, m->dv, m->dims, s * n, n, h, d, 1, a->accumulate_v);
}

static void backward_task(void *argument, int thread, int threads)
{
    const attention_job *job = argument;
    const attention_args *a = job->a;
    int64_t begin, end;
    rooms m;

    lay_out(&m, job->c, thread, a, true);
    pool_share(a->samples * a->heads, thread, threads, &begin, &end);
    for (int64_t i = begin; i < end; i++)
        backward_head(a, &m, i / a->heads, i % a->heads);
}

void KERNEL(attention_backward)(compute *c, const attention_args *args)
{
    attention_job job = {c, args};

    pool_run(c->threads, backward_task, &job);
}
