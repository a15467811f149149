/* What the processor can do at best: multiply-adds on registers, with nothing to load or store. */
#include "kernels/isa/gemm_micro.h"
#include "kernels/isa/quads.h"

typedef struct peak_job {
    dtype type;
    int64_t rounds;
} peak_job;

static inline __attribute__((always_inline)) void turn(int64_t rounds, bool pairs)
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
}

static inline __attribute__((always_inline)) void turn_quads(int64_t rounds)
{
    quads left = unsigned_quads(i_set1(0x01020304)), right = signed_quads(i_set1(0x01020304));
    ivec sum[MR];
    vec total = v_zero();
    volatile REAL sink;

    UNROLL(12)
    for (int i = 0; i < MR; i++)
        sum[i] = i_set1(i);
    for (int64_t r = 0; r < rounds; r++)
        UNROLL(12)
    for (int i = 0; i < MR; i++)
        sum[i] = i_dot(sum[i], left, right);
    UNROLL(12)
    for (int i = 0; i < MR; i++)
        total = v_add(total, i_real(sum[i]));
    sink = v_sum(total);
    (void)sink;
}

static void peak_task(void *argument, int thread, int threads)
{
    const peak_job *job = argument;

    (void)thread;
    (void)threads;
    if (job->type == DTYPE_I8)
        turn_quads(job->rounds);
    else if (job->type == DTYPE_BF16 && HAVE_PAIRS)
        turn(job->rounds, true);
    else
        turn(job->rounds, false);
}

double KERNEL(peak)(compute *c, dtype type, int64_t rounds)
{
    peak_job job = {type, rounds};
    int products = type == DTYPE_I8 ? 4 : type == DTYPE_BF16 && HAVE_PAIRS ? 2 : 1; /* of a lane */

    compute_run(c, peak_task, &job);
    return (double)rounds * MR * VW * 2 * products * pool_threads(c->threads);
}
