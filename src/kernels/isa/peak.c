/* What the processor can do at best: multiply-adds on registers, with nothing to load or store. */
#include "kernels/isa/gemm_kernel.h"

typedef struct peak_job {
    const micro_kernel *m;
    int64_t rounds;
    double operations; /* of the first thread; all do the same */
} peak_job;

static void peak_task(void *argument, int thread, int threads)
{
    peak_job *job = argument;
    double done = job->m->peak(job->rounds);

    (void)threads;
    if (thread == 0)
        job->operations = done;
}

double KERNEL(peak)(compute *c, dtype type, int64_t rounds)
{
    peak_job job = {.m = micro_kernel_for(c->micro_kernels, type), .rounds = rounds};

    compute_run(c, peak_task, &job);
    return job.operations * pool_threads(c->threads);
}
