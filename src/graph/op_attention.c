/* attention: softmax(scale * q k^T) v for each head. Inputs: q, k, v (often column ranges of one value). Kept: the
 * log-sum-exp of each row's scores. */
#include "graph/op_impl.h"

enum { IN_Q, IN_K, IN_V };

static attention_args arguments(const op_run *r)
{
    const op_attributes *a = &r->op->a;
    int64_t width = a->heads * a->head_dim;
    mat q = op_in(r, IN_Q), k = op_in(r, IN_K), v = op_in(r, IN_V);

    return (attention_args){.q = mat_columns(q, a->q_offset, width),
                            .k = mat_columns(k, a->k_offset, width),
                            .v = mat_columns(v, a->v_offset, width),
                            .samples = r->batch,
                            .q_rows = q.rows / r->batch,
                            .k_rows = k.rows / r->batch,
                            .heads = a->heads,
                            .head_dim = a->head_dim,
                            .scale = a->scale,
                            .rounded = a->rounded,
                            .lse = op_aux(r, 0).data};
}

static void forward(const op_run *r)
{
    attention_args args = arguments(r);

    args.out = op_out(r);
    r->k->attention(r->c, &args);
}

static void backward(const op_run *r)
{
    const op_attributes *a = &r->op->a;
    attention_args args = arguments(r);
    int64_t width = a->heads * a->head_dim;

    args.dout = op_out_grad(r);
    if (op_wants(r, IN_Q))
        args.dq = mat_columns(op_in_grad(r, IN_Q), a->q_offset, width);
    if (op_wants(r, IN_K))
        args.dk = mat_columns(op_in_grad(r, IN_K), a->k_offset, width);
    if (op_wants(r, IN_V))
        args.dv = mat_columns(op_in_grad(r, IN_V), a->v_offset, width);
    args.accumulate_q = r->accumulate[IN_Q];
    args.accumulate_k = r->accumulate[IN_K];
    args.accumulate_v = r->accumulate[IN_V];
    r->k->attention_backward(r->c, &args);
}

static unsigned backward_reads(const graph *g, const op_node *op)
{
    (void)g;
    (void)op;
    return 1u << IN_Q | 1u << IN_K | 1u << IN_V;
}

/* q, k and v may lie side by side in one value, or each in its own; what they leave out of it (say, keys that a
 * normalisation replaced) gets no gradient here. */
static bool partial(const graph *g, const op_node *op, int input)
{
    int64_t covered = 0;

    for (int j = IN_Q; j <= IN_V; j++)
        if (op->in[j] == op->in[input])
            covered += op->a.heads * op->a.head_dim;
    return covered < g->values[op->in[input]].cols;
}

static double flops(const graph *g, const op_node *op)
{
    return 4.0 * (double)g->values[op->in[IN_Q]].rows * (double)g->values[op->in[IN_K]].rows *
           (double)(op->a.heads * op->a.head_dim);
}

const op_desc op_attention = {
    .name = "attention",
    .uses = USES(attention),
    .backward_uses = USES(attention_backward),
    .forward = forward,
    .backward = backward,
    .backward_reads = backward_reads,
    .flops = flops,
    .partial = partial,
    .inplace = -1,
    .passes = -1,
    .bf16_inputs = 1u << IN_Q | 1u << IN_K | 1u << IN_V,
    .bf16_result = true,
    .bf16_gradients = 1u << IN_Q | 1u << IN_K | 1u << IN_V,
};
