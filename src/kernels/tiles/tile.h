/* Tiles: eight registers of 16 rows of 64 bytes, and the products of two of them (Intel's AMX), or their exact
 * emulation. Tile numbers are literals. The shape of all eight is set once on each thread by tiles_begin.
 *
 * A product of bf16 adds to each sum, row i of the left tile by column j of the right one, 16 pairs: one chain of fused
 * multiply-adds over the second elements of the pairs, one over the first ones, both from 0; then the sum of both; then
 * sum + that. All of it rounds to nearest; numbers below the least normal one count as 0, before and after each
 * operation. So the bits of a sum depend on its row, its column and the border of each 16 pairs alone. */
#ifndef INLAY_KERNELS_TILES_TILE_H
#define INLAY_KERNELS_TILES_TILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TILE_ROWS 16
#define TILE_BYTES 64 /* of a row */
#define TILE_SIZE ((size_t)TILE_ROWS * TILE_BYTES)
#define TILE_WORDS (TILE_BYTES / 4) /* of a row: pairs of bf16, four bytes, or sums */

#define TILE_WORDS_ALL (TILE_ROWS * TILE_WORDS)
/* A step of a right operand's panel: two tiles side by side, 64 bytes of depth by 32 columns. */
#define TILE_STEP (2 * TILE_SIZE)
#define TILE_STEP_WORDS (2 * TILE_WORDS_ALL)

/* Whether the processor and the system let this process use tiles, which it asks for the first time; NULL, or why not.
 */
const char *tiles_refused(void);

#if defined(TILES_EMULATED)
#include "kernels/tiles/tile_emulated.h"
#else

/* Tiles' instructions as they are: the compiler's functions for them do not say which memory they read and write. */
#define TILE_ZERO(t) __asm__ volatile("tilezero %%tmm" #t ::)
#define TILE_LOAD(t, at, stride) \
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t ::"r"((const void *)(at)), "r"((int64_t)(stride)) : "memory")
#define TILE_STORE(t, at, stride) \
    __asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" ::"r"((void *)(at)), "r"((int64_t)(stride)) : "memory")
#define TILE_PRODUCT_BF16(sum, left, right) __asm__ volatile("tdpbf16ps %%tmm" #right ", %%tmm" #left ", %%tmm" #sum ::)
/* unsigned bytes by signed ones */
#define TILE_PRODUCT_BYTES(sum, left, right) __asm__ volatile("tdpbusd %%tmm" #right ", %%tmm" #left ", %%tmm" #sum ::)

typedef struct tile_shape {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_shape;

static inline void tiles_begin(void)
{
    static const tile_shape shape = {
        .palette = 1, .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64}, .rows = {16, 16, 16, 16, 16, 16, 16, 16}};

    __asm__ volatile("ldtilecfg %0" ::"m"(shape));
}

static inline void tiles_end(void)
{
    __asm__ volatile("tilerelease" ::);
}

#endif

/* ---- 32 x 32 sums in tiles 0 to 3, two rows of two; in memory `row` bytes from row to row. half: the upper 16 rows
 * alone; the others are 0. ---- */

static inline void sums_clear(void)
{
    TILE_ZERO(0);
    TILE_ZERO(1);
    TILE_ZERO(2);
    TILE_ZERO(3);
}

static inline void sums_load(const float *from, int64_t row, bool half)
{
    const unsigned char *lower = (const unsigned char *)from + TILE_ROWS * row;

    TILE_LOAD(0, from, row);
    TILE_LOAD(1, from + TILE_WORDS, row);
    if (half) {
        TILE_ZERO(2);
        TILE_ZERO(3);
        return;
    }
    TILE_LOAD(2, lower, row);
    TILE_LOAD(3, lower + TILE_BYTES, row);
}

static inline void sums_store(float *to, int64_t row, bool half)
{
    unsigned char *lower = (unsigned char *)to + TILE_ROWS * row;

    TILE_STORE(0, to, row);
    TILE_STORE(1, to + TILE_WORDS, row);
    if (half)
        return;
    TILE_STORE(2, lower, row);
    TILE_STORE(3, lower + TILE_BYTES, row);
}

#endif
