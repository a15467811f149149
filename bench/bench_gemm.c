/* The matrix product on the shapes of vision transformers: operations a second, and the share of what the processor does when it multiplies registers only.
 * usage: bench_gemm [THREADS] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/monitor.h"
#include "graph/param.h"

#define RUNS 7

static const struct {
    int64_t m, n, k;
} shapes[] = {{1576, 192, 192},  {1576, 576, 192},  {1576, 768, 192},  {1576, 192, 768},   {1576, 768, 768},  {1576, 2304, 768}, {1576, 3072, 768},
              {1576, 768, 3072}, {197, 576, 192},   {197, 192, 768},   {197, 3072, 768},   {6304, 768, 192},  {6304, 192, 768},  {6304, 192, 8}, {6304, 8, 192}};

static double best_of(device *d, const gemm_args *args, double flops)
{
    double best = 1e30;

    for (int run = 0; run <= RUNS; run++) {
        int64_t repeats = (int64_t)(3e9 / flops) + 1;
        double begun = monitor_seconds(), seconds;
        for (int64_t i = 0; i < repeats; i++)
            d->k->gemm(&d->c, args);
        seconds = (monitor_seconds() - begun) / (double)repeats;
        if (run > 0 && seconds < best)
            best = seconds;
    }
    return flops / best / 1e9;
}

static double peak_of(device *d, dtype type)
{
    double best = 0;

    for (int run = 0; run <= RUNS; run++) {
        double begun = monitor_seconds(), flops = d->k->peak(&d->c, type, 20000000);
        double speed = flops / (monitor_seconds() - begun) / 1e9;
        best = speed > best ? speed : best;
    }
    return best;
}

static mat filled(const kernels *k, int64_t rows, int64_t cols, dtype type)
{
    mat m = {.data = k->alloc((size_t)(rows * cols) * dtype_size(type)), .type = type, .rows = rows, .cols = cols, .stride = cols};

    for (int64_t i = 0; i < rows * cols; i++) {
        float x = (float)rng_uniform((rng_stream){.purpose = RNG_TEST}, (uint64_t)i % 4096) - 0.5f;
        if (type == DTYPE_BF16)
            ((uint16_t *)m.data)[i] = f32_to_bf16(x);
        else
            ((float *)m.data)[i] = x;
    }
    return m;
}

/* forward: y = x W^T; data gradient: from rows of n columns to rows of k, which int8 weights do not compute */
static void measure(device *d, int64_t m, int64_t n, int64_t k, dtype type, double peak)
{
    dtype rows = type == DTYPE_I8 ? DTYPE_BF16 : type;
    mat w = filled(d->k, n, k, DTYPE_F32), x = filled(d->k, m, k, rows), y = filled(d->k, m, n, rows);
    packed panels = {n, k, type, d->k->alloc(d->k->pack_size(n, k, type))};
    double flops = 2.0 * (double)m * (double)n * (double)k, speed;

    d->k->pack(&d->c, &panels, w.data, DTYPE_F32);
    speed = best_of(d, &(gemm_args){.y = y, .x = x, .w = &panels}, flops);
    printf("%5lld x %4lld x %4lld %-4s forward %6.1f GOP/s (%2.0f %%)", (long long)m, (long long)n, (long long)k, dtype_name(type), speed, 100 * speed / peak);
    if (type != DTYPE_I8) {
        speed = best_of(d, &(gemm_args){.y = x, .x = y, .w = &panels, .transposed = true}, flops);
        printf(", data gradient %6.1f (%2.0f %%)", speed, 100 * speed / peak);
    }
    printf("\n");
    d->k->release(w.data);
    d->k->release(x.data);
    d->k->release(y.data);
    d->k->release(panels.data);
}

int main(int argc, char **argv)
{
    inlay_error err;
    device d;

    if (device_open(&d, NULL, argc > 1 ? (int)strtol(argv[1], NULL, 10) : 1, &err) != INLAY_OK) {
        fprintf(stderr, "bench_gemm: %s\n", err.message);
        return 1;
    }
    for (int t = 0; t < 3; t++) {
        const dtype types[] = {d.k->real, DTYPE_BF16, DTYPE_I8};
        dtype type = types[t];
        double peak = peak_of(&d, type);
        printf("%s, %d threads, %s: %.1f GOP/s in registers\n", d.k->name, pool_threads(d.c.threads), dtype_name(type), peak);
        for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
            measure(&d, shapes[i].m, shapes[i].n, shapes[i].k, type, peak);
    }
    device_close(&d);
    return 0;
}
