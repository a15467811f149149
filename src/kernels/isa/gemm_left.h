/* A product's left operand: how many of its rows are a block, and what is done to them on their way in. */
#ifndef INLAY_KERNELS_ISA_GEMM_LEFT_H
#define INLAY_KERNELS_ISA_GEMM_LEFT_H

#include "kernels/isa/gemm_kernel.h"

/* Scratch memory: a block of the left operand; rows on their way in; room of the micro-kernel; a group of transposed
 * panels. */
#define LEFT_BYTES ((size_t)1 << 20)
#define ROOM_BYTES ((size_t)1 << 20)
#define BLOCK_ROOM ((size_t)2 << 20)
#define GROUP_BYTES (SCRATCH_SIZE - LEFT_BYTES - ROOM_BYTES - BLOCK_ROOM - 4096)
#define BLOCK_WANTED ((size_t)128 << 10) /* bytes of the left operand and of the result that a block aims at */
/* Tiles of rows in a block. A panel comes from far, and may have to be made ready, for few of them at its own cost. */
#define LEAST_TILES 8
#define MOST_TILES 16

/* Rows of a block, whose left operand takes so many bytes for each: a whole number of tiles of mr rows. */
static inline int64_t block_rows(const mat *y, size_t left_row, int mr)
{
    size_t tile = left_row * (size_t)mr;
    int64_t tiles = (int64_t)(BLOCK_WANTED / (tile + (size_t)(y->cols * mr) * dtype_size(y->type))),
            most = (int64_t)(LEFT_BYTES / tile);

    tiles = tiles < LEAST_TILES ? LEAST_TILES : tiles < MOST_TILES ? tiles : MOST_TILES;
    tiles = tiles < most ? tiles : most;
    return (tiles > 1 ? tiles : 1) * mr;
}

/* Bytes from row to row of a block: an odd number of cache lines, so that rows do not fall into the same sets of the
 * first cache. */
static inline size_t block_stride(size_t row_bytes)
{
    return ((row_bytes + 63) / 64 | 1) * 64;
}

/* ---- what is done to a row ---- */

/* Row r of the left operand in front of its prologue, as reals: where it lies, or at `room`, which patch_room has
 * prepared where there are pixels. */
static inline const REAL *left_row(const gemm_args *args, int64_t r, REAL *room)
{
    return args->pixels ? BASE(patch_row)(args->pixels, r, room) : row_real(&args->x, r, room);
}

static inline bool has_prologue(const gemm_prologue *in)
{
    return in->col_scale || in->row_scale || in->act_grad.data;
}

/* out[cols] = x[r, :] behind the prologue */
static inline void prologue_row(REAL *out, const mat *x, int64_t r, const gemm_prologue *in)
{
    const REAL *scale = in->col_scale;
    vec factor = v_set1(in->row_scale ? (REAL)in->row_scale[r / in->row_group] : 1);
    int64_t cols = x->cols, place = row_place(x, r);

    for (int64_t c = 0; c < cols; c += VW) {
        int n = cols - c < VW ? (int)(cols - c) : VW;
        vec v = v_mul(v_load_mat(x, place, c, n), factor);
        if (scale)
            v = v_mul(v, v_load_n(scale + c, n));
        if (in->act_grad.data)
            v = v_mul(v, v_load_mat(&in->act_grad, r, c, n));
        if (n == VW)
            v_store(out + c, v);
        else
            v_store_part(out + c, v, n);
    }
}

/* Whether act_grads are all of the prologue, and they and the rows are bf16: what comes back through an activation. */
static inline bool act_grads_bf16(const mat *x, const gemm_prologue *in)
{
    return x->type == DTYPE_BF16 && in->act_grad.data && in->act_grad.type == DTYPE_BF16 && !in->col_scale &&
           !in->row_scale;
}

/* out[cols] = x[r, :] times its act_grads, all in bf16: what act_grads_bf16 is true of. */
static inline void act_grad_row(uint16_t *out, const mat *x, int64_t r, const mat *act_grad)
{
    const uint16_t *from = (const uint16_t *)x->data + row_place(x, r) * x->stride,
                   *factor = (const uint16_t *)act_grad->data + r * act_grad->stride;
    int64_t c = 0;

    for (; c + VW <= x->cols; c += VW)
        v_store_bf16(out + c, v_mul(v_load_bf16(from + c), v_load_bf16(factor + c)));
    for (; c < x->cols; c++)
        out[c] = f32_to_bf16(bf16_to_f32(from[c]) * bf16_to_f32(factor[c]));
}

#endif
