/* layernorm, over whole rows or over groups of columns (query and key normalisation). Inputs: x, weight, bias. Kept:
 * mean and 1/std. */
#include "graph/op_impl.h"

enum { IN_X, IN_W, IN_B };

static layernorm_args arguments(const op_run *r)
{
    const op_attributes *a = &r->op->a;

    return (layernorm_args){.x = mat_columns(op_in(r, IN_X), a->offset, a->groups * a->width),
                            .weight = op_data(r, IN_W),
                            .bias = op_data(r, IN_B),
                            .eps = a->eps,
                            .groups = a->groups,
                            .width = a->width,
                            .mean = op_aux(r, 0).data,
                            .rstd = op_aux(r, 1).data};
}

static void forward(const op_run *r)
{
    layernorm_args args = arguments(r);

    args.y = op_out(r);
    r->k->layernorm(r->c, &args);
}

static void backward(const op_run *r)
{
    layernorm_args args = arguments(r);

    args.dy = op_out_grad(r);
    args.need_dx = op_wants(r, IN_X);
    if (args.need_dx)
        args.dx = mat_columns(op_in_grad(r, IN_X), r->op->a.offset, r->op->a.groups * r->op->a.width);
    args.accumulate = r->accumulate[IN_X];
    args.dweight = op_param_grad(r, IN_W);
    args.dbias = op_param_grad(r, IN_B);
    args.accumulate_params = true;
    r->k->layernorm_backward(r->c, &args);
}

static unsigned backward_reads(const graph *g, const op_node *op)
{
    (void)g;
    (void)op;
    return 1u << IN_X;
}

static bool partial(const graph *g, const op_node *op, int input)
{
    return input == IN_X && op->a.groups * op->a.width < g->values[op->in[IN_X]].cols;
}

const op_desc op_layernorm = {
    .name = "layernorm",
    .uses = USES(layernorm),
    .backward_uses = USES(layernorm_backward),
    .forward = forward,
    .backward = backward,
    .backward_reads = backward_reads,
    .partial = partial,
    .inplace = -1,
    .passes = -1,
    .bf16_inputs = 1u << IN_X,
    .bf16_result = true,
};
