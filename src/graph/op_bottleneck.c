/* bottleneck: y = residual + mask * gamma * (act(x Wd^T + bd) Wu^T + bu), an adapter in one pass over its rows. Made by
 * graph_finish out of two products. Inputs: x, Wd, bd, Wu, bu, gamma, residual. Kept: act(x Wd^T + bd) and act'. */
#include "graph/op_impl.h"

enum { IN_X, IN_DOWN, IN_DOWN_BIAS, IN_UP, IN_UP_BIAS, IN_GAMMA, IN_RESIDUAL };

static int64_t rank_of(const graph *g, const op_node *op)
{
    return g->values[op->in[IN_DOWN]].rows;
}

/* The mask; then, backward, the sums of all chunks of rows. */
static size_t workspace(const graph *g, const op_node *op, int64_t batch, bool backward)
{
    int64_t r = rank_of(g, op), n = g->values[op->out].cols, k = g->values[op->in[IN_X]].cols,
            chunk = bottleneck_chunk(r);
    int64_t chunks = (batch * g->values[op->out].rows + chunk - 1) / chunk;
    bool trained = false;

    for (int i = IN_DOWN; i <= IN_GAMMA; i++)
        trained |= op->in[i] != NO_VALUE && g->values[op->in[i]].needs_grad;
    return op_factor_bytes(batch) +
           (backward && trained ? (size_t)(chunks * ((r + 1) * n + r * k + r)) * dtype_size(g->real) : 0);
}

static bottleneck_args arguments(const op_run *r)
{
    const op_node *op = r->op;
    bottleneck_args args = {.x = op_in(r, IN_X),
                            .down = op_panels(r, IN_DOWN),
                            .up = op_panels(r, IN_UP),
                            .down_bias = op_data(r, IN_DOWN_BIAS),
                            .up_bias = op_data(r, IN_UP_BIAS),
                            .act = op->a.act,
                            .col_scale = op_data(r, IN_GAMMA),
                            .row_scale = op_row_factors(r),
                            .hidden = op_aux(r, 0)};

    args.row_group = args.x.rows / r->batch;
    if (op->a.act != ACT_NONE)
        args.act_grad = op_aux(r, 1);
    return args;
}

static void forward(const op_run *r)
{
    bottleneck_args args = arguments(r);

    args.y = op_out(r);
    if (r->op->in[IN_RESIDUAL] != NO_VALUE)
        args.residual = op_in(r, IN_RESIDUAL);
    r->k->bottleneck(r->c, &args);
}

static void backward(const op_run *r)
{
    bottleneck_args args = arguments(r);
    bool joint = r->op->in[IN_X] == r->op->in[IN_RESIDUAL];

    args.dy = op_out_grad(r);
    args.dx = op_in_grad(r, IN_X);
    args.accumulate = r->accumulate[IN_X] || args.dx.data == args.dy.data;
    args.add_dy = joint && args.dx.data != args.dy.data;
    args.down_weight = op_data(r, IN_DOWN);
    args.up_weight = op_data(r, IN_UP);
    args.ddown = op_param_grad(r, IN_DOWN);
    args.ddown_bias = op_param_grad(r, IN_DOWN_BIAS);
    args.dup = op_param_grad(r, IN_UP);
    args.dup_bias = op_param_grad(r, IN_UP_BIAS);
    args.dcol_scale = op_param_grad(r, IN_GAMMA);
    args.partials = r->workspace + op_factor_bytes(r->batch);
    r->k->bottleneck_backward(r->c, &args);
    if (!joint && r->op->in[IN_RESIDUAL] != NO_VALUE)
        op_pass_grad(r, IN_RESIDUAL);
}

static unsigned backward_reads(const graph *g, const op_node *op)
{
    return g->values[op->in[IN_DOWN]].needs_grad ? 1u << IN_X : 0;
}

static double flops(const graph *g, const op_node *op)
{
    return 2.0 * (double)g->values[op->out].rows * (double)rank_of(g, op) *
           (double)(g->values[op->out].cols + g->values[op->in[IN_X]].cols);
}

const op_desc op_bottleneck = {
    .name = "bottleneck",
    .uses = USES(bottleneck),
    .backward_uses = USES(bottleneck_backward),
    .forward = forward,
    .backward = backward,
    .backward_reads = backward_reads,
    .workspace = workspace,
    .flops = flops,
    .random = op_drops,
    .inplace = IN_RESIDUAL,
    .passes = IN_RESIDUAL,
    .joint = true,
    .packed_inputs = 1u << IN_DOWN | 1u << IN_UP,
    .reads_packed = true,
    .keeps_for_backward = true,
};
