/* Products with int8 weights: y = x W^T from bytes, summed exactly in int32.
 *
 * Weights are symmetric, with one scale for each column of the product (row of W): w = scale * q, q in -127..127. Rows of x are quantised on their way in,
 * each for itself: x = scale * (q - zero), q in 0..255, over the row's range, which always includes 0. So
 *     y[r, c] = scale[r] * scale[c] * (sum of q[r, i] q[c, i]  -  zero[r] * sum of q[c, i]),
 * where the second sum lies ready beside the weights. Rows are rounded to bf16 first, as for bf16 weights: a result does not depend on how x is stored.
 *
 * The whole numbers are the same with every instruction set, and in f32 so is what they are scaled to. They fit: |q - zero| <= 255, |q| <= 127 and a depth
 * below INT8_DEPTH. Panels: [ceil(n / NR)] times ([ceil(k / 4)][NR][4] weights, padded with zeros; [NR] scales; [NR] sums). */
#include <assert.h>

#include "kernels/isa/gemm_direct.h"
#include "kernels/isa/gemm_left.h"
#include "kernels/isa/quads.h"

#define LEVELS 254               /* steps over a row's range; with 255, rounding both ends could take one more than a byte holds */
#define MAGIC 12582912.0f        /* 1.5 * 2^23: what is added to it ends up rounded, to even, in the low bits of the sum */
#define SMALLEST_SCALE 1e-37f    /* its reciprocal is finite; below it, everything is 0 */

#define LEFT_BYTES ((size_t)1 << 20)     /* of scratch: quantised rows of a block */
#define ROUNDED_BYTES ((size_t)1 << 20)  /* a row of bf16 */
#define BLOCK_WANTED ((size_t)256 << 10) /* bytes of these and of the result that a block aims at */
#define MOST_TILES 16

/* How a row was quantised. */
typedef struct row_code {
    float scale;
    int32_t zero;
} row_code;

/* ---- weights ---- */

static float reciprocal(float scale)
{
    return scale >= SMALLEST_SCALE && scale <= 1e38f ? 1.0f / scale : 0.0f;
}

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

static row_code code_of(const uint16_t *x, int64_t n, float *inverse)
{
    int16_t top = 0;                  /* as signed numbers, the bits of positive bf16 are in their order */
    uint16_t low = (uint16_t)0x8000u; /* as unsigned ones, those of negative bf16 come after them, the lowest last; NaN is beyond both */
    float most, least;
    row_code code = {0};

    for (int64_t i = 0; i < n; i++) {
        int16_t bits = (int16_t)x[i];
        top = bits > top ? bits : top;
        low = x[i] > low ? x[i] : low;
    }
    most = bf16_to_f32((uint16_t)top);
    least = bf16_to_f32(low);
    code.scale = most * (1.0f / LEVELS) - least * (1.0f / LEVELS);
    *inverse = reciprocal(code.scale);
    if (*inverse > 0.0f)
        code.zero = (int32_t)(fmaf(-least, *inverse, MAGIC) - MAGIC);
    return code;
}

/* out[n] = the row's bytes. With LEVELS and `shift` they need no clamping: the least value becomes 0 and the greatest at most 255. */
static void quantise(uint8_t *out, const uint16_t *x, int64_t n, float inverse, float shift)
{
    int64_t c = 0;

#if defined(KERNEL_AVX512)
    const __m512i low = _mm512_set1_epi32(0xff), upper = _mm512_set1_epi32((int)0xffff0000u);
    const __m512i order = _mm512_set_epi16(62, 60, 58, 56, 54, 52, 50, 48, 46, 44, 42, 40, 38, 36, 34, 32, 30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);

    for (; c + 4 * VW <= n; c += 4 * VW) {
        __m512i words[2];
UNROLL(2)
        for (int i = 0; i < 2; i++) {
            __m512i both = _mm512_loadu_si512((const void *)(x + c + 2 * VW * i));
            vec even = v_fma(_mm512_castsi512_ps(_mm512_slli_epi32(both, 16)), v_set1(inverse), v_set1(shift));
            vec odd = v_fma(_mm512_castsi512_ps(_mm512_and_si512(both, upper)), v_set1(inverse), v_set1(shift));
            words[i] = _mm512_or_si512(_mm512_and_si512(_mm512_castps_si512(even), low), _mm512_slli_epi32(_mm512_castps_si512(odd), 8));
        }
        _mm512_storeu_si512((void *)(out + c), _mm512_permutex2var_epi16(words[0], order, words[1]));
    }
#elif defined(KERNEL_AVX2)
    const __m256i low = _mm256_set1_epi32(0xff), upper = _mm256_set1_epi32((int)0xffff0000u);

    for (; c + 4 * VW <= n; c += 4 * VW) {
        __m256i words[2];
UNROLL(2)
        for (int i = 0; i < 2; i++) {
            __m256i both = _mm256_loadu_si256((const __m256i *)(const void *)(x + c + 2 * VW * i));
            vec even = v_fma(_mm256_castsi256_ps(_mm256_slli_epi32(both, 16)), v_set1(inverse), v_set1(shift));
            vec odd = v_fma(_mm256_castsi256_ps(_mm256_and_si256(both, upper)), v_set1(inverse), v_set1(shift));
            words[i] = _mm256_or_si256(_mm256_and_si256(_mm256_castps_si256(even), low), _mm256_slli_epi32(_mm256_and_si256(_mm256_castps_si256(odd), low), 8));
        }
        _mm256_storeu_si256((__m256i *)(void *)(out + c), _mm256_permute4x64_epi64(_mm256_packus_epi32(words[0], words[1]), 0xd8));
    }
#endif
    for (; c < n; c++) {
        float sum = fmaf(bf16_to_f32(x[c]), inverse, shift);
        uint32_t bits;
        memcpy(&bits, &sum, sizeof bits);
        out[c] = (uint8_t)bits;
    }
}

/* Row r as bytes at `out`, zeros up to a whole number of quads; rows beyond the last are zero. `room` holds a row of bf16, `reals` two rows. */
static row_code convert_row(uint8_t *out, const gemm_args *args, int64_t r, uint16_t *room, REAL *reals)
{
    const mat *x = &args->x, rounded = {.data = room, .type = DTYPE_BF16, .rows = 1, .cols = x->cols, .stride = x->cols};
    const uint16_t *from = room;
    size_t size = (size_t)ceil_div(x->cols, 4) * 4;
    float inverse;
    row_code code;

    if (r >= x->rows) {
        memset(out, 0, size);
        return (row_code){0};
    }
    if (slopes_bf16(x, &args->in)) {
        slope_row(room, x, r, &args->in.slope);
    } else if (has_prologue(&args->in)) {
        prologue_row(reals, x, r, &args->in);
        row_store(&rounded, 0, reals);
    } else if (!args->pixels && x->type == DTYPE_BF16) {
        from = (const uint16_t *)x->data + row_place(x, r) * x->stride;
    } else {
        row_store(&rounded, 0, left_row(args, r, reals));
    }
    code = code_of(from, x->cols, &inverse);
    quantise(out, from, x->cols, inverse, MAGIC + (float)code.zero);
    memset(out + x->cols, 0, size - (size_t)x->cols);
    return code;
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

/* out[height][vectors] = rows of bytes times a panel, scaled; the sums begin with what the rows' zeros take away. `height` and `vectors` are constants where it is
 * called. */
static inline __attribute__((always_inline)) void micro_int8(vec out[MR][NV], const uint8_t *a, int64_t a_row, const row_code *codes, const int8_t *b, int64_t steps,
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
            sum[i][j] = i_mul(i_set1(-codes[i].zero), i_load(sums + j * VW));
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
            out[i][j] = v_mul(i_real(sum[i][j]), v_mul(v_set1((REAL)codes[i].scale), load_scale(scales + j * VW)));
}

/* ---- the product ---- */

static inline __attribute__((always_inline)) void run_tile_of(const gemm_args *args, const uint8_t *rows, int64_t stride, const row_code *codes, const int8_t *panel,
                                                              tile_place at, direct how, int vectors)
{
    _Alignas(64) REAL tile[MR * NR];
    vec sum[MR][NV];

UNROLL(12)
    for (int i = 0; i < MR; i++)
UNROLL(4)
        for (int j = 0; j < NV; j++)
            sum[i][j] = v_zero();
    if (at.rows <= MR_HALF)
        micro_int8(sum, rows, stride, codes, panel, ceil_div(args->w->k, 4), MR_HALF, vectors);
    else
        micro_int8(sum, rows, stride, codes, panel, ceil_div(args->w->k, 4), MR, vectors);
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

static void run_tile(const gemm_args *args, const uint8_t *rows, int64_t stride, const row_code *codes, const unsigned char *panel, tile_place at, direct how)
{
    KERNEL(expect_tile)(args, at);
    if (args->y.cols - at.col <= VW)
        run_tile_of(args, rows, stride, codes, (const int8_t *)panel, at, how, 1);
    else
        run_tile_of(args, rows, stride, codes, (const int8_t *)panel, at, how, NV);
}

/* Rows that one block has: a whole number of tiles. */
static int64_t block_rows(const gemm_args *args, int64_t stride)
{
    size_t row = (size_t)stride + (size_t)args->y.cols * dtype_size(args->y.type);
    int64_t tiles = (int64_t)(BLOCK_WANTED / (row * MR)), most = (int64_t)(LEFT_BYTES / ((size_t)stride * MR));

    tiles = tiles < MOST_TILES ? tiles : MOST_TILES;
    tiles = tiles < most ? tiles : most;
    return (tiles > 1 ? tiles : 1) * MR;
}

void KERNEL(run_int8)(const gemm_args *args, unsigned char *scratch, const unsigned char *panels, int64_t first, int64_t count, int64_t begin, int64_t end)
{
    row_code codes[MOST_TILES * MR];
    int64_t stride = ceil_div(args->x.cols, 64) * 64 | 64; /* an odd number of cache lines: rows do not fall into the same sets of the first cache */
    int64_t block = block_rows(args, stride);
    size_t size = panel_bytes(args->w->k, DTYPE_I8);
    uint16_t *room = (uint16_t *)(void *)(scratch + LEFT_BYTES);
    REAL *reals = (REAL *)(void *)(scratch + LEFT_BYTES + ROUNDED_BYTES);
    direct how = direct_of(args);

    if (args->pixels)
        KERNEL(patch_room)(reals, args->pixels);
    for (int64_t at = begin; at < end; at += block) {
        int64_t rows = end - at < block ? end - at : block;
        for (int64_t i = 0; i < ceil_div(rows, MR) * MR; i++)
            codes[i] = convert_row(scratch + i * stride, args, i < rows ? at + i : args->x.rows, room, reals);
        for (int64_t q = 0; q < count; q++)
            for (int64_t i = 0; i < rows; i += MR)
                run_tile(args, scratch + i * stride, stride, codes + i, panels + (size_t)q * size, (tile_place){at + i, (first + q) * NR, rows - i < MR ? rows - i : MR}, how);
    }
}
