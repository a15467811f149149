/* Rows as bytes: how products with int8 weights take their left operand (gemm_int8.c says what the numbers mean). Where
 * nobody else reads a row, who makes it writes it so, with its quant behind it: a matrix of DTYPE_U8, stride
 * kernels.quantised_stride(cols). */
#ifndef INLAY_KERNELS_ISA_ROW_QUANT_H
#define INLAY_KERNELS_ISA_ROW_QUANT_H

#include "kernels/isa/isa.h"

#define LEVELS 254 /* steps over a row's range; with 255, rounding both ends could take one more than a byte holds */
#define MAGIC 12582912.0f     /* 1.5 * 2^23: what is added to it ends up rounded, to even, in the low bits of the sum */
#define SMALLEST_SCALE 1e-37f /* its reciprocal is finite; below it, everything is 0 */

/* How a row was quantised. */
typedef struct row_quant {
    float scale;
    int32_t zero;
} row_quant;

static inline float reciprocal(float scale)
{
    return scale >= SMALLEST_SCALE && scale <= 1e38f ? 1.0f / scale : 0.0f;
}

static inline row_quant quant_of(const uint16_t *x, int64_t n, float *inverse)
{
    int16_t top = 0;                  /* as signed numbers, the bits of positive bf16 are in their order */
    uint16_t low = (uint16_t)0x8000u; /* as unsigned ones, those of negative bf16 come after them, the lowest last; NaN
                                         is beyond both */
    float most, least;
    row_quant quant = {0};

    for (int64_t i = 0; i < n; i++) {
        int16_t bits = (int16_t)x[i];
        top = bits > top ? bits : top;
        low = x[i] > low ? x[i] : low;
    }
    most = bf16_to_f32((uint16_t)top);
    least = bf16_to_f32(low);
    quant.scale = most * (1.0f / LEVELS) - least * (1.0f / LEVELS);
    *inverse = reciprocal(quant.scale);
    if (*inverse > 0.0f)
        quant.zero = (int32_t)(fmaf(-least, *inverse, MAGIC) - MAGIC);
    return quant;
}

/* out[n] = the row's bytes. With LEVELS and `shift` they need no clamping: the least value becomes 0 and the greatest
 * at most 255. */
static inline void quantise(uint8_t *out, const uint16_t *x, int64_t n, float inverse, float shift)
{
    int64_t c = 0;

#if defined(KERNEL_AVX512)
    const __m512i low = _mm512_set1_epi32(0xff), upper = _mm512_set1_epi32((int)0xffff0000u);
    const __m512i order = _mm512_set_epi16(62, 60, 58, 56, 54, 52, 50, 48, 46, 44, 42, 40, 38, 36, 34, 32, 30, 28, 26,
                                           24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);

    for (; c + 4 * VW <= n; c += 4 * VW) {
        __m512i words[2];
        UNROLL(2)
        for (int i = 0; i < 2; i++) {
            __m512i both = _mm512_loadu_si512((const void *)(x + c + 2 * VW * i));
            vec even = v_fma(_mm512_castsi512_ps(_mm512_slli_epi32(both, 16)), v_set1(inverse), v_set1(shift));
            vec odd = v_fma(_mm512_castsi512_ps(_mm512_and_si512(both, upper)), v_set1(inverse), v_set1(shift));
            words[i] = _mm512_or_si512(_mm512_and_si512(_mm512_castps_si512(even), low),
                                       _mm512_slli_epi32(_mm512_castps_si512(odd), 8));
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
            words[i] = _mm256_or_si256(_mm256_and_si256(_mm256_castps_si256(even), low),
                                       _mm256_slli_epi32(_mm256_and_si256(_mm256_castps_si256(odd), low), 8));
        }
        _mm256_storeu_si256((__m256i *)(void *)(out + c),
                            _mm256_permute4x64_epi64(_mm256_packus_epi32(words[0], words[1]), 0xd8));
    }
#endif
    for (; c < n; c++) {
        float sum = fmaf(bf16_to_f32(x[c]), inverse, shift);
        uint32_t bits;
        memcpy(&bits, &sum, sizeof bits);
        out[c] = (uint8_t)bits;
    }
}

/* The largest magnitude; a NaN where there is one. */
static inline float largest(const float *x, int64_t n)
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

/* out[k] = a row of weights, w = scale * out, symmetric: -127..127. Returns the scale. */
static inline float quantise_weights(int8_t *out, int32_t *sum, const float *w, int64_t k)
{
    float scale = largest(w, k) / 127.0f, inverse = reciprocal(scale);

    *sum = 0;
    for (int64_t p = 0; p < k; p++) {
        int q = inverse == 0.0f ? 0 : (int)(fmaf(w[p], inverse, MAGIC) - MAGIC);
        q = q > 127 ? 127 : q < -127 ? -127 : q;
        out[p] = (int8_t)q;
        *sum += q;
    }
    return scale;
}

/* out[n] = the row's bytes */
static inline row_quant quantise_row(uint8_t *out, const uint16_t *x, int64_t n)
{
    float inverse;
    row_quant quant = quant_of(x, n, &inverse);

    quantise(out, x, n, inverse, MAGIC + (float)quant.zero);
    return quant;
}

/* ---- rows with their quant behind them ---- */

static inline uint8_t *quantised_row(const mat *m, int64_t r)
{
    return (uint8_t *)m->data + row_place(m, r) * m->stride;
}

static inline row_quant *quant_behind(const uint8_t *row, int64_t stride)
{
    return (row_quant *)(uintptr_t)(row + stride - (int64_t)sizeof(row_quant));
}

#endif
