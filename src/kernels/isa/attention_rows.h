/* What attention does with the rows of one head between its products: the same on every kind of product. */
#ifndef INLAY_KERNELS_ISA_ATTENTION_ROWS_H
#define INLAY_KERNELS_ISA_ATTENTION_ROWS_H

#include "kernels/isa/isa.h"

/* Rows [first, first + count) of one head's part of `target` (+)= rows, each times its factor. */
static inline void put(const mat *target, const REAL *rows, int64_t stride, int64_t first, int64_t count, int64_t head,
                       int64_t dim, const REAL *factors, int64_t next_factor, bool add)
{
    const mat to = *target;

    for (int64_t i = 0; to.data && i < count; i++) {
        const REAL *row = rows + i * stride; /* whole vectors long */
        vec factor = v_set1(factors[i * next_factor]);
        for (int64_t c = 0; c < dim; c += VW) {
            int n = dim - c < VW ? (int)(dim - c) : VW;
            vec v = v_mul(factor, v_load(row + c));
            if (add)
                v = v_add(v, v_load_mat(&to, first + i, head * dim + c, n));
            v_store_mat(&to, first + i, head * dim + c, v, n);
        }
    }
}

/* Rows [first, first + count) of one head's part of a matrix come nearer. */
static inline void prefetch_head(const mat *m, int64_t first, int64_t count, int64_t head, int64_t dim)
{
    prefetch_part(m, first, count, head * dim, dim, false);
}

/* Rows of the next head of all that will be read, a part of them while a part of this one is at work. */
static inline void prefetch_next(const attention_args *a, int64_t next, int64_t first, int64_t count)
{
    int64_t s = next / a->heads, h = next % a->heads;

    prefetch_head(&a->q, s * a->q_rows + first, count, h, a->head_dim);
    prefetch_head(&a->k, s * a->k_rows + first, count, h, a->head_dim);
    prefetch_head(&a->v, s * a->k_rows + first, count, h, a->head_dim);
    prefetch_head(&a->dout, s * a->q_rows + first, count, h, a->head_dim);
}

static inline REAL log2_of(REAL x)
{
    return sizeof x == sizeof(float) ? (REAL)log2f((float)x) : (REAL)log2((double)x);
}

/* scale * log2(e): exponentials are powers of two */
static inline REAL factor_of(const attention_args *a)
{
    return (REAL)(a->scale * 1.44269504088896340736);
}

/* Rows of probabilities, or of gradients of scores, as the left operand of a product: reals or bf16. */
typedef struct weight_rows {
    unsigned char *at;
    size_t stride; /* bytes from row to row */
    bool bf16;
} weight_rows;

/* One vector's values at column c of row i. */
static inline __attribute__((always_inline)) void put_weights(weight_rows w, int64_t i, int64_t c, vec v)
{
    unsigned char *row = w.at + (size_t)i * w.stride;

    if (w.bf16)
        v_store_bf16((uint16_t *)(void *)row + c, v);
    else
        v_store((REAL *)(void *)row + c, v);
}

/* Two vectors' values, the second behind the first, at column c of row i. */
static inline __attribute__((always_inline)) void put_weights_twice(weight_rows w, int64_t i, int64_t c, vec v,
                                                                    vec second)
{
    if (w.bf16) {
        v_store_bf16_twice((uint16_t *)(void *)(w.at + (size_t)i * w.stride) + c, v, second);
    } else {
        put_weights(w, i, c, v);
        put_weights(w, i, c + VW, second);
    }
}

/* Scores of `count` rows become weights 2^(factor * (score - largest)), columns from n up to a whole vector nearly 0.
 * inverse: of what each row adds up to, lse: the binary logarithm of the sum of 2^(factor * score). */
static inline __attribute__((always_inline)) void exponentials(REAL *scores, int64_t stride, weight_rows weights,
                                                               int64_t count, int64_t n, REAL scale, REAL *inverse,
                                                               REAL *lse)
{
    int64_t width = ceil_div(n, VW) * VW;
    vec factor = v_set1(scale);

    for (int64_t i = 0; i < count;
         i++) { /* a pass of its own: rows wait for one another no longer than for their own largest */
        REAL *s = scores + i * stride;
        vec largest, other;
        for (int64_t c = n; c < width; c++)
            s[c] = (REAL)-1e30;
        largest = other = v_load(s);
        for (int64_t c = VW; c < width; c += 2 * VW) {
            largest = v_max(largest, v_load(s + c));
            other = c + VW < width ? v_max(other, v_load(s + c + VW)) : other;
        }
        lse[i] = v_hmax(v_max(largest, other)) * scale; /* scale > 0 */
    }
    for (int64_t i = 0; i < count; i++) {
        const REAL *s = scores + i * stride;
        vec total = v_zero(), shift = v_set1(-lse[i]);
        int64_t c = 0;
        for (; c + 2 * VW <= width; c += 2 * VW) {
            vec e = v_exp2(v_fma(v_load(s + c), factor, shift)), e2 = v_exp2(v_fma(v_load(s + c + VW), factor, shift));
            put_weights_twice(weights, i, c, e, e2);
            total = v_add(v_add(total, e), e2);
        }
        if (c < width) {
            vec e = v_exp2(v_fma(v_load(s + c), factor, shift));
            put_weights(weights, i, c, e);
            total = v_add(total, e);
        }
        inverse[i] = v_sum(total);
    }
    for (int64_t i = 0; i < count; i++) {
        lse[i] += log2_of(inverse[i]);
        inverse[i] = 1 / inverse[i];
    }
}

/* A row of scores becomes probabilities, from its kept log-sum-exp, columns from n up to a whole vector nearly 0.
 * Returns the sum of each times the row's gradient dp. */
static inline REAL recall(REAL *p, const REAL *dp, int64_t n, REAL scale, REAL lse)
{
    int64_t width = ceil_div(n, VW) * VW;
    vec sum = v_zero(), shift = v_set1(-lse), factor = v_set1(scale);

    for (int64_t c = n; c < width; c++)
        p[c] = (REAL)-1e30;
    for (int64_t c = 0; c < width; c += VW) {
        vec e = v_exp2(v_fma(v_load(p + c), factor, shift));
        v_store(p + c, e);
        sum = v_fma(e, v_load(dp + c), sum);
    }
    return v_sum(sum);
}

#endif
