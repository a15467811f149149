/* Operations on the rows (tokens) of each sample: broadcast, insert, replace, select, mean; and the rows that an image
 * becomes. */
#include "graph/op_impl.h"

static int64_t group_of(const op_run *r, mat m)
{
    return m.rows / r->batch;
}

static void copy(const op_run *r, mat y, int64_t y_first, mat x, int64_t x_first, int64_t count, bool accumulate)
{
    copy_rows_args args = {.y = y,
                           .x = x,
                           .samples = r->batch,
                           .y_group = group_of(r, y),
                           .y_first = y_first,
                           .x_group = group_of(r, x),
                           .x_first = x_first,
                           .count = count,
                           .accumulate = accumulate};

    if (count > 0)
        r->k->copy_rows(r->c, &args);
}

/* ---- broadcast: the same rows for every sample ---- */
static void broadcast_forward(const op_run *r)
{
    mat y = op_out(r),
        x = {.data = op_data(r, 0), .type = r->k->real, .rows = group_of(r, y), .cols = y.cols, .stride = y.cols};

    r->k->copy_rows(r->c, &(copy_rows_args){.y = y, .x = x, .samples = r->batch, .y_group = x.rows, .count = x.rows});
}

static void broadcast_backward(const op_run *r)
{
    mat dy = op_out_grad(r);

    r->k->column_sum(
        r->c, &(column_sum_args){
                  .out = op_param_grad(r, 0), .dy = dy, .row_group = 1, .modulo = group_of(r, dy), .accumulate = true});
}

const op_desc op_broadcast = {.name = "broadcast",
                              .uses = USES(copy_rows),
                              .backward_uses = USES(column_sum),
                              .forward = broadcast_forward,
                              .backward = broadcast_backward,
                              .inplace = -1,
                              .passes = -1};

/* ---- insert_tokens: y = x with rows put in front of row `first` ---- */
static void insert_forward(const op_run *r)
{
    mat y = op_out(r), x = op_in(r, 0), rows = op_in(r, 1);
    int64_t at = r->op->a.first, more = group_of(r, rows), all = group_of(r, x);

    copy(r, y, 0, x, 0, at, false);
    copy(r, y, at, rows, 0, more, false);
    copy(r, y, at + more, x, at, all - at, false);
}

static void insert_backward(const op_run *r)
{
    mat dy = op_out_grad(r), dx = op_in_grad(r, 0), drows = op_in_grad(r, 1);
    int64_t at = r->op->a.first, all = group_of(r, dy), more = group_of(r, op_in(r, 1));

    if (drows.data)
        copy(r, drows, 0, dy, at, more, r->accumulate[1]);
    if (dx.data) {
        copy(r, dx, 0, dy, 0, at, r->accumulate[0]);
        copy(r, dx, at, dy, at + more, all - more - at, r->accumulate[0]);
    }
}

const op_desc op_insert_tokens = {.name = "insert_tokens",
                                  .uses = USES(copy_rows),
                                  .backward_uses = USES(copy_rows),
                                  .forward = insert_forward,
                                  .backward = insert_backward,
                                  .inplace = -1,
                                  .passes = -1};

/* ---- replace_tokens: y = x with its rows from `first` on replaced ---- */
static void replace_forward(const op_run *r)
{
    mat y = op_out(r), x = op_in(r, 0), rows = op_in(r, 1);
    int64_t at = r->op->a.first, more = group_of(r, rows), all = group_of(r, x);

    if (y.data != x.data) {
        copy(r, y, 0, x, 0, at, false);
        copy(r, y, at + more, x, at + more, all - at - more, false);
    }
    copy(r, y, at, rows, 0, more, false);
}

static void replace_backward(const op_run *r)
{
    mat dy = op_out_grad(r), dx = op_in_grad(r, 0), drows = op_in_grad(r, 1);
    int64_t at = r->op->a.first, more = group_of(r, op_in(r, 1)), all = group_of(r, dy);

    if (drows.data)
        copy(r, drows, 0, dy, at, more, r->accumulate[1]);
    if (dx.data) {
        if (!r->accumulate[0])
            r->k->zero(dx.data, (size_t)(dx.rows * dx.stride) * dtype_size(dx.type));
        copy(r, dx, 0, dy, 0, at, r->accumulate[0]);
        copy(r, dx, at + more, dy, at + more, all - at - more, r->accumulate[0]);
    }
}

const op_desc op_replace_tokens = {.name = "replace_tokens",
                                   .uses = USES(copy_rows),
                                   .backward_uses = USES(copy_rows),
                                   .forward = replace_forward,
                                   .backward = replace_backward,
                                   .inplace = 0,
                                   .passes = -1};

/* ---- select_tokens: rows [first, first + count) ---- */
static void select_forward(const op_run *r)
{
    copy(r, op_out(r), 0, op_in(r, 0), r->op->a.first, r->op->a.count, false);
}

static void select_backward(const op_run *r)
{
    mat dx = op_in_grad(r, 0);

    if (!r->accumulate[0])
        r->k->zero(dx.data, (size_t)(dx.rows * dx.stride) * dtype_size(dx.type));
    copy(r, dx, r->op->a.first, op_out_grad(r), 0, r->op->a.count, r->accumulate[0]);
}

const op_desc op_select_tokens = {
    .name = "select_tokens",
    .uses = USES(copy_rows),
    .backward_uses = USES(copy_rows),
    .forward = select_forward,
    .backward = select_backward,
    .inplace = -1,
    .passes = -1,
    .bf16_inputs = 1u,
    .bf16_result = true,
};

/* ---- mean_tokens ---- */
static void mean_forward(const op_run *r)
{
    mat x = op_in(r, 0);

    r->k->mean_rows(r->c, &(mean_rows_args){.y = op_out(r),
                                            .x = x,
                                            .samples = r->batch,
                                            .group = group_of(r, x),
                                            .first = r->op->a.first,
                                            .count = r->op->a.count});
}

static void mean_backward(const op_run *r)
{
    mat dx = op_in_grad(r, 0);

    r->k->mean_rows(r->c, &(mean_rows_args){.y = dx,
                                            .x = op_out_grad(r),
                                            .samples = r->batch,
                                            .group = group_of(r, dx),
                                            .first = r->op->a.first,
                                            .count = r->op->a.count,
                                            .backward = true,
                                            .accumulate = r->accumulate[0]});
}

const op_desc op_mean_tokens = {.name = "mean_tokens",
                                .uses = USES(mean_rows),
                                .backward_uses = USES(mean_rows),
                                .forward = mean_forward,
                                .backward = mean_backward,
                                .inplace = -1,
                                .passes = -1};

/* ---- patchify: pixels to normalised patch rows ---- */

static void patchify_forward(const op_run *r)
{
    mat y = op_out(r);
    patch_rows x = op_patches(r);

    r->k->patchify(r->c, &y, &x);
}

const op_desc op_patchify = {.name = "patchify",
                             .uses = USES(patchify),
                             .forward = patchify_forward,
                             .inplace = -1,
                             .passes = -1,
                             .bf16_result = true};
