#include "base/rng.h"

#include <math.h>

static inline void philox_round(uint32_t c[4], uint32_t k0, uint32_t k1)
{
    uint64_t a = (uint64_t)0xD2511F53u * c[0], b = (uint64_t)0xCD9E8D57u * c[2];
    uint32_t c0 = (uint32_t)(b >> 32) ^ c[1] ^ k0, c2 = (uint32_t)(a >> 32) ^ c[3] ^ k1;

    c[0] = c0;
    c[1] = (uint32_t)b;
    c[2] = c2;
    c[3] = (uint32_t)a;
}

void rng_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2])
{
    uint32_t k0 = key[0], k1 = key[1];

    for (int i = 0; i < 4; i++)
        out[i] = counter[i];
    for (int round = 0; round < 10; round++) {
        philox_round(out, k0, k1);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

void rng_block(uint32_t out[4], rng_stream s, uint32_t block)
{
    uint32_t counter[4] = {block, s.step, s.stream, s.purpose}, key[2] = {(uint32_t)s.seed, (uint32_t)(s.seed >> 32)};

    rng_philox(out, counter, key);
}

uint32_t rng_u32(rng_stream s, uint64_t index)
{
    uint32_t words[4];

    rng_block(words, s, (uint32_t)(index >> 2));
    return words[index & 3];
}

double rng_uniform(rng_stream s, uint64_t index)
{
    return rng_u32(s, index) * 0x1p-32;
}

uint32_t rng_below(rng_stream s, uint64_t index, uint32_t n)
{
    /* 64-bit multiply-shift on two words: bias below 2^-33 for n < 2^31 */
    uint32_t words[4];
    uint64_t wide;

    rng_block(words, s, (uint32_t)(index >> 1));
    wide = (uint64_t)words[(index & 1) * 2] << 32 | words[(index & 1) * 2 + 1];
    return (uint32_t)(((unsigned __int128)wide * n) >> 64);
}

void rng_fill_uniform(float *out, uint64_t count, double low, double high, rng_stream s)
{
    for (uint64_t i = 0; i < count; i++)
        out[i] = (float)(low + (high - low) * rng_uniform(s, i));
}

/* A normal number by Box-Muller: one block of four words gives two of them for each attempt. */
static double normal_pair(rng_stream s, uint32_t block, int which)
{
    uint32_t w[4];
    double u, v;

    rng_block(w, s, block);
    u = (w[2 * which] + 0.5) * 0x1p-32;
    v = w[2 * which + 1] * 0x1p-32;
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

void rng_fill_normal(float *out, uint64_t count, double mean, double std, rng_stream s)
{
    for (uint64_t i = 0; i < count; i++)
        out[i] = (float)(mean + std * normal_pair(s, (uint32_t)(i >> 1), (int)(i & 1)));
}

void rng_fill_trunc_normal(float *out, uint64_t count, double mean, double std, double low, double high, rng_stream s)
{
    /* attempt k of element i takes block i*64 + k/2: an element's value does not depend on how often its neighbours
     * were redrawn */
    for (uint64_t i = 0; i < count; i++) {
        double value = mean;
        for (uint32_t attempt = 0; attempt < 128; attempt++) {
            value = mean + std * normal_pair(s, (uint32_t)(i * 64 + attempt / 2), (int)(attempt & 1));
            if (value >= low && value <= high)
                break;
        }
        out[i] = (float)(value < low ? low : value > high ? high : value);
    }
}

void rng_permutation(int *out, int count, rng_stream s)
{
    for (int i = 0; i < count; i++)
        out[i] = i;
    for (int i = count - 1; i > 0; i--) {
        int j = (int)rng_below(s, (uint64_t)i, (uint32_t)i + 1), swap = out[i];
        out[i] = out[j];
        out[j] = swap;
    }
}
