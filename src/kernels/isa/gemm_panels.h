/* Packed weights: how a product's right operand lies in memory. */
#ifndef INLAY_KERNELS_ISA_GEMM_PANELS_H
#define INLAY_KERNELS_ISA_GEMM_PANELS_H

#include "kernels/isa/gemm_micro.h"

static inline int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Bytes of a panel of NR columns of depth k. */
static inline size_t panel_bytes(int64_t k, dtype type)
{
    return type == DTYPE_BF16 ? (size_t)ceil_div(k, 2) * 2 * NR * sizeof(uint16_t) : (size_t)k * NR * sizeof(REAL);
}

/* Panels [first, first + count) of the transposed weights: their columns are the columns of W, their depth its rows. */
void KERNEL(transpose_panels)(void *out, const packed *w, int64_t first, int64_t count);

#endif
