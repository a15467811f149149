/* Bottleneck adapters: Adapter+ and its design space (Steitz and Roth, "Adapters Strike Back", arXiv 2406.06820;
 * formulas as in the authors' code, visinf/adapter_plus). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/bottleneck.h"

/* Where each position reads and adds, in the order of the forward pass. */
typedef struct position {
    const char *name;
    struct {
        const char *slot; /* in the names of parameters */
        site_kind from, to;
    } at[2];
} position;

static const position positions[] = {
    {"post", {{"adapter", SITE_BLOCK_OUTPUT, SITE_BLOCK_OUTPUT}}},
    {"pre", {{"adapter", SITE_ATTN_RESIDUAL, SITE_ATTN_RESIDUAL}}},
    {"parallel", {{"adapter", SITE_ATTN_RESIDUAL, SITE_BLOCK_OUTPUT}}},
    {"intermediate", {{"adapter", SITE_FFN_OUTPUT, SITE_FFN_OUTPUT}}},
    {"houlsby", {{"adapter_attn", SITE_ATTN_OUTPUT, SITE_ATTN_OUTPUT}, {"adapter", SITE_FFN_OUTPUT, SITE_FFN_OUTPUT}}},
    {"pfeiffer", {{"adapter", SITE_BLOCK_OUTPUT, SITE_BLOCK_OUTPUT}}},
    {"pre_post",
     {{"adapter_attn", SITE_ATTN_RESIDUAL, SITE_ATTN_RESIDUAL}, {"adapter", SITE_BLOCK_OUTPUT, SITE_BLOCK_OUTPUT}}},
};

static const option_spec option_table[] = {
    OPTION_POSITION("post"),
    OPTION_RANK("8"),
    OPTION_RANKS,
    OPTION_ACTIVATION("gelu"),
    OPT_FLAG("layernorm", "a trained LayerNorm in front of the down-projection"),
    OPT_FLAG("output_layernorm", "a trained LayerNorm behind the factor"),
    OPT_FLAG_ON("bias", "biases in both projections"),
    OPT_CHOICE("scaling", "none", "none|fixed|learned|channel",
               "factor on the adapter's output: fixed, one learned number, or one for each channel"),
    OPT_REAL("scale", "1", -1e6, 1e6, "X", "value of the fixed factor, start of the learned ones"),
    OPTION_INIT("houlsby"),
    OPTION_DROPOUT("0"),
    OPT_CHOICE("dropout_at", "activation", "activation|input",
               "where dropout lies: behind the activation, or in front of the down-projection"),
    OPT_REAL("drop_path", "0", 0, 0.95, "P", "stochastic depth on the adapter"),
    OPTION_LAYERS,
    OPTION_DROP_LAYERS,
    OPTION_UNFREEZE,
    {0},
};

static const option_need needs[] = {
    {"scale", "scaling", "fixed|learned|channel"},
    {"dropout_at", "dropout", "!0"},
    {0},
};

/* Computes act(LN(x) Wd + bd) Wu + bu, times the scaling, perhaps through another LayerNorm. */
value bottleneck_apply(const build_context *b, value x, const void *context)
{
    const bottleneck *n = context;
    graph *g = b->g;

    if (n->norm)
        x = graph_layernorm(g, x, n->norm, n->norm_bias, b->a->shape->eps);
    x = graph_dropout(g, x, b->training ? n->input_dropout : 0);
    x = graph_linear(g, x, n->down, n->down_bias, 0, 0);
    x = n->numerator ? graph_rational(g, x, n->numerator, n->denominator, n->safe) : graph_activation(g, x, n->act);
    x = graph_dropout(g, x, b->training ? n->dropout : 0);
    x = graph_linear(g, x, n->up, n->up_bias, 0, 0);
    if (n->scaling || n->factor != 1)
        x = graph_affine(g, x, n->scaling, NULL, n->factor);
    if (n->out_norm)
        x = graph_layernorm(g, x, n->out_norm, n->out_norm_bias, b->a->shape->eps);
    return graph_drop_path(g, x, b->training ? n->drop_path : 0);
}

bottleneck_start bottleneck_initial(const char *name, int64_t width)
{
    const double bound = 1 / sqrt((double)width); /* Kaiming-uniform with a = sqrt(5) */
    const init_rule zero = {INIT_ZERO, 0, 0}, cut = {INIT_TRUNC_NORMAL, 0, 0.01}, normal = {INIT_NORMAL, 0, 0.02};
    const init_rule kaiming = {INIT_UNIFORM, -bound, bound};
    const struct {
        const char *name;
        bottleneck_start start;
    } rows[] = {
        {"houlsby", {cut, zero, cut}},
        {"bert", {normal, zero, normal}},
        {"lora", {kaiming, kaiming, zero}},
        {"adaptformer", {kaiming, zero, zero}},
    };
    size_t i = 0;

    while (strcmp(rows[i].name, name) != 0)
        i++;
    return rows[i].start;
}

static const void *make(adapter *a, int layer, const char *slot, uint32_t draw)
{
    const options *o = a->settings;
    int64_t width = a->shape->width, rank = a->ranks[layer];
    const char *scaling = options_string(o, "scaling");
    bottleneck *b = ARENA_NEW(a->memory, bottleneck);
    bottleneck_start begin = bottleneck_initial(options_string(o, "init"), width);
    init_rule zero = {INIT_ZERO, 0, 0}, one = {INIT_CONSTANT, 1, 0};
    init_rule start = {INIT_CONSTANT, options_real(o, "scale"), 0};
    (void)draw;
#define NAME(part) arena_printf(a->memory, "blocks.%d.%s." part, layer, slot)

    activation_from_name(options_string(o, "activation"), &b->act);
    *(strcmp(options_string(o, "dropout_at"), "input") == 0 ? &b->input_dropout : &b->dropout) =
        options_real(o, "dropout");
    b->drop_path = options_real(o, "drop_path");
    b->factor = strcmp(scaling, "fixed") == 0 ? options_real(o, "scale") : 1;
    if (options_flag(o, "layernorm")) {
        b->norm = adapter_add_param(a, NAME("norm.weight"), 1, (int64_t[]){width}, one);
        b->norm_bias = adapter_add_param(a, NAME("norm.bias"), 1, (int64_t[]){width}, zero);
    }
    b->down = adapter_add_param(a, NAME("down.weight"), 2, (int64_t[]){rank, width}, begin.down);
    if (options_flag(o, "bias"))
        b->down_bias = adapter_add_param(a, NAME("down.bias"), 1, (int64_t[]){rank}, begin.down_bias);
    b->up = adapter_add_param(a, NAME("up.weight"), 2, (int64_t[]){width, rank}, begin.up);
    if (options_flag(o, "bias"))
        b->up_bias = adapter_add_param(a, NAME("up.bias"), 1, (int64_t[]){width}, zero);
    if (strcmp(scaling, "channel") == 0 || strcmp(scaling, "learned") == 0)
        b->scaling = adapter_add_param(a, NAME("scaling"), 1, (int64_t[]){scaling[0] == 'c' ? width : 1}, start);
    if (options_flag(o, "output_layernorm")) {
        b->out_norm = adapter_add_param(a, NAME("output_norm.weight"), 1, &width, one);
        b->out_norm_bias = adapter_add_param(a, NAME("output_norm.bias"), 1, &width, zero);
    }
#undef NAME
    return b;
}

void bottleneck_add(adapter *a, const char *name, adapter_function function, bottleneck_maker maker)
{
    const position *p = positions;
    uint32_t draw = 0;

    while (strcmp(p->name, name) != 0)
        p++;
    for (int layer = 0; layer < a->shape->depth; layer++)
        for (int i = 0; i < 2 && p->at[i].slot && a->layers[layer]; i++, draw += 2)
            adapter_add_edge(a, (site){p->at[i].from, layer}, (site){p->at[i].to, layer}, function,
                             maker(a, layer, p->at[i].slot, draw));
}

static inlay_status plan(adapter *a, inlay_error *err)
{
    (void)err;
    bottleneck_add(a, options_string(a->settings, "position"), bottleneck_apply, make);
    return INLAY_OK;
}

const method method_bottleneck = {
    .name = "bottleneck",
    .summary = "down-projection, activation, up-projection, added to a block's residual stream",
    .equation = "y = x + s * (act(LN(x) Wd + bd) Wu + bu)",
    .cite = "arXiv 2406.06820, arXiv 1902.00751",
    .options = option_table,
    .needs = needs,
    .recipe = "adapter_plus",
    .plan = plan,
};
