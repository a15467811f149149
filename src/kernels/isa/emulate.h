/* AVX-512 on processors without it, for tests: SIMDe's emulation, and the few instructions that its version 0.7.4
 * lacks. */
#ifndef INLAY_KERNELS_ISA_EMULATE_H
#define INLAY_KERNELS_ISA_EMULATE_H

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <math.h>
#include <simde/x86/avx512.h>
#include <simde/x86/fma.h>
#include <stdint.h>
#include <string.h>

static inline simde__m512 emulate_maskz_loadu_ps(unsigned mask, const void *p)
{
    float lane[16] = {0};

    for (int i = 0; i < 16; i++)
        if (mask >> i & 1)
            memcpy(&lane[i], (const float *)p + i, sizeof *lane);
    return simde_mm512_loadu_ps(lane);
}

static inline void emulate_mask_storeu_ps(void *p, unsigned mask, simde__m512 a)
{
    float lane[16];

    simde_mm512_storeu_ps(lane, a);
    for (int i = 0; i < 16; i++)
        if (mask >> i & 1)
            memcpy((float *)p + i, &lane[i], sizeof *lane);
}

static inline simde__m512i emulate_cvtps_epi32(simde__m512 a)
{
    float lane[16];
    int32_t whole[16];

    simde_mm512_storeu_ps(lane, a);
    for (int i = 0; i < 16; i++)
        whole[i] = (int32_t)nearbyintf(lane[i]);
    return simde_mm512_loadu_si512(whole);
}

static inline simde__m512i emulate_cvtepu8_epi32(simde__m128i a)
{
    uint8_t narrow[16];
    int32_t wide[16];

    simde_mm_storeu_si128(narrow, a);
    for (int i = 0; i < 16; i++)
        wide[i] = narrow[i];
    return simde_mm512_loadu_si512(wide);
}

static inline simde__m512i emulate_cvtepu16_epi32(simde__m256i a)
{
    uint16_t narrow[16];
    int32_t wide[16];

    simde_mm256_storeu_si256((simde__m256i *)(void *)narrow, a);
    for (int i = 0; i < 16; i++)
        wide[i] = narrow[i];
    return simde_mm512_loadu_si512(wide);
}

static inline simde__m256i emulate_cvtepi32_epi16(simde__m512i a)
{
    int32_t wide[16];
    uint16_t narrow[16];

    simde_mm512_storeu_si512(wide, a);
    for (int i = 0; i < 16; i++)
        narrow[i] = (uint16_t)wide[i];
    return simde_mm256_loadu_si256((simde__m256i *)(void *)narrow);
}

static inline simde__m512i emulate_cvttps_epi32(simde__m512 a)
{
    float lane[16];
    int32_t whole[16];

    simde_mm512_storeu_ps(lane, a);
    for (int i = 0; i < 16; i++)
        whole[i] = isnan(lane[i]) ? INT32_MIN : (int32_t)lane[i];
    return simde_mm512_loadu_si512(whole);
}

static inline simde__m512 emulate_cvtepi32_ps(simde__m512i a)
{
    int32_t whole[16];
    float lane[16];

    simde_mm512_storeu_si512(whole, a);
    for (int i = 0; i < 16; i++)
        lane[i] = (float)whole[i];
    return simde_mm512_loadu_ps(lane);
}

static inline simde__m512 emulate_permutexvar_ps(simde__m512i at, simde__m512 a)
{
    float lane[16], chosen[16];
    int32_t index[16];

    simde_mm512_storeu_ps(lane, a);
    simde_mm512_storeu_si512(index, at);
    for (int i = 0; i < 16; i++)
        chosen[i] = lane[index[i] & 15];
    return simde_mm512_loadu_ps(chosen);
}

static inline simde__m512 emulate_shuffle_f32x4(simde__m512 a, simde__m512 b, int how)
{
    float one[16], two[16], chosen[16];

    simde_mm512_storeu_ps(one, a);
    simde_mm512_storeu_ps(two, b);
    for (int i = 0; i < 4; i++)
        memcpy(chosen + 4 * i, (i < 2 ? one : two) + 4 * (how >> 2 * i & 3), 4 * sizeof *chosen);
    return simde_mm512_loadu_ps(chosen);
}

static inline simde__m512i emulate_madd_epi16(simde__m512i a, simde__m512i b)
{
    int16_t one[32], two[32];
    int32_t sum[16];

    simde_mm512_storeu_si512(one, a);
    simde_mm512_storeu_si512(two, b);
    for (int i = 0; i < 16; i++)
        sum[i] = one[2 * i] * two[2 * i] + one[2 * i + 1] * two[2 * i + 1];
    return simde_mm512_loadu_si512(sum);
}

#undef _mm512_madd_epi16
#define _mm512_madd_epi16(a, b) emulate_madd_epi16(a, b)
#undef _mm512_cvttps_epi32
#undef _mm512_permutexvar_ps
#undef _mm512_shuffle_f32x4
#undef _mm512_cvtepi32_ps
#define _mm512_cvtepi32_ps(a) emulate_cvtepi32_ps(a)
#define _mm512_cvttps_epi32(a) emulate_cvttps_epi32(a)
#define _mm512_permutexvar_ps(at, a) emulate_permutexvar_ps(at, a)
#define _mm512_shuffle_f32x4(a, b, how) emulate_shuffle_f32x4(a, b, how)
#undef _mm512_maskz_loadu_ps
#undef _mm512_mask_storeu_ps
#undef _mm512_cvtps_epi32
#undef _mm512_cvtepu8_epi32
#undef _mm512_cvtepu16_epi32
#undef _mm512_cvtepi32_epi16
#define _mm512_maskz_loadu_ps(mask, p) emulate_maskz_loadu_ps(mask, p)
#define _mm512_mask_storeu_ps(p, mask, a) emulate_mask_storeu_ps(p, mask, a)
#define _mm512_cvtps_epi32(a) emulate_cvtps_epi32(a)
#define _mm512_cvtepu8_epi32(a) emulate_cvtepu8_epi32(a)
#define _mm512_cvtepu16_epi32(a) emulate_cvtepu16_epi32(a)
#define _mm512_cvtepi32_epi16(a) emulate_cvtepi32_epi16(a)

#endif
