/* Attention, one head at a time, in blocks of query rows: the scores of a block live in the thread's scratch, the whole matrix nowhere. Both products of the
 * forward pass and all five of the backward pass run through the micro kernel of the matrix product. */
#include "kernels/isa/gemm_micro.h"

#define BLOCK_PANELS (48 / MR) /* query rows in a block: 48 */
#define BLOCK_ROWS (BLOCK_PANELS * MR)

typedef struct attention_job {
    compute *c;
    const attention_args *a;
} attention_job;

static int64_t round_up(int64_t n, int64_t step)
{
    return (n + step - 1) / step * step;
}

/* Row r of one head's part of `m`, as reals. */
static const REAL *head_row(const mat *m, int64_t r, int64_t head, int64_t dim, REAL *room)
{
    mat part = *m;

    part.data = (unsigned char *)m->data + (size_t)(head * dim) * dtype_size(m->type);
    part.cols = dim;
    return row_real(&part, r, room);
}

/* Panels for the right operand: out[ceil(n / NR)][depth][NR]. Rows of `m` become columns (a product with m^T)... */
static void pack_columns(REAL *out, const mat *m, int64_t first, int64_t n, int64_t head, int64_t dim, REAL *room)
{
    memset(out, 0, (size_t)(round_up(n, NR) * dim) * sizeof *out);
    for (int64_t i = 0; i < n; i++) {
        const REAL *row = head_row(m, first + i, head, dim, room);
        REAL *to = out + i / NR * NR * dim + i % NR;
        for (int64_t d = 0; d < dim; d++)
            to[d * NR] = row[d];
    }
}

/* ... or stay rows (a product with m): depth n, columns dim. */
static void pack_depth(REAL *out, const mat *m, int64_t first, int64_t n, int64_t head, int64_t dim, REAL *room)
{
    int64_t panels = round_up(dim, NR) / NR;

    for (int64_t i = 0; i < n; i++) {
        const REAL *row = head_row(m, first + i, head, dim, room);
        for (int64_t p = 0; p < panels; p++) {
            int64_t count = dim - p * NR < NR ? dim - p * NR : NR;
            REAL *to = out + (p * n + i) * NR;
            memcpy(to, row + p * NR, (size_t)count * sizeof *to);
            for (int64_t c = count; c < NR; c++)
                to[c] = 0;
        }
    }
}

/* Left operand of up to BLOCK_ROWS rows: out[panels][depth][MR], rows given by `rows` (stride in elements), those beyond `count` zero. */
static void pack_rows(REAL *out, const REAL *rows, int64_t stride, int64_t count, int64_t depth, const REAL *zero)
{
    for (int64_t p = 0; p * MR < count; p++) {
        const REAL *row[MR];
        for (int i = 0; i < MR; i++)
            row[i] = p * MR + i < count ? rows + (p * MR + i) * stride : zero;
        interleave_rows(out + p * MR * depth, row, depth);
    }
}

/* out[count][stride] = left * right over `panels` panels of NR columns; out has room for whole panels of rows */
static void multiply(REAL *out, int64_t stride, const REAL *left, const REAL *right, int64_t count, int64_t panels, int64_t depth)
{
    _Alignas(64) REAL tile[MR * NR];

    for (int64_t q = 0; q < panels; q++)
        for (int64_t p = 0; p * MR < count; p++) {
            micro_real(tile, left + p * MR * depth, right + q * NR * depth, depth);
            for (int i = 0; i < MR; i++)
                memcpy(out + (p * MR + i) * stride + q * NR, tile + i * NR, NR * sizeof *tile);
        }
}

/* One row of scores: softmax in place (columns up to `width`, a multiple of VW, are cleared beyond n). Returns the log-sum-exp of the scaled scores. */
static REAL softmax_row(REAL *s, int64_t n, int64_t width, REAL scale)
{
    vec factor = v_set1(scale), total = v_zero(), top;
    REAL best, sum, inverse;
    int64_t c;

    for (c = n; c < width; c++)
        s[c] = (REAL)-1e30;
    top = v_load(s);
    for (c = VW; c < width; c += VW)
        top = v_max(top, v_load(s + c));
    best = v_hmax(top) * scale; /* scale > 0 */
    for (c = 0; c < width; c += VW) {
        vec e = v_exp(v_sub(v_mul(v_load(s + c), factor), v_set1(best)));
        v_store(s + c, e);
        total = v_add(total, e);
    }
    sum = v_sum(total);
    inverse = 1 / sum;
    for (c = 0; c < width; c += VW)
        v_store(s + c, v_mul(v_load(s + c), v_set1(inverse)));
    return best + (REAL)log((double)sum);
}

/* Scratch of a thread, in order. */
typedef struct rooms {
    REAL *k_columns, *v_rows, *v_columns, *k_rows; /* packed right operands */
    REAL *left, *scores, *dscores, *out, *rows, *zero, *row, *dk, *dv;
    int64_t keys, dims; /* padded: to whole panels of columns */
} rooms;

static size_t lay_out(rooms *m, REAL *at, const attention_args *a, bool backward)
{
    int64_t n = a->k_rows, d = a->head_dim, keys = round_up(n, NR), dims = round_up(d, NR), deep = keys > dims ? keys : dims;
    REAL *begin = at;

    *m = (rooms){.keys = keys, .dims = dims};
#define TAKE(field, count) (m->field = at, at += ((count) + 15) / 16 * 16)
    TAKE(k_columns, keys * d);
    TAKE(left, BLOCK_ROWS * deep + 16);
    TAKE(scores, BLOCK_ROWS * keys);
    TAKE(out, BLOCK_ROWS * dims);
    TAKE(rows, BLOCK_ROWS * dims);
    TAKE(zero, deep);
    TAKE(row, d);
    if (backward) {
        TAKE(v_columns, keys * d);
        TAKE(k_rows, n * dims);
        TAKE(dscores, BLOCK_ROWS * keys);
        TAKE(dk, round_up(n, MR) * dims);
        TAKE(dv, round_up(n, MR) * dims);
    } else {
        TAKE(v_rows, n * dims);
    }
#undef TAKE
    return (size_t)(at - begin) * sizeof(REAL);
}

/* The block's query rows, gathered. */
static void gather(REAL *out, const mat *m, int64_t first, int64_t count, int64_t head, int64_t dim, REAL *room)
{
    for (int64_t i = 0; i < count; i++)
        memcpy(out + i * dim, head_row(m, first + i, head, dim, room), (size_t)dim * sizeof *out);
}

static void forward_block(const attention_args *a, const rooms *m, int64_t s, int64_t h, int64_t first, int64_t count)
{
    int64_t d = a->head_dim, n = a->k_rows, width = round_up(n, VW);
    REAL *lse = a->lse;
    mat out = a->out;

    gather(m->rows, &a->q, s * a->q_rows + first, count, h, d, m->row);
    pack_rows(m->left, m->rows, d, count, d, m->zero);
    multiply(m->scores, m->keys, m->left, m->k_columns, count, m->keys / NR, d);
    for (int64_t i = 0; i < count; i++) {
        REAL sum = softmax_row(m->scores + i * m->keys, n, width, (REAL)a->scale);
        if (lse)
            lse[(s * a->heads + h) * a->q_rows + first + i] = sum;
    }
    pack_rows(m->left, m->scores, m->keys, count, n, m->zero);
    multiply(m->out, m->dims, m->left, m->v_rows, count, m->dims / NR, n);
    out.data = (unsigned char *)out.data + (size_t)(h * d) * dtype_size(out.type);
    out.cols = d;
    for (int64_t i = 0; i < count; i++)
        row_store(&out, s * a->q_rows + first + i, m->out + i * m->dims);
}

/* Work is shared by heads, or by blocks of query rows where there are few heads: each block's result is the same either way. */
static void forward_task(void *argument, int thread, int threads)
{
    const attention_job *job = argument;
    const attention_args *a = job->a;
    int64_t blocks = (a->q_rows + BLOCK_ROWS - 1) / BLOCK_ROWS, begin, end, packed_for = -1;
    rooms m;

    lay_out(&m, KERNEL_SCRATCH(job->c, thread), a, false);
    memset(m.zero, 0, (size_t)(m.keys > m.dims ? m.keys : m.dims) * sizeof *m.zero);
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

/* total[n][dims] += scores^T * rows over the block's `count` rows */
static void add_transposed(REAL *total, const REAL *scores, const REAL *rows, const attention_args *a, const rooms *m, int64_t count)
{
    _Alignas(64) REAL tile[MR * NR], left[BLOCK_ROWS * MR], right[BLOCK_ROWS * NR];
    int64_t d = a->head_dim, n = a->k_rows;

    for (int64_t q = 0; q < m->dims / NR; q++) {
        int64_t columns = d - q * NR < NR ? d - q * NR : NR;
        for (int64_t i = 0; i < count; i++)
            for (int64_t c = 0; c < NR; c++)
                right[i * NR + c] = c < columns ? rows[i * d + q * NR + c] : 0;
        for (int64_t p = 0; p < n; p += MR) {
            int64_t used = n - p < MR ? n - p : MR;
            for (int64_t i = 0; i < count; i++)
                for (int64_t c = 0; c < MR; c++)
                    left[i * MR + c] = c < used ? scores[i * m->keys + p + c] : 0;
            micro_real(tile, left, right, count);
            for (int64_t i = 0; i < MR; i++) {
                REAL *to = total + (p + i) * m->dims + q * NR;
                for (int64_t c = 0; c < NR; c += VW)
                    v_store(to + c, v_add(v_load(to + c), v_load(tile + i * NR + c)));
            }
        }
    }
}

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

/* P from the kept log-sum-exp; dS = P (dP - rowsum(P dP)) */
static void backward_rows(const attention_args *a, const rooms *m, const REAL *lse, int64_t count)
{
    int64_t n = a->k_rows, width = round_up(n, VW);
    vec factor = v_set1((REAL)a->scale);

    for (int64_t i = 0; i < count; i++) {
        REAL *p = m->scores + i * m->keys, *dp = m->dscores + i * m->keys;
        vec sum = v_zero(), shift = v_set1(lse[i]);
        for (int64_t c = n; c < width; c++) {
            p[c] = (REAL)-1e30;
            dp[c] = 0;
        }
        for (int64_t c = 0; c < width; c += VW) {
            vec e = v_exp(v_sub(v_mul(v_load(p + c), factor), shift));
            v_store(p + c, e);
            sum = v_fma(e, v_load(dp + c), sum);
        }
        sum = v_set1(v_sum(sum));
        for (int64_t c = 0; c < width; c += VW)
            v_store(dp + c, v_mul(v_load(p + c), v_sub(v_load(dp + c), sum)));
    }
}

static void backward_head(const attention_args *a, const rooms *m, int64_t s, int64_t h)
{
    int64_t d = a->head_dim, n = a->k_rows, padded = round_up(n, MR);
    const REAL *lse = (const REAL *)a->lse + (s * a->heads + h) * a->q_rows;

    pack_columns(m->k_columns, &a->k, s * n, n, h, d, m->row);
    pack_columns(m->v_columns, &a->v, s * n, n, h, d, m->row);
    pack_depth(m->k_rows, &a->k, s * n, n, h, d, m->row);
    memset(m->dk, 0, (size_t)(padded * m->dims) * sizeof *m->dk);
    memset(m->dv, 0, (size_t)(padded * m->dims) * sizeof *m->dv);
    for (int64_t first = 0; first < a->q_rows; first += BLOCK_ROWS) {
        int64_t count = a->q_rows - first < BLOCK_ROWS ? a->q_rows - first : BLOCK_ROWS, row = s * a->q_rows + first;
        gather(m->rows, &a->dout, row, count, h, d, m->row);
        pack_rows(m->left, m->rows, d, count, d, m->zero);
        multiply(m->dscores, m->keys, m->left, m->v_columns, count, m->keys / NR, d);
        gather(m->out, &a->q, row, count, h, d, m->row);
        pack_rows(m->left, m->out, d, count, d, m->zero);
        multiply(m->scores, m->keys, m->left, m->k_columns, count, m->keys / NR, d);
        backward_rows(a, m, lse + first, count);
        if (a->dv.data)
            add_transposed(m->dv, m->scores, m->rows, a, m, count);
        if (a->dk.data)
            add_transposed(m->dk, m->dscores, m->out, a, m, count);
        if (a->dq.data) {
            pack_rows(m->left, m->dscores, m->keys, count, n, m->zero);
            multiply(m->out, m->dims, m->left, m->k_rows, count, m->dims / NR, n);
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

    lay_out(&m, KERNEL_SCRATCH(job->c, thread), a, true);
    memset(m.zero, 0, (size_t)(m.keys > m.dims ? m.keys : m.dims) * sizeof *m.zero);
    pool_share(a->samples * a->heads, thread, threads, &begin, &end);
    for (int64_t i = begin; i < end; i++)
        backward_head(a, &m, i / a->heads, i % a->heads);
}

void KERNEL(attention_backward)(compute *c, const attention_args *args)
{
    attention_job job = {c, args};

    pool_run(c->threads, backward_task, &job);
}
