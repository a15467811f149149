/* layernorm: trains every LayerNorm of the backbone. */
#include "adapters/method.h"

static const option_spec option_table[] = {OPTION_LAYERS, {0}};

static inlay_status plan(adapter *a, inlay_error *err)
{
    (void)err;
    adapter_unfreeze(a, "norm");
    return INLAY_OK;
}

const method method_layernorm = {
    .name = "layernorm",
    .summary = "trains every LayerNorm of the backbone",
    .equation = "weight and bias of LN are trained",
    .cite = "-",
    .options = option_table,
    .recipe = "adapter_plus",
    .plan = plan,
};
