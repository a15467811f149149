/* One vector type for each kernel set. Kernels are written once against it and compiled once for every set: VW lanes of
 * REAL. The portable and the reference set have one lane; the reference set computes in double precision with libm's
 * functions. */
#ifndef INLAY_KERNELS_ISA_VEC_H
#define INLAY_KERNELS_ISA_VEC_H

#include <math.h>
#include <string.h>

#include "kernels/kernels.h"

#define KERNEL_JOIN_(name, set) name##_##set
#define KERNEL_JOIN(name, set) KERNEL_JOIN_(name, set)
#define KERNEL(name) KERNEL_JOIN(name, KERNEL_SET)
/* A function of the set that this one lies over, where it does; else of its own. */
#if defined(KERNEL_UNDER)
#define BASE(name) KERNEL_JOIN(name, KERNEL_UNDER)
#else
#define BASE(name) KERNEL(name)
#endif

/* In front of a loop whose body has to be written out n times, so that its arrays of vectors live in registers.
 * Emulated vectors have none. */
#if defined(KERNEL_SIMDE)
#define UNROLL(n)
#else
#define UNROLL_TEXT_(text) _Pragma(#text)
#define UNROLL(n) UNROLL_TEXT_(GCC unroll n)
#endif

#if defined(KERNEL_SIMDE)
#include "kernels/isa/emulate.h"
#elif defined(KERNEL_AVX2) || defined(KERNEL_AVX512)
#include <immintrin.h>
#endif

#if defined(KERNEL_AVX512)
#include "kernels/isa/vec_avx512.h"
#elif defined(KERNEL_AVX2)
#include "kernels/isa/vec_avx2.h"
#else
#include "kernels/isa/vec_scalar.h"
#endif

/* Stores two vectors as bf16, the second behind the first. */
static inline void v_store_bf16_twice(uint16_t *p, vec a, vec b)
{
#if defined(KERNEL_BF16) && !defined(KERNEL_SIMDE)
    _mm512_storeu_si512((void *)p, (__m512i)_mm512_cvtne2ps_pbh(b, a));
#else
    v_store_bf16(p, a);
    v_store_bf16(p + VW, b);
#endif
}

/* Stores two vectors as bf16 past the caches, where a whole line can go so: for what nobody reads soon. v_stream_end
 * comes before another thread may read it. */
static inline void v_stream_bf16_twice(uint16_t *p, vec a, vec b)
{
#if defined(KERNEL_BF16) && !defined(KERNEL_SIMDE)
    if ((uintptr_t)p % 64 == 0) {
        _mm512_stream_si512((void *)p, (__m512i)_mm512_cvtne2ps_pbh(b, a));
        return;
    }
#endif
    v_store_bf16_twice(p, a, b);
}

static inline void v_stream_end(void)
{
#if defined(KERNEL_BF16) && !defined(KERNEL_SIMDE)
    _mm_sfence();
#endif
}

static inline vec v_neg(vec a)
{
    return v_sub(v_zero(), a);
}

/* The sum and the greatest of the lanes: the upper half joins the lower one until one is left, always in this order. */
#if VW == 1

static inline REAL v_sum(vec a)
{
    return a;
}
static inline REAL v_hmax(vec a)
{
    return a;
}

#else

#if defined(KERNEL_AVX512)
static inline __m256 v_upper_(vec a)
{
    return _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a), 1));
}
static inline __m256 v_lower_(vec a)
{
    return _mm512_castps512_ps256(a);
}
static inline __m256 v_sum8_(vec a)
{
    return _mm256_add_ps(v_lower_(a), v_upper_(a));
}
static inline __m256 v_max8_(vec a)
{
    return _mm256_max_ps(v_lower_(a), v_upper_(a));
}
#else
static inline __m256 v_sum8_(vec a)
{
    return a;
}
static inline __m256 v_max8_(vec a)
{
    return a;
}
#endif

static inline REAL v_sum(vec a)
{
    __m256 eight = v_sum8_(a);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1)),
           two = _mm_add_ps(four, _mm_movehl_ps(four, four));

    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

static inline REAL v_hmax(vec a)
{
    __m256 eight = v_max8_(a);
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1)),
           two = _mm_max_ps(four, _mm_movehl_ps(four, four));

    return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

#endif

#if defined(KERNEL_REFERENCE)

static inline vec v_exp(vec x)
{
    return exp(x);
}
static inline vec v_exp2(vec x)
{
    return exp2(x);
}
static inline vec v_gelu(vec x)
{
    return 0.5 * x * erfc(-x * 0.70710678118654752440);
}
static inline vec v_gelu_and_grad(vec x, vec *act_grad)
{
    *act_grad = 0.5 * erfc(-x * 0.70710678118654752440) + x * exp(-0.5 * x * x) * 0.39894228040143267794;
    return v_gelu(x);
}
static inline vec v_gelu_bf16(vec x)
{
    return v_gelu(x);
}
static inline vec v_gelu_and_grad_bf16(vec x, vec *act_grad)
{
    return v_gelu_and_grad(x, act_grad);
}

#else

/* exp for f32: x = n ln2 + r, a polynomial of degree 6 in r; below -87.3 the result is 0 (no subnormals), above 88 it
 * stays finite. Relative error below 1e-7; NaN stays NaN. */
static inline vec v_exp(vec x)
{
    vec clamped = v_min(v_set1(88.0f), v_max(v_set1(-87.33f), x)), n, r,
        y; /* of NaN and a number v_max and v_min take the second */

    n = v_round(v_mul(clamped, v_set1(1.44269504f)));
    r = v_fma(n, v_set1(-0.693359375f), clamped);
    r = v_fma(n, v_set1(2.12194440e-4f), r);
    y = v_set1(1.9875691500e-4f);
    y = v_fma(y, r, v_set1(1.3981999507e-3f));
    y = v_fma(y, r, v_set1(8.3334519073e-3f));
    y = v_fma(y, r, v_set1(4.1665795894e-2f));
    y = v_fma(y, r, v_set1(1.6666665459e-1f));
    y = v_fma(y, r, v_set1(5.0000001201e-1f));
    y = v_add(v_fma(v_mul(y, r), r, r), v_set1(1.0f));
    y = v_mul(y, v_pow2(n));
    return v_select_negative(v_add(x, v_set1(87.33f)), y, v_zero());
}

/* 2^x for x < 127: a polynomial of degree 5, fitted by us, in what is left of x beside a whole number; below -100 the
 * result is 2^-100, nothing beside 1 and in products still a normal number. Relative error below 2e-7 for the x that it
 * is given; NaN stays NaN. */
static inline vec v_exp2(vec x)
{
    vec clamped = v_max(v_set1(-100.0f), x), n = v_round(clamped), f = v_sub(clamped, n),
        y; /* of NaN and a number v_max takes the second */

    y = v_fma(v_set1(0.00132746334f), f, v_set1(0.00967196168f));
    y = v_fma(y, f, v_set1(0.0555067837f));
    y = v_fma(y, f, v_set1(0.240222353f));
    y = v_fma(y, f, v_set1(0.693147062f));
    y = v_fma(y, f, v_set1(1.0f));
    return v_mul(y, v_pow2(n));
}

/* gelu(x) = max(x, 0) - H(|x|) with H(z) = z Phi(-z): on each of 16 equal parts of [0, 6] a polynomial of degree 6 in
 * the place within the part, fitted by us to H and its act_grad; gelu_table[i] has the coefficients of power i.
 * Measured in f32: |gelu - exact| < 1.1e-7 |x|, |gelu' - exact| < 1e-7. */
static const float gelu_table[7][16] = {
    {0.0f, 0.132686332f, 0.169970512f, 0.146581337f, 0.100210801f, 0.056993179f, 0.0275050644f, 0.0113726771f,
     0.00404969417f, 0.00124563975f, 0.000331564806f, 7.64640426e-05f, 1.528953e-05f, 2.65220638e-06f, 3.99260529e-07f,
     5.21741406e-08f},
    {0.1875f, 0.080394201f, 0.00029034671f, -0.0405250117f, -0.0478009395f, -0.0369667113f, -0.0221961532f,
     -0.0109006995f, -0.00447961874f, -0.00155894947f, -0.000462681142f, -0.000117634612f, -2.56983694e-05f,
     -4.83416579e-06f, -7.84266661e-07f, -1.09861645e-07f},
    {-0.0561011247f, -0.0486148894f, -0.0304369833f, -0.0109405005f, 0.00227644807f, 0.00733023789f, 0.00683456287f,
     0.00437554345f, 0.00218133908f, 0.000885523739f, 0.000299050647f, 8.50298675e-05f, 2.05082379e-05f,
     4.21685127e-06f, 7.41795134e-07f, 1.11928557e-07f},
    {-1.20952632e-06f, 0.00472672656f, 0.0068216729f, 0.00572909275f, 0.00298984442f, 0.000550101162f, -0.000666872482f,
     -0.000848973927f, -0.000584570284f, -0.000294104684f, -0.000116928299f, -3.79782832e-05f, -1.02564572e-05f,
     -2.32764182e-06f, -4.47012127e-07f, -7.29994483e-08f},
    {0.00131881167f, 0.000940429978f, 0.000100176054f, -0.000570581993f, -0.000719042495f, -0.000470917497f,
     -0.000152043649f, 3.52607349e-05f, 8.12781436e-05f, 5.99922205e-05f, 2.99897456e-05f, 1.14895793e-05f,
     3.53407654e-06f, 8.93315473e-07f, 1.88112764e-07f, 3.32927641e-08f},
    {-5.67119969e-06f, -0.000157764604f, -0.000179239942f, -8.12827493e-05f, 2.84233429e-05f, 7.15912902e-05f,
     5.36024891e-05f, 1.94479981e-05f, -1.48285028e-06f, -6.78592187e-06f, -4.96140137e-06f, -2.33948549e-06f,
     -8.29708483e-07f, -2.3370869e-07f, -5.36987308e-08f, -1.0221739e-08f},
    {-2.44672592e-05f, -4.52645418e-06f, 1.48458057e-05f, 1.77557904e-05f, 7.64269134e-06f, -2.41765702e-06f,
     -5.48175331e-06f, -3.56127634e-06f, -9.99532631e-07f, 2.49218573e-07f, 4.29688242e-07f, 2.58419021e-07f,
     1.04895399e-07f, 3.24033209e-08f, 7.98313238e-09f, 1.60688174e-09f},
};

/* Coefficients for H of degree 4 on 16 parts of [0, 5], for results that are rounded to bf16. Measured: |gelu - exact|
 * < 1e-6 |x|, |gelu' - exact| < 9e-6. */
static const float gelu_table_bf16[5][16] = {
    {0.0f, 0.117915921f, 0.166241407f, 0.163359776f, 0.132062197f, 0.0923200846f, 0.056992583f, 0.0313967541f,
     0.0155239319f, 0.00691282656f, 0.00277812639f, 0.00100900605f, 0.000331499061f, 9.8580349e-05f, 2.65464987e-05f,
     6.47560591e-06f},
    {0.156250268f, 0.0808156356f, 0.0190291218f, -0.0208598133f, -0.0383316576f, -0.0390060097f, -0.0308066253f,
     -0.0204397906f, -0.011753764f, -0.00594906369f, -0.00267351419f, -0.00107257254f, -0.000385506573f,
     -0.00012444421f, -3.6143676e-05f, -9.45783086e-06f},
    {-0.0389661752f, -0.0353305452f, -0.0258295536f, -0.0140969064f, -0.00390383624f, 0.00255012023f, 0.00510708429f,
     0.00497017428f, 0.00364255137f, 0.00220602308f, 0.00114459917f, 0.00051805377f, 0.000206671262f, 7.31508044e-05f,
     2.3073866e-05f, 6.50639367e-06f},
    {2.79595752e-05f, 0.00248540984f, 0.00390609028f, 0.00391184399f, 0.00284087262f, 0.00141517911f, 0.000262313726f,
     -0.000358894584f, -0.000519655237f, -0.000429791864f, -0.000272533187f, -0.000143066994f, -6.42159284e-05f,
     -2.50662524e-05f, -8.59654938e-06f, -2.60650472e-06f},
    {0.000603487424f, 0.000354570831f, 1.3256401e-05f, -0.000253047678f, -0.00034709007f, -0.000286557653f,
     -0.000158648167f, -4.45125988e-05f, 1.95718258e-05f, 3.81914724e-05f, 3.23347558e-05f, 2.00477625e-05f,
     1.0099342e-05f, 4.30388809e-06f, 1.58406544e-06f, 5.08942321e-07f},
};

/* gelu(x), and gelu'(x) in *act_grad unless it is NULL. Table, its degree and where it ends are constants where it is
 * called. */
static inline __attribute__((always_inline)) vec v_gelu_by_(const float table[][16], int degree, REAL top, vec x,
                                                            vec *act_grad)
{
    /* of NaN and a number v_min takes the second */
    vec place = v_min(v_set1(15.999999f), v_mul(v_abs(x), v_set1(16 / top))), f, h, rise;
    v_index part = v_truncate(place);

    f = v_sub(place, v_whole(part));
    h = rise = v_lookup(table[degree], part);
    h = v_fma(h, f, v_lookup(table[degree - 1], part));
    UNROLL(6)
    for (int i = degree - 2; i >= 0; i--) {
        rise = v_fma(rise, f, h);
        h = v_fma(h, f, v_lookup(table[i], part));
    }
    rise = v_mul(rise, v_set1(16 / top));
    if (act_grad)
        *act_grad = v_select_negative(x, v_sub(v_set1(1.0f), rise), rise);
    return v_sub(v_max(v_zero(), x), h);
}

static inline vec v_gelu(vec x)
{
    return v_gelu_by_(gelu_table, 6, 6, x, NULL);
}
static inline vec v_gelu_and_grad(vec x, vec *act_grad)
{
    return v_gelu_by_(gelu_table, 6, 6, x, act_grad);
}
static inline vec v_gelu_bf16(vec x)
{
    return v_gelu_by_(gelu_table_bf16, 4, 5, x, NULL);
}
static inline vec v_gelu_and_grad_bf16(vec x, vec *act_grad)
{
    return v_gelu_by_(gelu_table_bf16, 4, 5, x, act_grad);
}

#endif

static inline vec v_sigmoid(vec x)
{
    vec e = v_exp(v_neg(v_abs(x))), one = v_set1(1), small = v_div(e, v_add(one, e));

    return v_select_negative(x, v_div(one, v_add(one, e)), small);
}

#if defined(KERNEL_REFERENCE)

static inline vec v_tanh(vec x)
{
    return tanh(x);
}

#else

/* Near 0, where the difference would cancel, the Taylor series up to x^9. */
static inline vec v_tanh(vec x)
{
    vec far = v_sub(v_mul(v_set1(2), v_sigmoid(v_mul(v_set1(2), x))), v_set1(1)), square = v_mul(x, x), near;

    near = v_fma(v_set1(2.1869488e-2f), square, v_set1(-5.3968254e-2f));
    near = v_fma(near, square, v_set1(1.3333333e-1f));
    near = v_fma(near, square, v_set1(-3.3333333e-1f));
    near = v_fma(v_mul(near, square), x, x);
    return v_select_negative(v_sub(v_abs(x), v_set1(0.25f)), far, near);
}

#endif

static inline vec v_gelu_tanh_inner_(vec x)
{
    return v_mul(v_set1((REAL)0.79788456080286535588), v_fma(v_mul(v_mul(x, x), x), v_set1((REAL)0.044715), x));
}

static inline vec v_activate(activation act, vec x)
{
    switch (act) {
    case ACT_RELU:
        return v_max(v_zero(), x);
    case ACT_GELU:
        return v_gelu(x);
    case ACT_GELU_TANH:
        return v_mul(v_mul(v_set1((REAL)0.5), x), v_add(v_set1(1), v_tanh(v_gelu_tanh_inner_(x))));
    case ACT_SILU:
        return v_mul(x, v_sigmoid(x));
    case ACT_TANH:
        return v_tanh(x);
    case ACT_SIGMOID:
        return v_sigmoid(x);
    case ACT_QUICK_GELU:
        return v_mul(x, v_sigmoid(v_mul(v_set1((REAL)1.702), x)));
    default:
        return x;
    }
}

/* d act(x) / dx */
static inline vec v_activate_grad(activation act, vec x)
{
    vec one = v_set1(1), s;

    switch (act) {
    case ACT_RELU:
        return v_select_negative(v_neg(x), v_zero(), one);
    case ACT_GELU:
        v_gelu_and_grad(x, &s);
        return s;
    case ACT_GELU_TANH: {
        vec t = v_tanh(v_gelu_tanh_inner_(x)), half = v_set1((REAL)0.5);
        vec inner = v_mul(v_set1((REAL)0.79788456080286535588),
                          v_fma(v_mul(v_mul(x, x), v_set1(3)), v_set1((REAL)0.044715), one));
        return v_add(v_mul(half, v_add(one, t)), v_mul(v_mul(half, x), v_mul(v_sub(one, v_mul(t, t)), inner)));
    }
    case ACT_SILU:
        s = v_sigmoid(x);
        return v_mul(s, v_add(one, v_mul(x, v_sub(one, s))));
    case ACT_TANH:
        s = v_tanh(x);
        return v_sub(one, v_mul(s, s));
    case ACT_SIGMOID:
        s = v_sigmoid(x);
        return v_mul(s, v_sub(one, s));
    case ACT_QUICK_GELU:
        s = v_sigmoid(v_mul(v_set1((REAL)1.702), x));
        return v_mul(s, v_add(one, v_mul(v_mul(v_set1((REAL)1.702), x), v_sub(one, s))));
    default:
        return one;
    }
}

/* act(x), and its derivative in *act_grad. */
static inline vec v_activate_and_grad(activation act, vec x, vec *act_grad)
{
    if (act == ACT_GELU)
        return v_gelu_and_grad(x, act_grad);
    *act_grad = v_activate_grad(act, x);
    return v_activate(act, x);
}

/* ---- rows of matrices that may be stored as bf16 ---- */

/* Where row r of a matrix lies. */
static inline int64_t row_place(const mat *m, int64_t r)
{
    return m->samples ? m->samples[r / m->group] * m->group + r % m->group : r;
}

/* Rows of a matrix one behind the other: the place of each, and which sample it belongs to, without a division for
 * each. */
typedef struct row_walk {
    const int32_t *samples;
    int64_t group, sample, rest; /* group 0: there are no samples */
} row_walk;

static inline row_walk walk_begin(const int32_t *samples, int64_t group, int64_t r)
{
    return group ? (row_walk){samples, group, r / group, r % group} : (row_walk){NULL, 0, 0, r};
}

static inline row_walk walk_rows(const mat *m, int64_t r)
{
    return walk_begin(m->samples, m->samples ? m->group : 0, r);
}

static inline int64_t walk_place(const row_walk *w)
{
    return (w->samples ? w->samples[w->sample] : w->sample) * w->group + w->rest;
}

static inline void walk_next(row_walk *w)
{
    if (++w->rest == w->group) {
        w->rest = 0;
        w->sample++;
    }
}

/* Rows [first, first + count) and columns [col, col + cols) of a matrix, as far as there are any, come nearer: to be
 * read, or to be written. */
static inline __attribute__((always_inline)) void prefetch_part(const mat *m, int64_t first, int64_t count, int64_t col,
                                                                int64_t cols, bool write)
{
    size_t size = dtype_size(m->type), width = (size_t)(m->cols - col < cols ? m->cols - col : cols) * size;
    row_walk walk = walk_rows(m, first);

    if (first + count > m->rows)
        count = m->rows - first;
    for (int64_t i = 0; m->data && i < count; i++, walk_next(&walk)) {
        const unsigned char *row =
            (const unsigned char *)m->data + (size_t)(walk_place(&walk) * m->stride + col) * size;
        for (size_t line = 0; line < width; line += 64) {
            if (write)
                __builtin_prefetch(row + line, 1);
            else
                __builtin_prefetch(row + line, 0);
        }
    }
}

/* A row's values: straight from the matrix when it is real, else converted into `room` (cols values). */
static inline const REAL *row_real(const mat *m, int64_t r, REAL *room)
{
    const uint16_t *from;
    int64_t c = 0;

    r = row_place(m, r);
    if (m->type == REAL_TYPE)
        return (const REAL *)m->data + r * m->stride;
#if defined(KERNEL_REFERENCE)
    if (m->type == DTYPE_F32) { /* targets, which are inputs */
        for (; c < m->cols; c++)
            room[c] = (REAL)((const float *)m->data)[r * m->stride + c];
        return room;
    }
#endif
    from = (const uint16_t *)m->data + r * m->stride;
    for (; c + VW <= m->cols; c += VW)
        v_store(room + c, v_load_bf16(from + c));
    for (; c < m->cols; c++)
        room[c] = (REAL)bf16_to_f32(from[c]);
    return room;
}

/* Where to write a row: the matrix itself when it is real, else `room`; row_store brings it home. */
static inline REAL *row_begin(const mat *m, int64_t r, REAL *room)
{
    return m->type == REAL_TYPE ? (REAL *)m->data + row_place(m, r) * m->stride : room;
}

static inline void row_store(const mat *m, int64_t r, const REAL *values)
{
    uint16_t *to;
    int64_t c = 0;

    r = row_place(m, r);
    if (m->type == REAL_TYPE) {
        REAL *row = (REAL *)m->data + r * m->stride;
        if (row != values)
            memcpy(row, values, (size_t)m->cols * sizeof *row);
        return;
    }
    to = (uint16_t *)m->data + r * m->stride;
    for (; c + VW <= m->cols; c += VW)
        v_store_bf16(to + c, v_load(values + c));
    for (; c < m->cols; c++)
        to[c] = f32_to_bf16((float)values[c]);
}

static inline __attribute__((always_inline)) vec v_load_n(const REAL *p, int n)
{
    return n == VW ? v_load(p) : v_load_part(p, n);
}

static inline __attribute__((always_inline)) void v_store_n(REAL *p, vec v, int n)
{
    if (n == VW)
        v_store(p, v);
    else
        v_store_part(p, v, n);
}

/* n values, at most VW, of row r from column c on. The row is one of those that lie at m->data. */
static inline __attribute__((always_inline)) vec v_load_mat(const mat *m, int64_t r, int64_t c, int n)
{
    uint16_t room[VW] = {0};

    if (m->type == REAL_TYPE)
        return v_load_n((const REAL *)m->data + r * m->stride + c, n);
    if (n == VW)
        return v_load_bf16((const uint16_t *)m->data + r * m->stride + c);
    for (int i = 0; i < n; i++)
        room[i] = ((const uint16_t *)m->data + r * m->stride + c)[i];
    return v_load_bf16(room);
}

static inline __attribute__((always_inline)) void v_store_mat(const mat *m, int64_t r, int64_t c, vec v, int n)
{
    if (m->type == REAL_TYPE) {
        v_store_n((REAL *)m->data + r * m->stride + c, v, n);
    } else {
        uint16_t *to = (uint16_t *)m->data + r * m->stride + c, room[VW];
        if (n == VW) {
            v_store_bf16(to, v);
        } else {
            v_store_bf16(room, v);
            for (int i = 0; i < n; i++)
                to[i] = room[i];
        }
    }
}

/* Scratch of a thread, and its share of `count` items. */
#define KERNEL_SCRATCH(c, thread) ((c)->scratch[thread])

#endif
