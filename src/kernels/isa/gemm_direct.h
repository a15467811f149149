/* Epilogues that a product does on its sums while they are in registers. */
#ifndef INLAY_KERNELS_ISA_GEMM_DIRECT_H
#define INLAY_KERNELS_ISA_GEMM_DIRECT_H

#include "kernels/isa/gemm_epilogue.h"
#include "kernels/isa/gemm_micro.h"

/* What an epilogue works with: copies, which no store through a pointer can change. */
typedef struct finisher {
    mat y, residual, act_grad;
    const float *row_scale;
    const REAL *bias, *col_scale;
} finisher;

static inline finisher finisher_of(const gemm_args *args)
{
    return (finisher){args->y,
                      args->out.residual,
                      args->out.act_grad,
                      args->out.row_scale,
                      (const REAL *)args->out.bias,
                      (const REAL *)args->out.col_scale};
}

/* The walk over the rows of the result and of the residual from row r on. */
static inline row_walk finisher_walk(const gemm_args *args, direct how, int64_t r)
{
    return walk_begin(args->y.samples, how == DIRECT_MASKED ? args->out.row_group : 0, r);
}

/* What is the same for all rows: the bias and the factor of each column. `how` is a constant where it is called. */
static inline __attribute__((always_inline)) vec finish_column(const finisher *f, vec sum, int64_t col, direct how)
{
    if (f->bias)
        sum = v_add(sum, v_load(f->bias + col));
    if (f->col_scale && how != DIRECT_GELU && how != DIRECT_GELU_GRAD)
        sum = v_mul(sum, v_load(f->col_scale + col));
    return sum;
}

/* The sums of row r, of NV vectors from column `col` on, through the rest of `how` into the result. */
static inline __attribute__((always_inline)) void finish_row(const finisher *f, vec sum[NV], const row_walk *walk,
                                                             int64_t r, int64_t col, direct how)
{
    int64_t place = how == DIRECT_MASKED ? walk_place(walk) : r, to = place * f->y.stride + col,
            from = place * f->residual.stride + col;
    vec factor = how == DIRECT_MASKED ? v_set1((REAL)f->row_scale[walk->sample]) : v_zero(), kept[NV];

    UNROLL(4)
    for (int j = 0; j < NV; j++) {
        if (how == DIRECT_MASKED)
            sum[j] = v_mul(sum[j], factor);
        if (how == DIRECT_RESIDUAL || how == DIRECT_MASKED)
            sum[j] = v_add(sum[j], v_load((const REAL *)f->residual.data + from + j * VW));
        if (how == DIRECT_GELU)
            sum[j] = v_gelu_bf16(sum[j]);
        if (how == DIRECT_GELU_GRAD)
            sum[j] = v_gelu_and_grad_bf16(sum[j], &kept[j]);
        if (how == DIRECT_REAL || how == DIRECT_RESIDUAL || how == DIRECT_MASKED)
            v_store((REAL *)f->y.data + to + j * VW, sum[j]);
    }
    UNROLL(2)
    for (int j = 0; j < NV; j += 2) {
        if (how == DIRECT_GELU_GRAD)
            v_stream_bf16_twice((uint16_t *)f->act_grad.data + r * f->act_grad.stride + col + j * VW, kept[j],
                                kept[j + 1]);
        if (how == DIRECT_BF16 || how == DIRECT_GELU || how == DIRECT_GELU_GRAD)
            v_store_bf16_twice((uint16_t *)f->y.data + to + j * VW, sum[j], sum[j + 1]);
    }
}

/* The sums of a tile's rows through one way of the epilogue, `how`, a constant where it is called. */
static inline __attribute__((always_inline)) void finish_sums(const gemm_args *args, vec sum[MR][NV], tile_place at,
                                                              direct how)
{
    const finisher f = finisher_of(args);
    row_walk walk = finisher_walk(args, how, at.row);

    UNROLL(12)
    for (int i = 0; i < MR; i++)
        UNROLL(4)
    for (int j = 0; j < NV; j++)
        sum[i][j] = finish_column(&f, sum[i][j], at.col + j * VW, how);
    UNROLL(12)
    for (int i = 0; i < MR; i++) {
        if (i == at.rows)
            return;
        finish_row(&f, sum[i], &walk, at.row + i, at.col, how);
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
