/* full: trains every weight of the backbone. */
#include "adapters/method.h"

static const option_spec option_table[] = {OPTION_LAYERS, {0}};

static inlay_status plan(adapter *a, inlay_error *err)
{
    (void)err;
    adapter_unfreeze(a, "");
    return INLAY_OK;
}

const method method_full = {
    .name = "full",
    .summary = "trains every weight of the backbone",
    .equation = "W is trained",
    .cite = "-",
    .options = option_table,
    .recipe = "adapter_plus_full",
    .plan = plan,
};
