/* Every kernel set that can run here: those of the processor, the reference in double precision, and the emulated
 * AVX-512 ones. */
#ifndef TESTS_KERNELS_KERNEL_SETS_H
#define TESTS_KERNELS_KERNEL_SETS_H

#include "support.h"

#include <math.h>

#include "graph/param.h"

extern const kernels kernels_reference;
#if defined(EMULATED_AVX512)
extern const kernels kernels_emulated, kernels_emulatedbf16;
#endif

#define MOST_SETS 12

static inline int kernel_sets(const kernels *sets[MOST_SETS])
{
    int count = 0;

    sets[count++] = &kernels_reference;
#if defined(EMULATED_AVX512)
    sets[count++] = &kernels_emulated;
    sets[count++] = &kernels_emulatedbf16;
#endif
    for (int i = 0; kernels_set(i); i++) {
        if (!kernels_set(i)->refused())
            sets[count++] = kernels_set(i);
        else
            print_message("%s is not tested: %s\n", kernels_set(i)->name, kernels_set(i)->refused());
    }
    return count;
}

/* A matrix of the device with values in about [-1, 1], drawn from `seed`; `extra` columns of padding behind each row.
 */
static inline mat random_mat(const kernels *k, int64_t rows, int64_t cols, dtype type, int64_t extra, uint32_t seed)
{
    mat m = {.type = type, .rows = rows, .cols = cols, .stride = cols + extra};

    m.data = k->alloc((size_t)(rows * m.stride + 64) * dtype_size(type));
    for (int64_t i = 0; i < rows * m.stride; i++) {
        double x = rng_uniform((rng_stream){.seed = seed, .purpose = RNG_TEST}, (uint64_t)i) * 2 - 1;
        if (type == DTYPE_BF16)
            ((uint16_t *)m.data)[i] = f32_to_bf16((float)x);
        else if (type == DTYPE_F64)
            ((double *)m.data)[i] = x;
        else
            ((float *)m.data)[i] = (float)x;
    }
    return m;
}

static inline double get(const mat *m, int64_t r, int64_t c)
{
    int64_t i = r * m->stride + c;

    return m->type == DTYPE_BF16  ? (double)bf16_to_f32(((uint16_t *)m->data)[i])
           : m->type == DTYPE_F64 ? ((double *)m->data)[i]
                                  : (double)((float *)m->data)[i];
}

static inline double real_at(const kernels *k, const void *array, int64_t i)
{
    return k->real == DTYPE_F64 ? ((const double *)array)[i] : (double)((const float *)array)[i];
}

/* How far a result may be from one computed in double precision. */
static inline double slack(const kernels *k, const mat *m, double size)
{
    double unit = m->type == DTYPE_BF16 ? 1.0 / 256 : k->real == DTYPE_F64 ? 1e-13 : 2e-6;

    return unit * (1 + fabs(size));
}

static inline double act_plain(activation act, double x)
{
    switch (act) {
    case ACT_RELU:
        return x > 0 ? x : 0;
    case ACT_GELU:
        return 0.5 * x * erfc(-x / sqrt(2.0));
    case ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    case ACT_SILU:
        return x / (1 + exp(-x));
    case ACT_TANH:
        return tanh(x);
    case ACT_SIGMOID:
        return 1 / (1 + exp(-x));
    case ACT_QUICK_GELU:
        return x / (1 + exp(-1.702 * x));
    default:
        return x;
    }
}

static inline double act_slope(activation act, double x)
{
    double h = 1e-6;

    if (act == ACT_RELU)
        return x > 0;
    return (act_plain(act, x + h) - act_plain(act, x - h)) / (2 * h);
}

#endif
