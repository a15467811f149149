/* Tiles in memory, and their products with the bits of the hardware's. Included by tile.h alone. */
#ifndef INLAY_KERNELS_TILES_TILE_EMULATED_H
#define INLAY_KERNELS_TILES_TILE_EMULATED_H

#include <math.h>
#include <string.h>

#include "base/dtype.h"

typedef struct emulated_tile {
    _Alignas(64) uint32_t word[TILE_ROWS][TILE_WORDS];
} emulated_tile;

static _Thread_local __attribute__((unused)) emulated_tile emulated_tiles[8]; /* unused where nothing is multiplied */

static inline void tile_load_(emulated_tile *t, const void *at, int64_t stride)
{
    for (int i = 0; i < TILE_ROWS; i++)
        memcpy(t->word[i], (const unsigned char *)at + i * stride, TILE_BYTES);
}

static inline void tile_store_(const emulated_tile *t, void *at, int64_t stride)
{
    for (int i = 0; i < TILE_ROWS; i++)
        memcpy((unsigned char *)at + i * stride, t->word[i], TILE_BYTES);
}

#if defined(__FMA__)
#include <immintrin.h>

/* Of MXCSR: subnormal operands and results are 0, and no exception is raised; rounding is to nearest with the other
 * bits 0. It flushes what is tiny behind rounding as if exponents had no end, as tiles do. */
#define MODE 0x9fc0u
#define EMULATED_ROWS 4 /* at a time, whose sums stay in registers */

static inline void tile_product_bf16_(emulated_tile *sum, const emulated_tile *left, const emulated_tile *right)
{
    unsigned before = _mm_getcsr(), mode = MODE;
    const __m256 upper = _mm256_castsi256_ps(_mm256_set1_epi32((int)0xffff0000u));

    __asm__ volatile("ldmxcsr %0" ::"m"(mode) : "memory");
    for (int i = 0; i < TILE_ROWS; i += EMULATED_ROWS)
        for (int j = 0; j < TILE_WORDS; j += 8) {
            __m256 odd[EMULATED_ROWS], even[EMULATED_ROWS];
            for (int r = 0; r < EMULATED_ROWS; r++)
                odd[r] = even[r] = _mm256_setzero_ps();
            for (int p = 0; p < TILE_WORDS; p++) {
                __m256i pair = _mm256_load_si256((const __m256i *)(const void *)&right->word[p][j]);
                __m256 first = _mm256_castsi256_ps(_mm256_slli_epi32(pair, 16)),
                       second = _mm256_and_ps(_mm256_castsi256_ps(pair), upper);
                for (int r = 0; r < EMULATED_ROWS; r++) {
                    __m256i a = _mm256_set1_epi32((int)left->word[i + r][p]);
                    even[r] = _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_slli_epi32(a, 16)), first, even[r]);
                    odd[r] = _mm256_fmadd_ps(_mm256_and_ps(_mm256_castsi256_ps(a), upper), second, odd[r]);
                }
            }
            for (int r = 0; r < EMULATED_ROWS; r++) {
                float *to = (float *)(void *)&sum->word[i + r][j];
                _mm256_store_ps(to, _mm256_add_ps(_mm256_load_ps(to), _mm256_add_ps(odd[r], even[r])));
            }
        }
    __asm__ volatile("ldmxcsr %0" ::"m"(before) : "memory");
}

/* Four bytes at a time as two pairs of 16 bits, whose sums cannot overflow. */
static inline void tile_product_bytes_(emulated_tile *sum, const emulated_tile *left, const emulated_tile *right)
{
    for (int i = 0; i < TILE_ROWS; i += EMULATED_ROWS)
        for (int j = 0; j < TILE_WORDS; j += 8) {
            __m256i total[EMULATED_ROWS];
            for (int r = 0; r < EMULATED_ROWS; r++)
                total[r] = _mm256_load_si256((const __m256i *)(const void *)&sum->word[i + r][j]);
            for (int p = 0; p < TILE_WORDS; p++) {
                __m256i four = _mm256_load_si256((const __m256i *)(const void *)&right->word[p][j]),
                        even = _mm256_srai_epi16(_mm256_slli_epi16(four, 8), 8), odd = _mm256_srai_epi16(four, 8);
                for (int r = 0; r < EMULATED_ROWS; r++) {
                    __m256i a = _mm256_set1_epi32((int)left->word[i + r][p]);
                    __m256i low = _mm256_madd_epi16(_mm256_and_si256(a, _mm256_set1_epi16(0xff)), even);
                    total[r] = _mm256_add_epi32(total[r],
                                                _mm256_add_epi32(low, _mm256_madd_epi16(_mm256_srli_epi16(a, 8), odd)));
                }
            }
            for (int r = 0; r < EMULATED_ROWS; r++)
                _mm256_store_si256((__m256i *)(void *)&sum->word[i + r][j], total[r]);
        }
}

#else

static inline float tile_flush_(float x)
{
    return fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x;
}

/* a b + c of numbers that are flushed. A result of the least normal magnitude that is there only because subnormal
 * numbers are coarse is tiny, too. */
static inline float tile_multiply_add_(float a, float b, float c)
{
    float sum = fmaf(a, b, c);

    if (fabsf(sum) == 0x1p-126f && fabsf(fmaf(a * 0x1p32f, b * 0x1p32f, c * 0x1p64f)) < 0x1p-62f)
        return copysignf(0.0f, sum);
    return tile_flush_(sum);
}

static inline void tile_product_bf16_(emulated_tile *sum, const emulated_tile *left, const emulated_tile *right)
{
    for (int i = 0; i < TILE_ROWS; i++)
        for (int j = 0; j < TILE_WORDS; j++) {
            float even = 0, odd = 0, total;
            for (int p = 0; p < TILE_WORDS; p++) {
                uint32_t a = left->word[i][p], b = right->word[p][j];
                even = tile_multiply_add_(tile_flush_(bf16_to_f32((uint16_t)a)), tile_flush_(bf16_to_f32((uint16_t)b)),
                                          even);
                odd = tile_multiply_add_(tile_flush_(bf16_to_f32((uint16_t)(a >> 16))),
                                         tile_flush_(bf16_to_f32((uint16_t)(b >> 16))), odd);
            }
            memcpy(&total, &sum->word[i][j], sizeof total);
            total = tile_flush_(tile_flush_(total) + tile_flush_(odd + even));
            memcpy(&sum->word[i][j], &total, sizeof total);
        }
}

static inline void tile_product_bytes_(emulated_tile *sum, const emulated_tile *left, const emulated_tile *right)
{
    for (int i = 0; i < TILE_ROWS; i++)
        for (int p = 0; p < TILE_WORDS; p++) {
            uint8_t a[4];
            memcpy(a, &left->word[i][p], sizeof a);
            for (int j = 0; j < TILE_WORDS; j++) {
                int8_t b[4];
                memcpy(b, &right->word[p][j], sizeof b);
                sum->word[i][j] += (uint32_t)(a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3]);
            }
        }
}

#endif

#define TILE_ZERO(t) memset(&emulated_tiles[t], 0, sizeof emulated_tiles[t])
#define TILE_LOAD(t, at, stride) tile_load_(&emulated_tiles[t], at, stride)
#define TILE_STORE(t, at, stride) tile_store_(&emulated_tiles[t], at, stride)
#define TILE_PRODUCT_BF16(sum, left, right) \
    tile_product_bf16_(&emulated_tiles[sum], &emulated_tiles[left], &emulated_tiles[right])
#define TILE_PRODUCT_BYTES(sum, left, right) \
    tile_product_bytes_(&emulated_tiles[sum], &emulated_tiles[left], &emulated_tiles[right])

#endif
