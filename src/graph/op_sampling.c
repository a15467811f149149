/* Rows made of other rows by their place: windows, gather, upsample. */
#include "graph/op_impl.h"

/* ---- windows: strided windows of a sequence, each a row ---- */
/* For y and x, or their gradients. */
static windows_args windows_arguments(const op_run *r, mat y, mat x)
{
    const op_attributes *a = &r->op->a;

    return (windows_args){.samples = r->batch,
                          .rows = x.rows / r->batch,
                          .count = y.rows / r->batch,
                          .width = a->width,
                          .stride = a->stride,
                          .padding = a->padding};
}

static void windows_forward(const op_run *r)
{
    mat y = op_out(r), x = op_in(r, 0);
    windows_args args = windows_arguments(r, y, x);

    args.y = y;
    args.x = x;
    r->k->windows(r->c, &args);
}

static void windows_backward(const op_run *r)
{
    mat dy = op_out_grad(r), dx = op_in_grad(r, 0);
    windows_args args = windows_arguments(r, dy, dx);

    args.dy = dy;
    args.dx = dx;
    args.accumulate = r->accumulate[0];
    r->k->windows_backward(r->c, &args);
}

const op_desc op_windows = {
    .name = "windows",
    .uses = USES(windows),
    .backward_uses = USES(windows_backward),
    .forward = windows_forward,
    .backward = windows_backward,
    .inplace = -1,
    .passes = -1,
    .bf16_inputs = 1u,
    .bf16_result = true,
};

/* ---- gather: rows of a table by their numbers. Inputs: table, ids ---- */
static gather_args gather_arguments(const op_run *r)
{
    return (gather_args){.count = op_param(r, 0)->dims[0], .ids = op_in(r, 1).data};
}

static void gather_forward(const op_run *r)
{
    gather_args args = gather_arguments(r);

    args.y = op_out(r);
    args.table = op_data(r, 0);
    r->k->gather(r->c, &args);
}

static void gather_backward(const op_run *r)
{
    gather_args args = gather_arguments(r);

    args.dy = op_out_grad(r);
    args.dtable = op_param_grad(r, 0);
    r->k->gather_backward(r->c, &args);
}

static unsigned gather_reads(const graph *g, const op_node *op)
{
    (void)g;
    (void)op;
    return 2u;
}

const op_desc op_gather = {
    .name = "gather",
    .uses = USES(gather),
    .backward_uses = USES(gather_backward),
    .forward = gather_forward,
    .backward = gather_backward,
    .backward_reads = gather_reads,
    .inplace = -1,
    .passes = -1,
    .bf16_result = true,
};

/* ---- upsample: a grid of points, interpolated to another one ---- */
static upsample_args upsample_arguments(const op_run *r)
{
    const op_attributes *a = &r->op->a;

    return (upsample_args){.samples = r->batch,
                           .height = a->height,
                           .width = a->width,
                           .out_height = a->out_height,
                           .out_width = a->out_width};
}

static void upsample_forward(const op_run *r)
{
    upsample_args args = upsample_arguments(r);

    args.y = op_out(r);
    args.x = op_in(r, 0);
    r->k->upsample(r->c, &args);
}

static void upsample_backward(const op_run *r)
{
    upsample_args args = upsample_arguments(r);

    args.dy = op_out_grad(r);
    args.dx = op_in_grad(r, 0);
    args.accumulate = r->accumulate[0];
    r->k->upsample_backward(r->c, &args);
}

const op_desc op_upsample = {
    .name = "upsample",
    .uses = USES(upsample),
    .backward_uses = USES(upsample_backward),
    .forward = upsample_forward,
    .backward = upsample_backward,
    .inplace = -1,
    .passes = -1,
    .bf16_inputs = 1u,
    .bf16_result = true,
};
