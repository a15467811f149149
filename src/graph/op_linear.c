/* linear: y = residual + mask * gamma * act(x W^T + b), one matrix product with its epilogue. Inputs: x, W, b, gamma,
 * residual. x may be pixels, whose patches are then multiplied: forward only. */
#include "graph/op_impl.h"

enum { IN_X, IN_W, IN_B, IN_GAMMA, IN_RESIDUAL };

/* Samples that the passes over the gradient of trained parts take at a time: what one of them writes the next one finds
 * near. */
static int64_t part_of(const kernels *k, int64_t batch, size_t bytes)
{
    int64_t fit = (int64_t)(k->limits.part_bytes / bytes);

    return fit < 1 ? 1 : fit < batch ? fit : batch;
}

/* Workspace: the mask; then, backward, one part of a matrix of the result's shape. */
static size_t workspace(const graph *g, const op_node *op, int64_t batch, bool backward)
{
    size_t size = op_factor_bytes(batch),
           bytes = (size_t)(g->values[op->out].rows * g->values[op->out].cols) * dtype_size(g->real);

    return backward ? size + (size_t)part_of(g->k, batch, bytes) * bytes : size;
}

static void *rows_of(const op_run *r, int input)
{
    /* biases follow the rows of W that are used */
    unsigned char *data = op_data(r, input);

    return data ? data + (size_t)r->op->a.first * dtype_size(r->k->real) : NULL;
}

static void forward(const op_run *r)
{
    const op_node *op = r->op;
    gemm_args args = {.y = op_out(r), .x = op_in(r, IN_X), .w = op_panels(r, IN_W)};
    patch_rows patches;

    if (op->a.patch) {
        patches = op_patches(r);
        args.pixels = &patches;
        args.x = (mat){.rows = args.y.rows, .cols = args.w->k};
    }
    args.out.bias = rows_of(r, IN_B);
    args.out.act = op->a.act;
    if (op->aux[0] != NO_VALUE)
        args.out.act_grad = op_aux(r, 0);
    args.out.col_scale = op_data(r, IN_GAMMA);
    args.out.row_scale = op_row_factors(r);
    args.out.row_group = args.y.rows / r->batch;
    if (op->in[IN_RESIDUAL] != NO_VALUE)
        args.out.residual = op_in(r, IN_RESIDUAL);
    r->k->gemm(r->c, &args);
}

static mat rows_from(mat m, int64_t first, int64_t count)
{
    if (m.data)
        m.data = (unsigned char *)m.data + (size_t)(first * m.stride) * dtype_size(m.type);
    m.rows = count;
    return m;
}

/* Gradients of what is trained, from samples [first, first + count): W, b and gamma. `dy` becomes the gradient in front
 * of the epilogue, and `in` nothing. */
static void backward_params(const op_run *r, mat *dy, mat x, gemm_prologue *in)
{
    const op_node *op = r->op;
    size_t skip = (size_t)op->a.first * dtype_size(r->k->real);
    mat room = {.data = r->workspace + op_factor_bytes(r->batch),
                .type = r->k->real,
                .rows = dy->rows,
                .cols = dy->cols,
                .stride = dy->cols};
    void *dw = op_param_grad(r, IN_W), *db = op_param_grad(r, IN_B), *dgamma = op_param_grad(r, IN_GAMMA);

    if (dgamma) { /* act(x W^T + b) again: dearer to keep than to compute */
        gemm_args again = {
            .y = room, .x = x, .w = op_panels(r, IN_W), .out = {.bias = rows_of(r, IN_B), .act = op->a.act}};
        r->k->gemm(r->c, &again);
        r->k->column_sum(r->c, &(column_sum_args){.out = dgamma,
                                                  .dy = *dy,
                                                  .other = room,
                                                  .row_scale = in->row_scale,
                                                  .row_group = in->row_group,
                                                  .accumulate = true});
    }
    if (!dw && !db)
        return;
    if (in->col_scale || in->row_scale || in->act_grad.data) {
        r->k->apply_prologue(r->c, &room, dy, in);
        *dy = room;
        *in = (gemm_prologue){0};
    }
    if (dw)
        r->k->gemm_outer(r->c,
                         &(gemm_outer_args){
                             .dw = (unsigned char *)dw + skip * (size_t)x.cols, .dy = *dy, .x = x, .accumulate = true});
    if (db)
        r->k->column_sum(
            r->c, &(column_sum_args){.out = (unsigned char *)db + skip, .dy = *dy, .row_group = 1, .accumulate = true});
}

static void backward_part(const op_run *r, const float *mask, int64_t first, int64_t count)
{
    const op_node *op = r->op;
    mat dy = op_out_grad(r), x = op_in(r, IN_X), dx = op_in_grad(r, IN_X);
    int64_t group = dy.rows / r->batch;
    gemm_prologue in = {.col_scale = op_data(r, IN_GAMMA), .row_scale = mask ? mask + first : NULL, .row_group = group};

    if (op->a.act != ACT_NONE)
        in.act_grad = rows_from(op_aux(r, 0), first * group, count * group);
    dy = rows_from(dy, first * group, count * group);
    x = rows_from(x, first * group, count * group);
    dx = rows_from(dx, first * group, count * group);
    backward_params(r, &dy, x, &in);
    if (dx.data) {
        const packed *w = op_gradient_panels(r, IN_W);
        gemm_args args = {.y = dx,
                          .x = dy,
                          .w = w,
                          .transposed = w->type != DTYPE_I8,
                          .in = in}; /* those of int8 are of the transpose */
        if (r->accumulate[IN_X])
            args.out.residual = dx;
        r->k->gemm(r->c, &args);
    }
}

static void backward(const op_run *r)
{
    bool trained = op_wants(r, IN_W) || op_wants(r, IN_B) || op_wants(r, IN_GAMMA);
    mat dy = op_out_grad(r);
    int64_t part =
        trained ? part_of(r->k, r->batch, (size_t)(dy.rows / r->batch * dy.cols) * dtype_size(r->k->real)) : r->batch;
    const float *mask = op_row_factors(r);

    for (int64_t first = 0; first < r->batch; first += part)
        backward_part(r, mask, first, r->batch - first < part ? r->batch - first : part);
    op_pass_grad(r, IN_RESIDUAL);
}

static unsigned backward_reads(const graph *g, const op_node *op)
{
    bool w = g->values[op->in[IN_W]].needs_grad,
         gamma = op->in[IN_GAMMA] != NO_VALUE && g->values[op->in[IN_GAMMA]].needs_grad;

    return w || gamma ? 1u << IN_X : 0;
}

static double flops(const graph *g, const op_node *op)
{
    return 2.0 * (double)g->values[op->out].rows * (double)g->values[op->out].cols * (double)op_depth(g, op);
}

const op_desc op_linear = {
    .name = "linear",
    .uses = USES(gemm),
    .backward_uses = USES(gemm) | USES(gemm_outer) | USES(apply_prologue) | USES(column_sum),
    .forward = forward,
    .backward = backward,
    .backward_reads = backward_reads,
    .workspace = workspace,
    .flops = flops,
    .random = op_drops,
    .inplace = IN_RESIDUAL,
    .passes = IN_RESIDUAL,
    .packed_inputs = 1u << IN_W,
    .keeps_for_backward = true,
    .bf16_inputs = 1u << IN_X,
    .bf16_result = true,
    .bf16_gradients = 1u << IN_X,
};
