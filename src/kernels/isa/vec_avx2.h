/* Vectors of 8 lanes. Included by vec.h alone. */
#ifndef INLAY_KERNELS_ISA_VEC_AVX2_H
#define INLAY_KERNELS_ISA_VEC_AVX2_H

#define VW 8
#define REAL float
#define REAL_TYPE DTYPE_F32
typedef __m256 vec;
static inline vec v_zero(void)
{
    return _mm256_setzero_ps();
}
static inline vec v_set1(REAL a)
{
    return _mm256_set1_ps(a);
}
static inline vec v_load(const REAL *p)
{
    return _mm256_loadu_ps(p);
}
static inline void v_store(REAL *p, vec a)
{
    _mm256_storeu_ps(p, a);
}
static inline __m256i v_mask_(int n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline vec v_load_part(const REAL *p, int n)
{
    return _mm256_maskload_ps(p, v_mask_(n));
}
static inline void v_store_part(REAL *p, vec a, int n)
{
    _mm256_maskstore_ps(p, v_mask_(n), a);
}
static inline vec v_add(vec a, vec b)
{
    return _mm256_add_ps(a, b);
}
static inline vec v_sub(vec a, vec b)
{
    return _mm256_sub_ps(a, b);
}
static inline vec v_mul(vec a, vec b)
{
    return _mm256_mul_ps(a, b);
}
static inline vec v_div(vec a, vec b)
{
    return _mm256_div_ps(a, b);
}
static inline vec v_fma(vec a, vec b, vec c)
{
    return _mm256_fmadd_ps(a, b, c);
}
static inline vec v_max(vec a, vec b)
{
    return _mm256_max_ps(a, b);
}
static inline vec v_min(vec a, vec b)
{
    return _mm256_min_ps(a, b);
}
static inline vec v_sqrt(vec a)
{
    return _mm256_sqrt_ps(a);
}
static inline vec v_abs(vec a)
{
    return _mm256_and_ps(a, _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff)));
}
static inline vec v_select_negative(vec x, vec a, vec b)
{
    return _mm256_blendv_ps(a, b, _mm256_cmp_ps(x, v_zero(), _CMP_LT_OQ));
}
static inline vec v_round(vec a)
{
    return _mm256_round_ps(a, 8);
}
static inline vec v_pow2(vec a)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(a), _mm256_set1_epi32(127)), 23));
}
typedef __m256i v_index;
static inline v_index v_truncate(vec a)
{
    return _mm256_cvttps_epi32(a);
}
static inline vec v_whole(v_index a)
{
    return _mm256_cvtepi32_ps(a);
}
static inline vec v_lookup(const REAL table[16], v_index at)
{
    __m256 low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), at),
           high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + 8), at);

    return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(at, 28)));
}
static inline void v_transpose(vec r[VW])
{
    __m256 t[8];

    UNROLL(4)
    for (int i = 0; i < 4; i++) {
        t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    UNROLL(2)
    for (int i = 0; i < 8; i += 4)
        UNROLL(2)
    for (int j = 0; j < 2; j++) {
        r[i + 2 * j] = _mm256_shuffle_ps(t[i + j], t[i + j + 2], 0x44);
        r[i + 2 * j + 1] = _mm256_shuffle_ps(t[i + j], t[i + j + 2], 0xee);
    }
    UNROLL(4)
    for (int i = 0; i < 4; i++) {
        t[i] = _mm256_permute2f128_ps(r[i], r[4 + i], 0x20);
        t[4 + i] = _mm256_permute2f128_ps(r[i], r[4 + i], 0x31);
    }
    UNROLL(8)
    for (int i = 0; i < 8; i++)
        r[i] = t[i];
}
static inline vec v_load_bf16(const uint16_t *p)
{
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(const void *)p)), 16));
}
static inline __m256i v_bf16_bits_(vec a)
{
    __m256i x = _mm256_castps_si256(a), odd = _mm256_and_si256(_mm256_srli_epi32(x, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(x, _mm256_set1_epi32(0x7fff)), odd);
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));

    return _mm256_blendv_epi8(rounded, _mm256_or_si256(x, _mm256_set1_epi32(0x400000)), nan);
}
static inline vec v_round_bf16(vec a)
{
    return _mm256_castsi256_ps(_mm256_and_si256(v_bf16_bits_(a), _mm256_set1_epi32((int)0xffff0000u)));
}
static inline void v_store_bf16(uint16_t *p, vec a)
{
    __m256i high = _mm256_srli_epi32(v_bf16_bits_(a), 16), packed_ = _mm256_packus_epi32(high, high);

    _mm_storeu_si128((__m128i *)(void *)p, _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed_, 0x08)));
}

#endif
