/* bitfit: trains every bias of the backbone. */
#include "adapters/method.h"

static const option_spec option_table[] = {OPTION_LAYERS, {0}};

static inlay_status plan(adapter *a, inlay_error *err)
{
    (void)err;
    adapter_unfreeze(a, "bias");
    return INLAY_OK;
}

const method method_bitfit = {
    .name = "bitfit",
    .summary = "trains every bias of the backbone",
    .equation = "b is trained",
    .cite = "arXiv 2106.10199",
    .options = option_table,
    .recipe = "bitfit",
    .plan = plan,
};
