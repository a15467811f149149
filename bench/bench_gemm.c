/* The matrix product on the shapes of vision transformers, and what the processor does when it multiplies registers
 * only. usage: bench_gemm THREADS f32|bf16|int8 */
#include "bench/gemm.h"

#include "base/monitor.h"
#include "graph/param.h"

#define RUNS 5

typedef struct job {
    device *d;
    gemm_args args;
} job;

static void multiply(void *context)
{
    const job *j = context;

    j->d->k->gemm(&j->d->c, &j->args);
}

static double peak_of(device *d, dtype type)
{
    double best = 0;

    for (int run = 0; run < RUNS; run++) {
        double begun = monitor_seconds(), flops = d->k->peak(&d->c, type, 20000000);
        double speed = flops / (monitor_seconds() - begun) / 1e9;
        best = speed > best ? speed : best;
    }
    return best;
}

static mat filled(const kernels *k, int64_t rows, int64_t cols, dtype type)
{
    mat m = {.data = k->alloc((size_t)(rows * cols) * dtype_size(type)),
             .type = type,
             .rows = rows,
             .cols = cols,
             .stride = cols};

    for (int64_t i = 0; i < rows * cols; i++) {
        if (type == DTYPE_BF16)
            ((uint16_t *)m.data)[i] = f32_to_bf16(gemm_element(i));
        else
            ((float *)m.data)[i] = gemm_element(i);
    }
    return m;
}

/* forward: y = x W^T; then its data gradient, from rows of n columns to rows of k, which int8 weights do not compute */
static void measure(device *d, size_t index, dtype type)
{
    gemm_shape s = gemm_shapes[index];
    dtype rows = type == DTYPE_I8 ? DTYPE_BF16 : type;
    mat w = filled(d->k, s.n, s.k, DTYPE_F32), x = filled(d->k, s.m, s.k, rows), y = filled(d->k, s.m, s.n, rows);
    packed panels = {s.n, s.k, type, d->k->alloc(d->k->pack_size(d->k, s.n, s.k, type))};
    job forward = {d, {.y = y, .x = x, .w = &panels}},
        backward = {d, {.y = x, .x = y, .w = &panels, .transposed = true}};
    double speed;

    d->k->pack(&d->c, &panels, w.data, DTYPE_F32, PLACE_DEVICE);
    speed = gemm_speed(multiply, &forward, gemm_flops(s));
    gemm_check("Inlay", s,
               rows == DTYPE_BF16 ? bf16_to_f32(((uint16_t *)y.data)[s.m * s.n - 1])
                                  : ((float *)y.data)[s.m * s.n - 1]);
    gemm_report(index, speed, type == DTYPE_I8 ? 0 : gemm_speed(multiply, &backward, gemm_flops(s)));
    d->k->release(w.data);
    d->k->release(x.data);
    d->k->release(y.data);
    d->k->release(panels.data);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        dtype type;
    } known[] = {{"f32", DTYPE_F32}, {"bf16", DTYPE_BF16}, {"int8", DTYPE_I8}};
    inlay_error err;
    device d;
    size_t at = 0;

    while (argc == 3 && at < 3 && strcmp(argv[2], known[at].name) != 0)
        at++;
    if (argc != 3 || at == 3) {
        fprintf(stderr, "usage: bench_gemm THREADS f32|bf16|int8\n");
        return 2;
    }
    if (device_open(&d, NULL, (int)strtol(argv[1], NULL, 10), &err) != INLAY_OK) {
        fprintf(stderr, "bench_gemm: %s\n", err.message);
        return 1;
    }
    gemm_begin("Inlay", d.k->name, argv[2], pool_threads(d.c.threads));
    for (size_t i = 0; i < GEMM_SHAPES; i++)
        measure(&d, i, known[at].type);
    gemm_end(peak_of(&d, known[at].type));
    device_close(&d);
    return 0;
}
