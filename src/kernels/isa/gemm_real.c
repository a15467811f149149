/* Micro-kernels of real and of bf16 weights, on vectors.
 *
 * Panels are [k][NR] reals, or [ceil(k / 2)][NR][2] bf16 pairs, padded with zeros. Where the processor multiplies pairs
 * of bf16, a step of the inner loop takes one; else a panel of pairs is widened to reals and rows are rounded to bf16.
 */
#include "kernels/isa/gemm_block.h"
#include "kernels/isa/gemm_left.h"

/* Steps of the inner loop over a depth of k. */
static int64_t steps_of(int64_t k, bool bf16)
{
    return !bf16 ? k : HAVE_PAIRS ? ceil_div(k, 2) : ceil_div(k, 2) * 2;
}

/* ---- weights ---- */

static size_t real_panel_bytes(int64_t k)
{
    return (size_t)k * NR * sizeof(REAL);
}

static size_t bf16_panel_bytes(int64_t k)
{
    return (size_t)ceil_div(k, 2) * 2 * NR * sizeof(uint16_t);
}

/* Column j of a panel, from row `row` of w in double precision, through copies: files may be unaligned. */
static void pack_double(REAL *to, const void *w, int64_t row, int64_t k)
{
    for (int64_t p = 0; p < k; p++) {
        double x;
        memcpy(&x, (const unsigned char *)w + (size_t)(row * k + p) * sizeof x, sizeof x);
        to[p * NR] = (REAL)x;
    }
}

static void pack_real(const packed *out, int64_t panel, const void *w, dtype type, float *room)
{
    REAL *to = (REAL *)out->data + panel * out->k * NR;
    int64_t columns = out->n - panel * NR < NR ? out->n - panel * NR : NR;

    memset(to, 0, real_panel_bytes(out->k));
    for (int64_t j = 0; j < columns; j++) {
        if (type == DTYPE_F64) {
            pack_double(to + j, w, panel * NR + j, out->k);
            continue;
        }
        load_weights(room, w, type, panel * NR + j, out->k);
        for (int64_t p = 0; p < out->k; p++)
            to[p * NR + j] = (REAL)room[p];
    }
}

static void pack_bf16(const packed *out, int64_t panel, const void *w, dtype type, float *room)
{
    uint16_t *to = (uint16_t *)out->data + (size_t)panel * bf16_panel_bytes(out->k) / sizeof *to;
    int64_t columns = out->n - panel * NR < NR ? out->n - panel * NR : NR;

    memset(to, 0, bf16_panel_bytes(out->k));
    for (int64_t j = 0; j < columns; j++) {
        load_weights(room, w, type, panel * NR + j, out->k);
        for (int64_t p = 0; p < out->k; p++)
            to[(p / 2 * NR + j) * 2 + (p & 1)] = f32_to_bf16(room[p]);
    }
}

static double real_weight(const unsigned char *panel, int64_t k, int64_t j, int64_t p)
{
    (void)k;
    return (double)((const REAL *)(const void *)panel)[p * NR + j];
}

static double bf16_weight(const unsigned char *panel, int64_t k, int64_t j, int64_t p)
{
    (void)k;
    return (double)bf16_to_f32(((const uint16_t *)(const void *)panel)[(p / 2 * NR + j) * 2 + (p & 1)]);
}

/* ---- transposing: one square of a source panel at a time, [depth k][columns n] into [depth n][columns k] ---- */

static void turn_reals(REAL *to, const REAL *from, int64_t depth, int64_t width)
{
    int64_t n = 0;

    for (; n + VW <= depth && width == NR; n += VW)
        for (int64_t k = 0; k < NR; k += VW) {
            vec square[VW];
            for (int i = 0; i < VW; i++)
                square[i] = v_load(from + (k + i) * NR + n);
            v_transpose(square);
            for (int i = 0; i < VW; i++)
                v_store(to + (n + i) * NR + k, square[i]);
        }
    for (; n < depth; n++)
        for (int64_t k = 0; k < width; k++)
            to[n * NR + k] = from[k * NR + n];
}

static void turn_pairs(uint16_t *to, const uint16_t *from, int64_t depth, int64_t width)
{
    int64_t n = 0;

#if defined(KERNEL_AVX512)
    for (; n + VW <= depth && width == NR; n += VW) {
        vec square[VW]; /* of pairs: afterwards each vector has 32 columns of one row of W */
        for (int i = 0; i < VW; i++)
            square[i] = v_load((const REAL *)(const void *)(from + (i * NR + n) * 2));
        v_transpose(square);
        for (int i = 0; i < VW; i += 2) {
            vec left, right;
            v_zip_bf16(square[i], square[i + 1], &left, &right);
            v_store((REAL *)(void *)(to + (n + i) * NR), left);
            v_store((REAL *)(void *)(to + (n + i) * NR + 2 * VW), right);
        }
    }
#endif
    for (; n < depth; n++)
        for (int64_t k = 0; k < width; k++)
            to[(n / 2 * NR + k) * 2 + (n & 1)] = from[(k / 2 * NR + n) * 2 + (k & 1)];
}

/* Transposes every square of panels [first, first + count). */
static inline __attribute__((always_inline)) void transpose(void *out, const packed *w, int64_t first, int64_t count,
                                                            bool bf16)
{
    size_t size = bf16 ? bf16_panel_bytes(w->n) : real_panel_bytes(w->n),
           from_size = bf16 ? bf16_panel_bytes(w->k) : real_panel_bytes(w->k);

    for (int64_t q = 0; q < count; q++) {
        unsigned char *to = (unsigned char *)out + (size_t)q * size;
        int64_t k = (first + q) * NR, width = w->k - k < NR ? w->k - k : NR;
        if (width < NR || (w->n & 1))
            memset(to, 0, size);
        for (int64_t n = 0; n < w->n; n += NR) {
            const unsigned char *from = (const unsigned char *)w->data + (size_t)(n / NR) * from_size;
            int64_t depth = w->n - n < NR ? w->n - n : NR;
            if (bf16)
                turn_pairs((uint16_t *)(void *)to + n * NR, (const uint16_t *)(const void *)from + k * NR, depth,
                           width);
            else
                turn_reals((REAL *)(void *)to + n * NR, (const REAL *)(const void *)from + k * NR, depth, width);
        }
    }
}

static void transpose_real(void *out, const packed *w, int64_t first, int64_t count)
{
    transpose(out, w, first, count, false);
}

static void transpose_bf16(void *out, const packed *w, int64_t first, int64_t count)
{
    transpose(out, w, first, count, true);
}

/* out[2 * pairs][NR] = a panel of bf16 pairs as reals: where the processor has no product of bf16 pairs, the real one
 * runs on these. */
static void widen_panel(REAL *out, const uint16_t *b, int64_t pairs)
{
    for (int64_t p = 0; p < pairs; p++, b += NR * 2, out += 2 * NR) {
        UNROLL(4)
        for (int j = 0; j < NV; j++) {
#if defined(KERNEL_AVX512)
            __m512i both = _mm512_loadu_si512((const void *)(b + j * VW * 2));
            v_store(out + j * VW, _mm512_castsi512_ps(_mm512_slli_epi32(both, 16)));
            v_store(out + NR + j * VW,
                    _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32((int)0xffff0000u))));
#elif defined(KERNEL_AVX2)
            __m256i both = _mm256_loadu_si256((const __m256i *)(const void *)(b + j * VW * 2));
            v_store(out + j * VW, _mm256_castsi256_ps(_mm256_slli_epi32(both, 16)));
            v_store(out + NR + j * VW,
                    _mm256_castsi256_ps(_mm256_and_si256(both, _mm256_set1_epi32((int)0xffff0000u))));
#else
            out[j] = (REAL)bf16_to_f32(b[2 * j]);
            out[NR + j] = (REAL)bf16_to_f32(b[2 * j + 1]);
#endif
        }
    }
}

static const unsigned char *widened(const unsigned char *panel, int64_t k, void *room)
{
    widen_panel(room, (const uint16_t *)(const void *)panel, ceil_div(k, 2));
    return room;
}

/* ---- the left operand ---- */

static size_t real_row_bytes(int64_t k)
{
    return (size_t)k * sizeof(REAL);
}

static bool real_in_place(const gemm_args *args)
{
    return rows_lie(args) && args->x.type == REAL_TYPE;
}

static row_quant convert_real(void *out, const gemm_args *args, int64_t r, void *room)
{
    size_t size = real_row_bytes(args->x.cols);

    if (r >= args->x.rows)
        memset(out, 0, size);
    else if (has_prologue(&args->in))
        prologue_row(out, &args->x, r, &args->in);
    else
        memcpy(out, left_row(args, r, room), size);
    return (row_quant){0};
}

static size_t bf16_row_bytes(int64_t k)
{
    return (size_t)steps_of(k, true) * sizeof(step);
}

static bool bf16_in_place(const gemm_args *args)
{
    return HAVE_PAIRS && rows_lie(args) && args->x.type == DTYPE_BF16 && args->x.cols % 2 == 0 &&
           args->x.stride % 2 == 0 && (uintptr_t)args->x.data % sizeof(step) == 0;
}

#if defined(KERNEL_BF16)

static row_quant convert_bf16(void *out, const gemm_args *args, int64_t r, void *room)
{
    convert_row_bf16(out, (int64_t)(bf16_row_bytes(args->x.cols) / sizeof(uint16_t)), args, r, room);
    return (row_quant){0};
}

#else

static row_quant convert_bf16(void *out, const gemm_args *args, int64_t r, void *room)
{
    REAL *to = out;
    int64_t depth = args->x.cols, c = 0;
    const REAL *from;

    if (r >= args->x.rows) {
        memset(to, 0, bf16_row_bytes(depth));
        return (row_quant){0};
    }
    from = entered_row(args, r, room);
    for (; c + VW <= depth; c += VW)
        v_store(to + c, v_round_bf16(v_load(from + c)));
    for (; c < depth; c++)
        to[c] = (REAL)bf16_to_f32(f32_to_bf16((float)from[c]));
    if (depth & 1)
        to[depth] = 0;
    return (row_quant){0};
}

#endif

/* ---- the tile ---- */

static inline __attribute__((always_inline)) void run_tile(const gemm_args *args, const left_rows *left,
                                                           const unsigned char *panel, tile_place at, direct how,
                                                           int64_t steps, bool pairs)
{
    const step *rows = (const step *)(const void *)left->at, *b = (const step *)(const void *)panel;
    int64_t stride = (int64_t)(left->stride / sizeof(step));
    _Alignas(64) REAL tile[MR * NR];

    BASE(prefetch_tile)(args, NR, at);
    if (is_direct(args, at, how)) {
        vec sum[MR][NV];
        clear_sums(sum);
        if (at.rows <= MR_HALF)
            micro_sums(sum, rows, stride, 1, b, NR, steps, MR_HALF, NV, pairs);
        else
            micro_sums(sum, rows, stride, 1, b, NR, steps, MR, NV, pairs);
        finish_direct(args, sum, at, how);
        return;
    }
    if (args->y.cols - at.col <= VW)
        micro_rows(tile, NR, rows, stride, 1, b, NR, steps, at.rows, 1, pairs, false);
    else
        micro_rows(tile, NR, rows, stride, 1, b, NR, steps, at.rows, NV, pairs, false);
    BASE(finish_tile)(args, tile, NR, at);
}

static inline void real_tile(const gemm_args *args, const left_rows *rows, const unsigned char *panel, tile_place at,
                             direct how)
{
    run_tile(args, rows, panel, at, how, steps_of(args->x.cols, false), false);
}

static void real_block(const gemm_args *args, const left_block *left, const panel_range *panels, void *room)
{
    each_tile(args, left, panels, room, NULL, real_tile);
}

static inline void bf16_tile(const gemm_args *args, const left_rows *rows, const unsigned char *panel, tile_place at,
                             direct how)
{
    run_tile(args, rows, panel, at, how, steps_of(args->x.cols, true), HAVE_PAIRS);
}

static void bf16_block(const gemm_args *args, const left_block *left, const panel_range *panels, void *room)
{
    each_tile(args, left, panels, room, HAVE_PAIRS ? NULL : widened, bf16_tile);
}

/* ---- registers alone ---- */

static inline __attribute__((always_inline)) double multiply_registers(int64_t rounds, bool pairs)
{
    vec sum[MR], left = v_set1((REAL)1e-3), right = v_set1((REAL)1e-3);
    volatile REAL sink;

    UNROLL(12)
    for (int i = 0; i < MR; i++)
        sum[i] = v_set1((REAL)i); /* different, or the compiler would do it once */
    for (int64_t r = 0; r < rounds; r++)
        UNROLL(12)
    for (int i = 0; i < MR; i++)
        sum[i] = micro_multiply(left, right, sum[i], pairs);
    UNROLL(12)
    for (int i = 1; i < MR; i++)
        sum[0] = v_add(sum[0], sum[i]);
    sink = v_sum(sum[0]);
    (void)sink;
    return (double)rounds * MR * VW * 2 * (pairs ? 2 : 1);
}

static double real_peak(int64_t rounds)
{
    return multiply_registers(rounds, false);
}

static double bf16_peak(int64_t rounds)
{
    return multiply_registers(rounds, HAVE_PAIRS);
}

const micro_kernel KERNEL(micro_real) = {
    .mr = MR,
    .nr = NR,
    .half_rows = MR_HALF,
    .panel_bytes = real_panel_bytes,
    .pack = pack_real,
    .weight = real_weight,
    .transpose = transpose_real,
    .row_bytes = real_row_bytes,
    .in_place = real_in_place,
    .convert = convert_real,
    .block = real_block,
    .peak = real_peak,
};

const micro_kernel KERNEL(micro_bf16) = {
    .mr = MR,
    .nr = NR,
    .half_rows = MR_HALF,
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
