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

#include "kernels/isa/gemm_direct.h"
#include "kernels/isa/gemm_left.h"
#include "kernels/isa/quads.h"
#include "kernels/isa/row_quant.h"

#define ROUNDED_BYTES ((size_t)1 << 20) /* of scratch behind the bytes of a block's rows: a row of bf16 */

/* ---- weights ---- */

/* The largest magnitude; a NaN where there is one. */
static float largest(const float *x, int64_t n)
{
    uint32_t top = 0;
    float value;

    for (int64_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bits &= 0x7fffffffu;
        top = bits > top ? bits : top; /* magnitudes are ordered as their bits are, NaN last */
    }
    memcpy(&value, &top, sizeof value);
    return value;
}

static void load_row(float *out, const void *w, dtype type, int64_t row, int64_t k)
{
    dtype_to_f32(out, (const unsigned char *)w + (size_t)(row * k) * dtype_size(type), type, (size_t)k);
}

void KERNEL(pack_int8)(const packed *out, int64_t panel, const void *w, dtype w_type, float *room)
{
    int64_t k = out->k, columns = out->n - panel * NR < NR ? out->n - panel * NR : NR;
    int8_t *to = (int8_t *)out->data + (size_t)panel * panel_bytes(k, DTYPE_I8);
    float *scales = (float *)(void *)(to + int8_bytes(k));
    int32_t *sums = (int32_t *)(void *)(scales + NR);

    assert(k < INT8_DEPTH);
    memset(to, 0, panel_bytes(k, DTYPE_I8));
    for (int64_t j = 0; j < columns; j++) {
        float inverse;
        load_row(room, w, w_type, panel * NR + j, k);
        scales[j] = largest(room, k) / 127.0f;
        inverse = reciprocal(scales[j]);
        for (int64_t p = 0; p < k; p++) {
            int q = inverse == 0.0f ? 0 : (int)(fmaf(room[p], inverse, MAGIC) - MAGIC);
            q = q > 127 ? 127 : q < -127 ? -127 : q;
            to[(p / 4 * NR + j) * 4 + p % 4] = (int8_t)q;
            sums[j] += q;
        }
    }
}

/* ---- rows of the left operand ---- */

/* Row r as bytes at `out`, zeros up to a whole number of quads; rows beyond the last are zero. `room` holds a row of
 * bf16, `reals` two rows. */
static row_quant convert_row(uint8_t *out, const gemm_args *args, int64_t r, uint16_t *room, REAL *reals)
{
    const mat *x = &args->x,
              rounded = {.data = room, .type = DTYPE_BF16, .rows = 1, .cols = x->cols, .stride = x->cols};
    const uint16_t *from = room;
    size_t size = (size_t)ceil_div(x->cols, 4) * 4;

    if (r >= x->rows) {
        memset(out, 0, size);
        return (row_quant){0};
    }
    if (x->type == DTYPE_U8 && !args->pixels) {
        const uint8_t *quantised = quantised_row(x, r);
        memcpy(out, quantised, size);
        return *quant_behind(quantised, x->stride);
    }
    if (act_grads_bf16(x, &args->in)) {
        act_grad_row(room, x, r, &args->in.act_grad);
    } else if (has_prologue(&args->in)) {
        prologue_row(reals, x, r, &args->in);
        row_store(&rounded, 0, reals);
    } else if (!args->pixels && x->type == DTYPE_BF16) {
        from = (const uint16_t *)x->data + row_place(x, r) * x->stride;
    } else {
        row_store(&rounded, 0, left_row(args, r, reals));
    }
    memset(out + x->cols, 0, size - (size_t)x->cols);
    return quantise_row(out, from, x->cols);
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

/* ---- the product ---- */

static inline __attribute__((always_inline)) void run_tile_of(const gemm_args *args, const uint8_t *rows,
                                                              int64_t stride, const row_quant *quants,
                                                              const int8_t *panel, tile_place at, direct how,
                                                              int vectors)
{
    _Alignas(64) REAL tile[MR * NR];
    vec sum[MR][NV];

    clear_sums(sum);
    if (at.rows <= MR_HALF)
        micro_int8(sum, rows, stride, quants, panel, ceil_div(args->w->k, 4), MR_HALF, vectors);
    else
        micro_int8(sum, rows, stride, quants, panel, ceil_div(args->w->k, 4), MR, vectors);
    if (vectors == NV && is_direct(args, at, how)) {
        finish_direct(args, sum, at, how);
        return;
    }
    UNROLL(12)
    for (int i = 0; i < MR; i++)
        UNROLL(4)
    for (int j = 0; j < vectors; j++)
        v_store(tile + i * NR + j * VW, sum[i][j]);
    KERNEL(finish_tile)(args, tile, at);
}

static void run_tile(const gemm_args *args, const uint8_t *rows, int64_t stride, const row_quant *quants,
                     const unsigned char *panel, tile_place at, direct how)
{
    KERNEL(prefetch_tile)(args, at);
    if (args->y.cols - at.col <= VW)
        run_tile_of(args, rows, stride, quants, (const int8_t *)panel, at, how, 1);
    else
        run_tile_of(args, rows, stride, quants, (const int8_t *)panel, at, how, NV);
}

void KERNEL(run_int8)(const gemm_args *args, unsigned char *scratch, const unsigned char *panels, int64_t first,
                      int64_t count, int64_t begin, int64_t end)
{
    row_quant quants[MOST_TILES * MR];
    bool in_place = args->x.type == DTYPE_U8 && !args->pixels && !args->x.samples;
    int64_t stride =
        in_place ? args->x.stride
                 : ceil_div(args->x.cols, 64) * 64 |
                       64; /* an odd number of cache lines: rows do not fall into the same sets of the first cache */
    int64_t block = block_rows(&args->y, (size_t)stride);
    size_t size = panel_bytes(args->w->k, DTYPE_I8);
    uint16_t *room = (uint16_t *)(void *)(scratch + LEFT_BYTES);
    REAL *reals = (REAL *)(void *)(scratch + LEFT_BYTES + ROUNDED_BYTES);
    direct how = direct_of(args);

    if (args->pixels)
        KERNEL(patch_room)(reals, args->pixels);
    for (int64_t at = begin; at < end; at += block) {
        int64_t rows = end - at < block ? end - at : block, whole = in_place ? rows / MR * MR : 0;
        for (int64_t i = 0; i < whole; i++)
            quants[i] = *quant_behind(quantised_row(&args->x, at + i), stride);
        for (int64_t i = whole; i < ceil_div(rows, MR) * MR; i++)
            quants[i] =
                convert_row(scratch + (i - whole) * stride, args, i < rows ? at + i : args->x.rows, room, reals);
        for (int64_t q = 0; q < count; q++) {
            line_range lines = lines_meanwhile(in_place ? (size_t)args->x.cols : 0, q, count);
            for (int64_t i = 0; i < rows; i += MR) {
                int64_t next = at + block + i; /* in the next block, what this tile is in this one */
                const uint8_t *from = i < whole ? quantised_row(&args->x, at + i) : scratch + (i - whole) * stride;
                prefetch_rows((const uint8_t *)args->x.data + next * stride, (size_t)stride, end - next, lines);
                run_tile(args, from, stride, quants + i, panels + (size_t)q * size,
                         tile_at(at + i, first + q, rows - i), how);
            }
        }
    }
}
