/* concat: the columns of several values side by side, in the order of the inputs. */
#include "graph/op_impl.h"

static int part_count(const op_run *r)
{
    int count = 0;

    while (count < OP_INPUTS && r->op->in[count] != NO_VALUE)
        count++;
    return count;
}

static void copy(const op_run *r, mat y, mat x, bool accumulate)
{
    r->k->copy_rows(r->c, &(copy_rows_args){.y = y, .x = x, .samples = 1, .count = x.rows, .accumulate = accumulate});
}

static void concat_forward(const op_run *r)
{
    mat y = op_out(r);
    int64_t at = 0;

    for (int j = 0; j < part_count(r); j++) {
        mat x = op_in(r, j);
        copy(r, mat_columns(y, at, x.cols), x, false);
        at += x.cols;
    }
}

static void concat_backward(const op_run *r)
{
    mat dy = op_out_grad(r);
    int64_t at = 0;

    for (int j = 0; j < part_count(r); j++) {
        int64_t cols = op_in(r, j).cols;
        if (op_wants(r, j))
            copy(r, op_in_grad(r, j), mat_columns(dy, at, cols), r->accumulate[j]);
        at += cols;
    }
}

const op_desc op_concat = {
    .name = "concat",
    .uses = USES(copy_rows),
    .backward_uses = USES(copy_rows),
    .forward = concat_forward,
    .backward = concat_backward,
    .inplace = -1,
    .passes = -1,
    .bf16_inputs = (1u << OP_INPUTS) - 1,
    .bf16_result = true,
};
