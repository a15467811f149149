/* Products with int8 weights: y = x W^T from bytes, summed exactly in int32.
 *
 * Weights are symmetric, with one scale for each column of the product (row of W): w = scale * q, q in -127..127. Rows
 * of x are quantised on their way in, each for itself: x = scale * (q - zero), q in 0..255, over the row's range, which
 * always includes 0. So y[r, c] = scale[r] * scale[c] * (sum of q[r, i] q[c, i]  -  zero[r] * sum of q[c, i]), where
 * the second sum lies ready beside the weights. Rows are rounded to bf16 first, as for bf16 weights: a result does not
 * depend on how x is stored.
 *
 * The whole numbers are the same with every instruction set, and in f32 so is what they are scaled to. They fit: |q -
 * zero| <= 255, |q| <= 127 and a depth below INT8_DEPTH. Panels: [ceil(n / NR)] times ([ceil(k / 4)][NR][4] weights,
 * padded with zeros; [NR] scales; [NR] sums). */
#include <assert.h>

#include "kernels/isa/gemm_block.h"
#include "kernels/isa/gemm_left.h"
#include "kernels/isa/quads.h"
#include "kernels/isa/row_quant.h"

/* ---- weights ---- */

/* Bytes of a panel's weights. */
static size_t weight_bytes(int64_t k)
{
    return (size_t)ceil_div(k, 4) * 4 * NR;
}

static size_t panel_bytes(int64_t k)
{
    return weight_bytes(k) + NR * (sizeof(float) + sizeof(int32_t));
}

static void pack(const packed *out, int64_t panel, const void *w, dtype type, float *room)
{
    int64_t k = out->k, columns = out->n - panel * NR < NR ? out->n - panel * NR : NR;
    int8_t *to = (int8_t *)out->data + (size_t)panel * panel_bytes(k);
    float *scales = (float *)(void *)(to + weight_bytes(k));
    int32_t *sums = (int32_t *)(void *)(scales + NR);

    assert(k < INT8_DEPTH);
    memset(to, 0, panel_bytes(k));
    for (int64_t j = 0; j < columns; j++) {
        int8_t *row = (int8_t *)(void *)(room + k);
        load_weights(room, w, type, panel * NR + j, k);
        scales[j] = quantise_weights(row, &sums[j], room, k);
        for (int64_t p = 0; p < k; p++)
            to[(p / 4 * NR + j) * 4 + p % 4] = row[p];
    }
}

static double weight(const unsigned char *panel, int64_t k, int64_t j, int64_t p)
{
    const float *scales = (const float *)(const void *)(panel + weight_bytes(k));
    int64_t place = (p / 4 * NR + j) * 4 + p % 4;

    return (double)scales[j] * (double)((const int8_t *)panel)[place];
}

/* ---- rows of the left operand ---- */

/* Bytes of a row of the left operand, filled up with zeros to a whole number of quads. */
static size_t row_bytes(int64_t k)
{
    return (size_t)ceil_div(k, 4) * 4;
}

static row_quant convert(void *out, const gemm_args *args, int64_t r, void *room)
{
    return convert_row_int8(out, row_bytes(args->x.cols), args, r, room);
}

/* ---- the inner loop ---- */

static inline vec load_scale(const float *p)
{
#if VW > 1
    return v_load(p);
#else
    return (vec)*p;
#endif
}

/* out[height][vectors] = rows of bytes times a panel, scaled; the sums begin with what the rows' zeros take away.
 * `height` and `vectors` are constants where it is called. */
static inline __attribute__((always_inline)) void micro_int8(vec out[MR][NV], const uint8_t *a, int64_t a_row,
                                                             const row_quant *quants, const int8_t *b, int64_t steps,
                                                             int height, int vectors)
{
    const float *scales = (const float *)(const void *)(b + steps * 4 * NR);
    const int32_t *sums = (const int32_t *)(const void *)(scales + NR);
    const uint8_t *rows[(MR + 2) / 3]; /* every third: the two between are reached by one and two strides */
    ivec sum[MR][NV];

    UNROLL(4)
    for (int i = 0; i < (height + 2) / 3; i++)
        rows[i] = a + 3 * i * a_row;
    UNROLL(12)
    for (int i = 0; i < height; i++)
        UNROLL(4)
    for (int j = 0; j < vectors; j++)
        sum[i][j] = i_mul(i_set1(-quants[i].zero), i_load(sums + j * VW));
    for (int64_t p = 0; p < steps; p++) {
        quads right[NV];
        UNROLL(4)
        for (int j = 0; j < vectors; j++)
            right[j] = signed_quads(i_load(b + j * VW * 4));
        UNROLL(12)
        for (int i = 0; i < height; i++) {
            int32_t four;
            quads left;
            memcpy(&four, rows[i / 3] + i % 3 * a_row, sizeof four);
            left = unsigned_quads(i_set1(four));
            UNROLL(4)
            for (int j = 0; j < vectors; j++)
                sum[i][j] = i_dot(sum[i][j], left, right[j]);
        }
        UNROLL(4)
        for (int i = 0; i < (height + 2) / 3; i++)
            rows[i] += 4;
        b += NR * 4;
    }
    UNROLL(12)
    for (int i = 0; i < height; i++)
        UNROLL(4)
    for (int j = 0; j < vectors; j++)
        out[i][j] = v_mul(i_real(sum[i][j]), v_mul(v_set1((REAL)quants[i].scale), load_scale(scales + j * VW)));
}

/* ---- the tile ---- */

static inline __attribute__((always_inline)) void run_tile(const gemm_args *args, const left_rows *rows,
                                                           const int8_t *panel, tile_place at, direct how, int vectors)
{
    int64_t stride = (int64_t)rows->stride;
    _Alignas(64) REAL tile[MR * NR];
    vec sum[MR][NV];

    clear_sums(sum);
    if (at.rows <= MR_HALF)
        micro_int8(sum, rows->at, stride, rows->quants, panel, ceil_div(args->w->k, 4), MR_HALF, vectors);
    else
        micro_int8(sum, rows->at, stride, rows->quants, panel, ceil_div(args->w->k, 4), MR, vectors);
    if (vectors == NV && is_direct(args, at, how)) {
        finish_direct(args, sum, at, how);
        return;
    }
    UNROLL(12)
    for (int i = 0; i < MR; i++)
        UNROLL(4)
    for (int j = 0; j < vectors; j++)
        v_store(tile + i * NR + j * VW, sum[i][j]);
    BASE(finish_tile)(args, tile, NR, at);
}

static inline void int8_tile(const gemm_args *args, const left_rows *rows, const unsigned char *panel, tile_place at,
                             direct how)
{
    BASE(prefetch_tile)(args, NR, at);
    if (args->y.cols - at.col <= VW)
        run_tile(args, rows, (const int8_t *)panel, at, how, 1);
    else
        run_tile(args, rows, (const int8_t *)panel, at, how, NV);
}

static void int8_block(const gemm_args *args, const left_block *left, const panel_range *panels, void *room)
{
    each_tile(args, left, panels, room, NULL, int8_tile);
}

/* ---- registers alone ---- */

static double peak(int64_t rounds)
{
    quads left = unsigned_quads(i_set1(0x01020304)), right = signed_quads(i_set1(0x01020304));
    ivec sum[MR];
    vec total = v_zero();
    volatile REAL sink;

    UNROLL(12)
    for (int i = 0; i < MR; i++)
        sum[i] = i_set1(i);
    for (int64_t r = 0; r < rounds; r++)
        UNROLL(12)
    for (int i = 0; i < MR; i++)
        sum[i] = i_dot(sum[i], left, right);
    UNROLL(12)
    for (int i = 0; i < MR; i++)
        total = v_add(total, i_real(sum[i]));
    sink = v_sum(total);
    (void)sink;
    return (double)rounds * MR * VW * 2 * 4;
}

const micro_kernel KERNEL(micro_int8) = {
    .mr = MR,
    .nr = NR,
    .half_rows = MR_HALF,
    .panel_bytes = panel_bytes,
    .pack = pack,
    .weight = weight,
    .row_bytes = row_bytes,
    .in_place = quantised_rows_lie,
    .convert = convert,
    .block = int8_block,
    .peak = peak,
};
