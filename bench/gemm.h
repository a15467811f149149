/* What the programs that time matrix products have in common: the shapes, the clock, and the line of JSON that
 * bench/compare.py reads. */
#ifndef INLAY_BENCH_GEMM_H
#define INLAY_BENCH_GEMM_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* y [m, n] = x [m, k] W^T: a block's qkv, proj, fc1 and fc2 in ViT-Ti/16 and in ViT-B/16, for eight images and for one.
 */
typedef struct gemm_shape {
    int64_t m, n, k;
} gemm_shape;

#define GEMM_BLOCK(m, width)                                             \
    {m, 3 * (width), width}, {m, width, width}, {m, 4 * (width), width}, \
    {                                                                    \
        m, width, 4 * (width)                                            \
    }
static const gemm_shape gemm_shapes[] = {GEMM_BLOCK(1576, 192), GEMM_BLOCK(1576, 768), GEMM_BLOCK(197, 192),
                                         GEMM_BLOCK(197, 768)};
#define GEMM_SHAPES (sizeof gemm_shapes / sizeof *gemm_shapes)

static inline double gemm_flops(gemm_shape s)
{
    return 2.0 * (double)s.m * (double)s.n * (double)s.k;
}

static inline double gemm_clock(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* GFLOP/s of the best of three batches of calls, after one call to warm up; a batch is about 2 GFLOP. */
static inline double gemm_speed(void (*multiply)(void *), void *context, double flops)
{
    int64_t repeats = (int64_t)(2e9 / flops) + 1;
    double best = 1e30;

    multiply(context);
    for (int run = 0; run < 3; run++) {
        double begun = gemm_clock(), seconds;
        for (int64_t i = 0; i < repeats; i++)
            multiply(context);
        seconds = (gemm_clock() - begun) / (double)repeats;
        best = seconds < best ? seconds : best;
    }
    return flops / best / 1e9;
}

/* Element i of an operand: the same for every contestant. */
static inline float gemm_element(int64_t i)
{
    return (float)((uint32_t)(i % 4096) * 2654435761u >> 8) / 16777216.0f - 0.5f;
}

/* A contestant's last element of y, against its sum in double precision: what multiplies wrongly has no speed. Exits
 * when it differs. */
static inline void gemm_check(const char *contestant, gemm_shape s, double found)
{
    double expected = 0, size = 0;

    for (int64_t i = 0; i < s.k; i++) {
        double product = (double)gemm_element((s.m - 1) * s.k + i) * (double)gemm_element((s.n - 1) * s.k + i);
        expected += product;
        size += product < 0 ? -product : product;
    }
    if (!(found > expected - 0.01 * size && found < expected + 0.01 * size)) {
        fprintf(stderr, "%s: %d x %d x %d gives %g, expected %g\n", contestant, (int)s.m, (int)s.n, (int)s.k, found,
                expected);
        exit(1);
    }
}

static inline void *gemm_block(size_t size)
{
    void *block = aligned_alloc(64, (size + 63) / 64 * 64);

    if (!block) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return memset(block, 0, size);
}

static inline void gemm_begin(const char *contestant, const char *version, const char *precision, int threads)
{
    printf("{\"contestant\": \"%s\", \"version\": \"%s\", \"precision\": \"%s\", \"threads\": %d, \"shapes\": [",
           contestant, version, precision, threads);
}

/* One shape; gradient: of the data gradient of the same weights, 0 where it is not measured. */
static inline void gemm_report(size_t index, double speed, double gradient)
{
    gemm_shape s = gemm_shapes[index];

    printf("%s{\"m\": %d, \"n\": %d, \"k\": %d, \"gflops\": %.1f, \"gradient\": %.1f}", index ? ", " : "", (int)s.m,
           (int)s.n, (int)s.k, speed, gradient);
}

static inline void gemm_end(double peak)
{
    printf("], \"peak\": %.1f}\n", peak);
}

#endif
