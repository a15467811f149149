/* Matrix products with packed weights.
 *
 * Weights lie in panels of NR columns: [ceil(n / NR)][k][NR] reals, or [ceil(n / NR)][ceil(k / 2)][NR][2] bf16 pairs, padded with zeros. A thread packs a
 * block of rows of the left operand so that it stays in L2 - conversion, rounding and the prologue happen on the way - and runs every panel of weights over
 * it. y = x W takes its panels transposed from the same packed weights, group by group in the thread's scratch: that costs one pass over the weights,
 * little beside the rows that use them, and no second copy is kept. */
#include "kernels/isa/gemm_micro.h"

#define ROWS_BYTES ((size_t)1 << 20)      /* scratch for MR rows behind the prologue */
#define BLOCK_BYTES ((size_t)1 << 20)     /* for a packed block of the left operand */
#define BLOCK_WANTED ((size_t)224 << 10)  /* what of it is used when a block has more than one panel of rows: half of a common L2 */
#define MOST_PANELS 8                     /* rows' panels in a block at most: the block of the result stays in L2 while its columns are filled in */
#define WIDE_BYTES ((size_t)2 << 20)      /* for a panel of bf16 weights as reals */
#define WIDE_PANELS 8                     /* rows' panels in a block at least, so that widening a panel costs little beside its use */
#define GROUP_BYTES (SCRATCH_SIZE - ROWS_BYTES - BLOCK_BYTES - WIDE_BYTES - 4096)

static int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static size_t panel_bytes(int64_t k, dtype type)
{
    return type == DTYPE_BF16 ? (size_t)ceil_div(k, 2) * 2 * NR * sizeof(uint16_t) : (size_t)k * NR * sizeof(REAL);
}

size_t KERNEL(pack_size)(int64_t n, int64_t k, dtype type)
{
    return (size_t)ceil_div(n, NR) * panel_bytes(k, type);
}

/* ---- packing weights ---- */

static REAL element(const void *w, dtype type, int64_t index)
{
    float f;

    if (type == DTYPE_F64)
        return (REAL)((const double *)w)[index];
    dtype_to_f32(&f, (const unsigned char *)w + (size_t)index * dtype_size(type), type, 1);
    return (REAL)f;
}

typedef struct pack_job {
    packed *out;
    const void *w;
    dtype type;
} pack_job;

static void pack_panel(const pack_job *job, int64_t panel)
{
    const packed *out = job->out;
    unsigned char *to = (unsigned char *)out->data + (size_t)panel * panel_bytes(out->k, out->type);
    int64_t columns = out->n - panel * NR < NR ? out->n - panel * NR : NR;

    memset(to, 0, panel_bytes(out->k, out->type));
    for (int64_t j = 0; j < columns; j++) {
        int64_t row = (panel * NR + j) * out->k;
        for (int64_t p = 0; p < out->k; p++) {
            REAL x;
            if (job->type == DTYPE_F32) {
                float f;
                memcpy(&f, (const unsigned char *)job->w + (size_t)(row + p) * sizeof f, sizeof f); /* files may be unaligned */
                x = (REAL)f;
            } else {
                x = element(job->w, job->type, row + p);
            }
            if (out->type == DTYPE_BF16)
                ((uint16_t *)(void *)to)[(p / 2 * NR + j) * 2 + (p & 1)] = f32_to_bf16((float)x);
            else
                ((REAL *)(void *)to)[p * NR + j] = x;
        }
    }
}

static void pack_task(void *argument, int thread, int threads)
{
    const pack_job *job = argument;
    int64_t begin, end;

    pool_share(ceil_div(job->out->n, NR), thread, threads, &begin, &end);
    for (int64_t panel = begin; panel < end; panel++)
        pack_panel(job, panel);
}

void KERNEL(pack)(compute *c, packed *out, const void *w, dtype w_type)
{
    pack_job job = {out, w, w_type};

    pool_run(c->threads, pack_task, &job);
}

/* Element (row n, column k) of packed weights. */
static inline REAL packed_at(const packed *w, int64_t n, int64_t k)
{
    const unsigned char *panel = (const unsigned char *)w->data + (size_t)(n / NR) * panel_bytes(w->k, w->type);

    if (w->type == DTYPE_BF16)
        return (REAL)bf16_to_f32(((const uint16_t *)(const void *)panel)[(k / 2 * NR + n % NR) * 2 + (k & 1)]);
    return ((const REAL *)(const void *)panel)[k * NR + n % NR];
}

void KERNEL(unpack)(float *w, const packed *in)
{
    for (int64_t i = 0; i < in->n; i++)
        for (int64_t j = 0; j < in->k; j++)
            w[i * in->k + j] = (float)packed_at(in, i, j);
}

/* Panels [first, first + count) of the transposed weights: their columns are the columns of W, their depth its rows. */
static void transpose_panels(void *out, const packed *w, int64_t first, int64_t count)
{
    size_t size = panel_bytes(w->n, w->type);
    int64_t columns = w->k;

    for (int64_t q = 0; q < count; q++) {
        unsigned char *to = (unsigned char *)out + (size_t)q * size;
        int64_t k0 = (first + q) * NR, width = columns - k0 < NR ? columns - k0 : NR;
        if (width < NR || (w->n & 1))
            memset(to, 0, size);
        for (int64_t n0 = 0; n0 < w->n; n0 += NR) {
            const unsigned char *from = (const unsigned char *)w->data + (size_t)(n0 / NR) * panel_bytes(w->k, w->type);
            int64_t depth = w->n - n0 < NR ? w->n - n0 : NR;
            if (w->type == DTYPE_BF16) {
                const uint16_t *source = (const uint16_t *)(const void *)from;
                uint16_t *target = (uint16_t *)(void *)to;
                for (int64_t n = 0; n < depth; n++)
                    for (int64_t k = 0; k < width; k++)
                        target[((n0 + n) / 2 * NR + k) * 2 + ((n0 + n) & 1)] = source[((k0 + k) / 2 * NR + n) * 2 + ((k0 + k) & 1)];
            } else {
                const REAL *source = (const REAL *)(const void *)from + k0 * NR;
                REAL *target = (REAL *)(void *)to + n0 * NR;
                for (int64_t n = 0; n < depth; n++)
                    for (int64_t k = 0; k < width; k++)
                        target[n * NR + k] = source[k * NR + n];
            }
        }
    }
}

/* ---- the left operand ---- */

static bool has_prologue(const gemm_prologue *in)
{
    return in->col_scale || in->row_scale || in->act != ACT_NONE;
}

/* out[cols] = x[r, :] behind the prologue */
static void prologue_row(REAL *out, const mat *x, int64_t r, const gemm_prologue *in, REAL *room)
{
    const REAL *from = row_real(x, r, out), *scale = in->col_scale;
    const REAL *pre = in->act != ACT_NONE ? row_real(&in->pre, r, room) : NULL;
    vec factor = v_set1(in->row_scale ? (REAL)in->row_scale[r / in->row_group] : 1);
    int64_t cols = x->cols;

    for (int64_t c = 0; c < cols; c += VW) {
        int n = cols - c < VW ? (int)(cols - c) : VW;
        vec v = n == VW ? v_load(from + c) : v_load_part(from + c, n);
        v = v_mul(v, factor);
        if (scale)
            v = v_mul(v, n == VW ? v_load(scale + c) : v_load_part(scale + c, n));
        if (pre)
            v = v_mul(v, v_activate_grad(in->act, n == VW ? v_load(pre + c) : v_load_part(pre + c, n)));
        if (n == VW)
            v_store(out + c, v);
        else
            v_store_part(out + c, v, n);
    }
}

static void round_row(REAL *out, const REAL *from, int64_t count)
{
    int64_t c = 0;

    for (; c + VW <= count; c += VW)
        v_store(out + c, v_round_bf16(v_load(from + c)));
    for (; c < count; c++)
        out[c] = (REAL)bf16_to_f32(f32_to_bf16((float)from[c]));
}

/* Packs rows [row, row + MR) (those from `rows` on are zero) for the micro kernel; rows_room holds MR + 1 rows. */
static void pack_left(void *out, const gemm_args *args, int64_t row, int64_t depth, REAL *rows_room)
{
    const mat *x = &args->x;
    bool bf16 = args->w->type == DTYPE_BF16, prologue = has_prologue(&args->in);
    int64_t padded = bf16 ? ceil_div(depth, 2) * 2 : depth;
    const REAL *rows[MR];
    REAL *spare = rows_room + MR * padded;

    for (int i = 0; i < MR; i++) {
        REAL *room = rows_room + i * padded;
        if (row + i >= x->rows) {
            memset(room, 0, (size_t)padded * sizeof *room);
            rows[i] = room;
            continue;
        }
        if (prologue)
            prologue_row(room, x, row + i, &args->in, spare);
        rows[i] = prologue ? room : row_real(x, row + i, room);
        if (bf16) {
            if (x->type != DTYPE_BF16 || prologue)
                round_row(room, rows[i], depth);
            if (padded > depth)
                room[depth] = 0;
            rows[i] = room;
        }
    }
#if defined(KERNEL_BF16)
    if (bf16) { /* pairs: upper halves of two neighbours */
        const REAL *pairs[MR];
        for (int i = 0; i < MR; i++) {
            uint32_t *to = (uint32_t *)(void *)(rows_room + i * padded);
            for (int64_t p = 0; p < padded / 2; p++) {
                uint32_t low, high;
                memcpy(&low, rows[i] + 2 * p, sizeof low);
                memcpy(&high, rows[i] + 2 * p + 1, sizeof high);
                to[p] = (low >> 16) | (high & 0xffff0000u);
            }
            pairs[i] = (const REAL *)(const void *)to;
        }
        interleave_rows(out, pairs, padded / 2);
        return;
    }
#endif
    interleave_rows(out, rows, padded);
}

/* ---- the epilogue ---- */

static inline vec load_n(const REAL *p, int n)
{
    return n == VW ? v_load(p) : v_load_part(p, n);
}

static inline void store_n(const mat *m, int64_t r, int64_t c, vec v, int n)
{
    if (m->type == REAL_TYPE) {
        REAL *to = (REAL *)m->data + r * m->stride + c;
        if (n == VW)
            v_store(to, v);
        else
            v_store_part(to, v, n);
    } else {
        uint16_t *to = (uint16_t *)m->data + r * m->stride + c, room[VW];
        if (n == VW) {
            v_store_bf16(to, v);
        } else {
            v_store_bf16(room, v);
            memcpy(to, room, (size_t)n * sizeof *to);
        }
    }
}

static inline vec load_mat(const mat *m, int64_t r, int64_t c, int n)
{
    uint16_t room[VW] = {0};

    if (m->type == REAL_TYPE)
        return load_n((const REAL *)m->data + r * m->stride + c, n);
    memcpy(room, (const uint16_t *)m->data + r * m->stride + c, (size_t)n * sizeof *room);
    return v_load_bf16(room);
}

static void finish_tile(const gemm_args *args, const REAL *tile, int64_t row, int64_t col)
{
    const gemm_epilogue *e = &args->out;
    const mat *y = &args->y;
    int64_t rows = y->rows - row < MR ? y->rows - row : MR, cols = y->cols - col < NR ? y->cols - col : NR;
    int64_t group = e->row_scale ? row / e->row_group : 0, next = e->row_scale ? (group + 1) * e->row_group : 0;
    const REAL *bias = e->bias, *scale = e->col_scale;

    for (int64_t i = 0; i < rows; i++) {
        vec factor = v_set1(1);
        if (e->row_scale) {
            if (row + i == next) {
                group++;
                next += e->row_group;
            }
            factor = v_set1((REAL)e->row_scale[group]);
        }
        for (int64_t j = 0; j < cols; j += VW) {
            int n = cols - j < VW ? (int)(cols - j) : VW;
            vec v = v_load(tile + i * NR + j);
            if (bias)
                v = v_add(v, load_n(bias + col + j, n));
            if (e->pre.data)
                store_n(&e->pre, row + i, col + j, v, n);
            if (e->act != ACT_NONE)
                v = e->act == ACT_GELU ? v_gelu(v) : v_activate(e->act, v);
            if (scale)
                v = v_mul(v, load_n(scale + col + j, n));
            if (e->row_scale)
                v = v_mul(v, factor);
            if (e->residual.data)
                v = v_add(v, load_mat(&e->residual, row + i, col + j, n));
            store_n(y, row + i, col + j, v, n);
        }
    }
}

/* ---- the product ---- */

typedef struct gemm_job {
    compute *c;
    const gemm_args *args;
} gemm_job;

static void run_tile(const gemm_args *args, const void *left, const void *panel, int64_t depth, int64_t row, int64_t col)
{
    _Alignas(64) REAL tile[MR * NR];

#if defined(KERNEL_BF16)
    if (args->w->type == DTYPE_BF16) {
        micro_bf16(tile, left, panel, ceil_div(depth, 2));
        finish_tile(args, tile, row, col);
        return;
    }
#endif
    micro_real(tile, left, panel, depth);
    finish_tile(args, tile, row, col);
}

/* A panel of weights as the micro kernel takes it. */
static const void *ready_panel(const packed *w, const unsigned char *panel, int64_t padded, unsigned char *room)
{
#if !defined(KERNEL_BF16)
    if (w->type == DTYPE_BF16) {
        widen_panel((REAL *)(void *)room, (const uint16_t *)(const void *)panel, padded / 2);
        return room;
    }
#endif
    (void)w;
    (void)padded;
    (void)room;
    return panel;
}

/* Panels of rows [row_begin, row_end) times panels of columns [first, first + count), which lie at `panels`. */
static void run_block(const gemm_args *args, unsigned char *scratch, const unsigned char *panels, int64_t first, int64_t count, int64_t row_begin, int64_t row_end)
{
    int64_t depth = args->x.cols, padded = args->w->type == DTYPE_BF16 ? ceil_div(depth, 2) * 2 : depth;
    size_t left_bytes = (size_t)(padded * MR) * sizeof(REAL), size = panel_bytes(depth, args->w->type);
    int64_t block = left_bytes >= BLOCK_WANTED ? 1 : (int64_t)(BLOCK_WANTED / left_bytes);
    REAL *rows_room = (REAL *)(void *)scratch;
    unsigned char *left = scratch + ROWS_BYTES, *wide = left + BLOCK_BYTES;

    if (block > MOST_PANELS)
        block = MOST_PANELS;
    if (args->w->type == DTYPE_BF16 && block < WIDE_PANELS)
        block = (int64_t)(BLOCK_BYTES / left_bytes) < WIDE_PANELS ? (int64_t)(BLOCK_BYTES / left_bytes) : WIDE_PANELS;

    for (int64_t at = row_begin; at < row_end; at += block) {
        int64_t used = row_end - at < block ? row_end - at : block;
        for (int64_t i = 0; i < used; i++)
            pack_left(left + (size_t)i * left_bytes, args, (at + i) * MR, depth, rows_room);
        for (int64_t q = 0; q < count; q++) {
            const void *panel = ready_panel(args->w, panels + (size_t)q * size, padded, wide);
            for (int64_t i = 0; i < used; i++)
                run_tile(args, left + (size_t)i * left_bytes, panel, padded, (at + i) * MR, (first + q) * NR);
        }
    }
}

static void gemm_task(void *argument, int thread, int threads)
{
    const gemm_job *job = argument;
    const gemm_args *args = job->args;
    unsigned char *scratch = KERNEL_SCRATCH(job->c, thread), *group = scratch + ROWS_BYTES + BLOCK_BYTES + WIDE_BYTES;
    int64_t row_panels = ceil_div(args->y.rows, MR), panels = ceil_div(args->y.cols, NR), first = 0, last = panels, begin = 0, end = row_panels;
    int64_t room;

    if (row_panels >= 2 * threads || row_panels >= panels)
        pool_share(row_panels, thread, threads, &begin, &end);
    else
        pool_share(panels, thread, threads, &first, &last);
    if (begin == end || first == last)
        return;
    if (!args->transposed) {
        size_t size = panel_bytes(args->x.cols, args->w->type);
        run_block(args, scratch, (const unsigned char *)args->w->data + (size_t)first * size, first, last - first, begin, end);
        return;
    }
    room = (int64_t)(GROUP_BYTES / panel_bytes(args->w->n, args->w->type));
    for (int64_t q = first; q < last; q += room) {
        int64_t count = last - q < room ? last - q : room;
        transpose_panels(group, args->w, q, count);
        run_block(args, scratch, group, q, count, begin, end);
    }
}

void KERNEL(gemm)(compute *c, const gemm_args *args)
{
    gemm_job job = {c, args};

    pool_run(c->threads, gemm_task, &job);
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
        prologue_row(to, job->x, r, job->in, room + job->x->cols);
        row_store(job->y, r, to);
    }
}

void KERNEL(apply_prologue)(compute *c, const mat *y, const mat *x, const gemm_prologue *in)
{
    prologue_job job = {c, y, x, in};

    pool_run(c->threads, prologue_task, &job);
}
