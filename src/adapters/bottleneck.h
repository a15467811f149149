/* What the methods that are bottlenecks at heart have in common: y = s * (act(LN(x) Wd + bd) Wu + bu). */
#ifndef INLAY_ADAPTERS_BOTTLENECK_H
#define INLAY_ADAPTERS_BOTTLENECK_H

#include "adapters/method.h"

typedef struct bottleneck {
    param *down, *down_bias, *up, *up_bias; /* may stand for a choice of experts */
    param *scaling, *norm, *norm_bias;      /* may be NULL */
    param *out_norm, *out_norm_bias;        /* behind the scaling; may be NULL */
    param *numerator, *denominator;         /* of a rational activation in place of `act`; may be NULL */
    bool safe;
    activation act;
    double factor, dropout, input_dropout, drop_path;
} bottleneck;

/* Makes the parameters of one slot; `draw`: two numbers for choices, draw and draw + 1, are the slot's own. Returns the
 * edge's context. */
typedef const void *(*bottleneck_maker)(adapter *a, int layer, const char *slot, uint32_t draw);

/* An edge for each slot of a position (a name that OPTION_POSITION admits) in every layer of a->layers. */
void bottleneck_add(adapter *a, const char *position, adapter_function function, bottleneck_maker make);
/* An adapter_function whose context is a bottleneck. */
value bottleneck_apply(const build_context *b, value x, const void *context);
/* How the projections begin under a name that OPTION_INIT admits; the up-projection's bias is 0. */
typedef struct bottleneck_start {
    init_rule down, down_bias, up;
} bottleneck_start;
bottleneck_start bottleneck_initial(const char *name, int64_t width);

#define OPTION_POSITION(value)                                                                \
    OPT_CHOICE("position", value, "post|pre|parallel|intermediate|houlsby|pfeiffer|pre_post", \
               "where in the block the adapter reads and adds")
#define OPTION_RANK(value) OPT_INT("rank", value, 1, 65536, "N", "width of the bottleneck")
#define OPTION_ACTIVATION(value)                                                             \
    OPT_CHOICE("activation", value, "none|relu|gelu|gelu_tanh|silu|tanh|sigmoid|quick_gelu", \
               "between the two projections")
#define OPTION_INIT(value)                              \
    OPT_CHOICE(                                         \
        "init", value, "houlsby|lora|bert|adaptformer", \
        "truncated normal 0.01; Kaiming-uniform down with its bias, zero up; normal 0.02; as lora with biases 0")
#define OPTION_DROPOUT(value) OPT_REAL("dropout", value, 0, 0.95, "P", "dropout on the bottleneck's activation")

#endif
