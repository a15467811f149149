/* The epilogue of a product from a tile of sums in memory: every combination of its parts, and edges. */
#include "kernels/isa/gemm_epilogue.h"

/* One row of a tile: where it lies in each matrix, and its factor. */
typedef struct tile_row {
    int64_t y, act_grad, residual;
    vec factor;
} tile_row;

/* n columns (at most VW) of one row, from the sums to the result */
static inline __attribute__((always_inline)) void finish_vector(const gemm_epilogue *e, const mat *y, vec v,
                                                                const tile_row *at, int64_t col, int n, bool coarse)
{
    vec act_grad;

    if (e->bias)
        v = v_add(v, v_load_n((const REAL *)e->bias + col, n));
    if (e->act == ACT_GELU && coarse)
        v = e->act_grad.data ? v_gelu_and_grad_bf16(v, &act_grad) : v_gelu_bf16(v);
    else
        v = e->act_grad.data ? v_activate_and_grad(e->act, v, &act_grad) : v_activate(e->act, v);
    if (e->act_grad.data)
        v_store_mat(&e->act_grad, at->act_grad, col, act_grad, n);
    if (e->col_scale)
        v = v_mul(v, v_load_n((const REAL *)e->col_scale + col, n));
    if (e->row_scale)
        v = v_mul(v, at->factor);
    if (e->residual.data)
        v = v_add(v, v_load_mat(&e->residual, at->residual, col, n));
    v_store_mat(y, at->y, col, v, n);
}

static inline __attribute__((always_inline)) void finish_rows(const gemm_epilogue e, const mat y, const REAL *tile,
                                                              int nr, tile_place at, bool coarse)
{
    const float *scale = e.row_scale;
    int64_t cols = y.cols - at.col;
    row_walk to = walk_rows(&y, at.row), from = walk_rows(&e.residual, at.row),
             factor = walk_begin(NULL, scale ? e.row_group : 0, at.row);

    for (int64_t i = 0; i < at.rows; i++, walk_next(&to), walk_next(&from), walk_next(&factor)) {
        tile_row row = {walk_place(&to), at.row + i, walk_place(&from), v_set1(scale ? (REAL)scale[factor.sample] : 1)};
        if (cols >= nr) {
            for (int j = 0; j < nr; j += VW)
                finish_vector(&e, &y, v_load(tile + i * nr + j), &row, at.col + j, VW, coarse);
        } else {
            for (int64_t j = 0; j < cols; j += VW)
                finish_vector(&e, &y, v_load(tile + i * nr + j), &row, at.col + j,
                              VW > 1 && cols - j < VW ? (int)(cols - j) : VW, coarse);
        }
    }
}

/* The epilogue of a bottleneck is written out, so that what it lacks costs no tests in front of every vector; those
 * that need no tile in memory are in gemm_direct.h. */
void KERNEL(finish_tile)(const gemm_args *args, const REAL *tile, int nr, tile_place at)
{
    const gemm_epilogue e = args->out; /* copies, which no store through a pointer can change */
    const mat y = args->y;

    if (e.act == ACT_NONE && !e.act_grad.data && e.residual.data && e.residual.type == REAL_TYPE && y.type == REAL_TYPE)
        finish_rows((gemm_epilogue){.bias = e.bias,
                                    .col_scale = e.col_scale,
                                    .row_scale = e.row_scale,
                                    .row_group = e.row_group,
                                    .residual = e.residual},
                    y, tile, nr, at, false);
    else
        finish_rows(e, y, tile, nr, at, coarse_gelu(args->w));
}

void KERNEL(prefetch_tile)(const gemm_args *args, int nr, tile_place at)
{
    prefetch_part(&args->y, at.row, at.rows, at.col, nr, true);
    if (args->out.residual.data != args->y.data)
        prefetch_part(&args->out.residual, at.row, at.rows, at.col, nr, false);
}
