/* Vectors of int32, and sums of the products of four bytes in each lane: what int8 products are made of. */
#ifndef INLAY_KERNELS_ISA_QUADS_H
#define INLAY_KERNELS_ISA_QUADS_H

#include "kernels/isa/vec.h"

#if defined(KERNEL_AVX512)

typedef __m512i ivec;
static inline ivec i_set1(int32_t a)
{
    return _mm512_set1_epi32(a);
}
static inline ivec i_load(const void *p)
{
    return _mm512_loadu_si512(p);
}
static inline ivec i_mul(ivec a, ivec b)
{
    return _mm512_mullo_epi32(a, b);
}
static inline ivec i_add(ivec a, ivec b)
{
    return _mm512_add_epi32(a, b);
}
static inline vec i_real(ivec a)
{
    return _mm512_cvtepi32_ps(a);
}

#elif defined(KERNEL_AVX2)

typedef __m256i ivec;
static inline ivec i_set1(int32_t a)
{
    return _mm256_set1_epi32(a);
}
static inline ivec i_load(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}
static inline ivec i_mul(ivec a, ivec b)
{
    return _mm256_mullo_epi32(a, b);
}
static inline vec i_real(ivec a)
{
    return _mm256_cvtepi32_ps(a);
}

#else

typedef int32_t ivec;
static inline ivec i_set1(int32_t a)
{
    return a;
}
static inline ivec i_load(const void *p)
{
    ivec value;

    memcpy(&value, p, sizeof value);
    return value;
}
static inline ivec i_mul(ivec a, ivec b)
{
    return a * b;
}
static inline vec i_real(ivec a)
{
    return (vec)a;
}

#endif

/* Four unsigned and four signed bytes in each lane, as their products are formed: where the processor has no product of
 * bytes, as two pairs of 16 bits each, whose sums cannot overflow, as those of bytes in 16 bits could. */
#if defined(KERNEL_VNNI)

typedef ivec quads;
static inline quads unsigned_quads(ivec a)
{
    return a;
}
static inline quads signed_quads(ivec a)
{
    return a;
}
static inline ivec i_dot(ivec sum, quads left, quads right)
{
#if defined(KERNEL_SIMDE)
    return _mm512_dpbusd_epi32(sum, left, right);
#else
    __asm__("vpdpbusd %2, %1, %0"
            : "+v"(sum)
            : "v"(left),
              "v"(right)); /* GCC 12 copies the sums of the intrinsic around, through memory when there are many */
    return sum;
#endif
}

#elif defined(KERNEL_AVX512)

typedef struct quads {
    ivec even, odd;
} quads;
static inline quads unsigned_quads(ivec a)
{
    return (quads){_mm512_and_si512(a, _mm512_set1_epi16(0xff)), _mm512_srli_epi16(a, 8)};
}
static inline quads signed_quads(ivec a)
{
    return (quads){_mm512_srai_epi16(_mm512_slli_epi16(a, 8), 8), _mm512_srai_epi16(a, 8)};
}
static inline ivec i_dot(ivec sum, quads left, quads right)
{
    return _mm512_add_epi32(
        sum, _mm512_add_epi32(_mm512_madd_epi16(left.even, right.even), _mm512_madd_epi16(left.odd, right.odd)));
}

#elif defined(KERNEL_AVX2)

typedef struct quads {
    ivec even, odd;
} quads;
static inline quads unsigned_quads(ivec a)
{
    return (quads){_mm256_and_si256(a, _mm256_set1_epi16(0xff)), _mm256_srli_epi16(a, 8)};
}
static inline quads signed_quads(ivec a)
{
    return (quads){_mm256_srai_epi16(_mm256_slli_epi16(a, 8), 8), _mm256_srai_epi16(a, 8)};
}
static inline ivec i_dot(ivec sum, quads left, quads right)
{
    return _mm256_add_epi32(
        sum, _mm256_add_epi32(_mm256_madd_epi16(left.even, right.even), _mm256_madd_epi16(left.odd, right.odd)));
}

#else

typedef struct quads {
    int16_t part[4];
} quads;
static inline quads unsigned_quads(ivec a)
{
    uint8_t b[4];

    memcpy(b, &a, sizeof b);
    return (quads){{b[0], b[1], b[2], b[3]}};
}
static inline quads signed_quads(ivec a)
{
    int8_t b[4];

    memcpy(b, &a, sizeof b);
    return (quads){{b[0], b[1], b[2], b[3]}};
}
static inline ivec i_dot(ivec sum, quads left, quads right)
{
    return sum + left.part[0] * right.part[0] + left.part[1] * right.part[1] + left.part[2] * right.part[2] +
           left.part[3] * right.part[3];
}

#endif

#endif
