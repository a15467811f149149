/* AdapterBias (Fu et al., arXiv 2205.00305; Allen0307/AdapterBias): one vector a layer, added to every token with a
 * weight that the token's feed-forward activation decides. */
#include <string.h>

#include "adapters/method.h"
#include "adapters/token_weight.h"

typedef struct token_bias {
    param *vector, *weight, *offset;
} token_bias;

static const option_spec option_table[] = {
    OPT_FLAG("share_alpha", "one token weight's map for all layers"),
    OPT_CHOICE("norms", "ffn", "none|ffn|behind|all",
               "LayerNorms of the backbone that are trained too: those in front of the feed-forward parts, those "
               "behind their sums and behind the embeddings, or all"),
    OPTION_LAYERS,
    OPTION_DROP_LAYERS,
    {0},
};

/* Which LayerNorms each value of `norms` trains: parts of names; and whole names, of those outside the blocks. The
 * authors train those behind the feed-forward sum and behind the embeddings of a BERT. Where norms stand in front of
 * each part, the next one behind that sum is the next block's first, behind the last block the last, behind the
 * embeddings blocks.0.norm1. */
static const struct norm_choice {
    const char *name, *part, *whole[4];
} norm_choices[] = {
    {"none", NULL, {NULL}},
    {"ffn", ".norm2.", {NULL}},
    {"behind", ".norm1.", {"norm.weight", "norm.bias", "fc_norm.weight", "fc_norm.bias"}},
    {"all", "norm", {NULL}},
};

static void unfreeze_norms(adapter *a)
{
    const struct norm_choice *c = norm_choices;

    while (strcmp(c->name, options_string(a->settings, "norms")) != 0)
        c++;
    if (c->part)
        adapter_unfreeze(a, c->part);
    for (int i = 0; i < 4 && c->whole[i]; i++)
        adapter_unfreeze_whole(a, c->whole[i]);
}

/* The bias of every token: alpha = g w + c, y = alpha v^T. */
static value apply(const build_context *b, value x, const void *context)
{
    const token_bias *t = context;
    value alpha = graph_linear(b->g, x, t->weight, t->offset, 0, 0);

    graph_mark(b->g, alpha, TOKEN_WEIGHT_MARK, b->at.layer);
    return graph_linear(b->g, alpha, t->vector, NULL, 0, 0);
}

static inlay_status plan(adapter *a, inlay_error *err)
{
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
            weight = adapter_add_param(a, arena_printf(a->memory, "%s.weight", stem), 2, (int64_t[]){1, hidden},
                                       (init_rule){INIT_NORMAL, 0, 0.02});
            offset = adapter_add_param(a, arena_printf(a->memory, "%s.bias", stem), 1, (int64_t[]){1},
                                       (init_rule){INIT_ZERO, 0, 0});
        }
        *b = (token_bias){.weight = weight, .offset = offset};
        b->vector = adapter_add_param(a, arena_printf(a->memory, "blocks.%d.vector", layer), 2, (int64_t[]){width, 1},
                                      (init_rule){INIT_ZERO, 0, 0});
        adapter_add_edge(a, (site){SITE_FFN_HIDDEN, layer}, (site){SITE_FFN_OUTPUT, layer}, apply, b);
    }
    unfreeze_norms(a);
    return INLAY_OK;
}

const method method_adapter_bias = {
    .name = "adapter_bias",
    .summary = "one vector a layer, added to each token with a weight of its own",
    .equation = "h = FFN(x) + (g w + c) v^T, g the feed-forward part's hidden activation",
    .cite = "arXiv 2205.00305",
    .options = option_table,
    .recipe = "adapter_bias",
    .plan = plan,
};
