/* Vectors of one lane: the portable set in f32, the reference set in f64. Included by vec.h alone. */
#ifndef INLAY_KERNELS_ISA_VEC_SCALAR_H
#define INLAY_KERNELS_ISA_VEC_SCALAR_H

#if defined(KERNEL_REFERENCE)
#define REAL double
#define REAL_TYPE DTYPE_F64
#else
#define REAL float
#define REAL_TYPE DTYPE_F32
#endif
#define VW 1
typedef REAL vec;
static inline vec v_zero(void)
{
    return 0;
}
static inline vec v_set1(REAL a)
{
    return a;
}
static inline vec v_load(const REAL *p)
{
    return *p;
}
static inline void v_store(REAL *p, vec a)
{
    *p = a;
}
static inline void v_transpose(vec r[VW])
{
    (void)r;
}
static inline vec v_load_part(const REAL *p, int n)
{
    return n > 0 ? *p : 0;
}
static inline void v_store_part(REAL *p, vec a, int n)
{
    if (n > 0)
        *p = a;
}
static inline vec v_add(vec a, vec b)
{
    return a + b;
}
static inline vec v_sub(vec a, vec b)
{
    return a - b;
}
static inline vec v_mul(vec a, vec b)
{
    return a * b;
}
static inline vec v_div(vec a, vec b)
{
    return a / b;
}
static inline vec v_max(vec a, vec b)
{
    return a > b ? a : b;
}
static inline vec v_min(vec a, vec b)
{
    return a < b ? a : b;
}
static inline vec v_select_negative(vec x, vec a, vec b)
{
    return x < 0 ? b : a;
}
static inline vec v_load_bf16(const uint16_t *p)
{
    return (vec)bf16_to_f32(*p);
}
static inline vec v_round_bf16(vec a)
{
    return (vec)bf16_to_f32(f32_to_bf16((float)a));
}
static inline void v_store_bf16(uint16_t *p, vec a)
{
    *p = f32_to_bf16((float)a);
}
#if defined(KERNEL_REFERENCE)
static inline vec v_fma(vec a, vec b, vec c)
{
    return fma(a, b, c);
}
static inline vec v_sqrt(vec a)
{
    return sqrt(a);
}
static inline vec v_abs(vec a)
{
    return fabs(a);
}
#else
static inline vec v_fma(vec a, vec b, vec c)
{
    return fmaf(a, b, c);
}
static inline vec v_sqrt(vec a)
{
    return sqrtf(a);
}
static inline vec v_abs(vec a)
{
    return fabsf(a);
}
static inline vec v_round(vec a)
{
    return nearbyintf(a);
}
typedef int v_index;
static inline v_index v_truncate(vec a)
{
    return isnan(a) ? 0 : (int)a;
}
static inline vec v_whole(v_index a)
{
    return (vec)a;
}
static inline vec v_lookup(const REAL table[16], v_index at)
{
    return table[at];
}
static inline vec v_pow2(vec a)
{
    int32_t bits;
    vec value;

    if (isnan(a))
        return a;
    bits = ((int32_t)a + 127) * (1 << 23);
    memcpy(&value, &bits, sizeof value);
    return value;
}
#endif

#endif
