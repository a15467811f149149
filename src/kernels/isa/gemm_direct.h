/* Epilogues that a product does on its sums while they are in registers. */
#ifndef INLAY_KERNELS_ISA_GEMM_DIRECT_H
#define INLAY_KERNELS_ISA_GEMM_DIRECT_H

#include "kernels/isa/gemm_panels.h"

/* Epilogues of whole rows of a panel that need no room beside the registers in which the sums are: a bias, a scale, a
 * residual, also of some samples with a factor, the rounding to bf16, also behind GELU, whose act_grad may be kept. */
typedef enum direct {
    DIRECT_NONE,
    DIRECT_REAL,
    DIRECT_BF16,
    DIRECT_GELU,
    DIRECT_GELU_GRAD,
    DIRECT_RESIDUAL,
    DIRECT_MASKED
} direct;

/* Behind bf16 and int8 weights GELU is the one for bf16, however its result is stored: nobody who reads it sees who
 * else does. */
static inline bool coarse_gelu(const packed *w)
{
    return w->type != REAL_TYPE;
}

static inline direct direct_of(const gemm_args *args)
{
    const gemm_epilogue *e = &args->out;

    if (e->act == ACT_GELU && coarse_gelu(args->w) && !e->col_scale && !e->row_scale && !e->residual.data &&
        !args->y.samples && args->y.type == DTYPE_BF16 && (!e->act_grad.data || e->act_grad.type == DTYPE_BF16))
        return e->act_grad.data ? DIRECT_GELU_GRAD : DIRECT_GELU;
    if (e->act != ACT_NONE || e->act_grad.data)
        return DIRECT_NONE;
    if (e->residual.data) {
        if (args->y.type != REAL_TYPE || e->residual.type != REAL_TYPE)
            return DIRECT_NONE;
        if (e->row_scale && args->y.samples == e->residual.samples &&
            (!args->y.samples || (args->y.group == e->row_group && e->residual.group == e->row_group)))
            return DIRECT_MASKED; /* rows of both lie at the same places */
        if (e->row_scale)
            return DIRECT_NONE;
        return args->y.samples || e->residual.samples ? DIRECT_NONE : DIRECT_RESIDUAL;
    }
    if (e->row_scale || args->y.samples)
        return DIRECT_NONE;
    return args->y.type == REAL_TYPE ? DIRECT_REAL : DIRECT_BF16;
}

/* For one of them, a constant where it is called. */
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

/* The sums of a tile's rows, for which `how` is not DIRECT_NONE, through the epilogue into the result. */
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

/* Whether a tile is done so. */
static inline bool is_direct(const gemm_args *args, tile_place at, direct how)
{
    return how != DIRECT_NONE && args->y.cols - at.col >= NR;
}

#endif
