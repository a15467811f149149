/* How a product's operands lie: weights packed in panels of as many columns as the micro-kernel's tiles have, one
 * behind the other; the stride of quantised rows. */
#include "kernels/isa/gemm_kernel.h"

/* The stride is no multiple of 4 KB: rows so far apart fall into the same sets of the first cache. */
int64_t KERNEL(quantised_stride)(int64_t cols)
{
    int64_t stride = ceil_div(cols + (int64_t)sizeof(row_quant), 64) * 64;

    return stride % 4096 ? stride : stride + 64;
}

size_t KERNEL(pack_size)(const kernels *set, int64_t n, int64_t k, dtype type)
{
    const micro_kernel *m = micro_kernel_for(set->micro_kernels, type);

    return (size_t)ceil_div(n, m->nr) * m->panel_bytes(k);
}

typedef struct pack_job {
    compute *c;
    packed *out;
    const void *w;
    dtype type;
} pack_job;

static void pack_task(void *argument, int thread, int threads)
{
    const pack_job *job = argument;
    const micro_kernel *m = micro_kernel_for(job->c->micro_kernels, job->out->type);
    int64_t begin, end;

    pool_share(ceil_div(job->out->n, m->nr), thread, threads, &begin, &end);
    for (int64_t panel = begin; panel < end; panel++)
        m->pack(job->out, panel, job->w, job->type, KERNEL_SCRATCH(job->c, thread));
}

void KERNEL(pack)(compute *c, packed *out, const void *w, dtype w_type, array_place from)
{
    pack_job job = {c, out, w, w_type};

    (void)from; /* both are one memory here */
    compute_run(c, pack_task, &job);
}

void KERNEL(unpack)(const compute *c, float *w, const packed *in)
{
    const micro_kernel *m = micro_kernel_for(c->micro_kernels, in->type);
    size_t size = m->panel_bytes(in->k);

    for (int64_t i = 0; i < in->n; i++)
        for (int64_t j = 0; j < in->k; j++)
            w[i * in->k + j] =
                (float)m->weight((const unsigned char *)in->data + (size_t)(i / m->nr) * size, in->k, i % m->nr, j);
}
