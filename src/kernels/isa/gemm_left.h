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

/* Whether rows lie in memory as they are multiplied, but for their type. */
static inline bool rows_lie(const gemm_args *args)
{
    const mat *x = &args->x;

    /* rows a multiple of 4 KB apart fall into the same sets of the first cache */
    return !args->pixels && !has_prologue(&args->in) && !x->samples && (size_t)x->stride * dtype_size(x->type) % 4096;
}

/* Row r behind its prologue, as reals: where it lies, or in room. */
static inline const REAL *entered_row(const gemm_args *args, int64_t r, REAL *room)
{
    if (!has_prologue(&args->in))
        return left_row(args, r, room);
    prologue_row(room, &args->x, r, &args->in);
    return room;
}

/* out[width] = row r behind its prologue, rounded to bf16, zeros behind its columns; zeros for a row beyond the last.
 */
static inline void convert_row_bf16(uint16_t *out, int64_t width, const gemm_args *args, int64_t r, void *room)
{
    const mat *x = &args->x;
    int64_t depth = r < x->rows ? x->cols : 0, c = 0;

    memset(out + depth, 0, (size_t)(width - depth) * sizeof *out);
    if (depth == 0)
        return;
    if (!args->pixels && x->type == DTYPE_BF16 && !has_prologue(&args->in)) {
        memcpy(out, (const uint16_t *)x->data + row_place(x, r) * x->stride, (size_t)depth * sizeof *out);
    } else if (act_grads_bf16(x, &args->in) && depth % 2 == 0) {
        act_grad_row(out, x, r, &args->in.act_grad);
    } else {
        const REAL *from = entered_row(args, r, room);
        for (; c + VW <= depth; c += VW)
            v_store_bf16(out + c, v_load(from + c));
        for (; c < depth; c++)
            out[c] = f32_to_bf16((float)from[c]);
    }
}

/* Whether rows are quantised and lie one behind the other. */
static inline bool quantised_rows_lie(const gemm_args *args)
{
    return args->x.type == DTYPE_U8 && !args->pixels && !args->x.samples;
}

/* out[size] = the bytes of row r behind its prologue, zeros behind its columns; zeros for a row beyond the last. */
static inline row_quant convert_row_int8(void *out, size_t size, const gemm_args *args, int64_t r, void *reals)
{
    uint16_t *room = (uint16_t *)(void *)((unsigned char *)reals + ROOM_BYTES);
    const mat *x = &args->x,
              rounded = {.data = room, .type = DTYPE_BF16, .rows = 1, .cols = x->cols, .stride = x->cols};
    const uint16_t *from = room;

    if (r >= x->rows) {
        memset(out, 0, size);
        return (row_quant){0};
    }
    memset((uint8_t *)out + x->cols, 0, size - (size_t)x->cols);
    if (x->type == DTYPE_U8 && !args->pixels) {
        const uint8_t *quantised = quantised_row(x, r);
        memcpy(out, quantised, (size_t)x->cols);
        return *quant_behind(quantised, x->stride);
    }
    if (act_grads_bf16(x, &args->in)) {
        act_grad_row(room, x, r, &args->in.act_grad);
    } else if (has_prologue(&args->in)) {
        prologue_row(reals, x, r, &args->in);
        row_store(&rounded, 0, reals);
    } else if (!args->pixels && x->type == DTYPE_BF16) {
        from = (const uint16_t *)x->data + row_place(x, r) * x->stride;
    } else {
        row_store(&rounded, 0, left_row(args, r, reals));
    }
    return quantise_row(out, from, x->cols);
}

#endif
