/* AdapterBias (Fu et al., arXiv 2205.00305; Allen0307/AdapterBias): one vector a layer, added to every token with a weight that the token's feed-forward
 * activation decides. */
#include <string.h>

#include "adapters/method.h"
#include "adapters/token_weight.h"

typedef struct token_bias {
    param *vector, *weight, *offset;
    int layer;
} token_bias;

static const option_spec option_table[] = {
    {"share_alpha", OPTION_FLAG, NULL, NULL, 0, 0, NULL, "one token weight's map for all layers", false},
    {"norms", OPTION_CHOICE, "ffn", "none|ffn|all", 0, 0, NULL, "LayerNorms of the backbone that are trained too: those of the feed-forward parts, or all", false},
    OPTION_LAYERS,
    OPTION_DROP_LAYERS,
    {0},
};

/* alpha = g w + c, y = alpha v^T */
static value apply(const adapter *a, graph *g, value x, const void *context, bool training)
{
    const token_bias *b = context;
    value alpha = graph_linear(g, x, b->weight, b->offset, 0, 0);

    (void)a;
    (void)training;
    graph_mark(g, alpha, TOKEN_WEIGHT_MARK, b->layer);
    return graph_linear(g, alpha, b->vector, NULL, 0, 0);
}

static inlay_status plan(adapter *a, inlay_error *err)
{
    const char *norms = options_string(a->settings, "norms");
    bool shared = options_flag(a->settings, "share_alpha");
    int64_t width = a->shape->width, hidden = a->shape->hidden;
    param *weight = NULL, *offset = NULL;

    (void)err;
    for (int layer = 0; layer < a->shape->depth; layer++) {
        token_bias *b = ARENA_NEW(a->memory, token_bias);
        if (!a->layers[layer])
            continue;
        if (!weight || !shared) {
            const char *stem = shared ? "alpha" : arena_printf(a->memory, "blocks.%d.alpha", layer);
            weight = adapter_add_param(a, arena_printf(a->memory, "%s.weight", stem), 2, (int64_t[]){1, hidden}, (init_rule){INIT_NORMAL, 0, 0.02});
            offset = adapter_add_param(a, arena_printf(a->memory, "%s.bias", stem), 1, (int64_t[]){1}, (init_rule){INIT_ZERO, 0, 0});
        }
        *b = (token_bias){.weight = weight, .offset = offset, .layer = layer};
        b->vector = adapter_add_param(a, arena_printf(a->memory, "blocks.%d.vector", layer), 2, (int64_t[]){width, 1}, (init_rule){INIT_ZERO, 0, 0});
        adapter_add_edge(a, SITE_FFN_HIDDEN, SITE_FFN_OUTPUT, layer, apply, b);
    }
    if (strcmp(norms, "ffn") == 0)
        adapter_unfreeze(a, ".norm2.");
    else if (strcmp(norms, "all") == 0)
        adapter_unfreeze(a, "norm");
    return INLAY_OK;
}

const method method_adapter_bias = {
    .name = "adapter_bias",
    .summary = "one vector a layer, added to each token with a weight of its own",
    .equation = "h = FFN(x) + (g w + c) v^T, g the feed-forward part's hidden activation",
    .cite = "arXiv 2205.00305",
    .options = option_table,
    .drop_path = 0.1,
    .lr = 1e-3,
    .plan = plan,
};
