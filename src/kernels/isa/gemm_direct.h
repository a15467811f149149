/* Epilogues that a product does on its sums while they are in registers. */
#ifndef INLAY_KERNELS_ISA_GEMM_DIRECT_H
#define INLAY_KERNELS_ISA_GEMM_DIRECT_H

#include "kernels/isa/gemm_epilogue.h"
#include "kernels/isa/gemm_micro.h"

/* The sums of a tile's rows through one way of the epilogue, `how`, a constant where it is called. */
static inline __attribute__((always_inline)) void finish_sums(const gemm_args *args, vec sum[MR][NV], tile_place at,
                                                              direct how)
{
    const mat y = args->y, residual = args->out.residual, act_grad = args->out.act_grad;
    const float *scale = args->out.row_scale;
    const REAL *bias = args->out.bias, *col_scale = args->out.col_scale;
    row_walk walk = walk_begin(y.samples, how == DIRECT_MASKED ? args->out.row_group : 0, at.row);

    if (bias)
        UNROLL(12)
    for (int i = 0; i < MR; i++)
        UNROLL(4)
    for (int j = 0; j < NV; j++)
        sum[i][j] = v_add(sum[i][j], v_load(bias + at.col + j * VW));
    if (col_scale && how != DIRECT_GELU && how != DIRECT_GELU_GRAD)
        UNROLL(12)
    for (int i = 0; i < MR; i++)
        UNROLL(4)
    for (int j = 0; j < NV; j++)
        sum[i][j] = v_mul(sum[i][j], v_load(col_scale + at.col + j * VW));
    UNROLL(12)
    for (int i = 0; i < MR; i++) {
        if (i == at.rows)
            return;
        int64_t r = at.row + i, place = how == DIRECT_MASKED ? walk_place(&walk) : r, to = place * y.stride + at.col,
                from = place * residual.stride + at.col;
        vec factor = how == DIRECT_MASKED ? v_set1((REAL)scale[walk.sample]) : v_zero(), kept[NV];
        UNROLL(4)
        for (int j = 0; j < NV; j++) {
            if (how == DIRECT_MASKED)
                sum[i][j] = v_mul(sum[i][j], factor);
            if (how == DIRECT_RESIDUAL || how == DIRECT_MASKED)
                sum[i][j] = v_add(sum[i][j], v_load((const REAL *)residual.data + from + j * VW));
            if (how == DIRECT_GELU)
                sum[i][j] = v_gelu_bf16(sum[i][j]);
            if (how == DIRECT_GELU_GRAD)
                sum[i][j] = v_gelu_and_grad_bf16(sum[i][j], &kept[j]);
            if (how == DIRECT_REAL || how == DIRECT_RESIDUAL || how == DIRECT_MASKED)
                v_store((REAL *)y.data + to + j * VW, sum[i][j]);
        }
        UNROLL(2)
        for (int j = 0; j < NV; j += 2) {
            if (how == DIRECT_GELU_GRAD)
                v_stream_bf16_twice((uint16_t *)act_grad.data + r * act_grad.stride + at.col + j * VW, kept[j],
                                    kept[j + 1]);
            if (how == DIRECT_BF16 || how == DIRECT_GELU || how == DIRECT_GELU_GRAD)
                v_store_bf16_twice((uint16_t *)y.data + to + j * VW, sum[i][j], sum[i][j + 1]);
        }
        walk_next(&walk);
    }
}

/* The sums of a tile's rows through the epilogue into the result; `how` is not DIRECT_NONE. */
static inline __attribute__((always_inline)) void finish_direct(const gemm_args *args, vec sum[MR][NV], tile_place at,
                                                                direct how)
{
    switch (how) {
    case DIRECT_BF16:
        finish_sums(args, sum, at, DIRECT_BF16);
        return;
    case DIRECT_GELU:
        finish_sums(args, sum, at, DIRECT_GELU);
        return;
    case DIRECT_GELU_GRAD:
        finish_sums(args, sum, at, DIRECT_GELU_GRAD);
        return;
    case DIRECT_RESIDUAL:
        finish_sums(args, sum, at, DIRECT_RESIDUAL);
        return;
    case DIRECT_MASKED:
        finish_sums(args, sum, at, DIRECT_MASKED);
        return;
    default:
        finish_sums(args, sum, at, DIRECT_REAL);
    }
}

/* Whether a tile's epilogue is done on registers: there is a way, and all columns of the tile belong to the result. */
static inline bool is_direct(const gemm_args *args, tile_place at, direct how)
{
    return how != DIRECT_NONE && args->y.cols - at.col >= NR;
}

#endif
