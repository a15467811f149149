/* Packing weights: panels of NR columns, [ceil(n / NR)][k][NR] reals, or [ceil(n / NR)][ceil(k / 2)][NR][2] bf16 pairs,
 * padded with zeros. Those of int8 weights: gemm_int8.c. */
#include "kernels/isa/gemm_panels.h"

size_t KERNEL(pack_size)(int64_t n, int64_t k, dtype type)
{
    return (size_t)ceil_div(n, NR) * panel_bytes(k, type);
}

static REAL element(const void *w, dtype type, int64_t index)
{
    float f;
    double d;

    if (type == DTYPE_F64) { /* through a copy: files may be unaligned */
        memcpy(&d, (const unsigned char *)w + (size_t)index * sizeof d, sizeof d);
        return (REAL)d;
    }
    dtype_to_f32(&f, (const unsigned char *)w + (size_t)index * dtype_size(type), type, 1);
    return (REAL)f;
}

typedef struct pack_job {
    compute *c;
    packed *out;
    const void *w;
    dtype type;
} pack_job;

static void pack_panel(const pack_job *job, int64_t panel)
{
    const packed *out = job->out;
    unsigned char *to = (unsigned char *)out->data + (size_t)panel * panel_bytes(out->k, out->type);
    int64_t columns = out->n - panel * NR < NR ? out->n - panel * NR : NR;

    memset(to, 0, panel_bytes(out->k, out->type));
    for (int64_t j = 0; j < columns; j++) {
        int64_t row = (panel * NR + j) * out->k;
        for (int64_t p = 0; p < out->k; p++) {
            REAL x;
            if (job->type == DTYPE_F32) {
                float f;
                memcpy(&f, (const unsigned char *)job->w + (size_t)(row + p) * sizeof f,
                       sizeof f); /* files may be unaligned */
                x = (REAL)f;
            } else {
                x = element(job->w, job->type, row + p);
            }
            if (out->type == DTYPE_BF16)
                ((uint16_t *)(void *)to)[(p / 2 * NR + j) * 2 + (p & 1)] = f32_to_bf16((float)x);
            else
                ((REAL *)(void *)to)[p * NR + j] = x;
        }
    }
}

static void pack_task(void *argument, int thread, int threads)
{
    const pack_job *job = argument;
    int64_t begin, end;

    pool_share(ceil_div(job->out->n, NR), thread, threads, &begin, &end);
    for (int64_t panel = begin; panel < end; panel++)
        if (job->out->type == DTYPE_I8)
            KERNEL(pack_int8)(job->out, panel, job->w, job->type, KERNEL_SCRATCH(job->c, thread));
        else
            pack_panel(job, panel);
}

void KERNEL(pack)(compute *c, packed *out, const void *w, dtype w_type)
{
    pack_job job = {c, out, w, w_type};

    pool_run(c->threads, pack_task, &job);
}

/* Element (row n, column k) of packed weights. */
static inline REAL packed_at(const packed *w, int64_t n, int64_t k)
{
    const unsigned char *panel = (const unsigned char *)w->data + (size_t)(n / NR) * panel_bytes(w->k, w->type);

    if (w->type == DTYPE_I8) {
        const float *scales = (const float *)(const void *)(panel + int8_bytes(w->k));
        int64_t place = (k / 4 * NR + n % NR) * 4 + k % 4;
        return (REAL)scales[n % NR] * (REAL)((const int8_t *)panel)[place];
    }
    if (w->type == DTYPE_BF16)
        return (REAL)bf16_to_f32(((const uint16_t *)(const void *)panel)[(k / 2 * NR + n % NR) * 2 + (k & 1)]);
    return ((const REAL *)(const void *)panel)[k * NR + n % NR];
}

void KERNEL(unpack)(float *w, const packed *in)
{
    for (int64_t i = 0; i < in->n; i++)
        for (int64_t j = 0; j < in->k; j++)
            w[i * in->k + j] = (float)packed_at(in, i, j);
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

void KERNEL(transpose_panels)(void *out, const packed *w, int64_t first, int64_t count)
{
    size_t size = panel_bytes(w->n, w->type);

    for (int64_t q = 0; q < count; q++) {
        unsigned char *to = (unsigned char *)out + (size_t)q * size;
        int64_t k = (first + q) * NR, width = w->k - k < NR ? w->k - k : NR;
        if (width < NR || (w->n & 1))
            memset(to, 0, size);
        for (int64_t n = 0; n < w->n; n += NR) {
            const unsigned char *from = (const unsigned char *)w->data + (size_t)(n / NR) * panel_bytes(w->k, w->type);
            int64_t depth = w->n - n < NR ? w->n - n : NR;
            if (w->type == DTYPE_BF16)
                turn_pairs((uint16_t *)(void *)to + n * NR, (const uint16_t *)(const void *)from + k * NR, depth,
                           width);
            else
                turn_reals((REAL *)(void *)to + n * NR, (const REAL *)(const void *)from + k * NR, depth, width);
        }
    }
}
