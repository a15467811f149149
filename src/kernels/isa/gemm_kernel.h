/* Micro-kernels. One multiplies a tile, and says how large its tiles are and how the operands lie that it reads. The
 * row of a set names one for each type of weights; the product (gemm.c) and the packing of weights (gemm_panels.c) go
 * by it. */
#ifndef INLAY_KERNELS_ISA_GEMM_KERNEL_H
#define INLAY_KERNELS_ISA_GEMM_KERNEL_H

#include "kernels/isa/gemm_epilogue.h"
#include "kernels/isa/row_quant.h"

#define MOST_MR 32 /* rows of the largest tile of any micro-kernel */

/* Rows of the left operand as a micro-kernel reads them: row i begins at at + i * stride, in bytes. */
typedef struct left_rows {
    const unsigned char *at;
    size_t stride;
    const row_quant *quants; /* one for each row, where they are bytes */
} left_rows;

/* A block of rows of the left operand: rows [first, first + count) of the result. */
typedef struct left_block {
    int64_t first, count;
    int64_t whole; /* so many of them, whole tiles, lie in the matrix, from `in_place` on; the others at `room`, with
                      zeros up to a whole tile */
    const unsigned char *in_place, *room;
    size_t stride;
    const row_quant *quants; /* of each row */
    size_t row_bytes;
    int64_t following; /* rows of the next block, which lie in place behind these */
} left_block;

static inline left_rows rows_of(const left_block *l, int64_t i)
{
    return (left_rows){i < l->whole ? l->in_place + (size_t)i * l->stride
                                    : l->room + (size_t)(i - l->whole) * l->stride,
                       l->stride, l->quants + i};
}

/* Panels [first, first + count), one behind the other. */
typedef struct panel_range {
    const unsigned char *at;
    size_t bytes; /* of a panel */
    int64_t first, count;
} panel_range;

typedef struct micro_kernel {
    int mr, nr;    /* rows and columns of a tile; a panel of weights has nr columns */
    int half_rows; /* of a tile: with so many rows or fewer it takes less time, so that work is shared in such pieces */

    /* ---- weights ---- */
    size_t (*panel_bytes)(int64_t k); /* of a panel of depth k */
    /* Panel number `panel` of w [n, k], of any floating type; `room` holds a row in f32. */
    void (*pack)(const packed *out, int64_t panel, const void *w, dtype type, float *room);
    /* Weight p of the panel's column j; the panel has depth k. */
    double (*weight)(const unsigned char *panel, int64_t k, int64_t j, int64_t p);
    /* Panels [first, first + count) of the transposed weights: their columns are the columns of W, their depth its
     * rows. NULL: products with them are never asked for. */
    void (*transpose)(void *out, const packed *w, int64_t first, int64_t count);
    /* ---- the left operand ---- */
    size_t (*row_bytes)(int64_t k);          /* of a row of depth k */
    bool (*in_place)(const gemm_args *args); /* whether rows are read where they lie */
    /* Row r behind its prologue, or made of pixels, at `out`; rows beyond the last are zero. `room`: see left_row. */
    row_quant (*convert)(void *out, const gemm_args *args, int64_t r, void *room);

    /* Every row of the block times every panel, through the epilogue. `room`: BLOCK_ROOM bytes. */
    void (*block)(const gemm_args *args, const left_block *left, const panel_range *panels, void *room);
    /* Multiplies registers `rounds` times; returns the operations done. */
    double (*peak)(int64_t rounds);
} micro_kernel;

extern const micro_kernel KERNEL(micro_real), KERNEL(micro_bf16), KERNEL(micro_int8);

/* Row `row` of w [n, k], of any floating type, as f32: for packing. */
static inline void load_weights(float *out, const void *w, dtype type, int64_t row, int64_t k)
{
    dtype_to_f32(out, (const unsigned char *)w + (size_t)(row * k) * dtype_size(type), type, (size_t)k);
}

/* The set's micro-kernel for weights of that type. */
static inline const micro_kernel *micro_kernel_for(const micro_kernel *const *of_set, dtype weights)
{
    return of_set[weights == DTYPE_I8     ? MICRO_KERNEL_INT8
                  : weights == DTYPE_BF16 ? MICRO_KERNEL_BF16
                                          : MICRO_KERNEL_REAL];
}

#endif
