/* A block of rows times some panels, tile by tile: the loop of micro-kernels whose sums stay in registers. A panel
 * stays in the first cache while all tiles of rows pass over it, and the rows of the next block come nearer meanwhile,
 * each panel some of their lines. */
#ifndef INLAY_KERNELS_ISA_GEMM_BLOCK_H
#define INLAY_KERNELS_ISA_GEMM_BLOCK_H

#include "kernels/isa/gemm_direct.h"
#include "kernels/isa/gemm_kernel.h"

/* Fetches lines [begin, end) of `count` rows. */
static inline void prefetch_rows(const unsigned char *row, size_t stride, int64_t count, int64_t begin, int64_t end)
{
    for (int64_t i = 0; begin < end && i < count; i++, row += stride)
        for (int64_t line = begin; line < end; line++)
            __builtin_prefetch(row + line * 64, 0, 2);
}

/* A tile of sums through its epilogue; `panel` as it is after `ready`. */
typedef void tile_fn(const gemm_args *args, const left_rows *rows, const unsigned char *panel, tile_place at,
                     direct how);
/* A panel of depth k as the tile takes it, at `room`. */
typedef const unsigned char *ready_fn(const unsigned char *panel, int64_t k, void *room);

/* `tile` and `ready`, NULL for panels that are read as they lie, are constants where it is called. */
static inline __attribute__((always_inline)) void each_tile(const gemm_args *args, const left_block *left,
                                                            const panel_range *panels, void *room, ready_fn *ready,
                                                            tile_fn *tile)
{
    const left_block l = *left;
    int64_t lines = l.following > 0 ? ceil_div((int64_t)l.row_bytes, 64) : 0;
    direct how = direct_of(args);

    for (int64_t q = 0; q < panels->count; q++) {
        const unsigned char *panel = panels->at + (size_t)q * panels->bytes;
        int64_t begin = lines * q / panels->count, end = lines * (q + 1) / panels->count;
        if (ready)
            panel = ready(panel, args->x.cols, room);
        for (int64_t i = 0; i < l.count; i += MR) {
            int64_t rows = l.count - i < MR ? l.count - i : MR, next = l.following - i;
            left_rows from = rows_of(&l, i);
            if (begin < end) /* of the next block, what this tile is here */
                prefetch_rows(l.in_place + (size_t)(l.count + i) * l.stride, l.stride, next < MR ? next : MR, begin,
                              end);
            tile(args, &from, panel, (tile_place){l.first + i, (int32_t)((panels->first + q) * NR), (int32_t)rows},
                 how);
        }
    }
}

#endif
