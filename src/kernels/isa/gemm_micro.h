/* The inner loops of the matrix product: MR rows times NR columns, accumulated in registers over the whole depth. Each output element is one chain of
 * fused multiply-adds in rising order, so its bits depend neither on its neighbours nor on how the work is split - and in f32 not on the kernel set. */
#ifndef INLAY_KERNELS_ISA_GEMM_MICRO_H
#define INLAY_KERNELS_ISA_GEMM_MICRO_H

#include "kernels/isa/isa.h"

#if defined(KERNEL_AVX512)
#define MR 12
#define NV 2
#elif defined(KERNEL_AVX2)
#define MR 6
#define NV 2
#else
#define MR 4
#define NV 4
#endif
#define NR (NV * VW)

/* tile[MR][NR] = a[k][MR] * b[k][NR] */
static inline void micro_real(REAL *tile, const REAL *a, const REAL *b, int64_t k)
{
    vec sum[MR][NV];

#pragma GCC unroll 12
    for (int i = 0; i < MR; i++)
#pragma GCC unroll 4
        for (int j = 0; j < NV; j++)
            sum[i][j] = v_zero();
    for (int64_t p = 0; p < k; p++) {
        vec right[NV];
#pragma GCC unroll 4
        for (int j = 0; j < NV; j++)
            right[j] = v_load(b + j * VW);
#pragma GCC unroll 12
        for (int i = 0; i < MR; i++) {
            vec left = v_set1(a[i]);
#pragma GCC unroll 4
            for (int j = 0; j < NV; j++)
                sum[i][j] = v_fma(left, right[j], sum[i][j]);
        }
        a += MR;
        b += NR;
    }
#pragma GCC unroll 12
    for (int i = 0; i < MR; i++)
#pragma GCC unroll 4
        for (int j = 0; j < NV; j++)
            v_store(tile + i * NR + j * VW, sum[i][j]);
}

#if defined(KERNEL_BF16)

/* Both operands as pairs along the depth: a[pairs][MR], b[pairs][NR]. */
static inline void micro_bf16(REAL *tile, const uint32_t *a, const uint16_t *b, int64_t pairs)
{
    vec sum[MR][NV];

#pragma GCC unroll 12
    for (int i = 0; i < MR; i++)
#pragma GCC unroll 4
        for (int j = 0; j < NV; j++)
            sum[i][j] = v_zero();
    for (int64_t p = 0; p < pairs; p++) {
        __m512i right[NV];
#pragma GCC unroll 4
        for (int j = 0; j < NV; j++)
            right[j] = _mm512_loadu_si512((const void *)(b + j * VW * 2));
#pragma GCC unroll 12
        for (int i = 0; i < MR; i++) {
            __m512i left = _mm512_set1_epi32((int)a[i]);
#pragma GCC unroll 4
            for (int j = 0; j < NV; j++)
                sum[i][j] = _mm512_dpbf16_ps(sum[i][j], (__m512bh)left, (__m512bh)right[j]);
        }
        a += MR;
        b += NR * 2;
    }
#pragma GCC unroll 12
    for (int i = 0; i < MR; i++)
#pragma GCC unroll 4
        for (int j = 0; j < NV; j++)
            v_store(tile + i * NR + j * VW, sum[i][j]);
}

#else

/* out[2 * pairs][NR] = a panel of bf16 pairs as reals: where the processor has no product of bf16 pairs, the real one runs on these. */
static inline void widen_panel(REAL *out, const uint16_t *b, int64_t pairs)
{
    for (int64_t p = 0; p < pairs; p++, b += NR * 2, out += 2 * NR) {
#pragma GCC unroll 4
        for (int j = 0; j < NV; j++) {
#if defined(KERNEL_AVX512)
            __m512i both = _mm512_loadu_si512((const void *)(b + j * VW * 2));
            v_store(out + j * VW, _mm512_castsi512_ps(_mm512_slli_epi32(both, 16)));
            v_store(out + NR + j * VW, _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32((int)0xffff0000u))));
#elif defined(KERNEL_AVX2)
            __m256i both = _mm256_loadu_si256((const __m256i *)(const void *)(b + j * VW * 2));
            v_store(out + j * VW, _mm256_castsi256_ps(_mm256_slli_epi32(both, 16)));
            v_store(out + NR + j * VW, _mm256_castsi256_ps(_mm256_and_si256(both, _mm256_set1_epi32((int)0xffff0000u))));
#else
            out[j] = (REAL)bf16_to_f32(b[2 * j]);
            out[NR + j] = (REAL)bf16_to_f32(b[2 * j + 1]);
#endif
        }
    }
}

#endif

/* out[count][MR] from MR rows: transposed in blocks of four. `out` has room for four elements more. */
static inline void interleave_rows(REAL *out, const REAL *const rows[MR], int64_t count)
{
    int64_t c = 0;

#if defined(KERNEL_AVX2) || defined(KERNEL_AVX512)
    for (; c + 4 <= count; c += 4) {
        __m128 turned[(MR + 3) / 4][4];
#pragma GCC unroll 3
        for (int i = 0; i < (MR + 3) / 4; i++) {
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++)
                turned[i][j] = 4 * i + j < MR ? _mm_loadu_ps(rows[4 * i + j < MR ? 4 * i + j : 0] + c) : _mm_setzero_ps();
            _MM_TRANSPOSE4_PS(turned[i][0], turned[i][1], turned[i][2], turned[i][3]);
        }
        /* rising columns: what a store of four writes too far, the next column overwrites */
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++)
#pragma GCC unroll 3
            for (int i = 0; i < (MR + 3) / 4; i++)
                _mm_storeu_ps(out + (c + j) * MR + 4 * i, turned[i][j]);
    }
#endif
    for (; c < count; c++)
        for (int i = 0; i < MR; i++)
            out[c * MR + i] = rows[i][c];
}

#endif
