/* What becomes of a tile of sums: its place in the result, and the ways of a product's epilogue. */
#ifndef INLAY_KERNELS_ISA_GEMM_EPILOGUE_H
#define INLAY_KERNELS_ISA_GEMM_EPILOGUE_H

#include "kernels/isa/isa.h"

/* Where a tile lies: its first element is at (row, col) of the result, and `rows` of its rows belong there. Small
 * enough to be passed in registers: through memory, it would wait there for all that the tile in front of it still has
 * to store. */
typedef struct tile_place {
    int64_t row;
    int32_t col, rows;
} tile_place;

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

/* A tile of sums, [mr][nr] with nr the columns of a panel, through the epilogue into the result. */
void BASE(finish_tile)(const gemm_args *args, const REAL *tile, int nr, tile_place at);
/* What the epilogue will read and write of nr columns comes nearer while the sums are made. */
void BASE(prefetch_tile)(const gemm_args *args, int nr, tile_place at);

#endif
