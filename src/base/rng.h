/* Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11). A
 * number is a pure function of (seed, purpose, stream, step, index): nothing is drawn from a shared stream, so results
 * depend neither on the number of threads nor on what was drawn before, and a resumed run continues exactly. */
#ifndef INLAY_BASE_RNG_H
#define INLAY_BASE_RNG_H

#include <stdint.h>

/* The generator itself: four 32-bit words from counter[4] and key[2]. */
void rng_philox(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);

/* What is being drawn: no two purposes share numbers, and no two streams of one. */
typedef enum rng_purpose {
    RNG_INIT = 1,
    RNG_SHUFFLE,
    RNG_DROP_PATH,
    RNG_DROPOUT,
    RNG_AUGMENT,
    RNG_CHOICE,
    RNG_GUMBEL,
    RNG_MASK,
    RNG_SKIP,
    RNG_TEST
} rng_purpose;

typedef struct rng_stream {
    uint64_t seed;
    uint32_t purpose; /* rng_purpose */
    uint32_t stream;  /* which of the many places that draw for this purpose */
    uint32_t step;    /* training step, epoch or sample, as the purpose has it */
} rng_stream;

/* Block `block` of the stream: four uniform 32-bit words. */
void rng_block(uint32_t out[4], rng_stream s, uint32_t block);

/* Element `index` of the stream. Uniform u32; uniform double in [0, 1); uniform integer in [0, n) without bias for n <
 * 2^31. */
uint32_t rng_u32(rng_stream s, uint64_t index);
double rng_uniform(rng_stream s, uint64_t index);
uint32_t rng_below(rng_stream s, uint64_t index, uint32_t n);

/* Fills `out[count]`, starting at element 0 of the stream. */
void rng_fill_uniform(float *out, uint64_t count, double low, double high, rng_stream s);
void rng_fill_normal(float *out, uint64_t count, double mean, double std, rng_stream s);
/* Normal, redrawn while outside [low, high] (absolute bounds, as torch.nn.init.trunc_normal_ means a and b). */
void rng_fill_trunc_normal(float *out, uint64_t count, double mean, double std, double low, double high, rng_stream s);

/* A permutation of 0..count-1 (Fisher-Yates). */
void rng_permutation(int *out, int count, rng_stream s);

#endif
