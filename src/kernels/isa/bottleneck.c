/* A bottleneck in one pass over its rows: y = residual + row_scale * col_scale * (act(x Wd^T + bd) Wu^T + bu), and its
 * gradients.
 *
 * Forward, a tile of rows goes through both products while it is in the first cache. Backward, so does a block of rows
 * through all that its gradients take. With S[j, c] = sum over rows of row_scale * dy[c] * h[j] and T[c] = sum of
 * row_scale * dy[c], the gradients of what scales the result come from sums over rows alone: dWu[c, j] = col_scale[c]
 * S[j, c],   dbu[c] = col_scale[c] T[c],   dcol_scale[c] = sum over j of Wu[c, j] S[j, c] + bu[c] T[c]. Sums run over
 * the rows of a chunk, whose length depends on the shape only; the chunks' sums are added in their order, by columns.
 * So the bits do not depend on how many threads there are. */
#include <assert.h>

#include "kernels/isa/gemm_direct.h"

#define BLOCK (2 * MR) /* rows whose gradients are made at a time; divides a chunk */

typedef struct bottleneck_job {
    compute *c;
    const bottleneck_args *a;
} bottleneck_job;

/* What a row of n values takes: one vector, or whole panels. */
static int64_t lanes_of(int64_t n)
{
    return n <= VW ? VW : round_up(n, NR);
}

/* Rows as the micro kernel reads them: row i begins at at + i * stride. */
typedef struct rows_at {
    const REAL *at;
    int64_t stride;
} rows_at;

/* Rows [first, first + count) of a matrix: where they lie if `wanted` of them can be read there in whole panels, else
 * in `room`, with zeros up to a whole panel and `wanted` rows. */
static rows_at find_rows(REAL *room, const mat *m, int64_t first, int64_t count, int64_t wanted, int64_t unit)
{
    int64_t width = round_up(m->cols, unit);

    /* rows a multiple of 4 KB apart fall into the same sets of the first cache */
    if (m->type == REAL_TYPE && !m->samples && width == m->cols && first + wanted <= m->rows &&
        (size_t)m->stride * sizeof(REAL) % 4096)
        return (rows_at){(const REAL *)m->data + first * m->stride, m->stride};
    for (int64_t i = 0; i < wanted; i++) {
        REAL *to = room + i * width;
        const REAL *from = i < count ? row_real(m, first + i, to) : NULL;
        if (!from)
            memset(to, 0, (size_t)width * sizeof *to);
        else if (from != to)
            memcpy(to, from, (size_t)m->cols * sizeof *to);
        for (int64_t c = m->cols; c < width; c++)
            to[c] = 0;
    }
    return (rows_at){room, width};
}

/* out[MR][r] = left times panels whose rows are `next` apart, panel after panel `skip` further */
static void multiply(REAL *out, int64_t out_stride, rows_at left, const REAL *panels, int64_t next, int64_t skip,
                     int64_t steps, int64_t cols)
{
    for (int64_t q = 0; q * NR < cols; q++)
        if (cols - q * NR <= VW)
            micro(out + q * NR, out_stride, (const step *)left.at, left.stride, 1, (const step *)(panels + q * skip),
                  next, steps, MR, 1, false, false);
        else
            micro(out + q * NR, out_stride, (const step *)left.at, left.stride, 1, (const step *)(panels + q * skip),
                  next, steps, MR, NV, false, false);
}

/* ---- forward ---- */

/* hidden[MR][r], of which `count` rows are kept, becomes act(hidden + bd); its act_grad is kept where that is wanted.
 */
static void activate(const bottleneck_args *a, REAL *hidden, int64_t stride, int64_t first, int64_t count)
{
    int64_t r = a->down->n;
    const REAL *bias = a->down_bias;

    for (int64_t i = 0; i < count; i++)
        for (int64_t c = 0; c < r; c += VW) {
            int n = r - c < VW ? (int)(r - c) : VW;
            vec v = v_load(hidden + i * stride + c), act_grad;
            if (bias)
                v = v_add(v, v_load_n(bias + c, n));
            v = a->act_grad.data ? v_activate_and_grad(a->act, v, &act_grad) : v_activate(a->act, v);
            if (a->act_grad.data)
                v_store_mat(&a->act_grad, first + i, c, act_grad, n);
            if (a->hidden.data)
                v_store_mat(&a->hidden, first + i, c, v, n);
            v_store(hidden + i * stride + c, v);
        }
}

/* A tile of the up-projection, through the epilogue into the result */
static void run_up(const gemm_args *up, const REAL *hidden, int64_t lanes, tile_place at, direct how)
{
    const REAL *panel = (const REAL *)up->w->data + at.col * up->w->k;
    _Alignas(64) REAL tile[MR * NR];
    vec sum[MR][NV];

    if (is_direct(up, at, how)) {
        clear_sums(sum);
        micro_sums(sum, (const step *)hidden, lanes, 1, (const step *)panel, NR, up->w->k, MR, NV, false);
        finish_direct(up, sum, at, how);
        return;
    }
    multiply(tile, NR, (rows_at){hidden, lanes}, panel, NR, 0, up->w->k, NR);
    BASE(finish_tile)(up, tile, NR, at);
}

static void forward_task(void *argument, int thread, int threads)
{
    const bottleneck_job *job = argument;
    const bottleneck_args *a = job->a;
    const gemm_args up = {.y = a->y,
                          .w = a->up,
                          .out = {.bias = a->up_bias,
                                  .col_scale = a->col_scale,
                                  .row_scale = a->row_scale,
                                  .row_group = a->row_group,
                                  .residual = a->residual}};
    int64_t r = a->down->n, lanes = lanes_of(r), begin, end;
    REAL *hidden = KERNEL_SCRATCH(job->c, thread), *room = hidden + MR * lanes;
    direct how = direct_of(&up);

    pool_share(ceil_div(a->x.rows, MR), thread, threads, &begin, &end);
    for (int64_t t = begin; t < end; t++) {
        int64_t first = t * MR, count = a->x.rows - first < MR ? a->x.rows - first : MR;
        multiply(hidden, lanes, find_rows(room, &a->x, first, count, MR, 1), a->down->data, NR, a->down->k * NR,
                 a->down->k, r);
        activate(a, hidden, lanes, first, count);
        for (int64_t q = 0; q * NR < a->y.cols; q++)
            run_up(&up, hidden, lanes, (tile_place){first, (int32_t)(q * NR), (int32_t)count}, how);
    }
}

void KERNEL(bottleneck)(compute *c, const bottleneck_args *args)
{
    bottleneck_job job = {c, args};

    assert(args->down->type == REAL_TYPE && args->up->type == REAL_TYPE && args->down->n <= BOTTLENECK_RANK);
    compute_run(c, forward_task, &job);
}

/* ---- backward ---- */

/* Sums over the rows of a chunk, as they lie in the room for all chunks: S [r][n] and T [n]; the gradients of Wd [r][k]
 * and bd [r]. */
typedef struct chunk_sums {
    REAL *s, *t, *down, *down_bias;
} chunk_sums;

static chunk_sums sums_of(const bottleneck_args *a, int64_t chunk)
{
    int64_t r = a->down->n, n = a->dy.cols, k = a->x.cols;
    REAL *s = (REAL *)a->partials + chunk * ((r + 1) * n + r * k + r);

    return (chunk_sums){s, s + r * n, s + (r + 1) * n, s + (r + 1) * n + r * k};
}

/* Scratch of a thread, in reals. */
typedef struct rooms {
    int64_t r, lanes, transposed, n,
        k;           /* transposed: from row to row of what products take columns of; n, k: padded to whole panels */
    REAL *up, *down; /* Wu with col_scale, [n][lanes]; Wd [r][k] */
    REAL *x, *dy;    /* rows of a block, where they are not read in place */
    REAL *dh;        /* [BLOCK][lanes] */
    REAL *h, *dz;    /* [BLOCK][transposed]: row_scale * h and, in column r, row_scale; the gradient in front of the
                        activation */
    REAL *s, *dwd;   /* [transposed][n], [transposed][k]: sums of a chunk */
} rooms;

static void lay_out(rooms *m, const compute *c, int thread, const bottleneck_args *a)
{
    REAL *begin = KERNEL_SCRATCH(c, thread), *at = begin;
    int64_t r = a->down->n;

    *m = (rooms){.r = r,
                 .lanes = lanes_of(r),
                 .transposed = round_up(round_up(r + 1, MR), VW),
                 .n = round_up(a->dy.cols, NR),
                 .k = round_up(a->x.cols, NR)};
#define TAKE(field, count) (m->field = at, at += round_up(count, 16))
    TAKE(up, m->n * m->lanes);
    TAKE(down, r * m->k);
    TAKE(x, BLOCK * m->k);
    TAKE(dy, BLOCK * m->n);
    TAKE(dh, BLOCK * m->lanes);
    TAKE(h, BLOCK * m->transposed);
    TAKE(dz, BLOCK * m->transposed);
    TAKE(s, m->transposed * m->n);
    TAKE(dwd, m->transposed * m->k);
#undef TAKE
    assert((size_t)(at - begin) * sizeof *at <= c->scratch_size);
    (void)begin;
}

static void take_weights(const rooms *m, const bottleneck_args *a)
{
    const REAL *up = a->up_weight, *down = a->down_weight, *scale = a->col_scale;

    memset(m->up, 0, (size_t)(m->n * m->lanes) * sizeof *m->up);
    for (int64_t c = 0; c < a->dy.cols; c++)
        for (int64_t j = 0; j < m->r; j++)
            m->up[c * m->lanes + j] = scale ? up[c * m->r + j] * scale[c] : up[c * m->r + j];
    memset(m->down, 0, (size_t)(m->r * m->k) * sizeof *m->down);
    for (int64_t j = 0; j < m->r; j++)
        memcpy(m->down + j * m->k, down + j * a->x.cols, (size_t)a->x.cols * sizeof *down);
}

/* What the rows of a block have in front of the products over rows: m->h and m->dz. */
static void block_hidden(const rooms *m, const bottleneck_args *a, int64_t first, int64_t count)
{
    const REAL *act_grads = a->act_grad.data, *hidden = a->hidden.data;

    for (int64_t i = 0; i < count; i++) {
        REAL *h = m->h + i * m->transposed, *dz = m->dz + i * m->transposed,
             factor = a->row_scale ? (REAL)a->row_scale[(first + i) / a->row_group] : 1;
        const REAL *dh = m->dh + i * m->lanes, *act_grad = act_grads ? act_grads + (first + i) * m->r : NULL,
                   *kept = hidden + (first + i) * m->r;
        for (int64_t j = 0; j < m->r; j++) {
            h[j] = kept[j] * factor;
            dz[j] = act_grad ? dh[j] * factor * act_grad[j] : dh[j] * factor;
        }
        for (int64_t j = m->r; j < m->transposed; j++)
            h[j] = dz[j] = 0;
        h[m->r] = factor;
    }
}

/* total[height][width] (+)= columns of left times rows of right, over `count` rows */
static void add_outer(REAL *total, int64_t height, int64_t width, const REAL *left, int64_t left_stride, rows_at right,
                      int64_t count, bool add)
{
    for (int64_t q = 0; q < width; q += NR)
        for (int64_t p = 0; p < height; p += MR) {
            REAL *to = total + p * width + q;
            const step *from = (const step *)(left + p), *with = (const step *)(right.at + q);
            if (add)
                micro_rows(to, width, from, 1, left_stride, with, right.stride, count, height - p, NV, false, true);
            else
                micro_rows(to, width, from, 1, left_stride, with, right.stride, count, height - p, NV, false, false);
        }
}

/* dx (+)= dz Wd, and dy where x is the residual, too. dx may be dy itself. */
static void block_dx(const rooms *m, const bottleneck_args *a, int64_t first, int64_t count)
{
    _Alignas(64) REAL tile[MR * NR];

    for (int64_t p = 0; p < count; p += MR)
        for (int64_t c = 0; c < a->x.cols; c += NR) {
            multiply(tile, NR, (rows_at){m->dz + p * m->transposed, m->transposed}, m->down + c, m->k, 0, m->r, NR);
            for (int64_t i = 0; i < MR && p + i < count; i++)
                for (int64_t j = 0; j < NR && c + j < a->x.cols; j += VW) {
                    int64_t row = first + p + i;
                    int n = a->x.cols - c - j < VW ? (int)(a->x.cols - c - j) : VW;
                    vec v = v_load(tile + i * NR + j);
                    if (a->add_dy)
                        v = v_add(v, v_load_mat(&a->dy, row, c + j, n));
                    if (a->accumulate)
                        v = v_add(v, v_load_mat(&a->dx, row, c + j, n));
                    v_store_mat(&a->dx, row, c + j, v, n);
                }
        }
}

/* What is trained: the up-projection and what scales its result; the down-projection; its bias. */
static bool trains_up(const bottleneck_args *a)
{
    return a->dup || a->dup_bias || a->dcol_scale;
}

static bool trains_any(const bottleneck_args *a)
{
    return trains_up(a) || a->ddown || a->ddown_bias;
}

static void keep_sums(const rooms *m, const bottleneck_args *a, int64_t chunk, const REAL *down_bias)
{
    chunk_sums to = sums_of(a, chunk);
    int64_t n = a->dy.cols, k = a->x.cols;

    for (int64_t j = 0; j <= m->r && trains_up(a); j++)
        memcpy(to.s + j * n, m->s + j * m->n, (size_t)n * sizeof *to.s);
    for (int64_t j = 0; j < m->r && a->ddown; j++)
        memcpy(to.down + j * k, m->dwd + j * m->k, (size_t)k * sizeof *to.down);
    memcpy(to.down_bias, down_bias, (size_t)m->r * sizeof *down_bias);
}

static void chunks_task(void *argument, int thread, int threads)
{
    const bottleneck_job *job = argument;
    const bottleneck_args *a = job->a;
    int64_t length = bottleneck_chunk(a->down->n), rows = a->x.rows, begin, end;
    REAL down_bias[BOTTLENECK_RANK];
    rooms m;

    pool_share(ceil_div(rows, length), thread, threads, &begin, &end);
    if (begin == end)
        return;
    lay_out(&m, job->c, thread, a);
    take_weights(&m, a);
    for (int64_t chunk = begin; chunk < end; chunk++) {
        int64_t last = (chunk + 1) * length < rows ? (chunk + 1) * length : rows;
        memset(down_bias, 0, sizeof down_bias);
        for (int64_t first = chunk * length; first < last; first += BLOCK) {
            int64_t count = last - first < BLOCK ? last - first : BLOCK;
            rows_at dy = find_rows(m.dy, &a->dy, first, count, BLOCK, NR);
            for (int64_t p = 0; p < count; p += MR)
                multiply(m.dh + p * m.lanes, m.lanes, (rows_at){dy.at + p * dy.stride, dy.stride}, m.up, m.lanes, NR,
                         a->dy.cols, m.r);
            block_hidden(&m, a, first, count);
            if (trains_up(a))
                add_outer(m.s, m.r + 1, m.n, m.h, m.transposed, dy, count, first > chunk * length);
            if (a->ddown)
                add_outer(m.dwd, m.r, m.k, m.dz, m.transposed, find_rows(m.x, &a->x, first, count, BLOCK, NR), count,
                          first > chunk * length);
            for (int64_t i = 0; i < count && a->ddown_bias; i++)
                for (int64_t j = 0; j < m.r; j++)
                    down_bias[j] += m.dz[i * m.transposed + j];
            if (a->dx.data)
                block_dx(&m, a, first, count);
        }
        if (trains_any(a))
            keep_sums(&m, a, chunk, down_bias);
    }
}

/* total[count] = the chunks' values at `offset` reals from their begin, added in order */
static void add_chunks(REAL *total, const bottleneck_args *a, int64_t offset, int64_t count)
{
    int64_t chunks = ceil_div(a->x.rows, bottleneck_chunk(a->down->n));

    memcpy(total, sums_of(a, 0).s + offset, (size_t)count * sizeof *total);
    for (int64_t i = 1; i < chunks; i++) {
        const REAL *from = sums_of(a, i).s + offset;
        for (int64_t c = 0; c < count; c++)
            total[c] += from[c];
    }
}

/* Columns [begin, end) of what is trained of the up-projection. */
static void finish_up(const bottleneck_args *a, REAL *room, int64_t begin, int64_t end)
{
    int64_t r = a->down->n, n = a->dy.cols, count = end - begin;
    const REAL *scale = a->col_scale, *weight = a->up_weight, *bias = a->up_bias;
    REAL *dup = a->dup, *dbias = a->dup_bias, *dscale = a->dcol_scale, *t = room + r * count;

    for (int64_t j = 0; j <= r; j++)
        add_chunks(room + j * count, a, j * n + begin, count);
    for (int64_t i = 0; i < count; i++) {
        int64_t c = begin + i;
        REAL factor = scale ? scale[c] : 1, sum = bias ? bias[c] * t[i] : 0;
        for (int64_t j = 0; j < r; j++) {
            if (dup)
                dup[c * r + j] += factor * room[j * count + i];
            sum += weight[c * r + j] * room[j * count + i];
        }
        if (dbias)
            dbias[c] += factor * t[i];
        if (dscale)
            dscale[c] += sum;
    }
}

static void finish_task(void *argument, int thread, int threads)
{
    const bottleneck_job *job = argument;
    const bottleneck_args *a = job->a;
    REAL *room = KERNEL_SCRATCH(job->c, thread), *ddown = a->ddown, *dbias = a->ddown_bias;
    int64_t r = a->down->n, n = a->dy.cols, k = a->x.cols, begin, end;

    pool_share(n, thread, threads, &begin, &end);
    if (begin < end && trains_up(a))
        finish_up(a, room, begin, end);
    pool_share(k, thread, threads, &begin, &end);
    for (int64_t j = 0; ddown && begin < end && j < r; j++) {
        add_chunks(room, a, (r + 1) * n + j * k + begin, end - begin);
        for (int64_t c = begin; c < end; c++)
            ddown[j * k + c] += room[c - begin];
    }
    if (thread == 0 && dbias) {
        add_chunks(room, a, (r + 1) * n + r * k, r);
        for (int64_t j = 0; j < r; j++)
            dbias[j] += room[j];
    }
}

void KERNEL(bottleneck_backward)(compute *c, const bottleneck_args *args)
{
    bottleneck_job job = {c, args};

    compute_run(c, chunks_task, &job);
    if (args->x.rows > 0 && trains_any(args))
        compute_run(c, finish_task, &job);
}
