/* Vectors of 16 lanes. Included by vec.h alone. */
#ifndef INLAY_KERNELS_ISA_VEC_AVX512_H
#define INLAY_KERNELS_ISA_VEC_AVX512_H

#define VW 16
#define REAL float
#define REAL_TYPE DTYPE_F32
typedef __m512 vec;
static inline vec v_zero(void)
{
    return _mm512_setzero_ps();
}
static inline vec v_set1(REAL a)
{
    return _mm512_set1_ps(a);
}
static inline vec v_load(const REAL *p)
{
    return _mm512_loadu_ps(p);
}
static inline void v_store(REAL *p, vec a)
{
    _mm512_storeu_ps(p, a);
}
static inline __mmask16 v_mask_(int n)
{
    return (__mmask16)((1u << n) - 1u);
}
static inline vec v_load_part(const REAL *p, int n)
{
    return _mm512_maskz_loadu_ps(v_mask_(n), p);
}
static inline void v_store_part(REAL *p, vec a, int n)
{
    _mm512_mask_storeu_ps(p, v_mask_(n), a);
}
static inline vec v_add(vec a, vec b)
{
    return _mm512_add_ps(a, b);
}
static inline vec v_sub(vec a, vec b)
{
    return _mm512_sub_ps(a, b);
}
static inline vec v_mul(vec a, vec b)
{
    return _mm512_mul_ps(a, b);
}
static inline vec v_div(vec a, vec b)
{
    return _mm512_div_ps(a, b);
}
static inline vec v_fma(vec a, vec b, vec c)
{
    return _mm512_fmadd_ps(a, b, c);
}
static inline vec v_max(vec a, vec b)
{
    return _mm512_max_ps(a, b);
}
static inline vec v_min(vec a, vec b)
{
    return _mm512_min_ps(a, b);
}
static inline vec v_sqrt(vec a)
{
    return _mm512_sqrt_ps(a);
}
static inline vec v_abs(vec a)
{
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(0x7fffffff)));
}
/* b where x < 0, else a */
static inline vec v_select_negative(vec x, vec a, vec b)
{
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, v_zero(), _CMP_LT_OQ), a, b);
}
static inline vec v_round(vec a)
{
    return _mm512_roundscale_ps(a, 8);
}
static inline vec v_pow2(vec a)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(a), _mm512_set1_epi32(127)), 23));
}
/* Whole numbers of 0..15, and one of 16 table entries for each. */
typedef __m512i v_index;
static inline v_index v_truncate(vec a)
{
    return _mm512_cvttps_epi32(a);
}
static inline vec v_whole(v_index a)
{
    return _mm512_cvtepi32_ps(a);
}
static inline vec v_lookup(const REAL table[16], v_index at)
{
    return _mm512_permutexvar_ps(at, _mm512_loadu_ps(table));
}
/* r[i][j] and r[j][i] change places. */
static inline void v_transpose(vec r[VW])
{
    __m512 t[16];

    UNROLL(8)
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    UNROLL(4)
    for (int i = 0; i < 16; i += 4)
        UNROLL(2)
    for (int j = 0; j < 2; j++) {
        __m512d a = _mm512_castps_pd(t[i + j]), b = _mm512_castps_pd(t[i + j + 2]);
        r[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, b));
        r[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, b));
    }
    UNROLL(4)
    for (int i = 0; i < 4; i++) { /* quarters: (a0 a1 a2 a3), b, c, d become (a0 b0 c0 d0), ... */
        __m512 even = _mm512_shuffle_f32x4(r[i], r[4 + i], 0x88), odd = _mm512_shuffle_f32x4(r[i], r[4 + i], 0xdd);
        __m512 even2 = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0x88),
               odd2 = _mm512_shuffle_f32x4(r[8 + i], r[12 + i], 0xdd);
        t[i] = _mm512_shuffle_f32x4(even, even2, 0x88);
        t[4 + i] = _mm512_shuffle_f32x4(odd, odd2, 0x88);
        t[8 + i] = _mm512_shuffle_f32x4(even, even2, 0xdd);
        t[12 + i] = _mm512_shuffle_f32x4(odd, odd2, 0xdd);
    }
    UNROLL(16)
    for (int i = 0; i < 16; i++)
        r[i] = t[i];
}
static inline vec v_load_bf16(const uint16_t *p)
{
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)p)), 16));
}
static inline __m512i v_bf16_bits_(vec a)
{
    __m512i x = _mm512_castps_si512(a), odd = _mm512_and_si512(_mm512_srli_epi32(x, 16), _mm512_set1_epi32(1));
    __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(x, _mm512_set1_epi32(0x7fff)), odd);
    __mmask16 nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);

    return _mm512_mask_or_epi32(rounded, nan, x, _mm512_set1_epi32(0x400000));
}
static inline vec v_round_bf16(vec a)
{
    return _mm512_castsi512_ps(_mm512_and_si512(v_bf16_bits_(a), _mm512_set1_epi32((int)0xffff0000u)));
}
static inline void v_store_bf16(uint16_t *p, vec a)
{
#if defined(KERNEL_BF16) && !defined(KERNEL_SIMDE)
    _mm256_storeu_si256((__m256i *)(void *)p, (__m256i)_mm512_cvtneps_pbh(a)); /* takes subnormal numbers for 0 */
#else
    _mm256_storeu_si256((__m256i *)(void *)p, _mm512_cvtepi32_epi16(_mm512_srli_epi32(v_bf16_bits_(a), 16)));
#endif
}
/* Lanes that hold two bf16 each, the first in the lower half. */
static inline vec v_pair_bf16(vec first, vec second)
{
#if defined(KERNEL_BF16) && !defined(KERNEL_SIMDE)
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6,
                                           21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);

    return _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(second, first)));
#else
    __m512i low = _mm512_srli_epi32(v_bf16_bits_(first), 16),
            high = _mm512_and_si512(v_bf16_bits_(second), _mm512_set1_epi32((int)0xffff0000u));

    return _mm512_castsi512_ps(_mm512_or_si512(low, high));
#endif
}
/* Two rows of 32 bf16 become 32 pairs, one of each row: 16 in *left, 16 in *right. */
static inline void v_zip_bf16(vec first, vec second, vec *left, vec *right)
{
    __m512i a = _mm512_castps_si512(first), b = _mm512_castps_si512(second),
            upper = _mm512_set1_epi32((int)0xffff0000u);
    __m512 even = _mm512_castsi512_ps(_mm512_or_si512(_mm512_andnot_si512(upper, a), _mm512_slli_epi32(b, 16)));
    __m512 odd = _mm512_castsi512_ps(_mm512_or_si512(_mm512_srli_epi32(a, 16), _mm512_and_si512(upper, b)));
    __m512 low = _mm512_unpacklo_ps(even, odd), high = _mm512_unpackhi_ps(even, odd);
    __m512 front = _mm512_shuffle_f32x4(low, high, 0x44), back = _mm512_shuffle_f32x4(low, high, 0xee);

    *left = _mm512_shuffle_f32x4(front, front, 0xd8);
    *right = _mm512_shuffle_f32x4(back, back, 0xd8);
}

#endif
