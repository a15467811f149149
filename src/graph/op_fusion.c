/* What adapter fusion needs (arXiv 2005.00247): several adapters' results side by side for every row, and their
 * mixture. */
#include "graph/op_impl.h"

/* ---- stack: row r of x becomes row r * parts + n; the other rows come from `others`. Inputs: x, others ---- */
static void stack_forward(const op_run *r)
{
    mat y = op_out(r), x = op_in(r, 0), others = r->op->in[1] == NO_VALUE ? (mat){0} : op_in(r, 1);

    if (others.data && others.data != y.data)
        r->k->copy_rows(r->c, &(copy_rows_args){.y = y, .x = others, .samples = 1, .count = y.rows});
    r->k->copy_rows(r->c, &(copy_rows_args){.y = y,
                                            .x = x,
                                            .samples = x.rows,
                                            .y_group = r->op->a.count,
                                            .y_first = r->op->a.first,
                                            .x_group = 1,
                                            .count = 1});
}

static void stack_backward(const op_run *r)
{
    mat dy = op_out_grad(r);

    if (op_wants(r, 0)) {
        mat dx = op_in_grad(r, 0);
        r->k->copy_rows(r->c, &(copy_rows_args){.y = dx,
                                                .x = dy,
                                                .samples = dx.rows,
                                                .y_group = 1,
                                                .x_group = r->op->a.count,
                                                .x_first = r->op->a.first,
                                                .count = 1,
                                                .accumulate = r->accumulate[0]});
    }
    if (r->op->in[1] != NO_VALUE)
        op_pass_grad(r, 1);
}

const op_desc op_stack = {.name = "stack",
                          .uses = USES(copy_rows),
                          .backward_uses = USES(copy_rows),
                          .forward = stack_forward,
                          .backward = stack_backward,
                          .inplace = 1,
                          .passes = 1};

/* ---- mix: a softmax over the parts of each row. Inputs: q, k, v. Kept: the softmax ---- */
static mix_args mix_arguments(const op_run *r)
{
    return (mix_args){
        .q = op_in(r, 0), .k = op_in(r, 1), .v = op_in(r, 2), .weights = op_aux(r, 0), .parts = r->op->a.count};
}

static void mix_forward(const op_run *r)
{
    mix_args args = mix_arguments(r);

    args.y = op_out(r);
    r->k->mix(r->c, &args);
}

static void mix_backward(const op_run *r)
{
    mix_args args = mix_arguments(r);

    args.dy = op_out_grad(r);
    if (op_wants(r, 0))
        args.dq = op_in_grad(r, 0);
    if (op_wants(r, 1))
        args.dk = op_in_grad(r, 1);
    if (op_wants(r, 2))
        args.dv = op_in_grad(r, 2);
    args.accumulate_q = r->accumulate[0];
    args.accumulate_k = r->accumulate[1];
    args.accumulate_v = r->accumulate[2];
    r->k->mix_backward(r->c, &args);
}

static unsigned mix_reads(const graph *g, const op_node *op)
{
    (void)g;
    (void)op;
    return 7u;
}

static double mix_flops(const graph *g, const op_node *op)
{
    return 2.0 * (double)g->values[op->in[1]].rows * (double)(g->values[op->in[1]].cols + g->values[op->in[2]].cols);
}

const op_desc op_mix = {.name = "mix",
                        .uses = USES(mix),
                        .backward_uses = USES(mix_backward),
                        .forward = mix_forward,
                        .backward = mix_backward,
                        .backward_reads = mix_reads,
                        .flops = mix_flops,
                        .inplace = -1,
                        .passes = -1};
