/* Operations that work element by element: activation, affine, add, add_table, multiply, dropout, drop_path. */
#include "graph/op_impl.h"

static unsigned reads_x(const graph *g, const op_node *op)
{
    (void)g;
    (void)op;
    return 1u;
}

/* ---- activation: y = act(x) ---- */
static void activation_forward(const op_run *r)
{
    r->k->map(r->c, &(map_args){.y = op_out(r), .x = op_in(r, 0), .act = r->op->a.act});
}

static void activation_backward(const op_run *r)
{
    r->k->map_backward(r->c, &(map_args){.x = op_in(r, 0),
                                         .act = r->op->a.act,
                                         .dy = op_out_grad(r),
                                         .dx = op_in_grad(r, 0),
                                         .accumulate = r->accumulate[0]});
}

const op_desc op_activation = {
    .name = "activation",
    .uses = USES(map),
    .backward_uses = USES(map_backward),
    .forward = activation_forward,
    .backward = activation_backward,
    .backward_reads = reads_x,
    .inplace = 0,
    .passes = -1,
    .bf16_inputs = 1u,
    .bf16_result = true,
};

/* ---- affine: y = x * gamma * factor + beta ---- */
/* A single learned factor is a channel-wise one over a matrix of one column. */
static mat affine_view(const op_run *r, mat m)
{
    value gamma = r->op->in[1];

    if (m.data && gamma != NO_VALUE && r->op->a.count == 1)
        return (mat){.data = m.data, .type = m.type, .rows = m.rows * m.cols, .cols = 1, .stride = 1};
    return m;
}

static void affine_forward(const op_run *r)
{
    r->k->affine(r->c, &(affine_args){.y = affine_view(r, op_out(r)),
                                      .x = affine_view(r, op_in(r, 0)),
                                      .gamma = op_data(r, 1),
                                      .beta = op_data(r, 2),
                                      .factor = r->op->a.scale});
}

static void affine_backward(const op_run *r)
{
    affine_args args = {.x = affine_view(r, op_in(r, 0)),
                        .gamma = op_data(r, 1),
                        .factor = r->op->a.scale,
                        .dy = affine_view(r, op_out_grad(r)),
                        .dx = affine_view(r, op_in_grad(r, 0)),
                        .accumulate = r->accumulate[0],
                        .need_dx = op_wants(r, 0),
                        .dgamma = op_param_grad(r, 1),
                        .dbeta = op_param_grad(r, 2),
                        .accumulate_params = true};

    r->k->affine_backward(r->c, &args);
}

static unsigned affine_reads(const graph *g, const op_node *op)
{
    return op->in[1] != NO_VALUE && g->values[op->in[1]].needs_grad ? 1u : 0;
}

const op_desc op_affine = {
    .name = "affine",
    .uses = USES(affine),
    .backward_uses = USES(affine_backward),
    .forward = affine_forward,
    .backward = affine_backward,
    .backward_reads = affine_reads,
    .inplace = 0,
    .passes = -1,
    .bf16_inputs = 1u,
    .bf16_result = true,
};

/* ---- add: y = a + factor * b, b perhaps at a range of a's columns ---- */
static void add_forward(const op_run *r)
{
    r->k->add(r->c, &(add_args){.y = op_out(r),
                                .a = op_in(r, 0),
                                .b = op_in(r, 1),
                                .offset = r->op->a.offset,
                                .factor = (double)(float)r->op->a.scale});
}

static void add_backward(const op_run *r)
{
    mat db = op_in_grad(r, 1);

    if (db.data) {
        mat dy = mat_columns(op_out_grad(r), r->op->a.offset, db.cols);
        const double factor = (double)(float)r->op->a.scale;
        if (r->accumulate[1])
            r->k->add(r->c, &(add_args){.y = db, .a = db, .b = dy, .factor = factor});
        else if (factor != 1)
            r->k->affine(r->c, &(affine_args){.y = db, .x = dy, .factor = factor});
        else
            r->k->add(r->c, &(add_args){.y = db, .a = dy});
    }
    op_pass_grad(r, 0);
}

const op_desc op_add = {
    .name = "add",
    .uses = USES(add),
    .backward_uses = USES(add) | USES(affine),
    .forward = add_forward,
    .backward = add_backward,
    .inplace = 0,
    .passes = 0,
    .bf16_inputs = 1u,
    .bf16_result = true,
};

/* ---- add_table: y = x + table, the same table for every sample ---- */
static void add_table_forward(const op_run *r)
{
    mat y = op_out(r);

    r->k->add(r->c, &(add_args){.y = y, .a = op_in(r, 0), .table = op_data(r, 1), .table_rows = y.rows / r->batch});
}

static void add_table_backward(const op_run *r)
{
    mat dy = op_out_grad(r);
    void *dtable = op_param_grad(r, 1);

    if (dtable)
        r->k->column_sum(
            r->c, &(column_sum_args){
                      .out = dtable, .dy = dy, .row_group = 1, .modulo = dy.rows / r->batch, .accumulate = true});
    op_pass_grad(r, 0);
}

const op_desc op_add_table = {
    .name = "add_table",
    .uses = USES(add),
    .backward_uses = USES(column_sum),
    .forward = add_table_forward,
    .backward = add_table_backward,
    .inplace = 0,
    .passes = 0,
};

/* ---- multiply: y = a * b ---- */
static void multiply_forward(const op_run *r)
{
    r->k->multiply(r->c, &(multiply_args){.y = op_out(r), .a = op_in(r, 0), .b = op_in(r, 1)});
}

static void multiply_backward(const op_run *r)
{
    for (int j = 0; j < 2; j++)
        if (op_wants(r, j))
            r->k->multiply(r->c, &(multiply_args){.y = op_in_grad(r, j),
                                                  .a = op_out_grad(r),
                                                  .b = op_in(r, 1 - j),
                                                  .accumulate = r->accumulate[j]});
}

/* The gradient of each factor reads the other one. */
static unsigned multiply_reads(const graph *g, const op_node *op)
{
    return (g->values[op->in[1]].needs_grad ? 1u : 0) | (g->values[op->in[0]].needs_grad ? 2u : 0);
}

const op_desc op_multiply = {
    .name = "multiply",
    .uses = USES(multiply),
    .backward_uses = USES(multiply),
    .forward = multiply_forward,
    .backward = multiply_backward,
    .backward_reads = multiply_reads,
    .inplace = 0,
    .passes = -1,
    .bf16_inputs = 3u,
    .bf16_result = true,
};

/* ---- dropout ---- */
static dropout_args dropout_arguments(const op_run *r)
{
    mat x = op_in(r, 0);

    return (dropout_args){
        .rate = r->op->a.rate,
        .first = r->first * (x.rows / r->batch) * x.cols,
        .stream = {.seed = r->step->seed, .purpose = RNG_DROPOUT, .stream = r->op->a.stream, .step = r->step->step}};
}

static void dropout_forward(const op_run *r)
{
    dropout_args args = dropout_arguments(r);

    args.y = op_out(r);
    args.x = op_in(r, 0);
    r->k->dropout(r->c, &args);
}

static void dropout_backward(const op_run *r)
{
    dropout_args args = dropout_arguments(r);

    args.y = op_in_grad(r, 0);
    args.x = op_out_grad(r);
    args.accumulate = r->accumulate[0];
    r->k->dropout(r->c, &args);
}

const op_desc op_dropout = {
    .name = "dropout",
    .uses = USES(dropout),
    .backward_uses = USES(dropout),
    .forward = dropout_forward,
    .backward = dropout_backward,
    .random = op_drops,
    .inplace = 0,
    .passes = -1,
    .bf16_inputs = 1u,
    .bf16_result = true,
};

/* ---- drop_path: whole samples are zeroed, the others scaled up ---- */
static size_t drop_path_workspace(const graph *g, const op_node *op, int64_t batch, bool backward)
{
    (void)g;
    (void)op;
    (void)backward;
    return (size_t)batch * sizeof(float);
}

static void drop_path_apply(const op_run *r, mat y, mat x)
{
    gemm_prologue in = {.row_scale = op_drop_path_mask(r), .row_group = x.rows / r->batch};

    r->k->apply_prologue(r->c, &y, &x, &in);
}

static void drop_path_forward(const op_run *r)
{
    drop_path_apply(r, op_out(r), op_in(r, 0));
}

static void drop_path_backward(const op_run *r)
{
    mat dx = op_in_grad(r, 0), dy = op_out_grad(r);

    if (r->accumulate[0])
        r->k->add(r->c, &(add_args){.y = dx,
                                    .a = dx,
                                    .b = dy,
                                    .factor = 1,
                                    .row_group = dy.rows / r->batch,
                                    .row_scale = op_drop_path_mask(r)});
    else
        drop_path_apply(r, dx, dy);
}

const op_desc op_drop_path = {
    .name = "drop_path",
    .uses = USES(apply_prologue),
    .backward_uses = USES(add) | USES(apply_prologue),
    .forward = drop_path_forward,
    .backward = drop_path_backward,
    .workspace = drop_path_workspace,
    .random = op_drops,
    .inplace = 0,
    .passes = -1,
};
