/* Packed weights: how a product's right operand lies in memory. */
#ifndef INLAY_KERNELS_ISA_GEMM_PANELS_H
#define INLAY_KERNELS_ISA_GEMM_PANELS_H

#include "kernels/isa/gemm_micro.h"

static inline int64_t ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

/* Bytes of the weights of an int8 panel: [ceil(k / 4)][NR][4]. Behind them lie the columns' scales, float [NR], and
 * sums, int32_t [NR]. */
static inline size_t int8_bytes(int64_t k)
{
    return (size_t)ceil_div(k, 4) * 4 * NR;
}

/* Bytes of a panel of NR columns of depth k. */
static inline size_t panel_bytes(int64_t k, dtype type)
{
    if (type == DTYPE_I8)
        return int8_bytes(k) + NR * (sizeof(float) + sizeof(int32_t));
    return type == DTYPE_BF16 ? (size_t)ceil_div(k, 2) * 2 * NR * sizeof(uint16_t) : (size_t)k * NR * sizeof(REAL);
}

/* Panel number `panel` of int8 weights, from [n, k] of any floating type; `room` holds a row in f32. */
void KERNEL(pack_int8)(const packed *out, int64_t panel, const void *w, dtype w_type, float *room);

/* Rows [begin, end) times int8 panels of columns [first, first + count), which lie at `panels`. */
void KERNEL(run_int8)(const gemm_args *args, unsigned char *scratch, const unsigned char *panels, int64_t first,
                      int64_t count, int64_t begin, int64_t end);

/* A tile of sums, its first element at (row, col) of the result, through the epilogue into `rows` rows of the result.
 * Small enough to be passed in registers: through memory, it would wait there for all that the tile in front of it
 * still has to store. */
typedef struct tile_place {
    int64_t row;
    int32_t col, rows;
} tile_place;

/* That of panel q, where `left` rows are left. */
static inline tile_place tile_at(int64_t row, int64_t q, int64_t left)
{
    return (tile_place){row, (int32_t)(q * NR), left < MR ? (int32_t)left : MR};
}

void KERNEL(finish_tile)(const gemm_args *args, const REAL *tile, tile_place at);
/* What the epilogue will read and write comes nearer while the sums are made. */
void KERNEL(prefetch_tile)(const gemm_args *args, tile_place at);

/* Panels [first, first + count) of the transposed weights: their columns are the columns of W, their depth its rows. */
void KERNEL(transpose_panels)(void *out, const packed *w, int64_t first, int64_t count);

#endif
