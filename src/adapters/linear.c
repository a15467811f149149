/* linear: trains the head only: the linear probe. */
#include "adapters/method.h"

static const option_spec option_table[] = {{0}};

static inlay_status plan(adapter *a, inlay_error *err)
{
    (void)err;
    (void)a;
    return INLAY_OK;
}

const method method_linear = {
    .name = "linear",
    .summary = "trains the head only: the linear probe",
    .equation = "y = f(x) W^T + b",
    .cite = "-",
    .options = option_table,
    .recipe = "linear",
    .plan = plan,
};
