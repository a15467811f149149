/* What the processor can do at best: multiply-adds on registers, with nothing to load or store. */
#include "kernels/isa/gemm_micro.h"

typedef struct peak_job {
    bool pairs;
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

static void peak_task(void *argument, int thread, int threads)
{
    const peak_job *job = argument;

    (void)thread;
    (void)threads;
    if (job->pairs && HAVE_PAIRS)
        turn(job->rounds, true);
    else
        turn(job->rounds, false);
}

double KERNEL(peak)(compute *c, dtype type, int64_t rounds)
{
    peak_job job = {type == DTYPE_BF16, rounds};

    pool_run(c->threads, peak_task, &job);
    return (double)rounds * MR * VW * 2 * (job.pairs && HAVE_PAIRS ? 2 : 1) * pool_threads(c->threads);
}
