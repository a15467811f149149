/* The inner loop of every matrix product: MR rows times NR columns, accumulated in registers over the whole depth. Each
 * output element is one chain of fused multiply-adds in rising order, so its bits depend neither on its neighbours nor
 * on how the work is split - and in f32 not on the kernel set.
 *
 * The depth goes in steps of one real or, where the processor multiplies them, of one pair of bf16. Both are as wide as
 * a real, so that operands are laid out and walked in the same way. */
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
#define MR_HALF (MR / 2) /* for the last rows, where they are no more */

#if defined(KERNEL_BF16)
#define HAVE_PAIRS true
#else
#define HAVE_PAIRS false
#endif

static inline int64_t round_up(int64_t n, int64_t unit)
{
    return (n + unit - 1) / unit * unit;
}

typedef REAL __attribute__((may_alias)) step; /* a real or a pair of bf16 */

static inline vec micro_multiply(vec left, vec right, vec sum, bool pairs)
{
#if defined(KERNEL_BF16)
    if (pairs)
        return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_castps_si512(left), (__m512bh)_mm512_castps_si512(right));
#endif
    (void)pairs;
    return v_fma(left, right, sum);
}

/* sum[height][vectors] += a b over `steps` steps: row i of a at step p is a[i * a_row + p * a_step], row p of b is b +
 * p * b_step. `pairs`, `vectors` and `height`, MR or less, are constants where it is called. */
static inline __attribute__((always_inline)) void micro_sums(vec sum[MR][NV], const step *a, int64_t a_row,
                                                             int64_t a_step, const step *b, int64_t b_step,
                                                             int64_t steps, int height, int vectors, bool pairs)
{
    const step *rows[(MR + 2) / 3]; /* every third: the two between are reached by one and two strides */

    UNROLL(4)
    for (int i = 0; i < (height + 2) / 3; i++)
        rows[i] = a + 3 * i * a_row;
    for (int64_t p = 0; p < steps; p++) {
        vec right[NV];
        UNROLL(4)
        for (int j = 0; j < vectors; j++)
            right[j] = v_load((const REAL *)(b + j * VW));
        UNROLL(12)
        for (int i = 0; i < height; i++) {
            vec left = v_set1(rows[i / 3][i % 3 * a_row]);
            UNROLL(4)
            for (int j = 0; j < vectors; j++)
                sum[i][j] = micro_multiply(left, right[j], sum[i][j], pairs);
        }
        UNROLL(4)
        for (int i = 0; i < (height + 2) / 3; i++)
            rows[i] += a_step;
        b += b_step;
    }
}

static inline __attribute__((always_inline)) void clear_sums(vec sum[MR][NV])
{
    UNROLL(12)
    for (int i = 0; i < MR; i++)
        UNROLL(4)
    for (int j = 0; j < NV; j++)
        sum[i][j] = v_zero();
}

/* out[height][vectors * VW] (+)= a b, summed as micro_sums does; `add` is a constant where it is called. */
static inline __attribute__((always_inline)) void micro(REAL *out, int64_t out_stride, const step *a, int64_t a_row,
                                                        int64_t a_step, const step *b, int64_t b_step, int64_t steps,
                                                        int height, int vectors, bool pairs, bool add)
{
    vec sum[MR][NV];

    UNROLL(12)
    for (int i = 0; i < height; i++)
        UNROLL(4)
    for (int j = 0; j < vectors; j++)
        sum[i][j] = add ? v_load(out + i * out_stride + j * VW) : v_zero();
    micro_sums(sum, a, a_row, a_step, b, b_step, steps, height, vectors, pairs);
    UNROLL(12)
    for (int i = 0; i < height; i++)
        UNROLL(4)
    for (int j = 0; j < vectors; j++)
        v_store(out + i * out_stride + j * VW, sum[i][j]);
}

/* out[rows][vectors * VW] (+)= a b for `rows` rows that are left, in half a tile where they fit in one. */
static inline __attribute__((always_inline)) void micro_rows(REAL *out, int64_t out_stride, const step *a,
                                                             int64_t a_row, int64_t a_step, const step *b,
                                                             int64_t b_step, int64_t steps, int64_t rows, int vectors,
                                                             bool pairs, bool add)
{
    if (rows <= MR_HALF)
        micro(out, out_stride, a, a_row, a_step, b, b_step, steps, MR_HALF, vectors, pairs, add);
    else
        micro(out, out_stride, a, a_row, a_step, b, b_step, steps, MR, vectors, pairs, add);
}

#endif
