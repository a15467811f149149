/* Micro-kernels on tiles: products with bf16 and with int8 weights.
 *
 * Two tiles of rows times two tiles of columns make 32 x 32 sums. A panel of 32 columns is [steps][2 tiles][16][16]
 * words, each a pair of bf16 or four bytes of a column's depth, so that a step of 64 bytes of depth is 2 KB in one
 * piece, read from end to end; behind int8 weights lie [32] scales and [32] sums. Zeros fill up depth and columns.
 *
 * 32 rows stay in the first cache while all panels stream past them from the second; of deeper rows one chunk of the
 * depth at a time, whose sums wait in memory for the next. The epilogue of a block of sums runs between the tile
 * products of the next one: at their speed it is the greater part of the work. */
#include "kernels/tiles/tile.h"

#include <assert.h>

#include "kernels/isa/gemm_direct.h"
#include "kernels/isa/gemm_kernel.h"
#include "kernels/isa/gemm_left.h"
#include "kernels/isa/quads.h"

#define ROWS 32
#define COLUMNS 32
#define CHUNK 8 /* steps whose rows, 16 KB, stay in the first cache */
#define SUMS_ROW ((int64_t)(COLUMNS * sizeof(REAL)))

_Static_assert(COLUMNS == NR && NV == 2 && VW == TILE_WORDS, "a row of sums is two vectors");

/* Steps over a depth of k values. */
static int64_t steps_of(int64_t k, bool bytes)
{
    return ceil_div(k, bytes ? TILE_BYTES : TILE_BYTES / 2);
}

/* ---- weights ---- */

static size_t bf16_panel_bytes(int64_t k)
{
    return (size_t)steps_of(k, false) * TILE_STEP;
}

static size_t int8_panel_bytes(int64_t k)
{
    return (size_t)steps_of(k, true) * TILE_STEP + COLUMNS * (sizeof(float) + sizeof(int32_t));
}

/* Where value p of column j lies in a panel, counted in values, of which `each` are a word. */
static int64_t place_of(int64_t j, int64_t p, int64_t each)
{
    int64_t depth = TILE_WORDS * each;

    return (((p / depth * 2 + j / TILE_WORDS) * TILE_ROWS + p % depth / each) * TILE_WORDS + j % TILE_WORDS) * each +
           p % each;
}

static void pack_bf16(const packed *out, int64_t panel, const void *w, dtype type, float *room)
{
    uint16_t *to = (uint16_t *)(void *)((unsigned char *)out->data + (size_t)panel * bf16_panel_bytes(out->k));
    int64_t k = out->k, columns = out->n - panel * COLUMNS < COLUMNS ? out->n - panel * COLUMNS : COLUMNS;

    memset(to, 0, bf16_panel_bytes(k));
    for (int64_t j = 0; j < columns; j++) {
        load_weights(room, w, type, panel * COLUMNS + j, k);
        for (int64_t p = 0; p < k; p++)
            to[place_of(j, p, 2)] = f32_to_bf16(room[p]);
    }
}

static double bf16_weight(const unsigned char *panel, int64_t k, int64_t j, int64_t p)
{
    (void)k;
    return (double)bf16_to_f32(((const uint16_t *)(const void *)panel)[place_of(j, p, 2)]);
}

/* A step of the source, 32 rows of W by 32 columns, becomes one of the target: a tile of pairs is transposed to rows of
 * W, of which two at a time are zipped to pairs along the other depth. */
static void turn_step(REAL *to, const REAL *from)
{
    for (int t = 0; t < 2; t++, from += TILE_ROWS * TILE_WORDS) {
        vec square[VW];
        for (int i = 0; i < VW; i++)
            square[i] = v_load(from + i * TILE_WORDS);
        v_transpose(square);
        for (int i = 0; i < VW; i += 2) {
            REAL *pairs = to + (t * VW / 2 + i / 2) * TILE_WORDS;
            vec left, right;
            v_zip_bf16(square[i], square[i + 1], &left, &right);
            v_store(pairs, left);
            v_store(pairs + TILE_ROWS * TILE_WORDS, right);
        }
    }
}

static void transpose_bf16(void *out, const packed *w, int64_t first, int64_t count)
{
    size_t size = bf16_panel_bytes(w->n), from_size = bf16_panel_bytes(w->k);

    for (int64_t q = 0; q < count; q++)
        for (int64_t s = 0; s < steps_of(w->n, false); s++)
            turn_step((REAL *)(void *)((unsigned char *)out + (size_t)q * size + (size_t)s * TILE_STEP),
                      (const REAL *)(const void *)((const unsigned char *)w->data + (size_t)s * from_size +
                                                   (size_t)(first + q) * TILE_STEP));
}

static void pack_int8(const packed *out, int64_t panel, const void *w, dtype type, float *room)
{
    int64_t k = out->k, columns = out->n - panel * COLUMNS < COLUMNS ? out->n - panel * COLUMNS : COLUMNS;
    int8_t *to = (int8_t *)out->data + (size_t)panel * int8_panel_bytes(k);
    float *scales = (float *)(void *)(to + (size_t)steps_of(k, true) * TILE_STEP);
    int32_t *sums = (int32_t *)(void *)(scales + COLUMNS);

    memset(to, 0, int8_panel_bytes(k));
    for (int64_t j = 0; j < columns; j++) {
        int8_t *row = (int8_t *)(void *)(room + k);
        load_weights(room, w, type, panel * COLUMNS + j, k);
        scales[j] = quantise_weights(row, &sums[j], room, k);
        for (int64_t p = 0; p < k; p++)
            to[place_of(j, p, 4)] = row[p];
    }
}

static double int8_weight(const unsigned char *panel, int64_t k, int64_t j, int64_t p)
{
    const float *scales = (const float *)(const void *)(panel + (size_t)steps_of(k, true) * TILE_STEP);

    return (double)scales[j] * (double)((const int8_t *)panel)[place_of(j, p, 4)];
}

/* ---- the left operand ---- */

static size_t bf16_row_bytes(int64_t k)
{
    return (size_t)steps_of(k, false) * TILE_BYTES;
}

static size_t int8_row_bytes(int64_t k)
{
    return (size_t)steps_of(k, true) * TILE_BYTES;
}

static bool bf16_in_place(const gemm_args *args)
{
    return rows_lie(args) && args->x.type == DTYPE_BF16 && args->x.cols % (TILE_BYTES / 2) == 0;
}

static row_quant convert_bf16(void *out, const gemm_args *args, int64_t r, void *room)
{
    convert_row_bf16(out, (int64_t)(bf16_row_bytes(args->x.cols) / sizeof(uint16_t)), args, r, room);
    return (row_quant){0};
}

static row_quant convert_int8(void *out, const gemm_args *args, int64_t r, void *room)
{
    return convert_row_int8(out, int8_row_bytes(args->x.cols), args, r, room);
}

/* ---- sums and their epilogue ---- */

/* A block of sums, [32][32], whose epilogue is under way: rows up to `done` have gone through it. */
typedef struct pending {
    const REAL *sums;
    const row_quant *quants;   /* of the rows, and of the panel: */
    const unsigned char *tail; /* where its scales lie; where there are bytes */
    tile_place at;
    int done;
    row_walk walk;
} pending;

/* Row i of the block's sums, which are whole numbers where there are bytes: behind their scales. */
static inline __attribute__((always_inline)) void load_sums(vec sum[NV], const pending *p, int i, bool bytes)
{
    const REAL *from = p->sums + i * COLUMNS;

    UNROLL(2)
    for (int j = 0; j < NV; j++) {
        if (bytes) {
            const float *scales = (const float *)(const void *)p->tail + j * VW;
            const int32_t *zeros = (const int32_t *)(const void *)p->tail + COLUMNS + j * VW;
            ivec whole = i_add(i_load(from + j * VW), i_mul(i_set1(-p->quants[i].zero), i_load(zeros)));
            sum[j] = v_mul(i_real(whole), v_mul(v_set1(p->quants[i].scale), v_load(scales)));
        } else {
            sum[j] = v_load(from + j * VW);
        }
    }
}

/* Rows up to `end` of the block under way. */
static inline __attribute__((always_inline)) void finish_rows(pending *p, const finisher *f, int end, direct how,
                                                              bool bytes)
{
    end = end < p->at.rows ? end : p->at.rows;
    for (; p->done < end; p->done++) {
        vec sum[NV];
        load_sums(sum, p, p->done, bytes);
        UNROLL(2)
        for (int j = 0; j < NV; j++)
            sum[j] = finish_column(f, sum[j], p->at.col + j * VW, how);
        finish_row(f, sum, &p->walk, p->at.row + p->done, p->at.col, how);
        walk_next(&p->walk);
    }
}

/* The block's sums through any epilogue, at once. */
static void finish_any(const gemm_args *args, pending *p, REAL *sums, bool bytes)
{
    for (int i = 0; i < p->at.rows && bytes; i++) {
        vec sum[NV];
        load_sums(sum, p, i, true);
        for (int j = 0; j < NV; j++)
            v_store(sums + i * COLUMNS + j * VW, sum[j]);
    }
    BASE(finish_tile)(args, sums, COLUMNS, p->at);
    p->done = p->at.rows;
}

/* ---- the product ---- */

/* Steps of 32 rows by a panel, onto the sums in tiles 0 to 3; after each product some rows of the block in front of it
 * are finished. half: 16 rows are enough. */
static inline __attribute__((always_inline)) void run_steps(left_rows rows, const unsigned char *panel, int64_t steps,
                                                            bool half, pending *p, const finisher *f, direct how,
                                                            bool bytes)
{
    const unsigned char *left = rows.at, *lower = left + TILE_ROWS * rows.stride;
    int64_t stride = (int64_t)rows.stride;
    int share = (ROWS << 16) / (int)((half ? 2 : 4) * steps) + 1, due = p->done << 16; /* rows for each product */

#define PRODUCT(sum, left, right)                                \
    do {                                                         \
        if (bytes)                                               \
            TILE_PRODUCT_BYTES(sum, left, right);                \
        else                                                     \
            TILE_PRODUCT_BF16(sum, left, right);                 \
        if (how != DIRECT_NONE)                                  \
            finish_rows(p, f, (due += share) >> 16, how, bytes); \
    } while (0)
    for (int64_t s = 0; s < steps; s++, left += TILE_BYTES, lower += TILE_BYTES, panel += TILE_STEP) {
        TILE_LOAD(6, panel, TILE_BYTES);
        TILE_LOAD(4, left, stride);
        PRODUCT(0, 4, 6);
        TILE_LOAD(7, panel + TILE_SIZE, TILE_BYTES);
        PRODUCT(1, 4, 7);
        if (half)
            continue;
        TILE_LOAD(5, lower, stride);
        PRODUCT(2, 5, 6);
        PRODUCT(3, 5, 7);
    }
#undef PRODUCT
}

/* `how` and `bytes` are constants where it is called. */
static inline __attribute__((always_inline)) void
run_block(const gemm_args *args, const left_block *left, const panel_range *panels, REAL *kept, direct how, bool bytes)
{
    const left_block l = *left;
    const finisher f = finisher_of(args);
    int64_t steps = steps_of(args->x.cols, bytes);
    _Alignas(64) REAL sums[2][ROWS * COLUMNS];
    int turn = 0;
    pending p = {.sums = sums[1]};

    assert(steps <= CHUNK || (size_t)(panels->count * ROWS * SUMS_ROW) <= BLOCK_ROOM);
    for (int64_t i = 0; i < l.count; i += ROWS) {
        left_rows rows = rows_of(&l, i);
        int32_t count = l.count - i < ROWS ? (int32_t)(l.count - i) : ROWS;
        bool half = count <= TILE_ROWS;
        for (int64_t s = 0; s < steps; s += CHUNK) {
            int64_t now = steps - s < CHUNK ? steps - s : CHUNK;
            left_rows part = {rows.at + s * TILE_BYTES, rows.stride, rows.quants};
            for (int64_t q = 0; q < panels->count; q++) {
                const unsigned char *panel = panels->at + (size_t)q * panels->bytes;
                REAL *waiting = kept + q * ROWS * COLUMNS;
                if (s > 0)
                    sums_load(waiting, SUMS_ROW, half);
                else
                    sums_clear();
                run_steps(part, panel + (size_t)s * TILE_STEP, now, half, &p, &f, how, bytes);
                if (s + now < steps) {
                    sums_store(waiting, SUMS_ROW, half);
                    continue;
                }
                sums_store(sums[turn], SUMS_ROW, half);
                finish_rows(&p, &f, ROWS, how, bytes);
                p = (pending){.sums = sums[turn],
                              .quants = rows.quants,
                              .tail = panel + (size_t)steps * TILE_STEP,
                              .at = {l.first + i, (int32_t)((panels->first + q) * COLUMNS), count}};
                if (how == DIRECT_NONE || args->y.cols - p.at.col < COLUMNS)
                    finish_any(args, &p, sums[turn], bytes);
                else
                    p.walk = finisher_walk(args, how, p.at.row);
                turn = !turn;
            }
        }
    }
    finish_rows(&p, &f, ROWS, how, bytes);
}

static inline __attribute__((always_inline)) void choose_way(const gemm_args *args, const left_block *left,
                                                             const panel_range *panels, REAL *room, bool bytes)
{
    switch (direct_of(args)) {
    case DIRECT_REAL:
        run_block(args, left, panels, room, DIRECT_REAL, bytes);
        return;
    case DIRECT_BF16:
        run_block(args, left, panels, room, DIRECT_BF16, bytes);
        return;
    case DIRECT_GELU:
        run_block(args, left, panels, room, DIRECT_GELU, bytes);
        return;
    case DIRECT_GELU_GRAD:
        run_block(args, left, panels, room, DIRECT_GELU_GRAD, bytes);
        return;
    case DIRECT_RESIDUAL:
        run_block(args, left, panels, room, DIRECT_RESIDUAL, bytes);
        return;
    case DIRECT_MASKED:
        run_block(args, left, panels, room, DIRECT_MASKED, bytes);
        return;
    case DIRECT_NONE:
        run_block(args, left, panels, room, DIRECT_NONE, bytes);
    }
}

static void bf16_block(const gemm_args *args, const left_block *left, const panel_range *panels, void *room)
{
    choose_way(args, left, panels, room, false);
}

static void int8_block(const gemm_args *args, const left_block *left, const panel_range *panels, void *room)
{
    choose_way(args, left, panels, room, true);
}

/* ---- registers alone ---- */

static double bf16_peak(int64_t rounds)
{
    for (int64_t r = 0; r < rounds; r++) {
        TILE_PRODUCT_BF16(0, 4, 6);
        TILE_PRODUCT_BF16(1, 4, 7);
        TILE_PRODUCT_BF16(2, 5, 6);
        TILE_PRODUCT_BF16(3, 5, 7);
    }
    return (double)(rounds * 4 * TILE_ROWS * TILE_WORDS * TILE_WORDS * 2 * 2);
}

static double int8_peak(int64_t rounds)
{
    for (int64_t r = 0; r < rounds; r++) {
        TILE_PRODUCT_BYTES(0, 4, 6);
        TILE_PRODUCT_BYTES(1, 4, 7);
        TILE_PRODUCT_BYTES(2, 5, 6);
        TILE_PRODUCT_BYTES(3, 5, 7);
    }
    return (double)(rounds * 4 * TILE_ROWS * TILE_WORDS * TILE_WORDS * 4 * 2);
}

const micro_kernel KERNEL(micro_bf16) = {
    .mr = ROWS,
    .nr = COLUMNS,
    .half_rows = TILE_ROWS,
    .panel_bytes = bf16_panel_bytes,
    .pack = pack_bf16,
    .weight = bf16_weight,
    .transpose = transpose_bf16,
    .row_bytes = bf16_row_bytes,
    .in_place = bf16_in_place,
    .convert = convert_bf16,
    .block = bf16_block,
    .peak = bf16_peak,
};

const micro_kernel KERNEL(micro_int8) = {
    .mr = ROWS,
    .nr = COLUMNS,
    .half_rows = TILE_ROWS,
    .panel_bytes = int8_panel_bytes,
    .pack = pack_int8,
    .weight = int8_weight,
    .row_bytes = int8_row_bytes,
    .in_place = quantised_rows_lie, /* a row's quant may be part of the last step: weights are zeros there */
    .convert = convert_int8,
    .block = int8_block,
    .peak = int8_peak,
};
