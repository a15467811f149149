/* cross_entropy: mean over the batch, with label smoothing. Inputs: logits, labels. Kept: each sample's loss. */
#include "graph/op.h"

static cross_entropy_args arguments(const op_run *r)
{
    return (cross_entropy_args){.logits = op_in(r, 0), .labels = op_in(r, 1).data, .smoothing = r->op->a.scale, .loss = op_out(r).data,
                                .losses = op_aux(r, 0).data};
}

static void forward(const op_run *r)
{
    cross_entropy_args args = arguments(r);

    r->k->cross_entropy(r->c, &args);
}

static void backward(const op_run *r)
{
    cross_entropy_args args = arguments(r);

    args.dlogits = op_in_grad(r, 0);
    r->k->cross_entropy(r->c, &args);
}

static unsigned backward_reads(const graph *g, const op_node *op)
{
    (void)g;
    (void)op;
    return 3u;
}

const op_desc op_cross_entropy = {
    .name = "cross_entropy",
    .forward = forward,
    .backward = backward,
    .backward_reads = backward_reads,
    .inplace = -1,
    .passes = -1,
};
