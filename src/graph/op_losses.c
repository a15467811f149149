/* Losses, each a scalar over the whole batch, of which every slice adds its samples' part: cross_entropy,
 * row_cross_entropy, consistency, binary_cross_entropy, distance. And identity_distance, of a parameter. */
#include "graph/op_impl.h"

static unsigned reads_both(const graph *g, const op_node *op)
{
    (void)g;
    (void)op;
    return 3u;
}

/* ---- cross_entropy: mean over the batch, with label smoothing. Inputs: logits, labels. Kept: each sample's loss ----
 */
static cross_entropy_args cross_entropy_arguments(const op_run *r)
{
    return (cross_entropy_args){
        .logits = op_in(r, 0), .labels = op_in(r, 1).data, .smoothing = r->op->a.scale, .count = r->total};
}

static void cross_entropy_forward(const op_run *r)
{
    cross_entropy_args args = cross_entropy_arguments(r);

    args.loss = op_out(r).data;
    args.add_loss = r->first > 0;
    args.losses = op_aux(r, 0).data;
    r->k->cross_entropy(r->c, &args);
}

static void cross_entropy_backward(const op_run *r)
{
    cross_entropy_args args = cross_entropy_arguments(r);

    args.dlogits = op_in_grad(r, 0);
    args.accumulate = r->accumulate[0];
    args.dloss = op_out_grad(r).data;
    r->k->cross_entropy(r->c, &args);
}

const op_desc op_cross_entropy = {
    .name = "cross_entropy",
    .uses = USES(cross_entropy),
    .backward_uses = USES(cross_entropy),
    .forward = cross_entropy_forward,
    .backward = cross_entropy_backward,
    .backward_reads = reads_both,
    .inplace = -1,
    .passes = -1,
};

/* ---- row_cross_entropy: the sum over all rows of weight times cross-entropy. Inputs: logits, labels, weights. Kept:
 * each row's term ---- */
static cross_entropy_args row_cross_entropy_arguments(const op_run *r)
{
    return (cross_entropy_args){
        .logits = op_in(r, 0), .labels = op_in(r, 1).data, .weights = op_in(r, 2).data, .smoothing = r->op->a.scale};
}

static void row_cross_entropy_forward(const op_run *r)
{
    cross_entropy_args args = row_cross_entropy_arguments(r);

    args.loss = op_out(r).data;
    args.add_loss = r->first > 0;
    args.losses = op_aux(r, 0).data;
    r->k->row_cross_entropy(r->c, &args);
}

static void row_cross_entropy_backward(const op_run *r)
{
    cross_entropy_args args = row_cross_entropy_arguments(r);

    args.dlogits = op_in_grad(r, 0);
    args.accumulate = r->accumulate[0];
    args.dloss = op_out_grad(r).data;
    r->k->row_cross_entropy(r->c, &args);
}

static unsigned reads_three(const graph *g, const op_node *op)
{
    (void)g;
    (void)op;
    return 7u;
}

const op_desc op_row_cross_entropy = {
    .name = "row_cross_entropy",
    .uses = USES(row_cross_entropy),
    .backward_uses = USES(row_cross_entropy),
    .forward = row_cross_entropy_forward,
    .backward = row_cross_entropy_backward,
    .backward_reads = reads_three,
    .inplace = -1,
    .passes = -1,
};

/* ---- consistency: symmetric Kullback-Leibler divergence of two passes' predictions ---- */
static void consistency_forward(const op_run *r)
{
    r->k->consistency(
        r->c,
        &(consistency_args){
            .a = op_in(r, 0), .b = op_in(r, 1), .count = r->total, .loss = op_out(r).data, .add_loss = r->first > 0});
}

static void consistency_backward(const op_run *r)
{
    consistency_args args = {.a = op_in(r, 0),
                             .b = op_in(r, 1),
                             .count = r->total,
                             .accumulate_a = r->accumulate[0],
                             .accumulate_b = r->accumulate[1],
                             .dloss = op_out_grad(r).data};

    if (op_wants(r, 0))
        args.da = op_in_grad(r, 0);
    if (op_wants(r, 1))
        args.db = op_in_grad(r, 1);
    r->k->consistency(r->c, &args);
}

const op_desc op_consistency = {
    .name = "consistency",
    .uses = USES(consistency),
    .backward_uses = USES(consistency),
    .forward = consistency_forward,
    .backward = consistency_backward,
    .backward_reads = reads_both,
    .inplace = -1,
    .passes = -1,
};

/* ---- binary_cross_entropy: mean over rows and columns. Inputs: logits, targets. Kept: each row's share ---- */
static binary_cross_entropy_args binary_arguments(const op_run *r)
{
    mat logits = op_in(r, 0);
    int64_t rows = logits.rows / r->batch * r->total; /* of the batch */

    return (binary_cross_entropy_args){
        .logits = logits, .targets = op_in(r, 1), .scale = 1 / ((double)rows * (double)logits.cols)};
}

static void binary_cross_entropy_forward(const op_run *r)
{
    binary_cross_entropy_args args = binary_arguments(r);

    args.losses = op_aux(r, 0).data;
    args.loss = op_out(r).data;
    args.add_loss = r->first > 0;
    r->k->binary_cross_entropy(r->c, &args);
}

static void binary_cross_entropy_backward(const op_run *r)
{
    binary_cross_entropy_args args = binary_arguments(r);

    args.dloss = op_out_grad(r).data;
    args.accumulate_logits = r->accumulate[0];
    args.accumulate_targets = r->accumulate[1];
    if (op_wants(r, 0))
        args.dlogits = op_in_grad(r, 0);
    if (op_wants(r, 1))
        args.dtargets = op_in_grad(r, 1);
    r->k->binary_cross_entropy(r->c, &args);
}

const op_desc op_binary_cross_entropy = {
    .name = "binary_cross_entropy",
    .uses = USES(binary_cross_entropy),
    .backward_uses = USES(binary_cross_entropy),
    .forward = binary_cross_entropy_forward,
    .backward = binary_cross_entropy_backward,
    .backward_reads = reads_both,
    .inplace = -1,
    .passes = -1,
};

/* ---- distance: mean of the squared differences. Kept: each row's share ---- */
static distance_args distance_arguments(const op_run *r)
{
    mat a = op_in(r, 0);
    int64_t rows = a.rows / r->batch * r->total; /* of the whole batch, of which this may be a slice */

    return (distance_args){
        .a = a, .b = op_in(r, 1), .scale = 1 / ((double)rows * (double)a.cols), .losses = op_aux(r, 0).data};
}

static void distance_forward(const op_run *r)
{
    distance_args args = distance_arguments(r);

    args.loss = op_out(r).data;
    args.add_loss = r->first > 0;
    r->k->distance(r->c, &args);
}

static void distance_backward(const op_run *r)
{
    distance_args args = distance_arguments(r);

    args.losses = NULL;
    args.dloss = op_out_grad(r).data;
    args.accumulate_a = r->accumulate[0];
    args.accumulate_b = r->accumulate[1];
    if (op_wants(r, 0))
        args.da = op_in_grad(r, 0);
    if (op_wants(r, 1))
        args.db = op_in_grad(r, 1);
    r->k->distance(r->c, &args);
}

const op_desc op_distance = {
    .name = "distance",
    .uses = USES(distance),
    .backward_uses = USES(distance),
    .forward = distance_forward,
    .backward = distance_backward,
    .backward_reads = reads_both,
    .inplace = -1,
    .passes = -1,
    .bf16_inputs = 3u,
};

/* ---- identity_distance: squared differences of a parameter and the identity ---- */
static mat square(const op_run *r, void *data)
{
    int64_t side = op_param(r, 0)->dims[0];

    return (mat){.data = data, .type = r->k->real, .rows = side, .cols = side, .stride = side};
}

static size_t identity_workspace(const graph *g, const op_node *op, int64_t batch, bool backward)
{
    (void)batch;
    (void)backward;
    return (size_t)g->values[op->in[0]].cols * dtype_size(g->real);
}

static void identity_forward(const op_run *r)
{
    r->k->distance(
        r->c,
        &(distance_args){.a = square(r, op_data(r, 0)), .scale = 1, .loss = op_out(r).data, .losses = r->workspace});
}

static void identity_backward(const op_run *r)
{
    r->k->distance(r->c, &(distance_args){.a = square(r, op_data(r, 0)),
                                          .scale = 1,
                                          .dloss = op_out_grad(r).data,
                                          .da = square(r, op_param_grad(r, 0)),
                                          .accumulate_a = true});
}

const op_desc op_identity_distance = {
    .name = "identity_distance",
    .uses = USES(distance),
    .backward_uses = USES(distance),
    .forward = identity_forward,
    .backward = identity_backward,
    .workspace = identity_workspace,
    .inplace = -1,
    .passes = -1,
};
