/* Weight gradients: dw[n, k] (+)= sum over rows of dy[r, n] x[r, k]. Rows are taken in chunks of fixed length; within a
 * chunk an element is one chain of fused multiply-adds, and chunks are added in order. Threads share the output, never
 * the sum. */
#include "kernels/isa/gemm_micro.h"

#define CHUNK 256

typedef struct outer_job {
    compute *c;
    const gemm_outer_args *args;
} outer_job;

/* out[rows][width] = columns [col, col + width) of rows [row, row + rows), zero beyond the matrix */
static void gather(REAL *out, const mat *m, int64_t row, int64_t rows, int64_t col, int64_t width)
{
    int64_t valid = m->cols - col < width ? m->cols - col : width;

    for (int64_t r = 0; r < rows; r++, out += width) {
        if (m->type == REAL_TYPE) {
            memcpy(out, (const REAL *)m->data + (row + r) * m->stride + col, (size_t)valid * sizeof *out);
        } else {
            const uint16_t *from = (const uint16_t *)m->data + (row + r) * m->stride + col;
            for (int64_t c = 0; c < valid; c++)
                out[c] = (REAL)bf16_to_f32(from[c]);
        }
        for (int64_t c = valid; c < width; c++)
            out[c] = 0;
    }
}

static void add_tile(const gemm_outer_args *args, const REAL *tile, int64_t n0, int64_t k0, bool add)
{
    int64_t n = args->dy.cols, k = args->x.cols;

    for (int64_t i = 0; i < MR && n0 + i < n; i++) {
        REAL *to = (REAL *)args->dw + (n0 + i) * k + k0;
        for (int64_t j = 0; j < NR && k0 + j < k; j++)
            to[j] = add ? to[j] + tile[i * NR + j] : tile[i * NR + j];
    }
}

static void outer_task(void *argument, int thread, int threads)
{
    const outer_job *job = argument;
    const gemm_outer_args *args = job->args;
    REAL *right = KERNEL_SCRATCH(job->c, thread), *left = right + CHUNK * NR;
    _Alignas(64) REAL tile[MR * NR];
    int64_t n_panels = (args->dy.cols + MR - 1) / MR, k_panels = (args->x.cols + NR - 1) / NR, n_begin = 0,
            n_end = n_panels, k_begin = 0, k_end = k_panels;
    int64_t most = (int64_t)((SCRATCH_SIZE / sizeof(REAL) - CHUNK * NR) / (CHUNK * MR));

    if (k_panels >= n_panels)
        pool_share(k_panels, thread, threads, &k_begin, &k_end);
    else
        pool_share(n_panels, thread, threads, &n_begin, &n_end);
    for (int64_t from = n_begin; from < n_end; from += most) {
        int64_t to = n_end - from < most ? n_end : from + most;
        for (int64_t row = 0; row < args->x.rows; row += CHUNK) {
            int64_t rows = args->x.rows - row < CHUNK ? args->x.rows - row : CHUNK;
            for (int64_t p = from; p < to && k_begin < k_end; p++)
                gather(left + (p - from) * CHUNK * MR, &args->dy, row, rows, p * MR, MR);
            for (int64_t q = k_begin; q < k_end; q++) {
                gather(right, &args->x, row, rows, q * NR, NR);
                for (int64_t p = from; p < to; p++) {
                    micro(tile, NR, left + (p - from) * CHUNK * MR, 1, MR, right, NR, rows, MR, NV, false, false);
                    add_tile(args, tile, p * MR, q * NR, args->accumulate || row > 0);
                }
            }
        }
    }
}

void KERNEL(gemm_outer)(compute *c, const gemm_outer_args *args)
{
    outer_job job = {c, args};

    if (args->x.rows == 0) {
        if (!args->accumulate)
            memset(args->dw, 0, (size_t)(args->dy.cols * args->x.cols) * sizeof(REAL));
        return;
    }
    compute_run(c, outer_task, &job);
}
