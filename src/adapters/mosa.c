/* MoSA (arXiv 2312.02923; Theia-4869/MoSA): one adapter whose matrices are split into sparse experts that do not overlap; every pass draws one of them for each side,
 * and at the end they are one adapter again. */
#include <stdlib.h>
#include <string.h>

#include "adapters/experts.h"

/* The adapters that are split: their position, activation and scale. */
static const struct style {
    const char *name, *position, *activation;
    bool norm;
    double scale;
} styles[] = {
    {"adaptformer", "parallel", "gelu", true, 0.1},
    {"pfeiffer", "intermediate", "relu", true, 1},
    {"houlsby", "pre_post", "silu", false, 1},
};

static const option_spec option_table[] = {
    {"style", OPTION_CHOICE, "adaptformer", "adaptformer|pfeiffer|houlsby", 0, 0, NULL, "the adapter that is split", false},
    {"experts", OPTION_INT, "4", NULL, 1, 64, "N", "sparse experts", false},
    {"split", OPTION_CHOICE, "up", "up|down|both", 0, 0, NULL, "projections that are split; the other is dense and shared", false},
    {"mask", OPTION_CHOICE, "all", "all|row|column", 0, 0, NULL, "what is divided among the experts: all entries, or those of each row or column", false},
    {"merge", OPTION_CHOICE, "average", "average|union", 0, 0, NULL, "at the end: the experts' mean, as the authors' code has it, or each entry from the expert that trained it", false},
    {"consistency", OPTION_REAL, "1", NULL, 0, 1e6, "X", "weight of the divergence between the two passes", false},
    {"second_loss", OPTION_REAL, "0", NULL, 0, 1e6, "X", "weight of the second pass's cross-entropy", false},
    {"deep_regulariser", OPTION_FLAG, NULL, NULL, 0, 0, NULL, "0.01 times the mean squared distance of the two passes' tokens behind the first six blocks, too", false},
    {"decay_masked", OPTION_FLAG, NULL, NULL, 0, 0, NULL, "weight decay reaches what an expert's mask leaves out, as in the authors' code", false},
    OPTION_RANK("64"),
    OPTION_DROPOUT("0.1"),
    OPTION_DROP_LAYERS,
    {0},
};

static const struct style *style_of(const adapter *a)
{
    const struct style *s = styles;

    while (strcmp(s->name, options_string(a->settings, "style")) != 0)
        s++;
    return s;
}

/* A weight and its bias on one side; experts of a split side have masks on the weight. */
static void add_side(adapter *a, const char *stem, int64_t rows, int64_t cols, init_rule init, bool split, uint32_t draw, param **weight, param **bias)
{
    int experts = split ? (int)options_int(a->settings, "experts") : 1;
    const char *mask = options_string(a->settings, "mask");
    param **of, **unused;

    *weight = experts_add(a, stem, "weight", 2, (int64_t[]){rows, cols}, init, experts, true, draw, &of);
    *bias = experts_add(a, stem, "bias", 1, (int64_t[]){rows}, (init_rule){INIT_ZERO, 0, 0}, experts, true, draw, &unused);
    for (int e = 0; experts > 1 && e < experts; e++)
        adapter_mask(a, of[e], (mask_rule){.kind = mask[0] == 'a' ? MASK_ALL : mask[0] == 'r' ? MASK_ROW : MASK_COLUMN, .part = e, .parts = experts, .site = draw,
                                           .decay_masked = options_flag(a->settings, "decay_masked")});
}

static const void *make(adapter *a, int layer, const char *slot, uint32_t draw)
{
    const struct style *s = style_of(a);
    const char *split = options_string(a->settings, "split");
    int64_t width = a->shape->width, rank = options_int(a->settings, "rank");
    bottleneck *b = ARENA_NEW(a->memory, bottleneck);
    bottleneck_start begin = bottleneck_initial("adaptformer", width); /* biases are 0 */

    *b = (bottleneck){.factor = s->scale, .dropout = options_real(a->settings, "dropout")};
    activation_from_name(s->activation, &b->act);
    if (s->norm) {
        b->norm = adapter_add_param(a, arena_printf(a->memory, "blocks.%d.%s.norm.weight", layer, slot), 1, &width, (init_rule){INIT_CONSTANT, 1, 0});
        b->norm_bias = adapter_add_param(a, arena_printf(a->memory, "blocks.%d.%s.norm.bias", layer, slot), 1, &width, (init_rule){INIT_ZERO, 0, 0});
    }
    add_side(a, arena_printf(a->memory, "blocks.%d.%s.down", layer, slot), rank, width, begin.down,
             strcmp(split, "up") != 0, draw, &b->down, &b->down_bias);
    add_side(a, arena_printf(a->memory, "blocks.%d.%s.up", layer, slot), width, rank, begin.up,
             strcmp(split, "down") != 0, draw + 1, &b->up, &b->up_bias);
    return b;
}

static inlay_status plan(adapter *a, inlay_error *err)
{
    (void)err;
    bottleneck_add(a, style_of(a)->position, NULL, bottleneck_apply, make);
    return INLAY_OK;
}

static value loss(const adapter *a, graph *g, const pass_result *passes, value labels, double smoothing)
{
    double weight = options_real(a->settings, "consistency");
    value total = experts_loss(g, passes, labels, smoothing, options_real(a->settings, "second_loss"), weight);

    for (int layer = 0; options_flag(a->settings, "deep_regulariser") && layer < 6 && layer + 1 < a->shape->depth; layer++)
        if (passes[0].blocks[layer] != passes[1].blocks[layer])
            total = graph_add_scaled(g, total, graph_distance(g, passes[0].blocks[layer], passes[1].blocks[layer]), weight * 0.01 / (double)a->shape->depth);
    return total;
}

static inlay_status merge(adapter **out, const adapter *a, device *d, inlay_error *err)
{
    static const char *const same[] = {"rank", "drop_layers", NULL};
    const struct style *s = style_of(a);
    char scale[32];
    const char *const settings[][2] = {{"position", s->position}, {"activation", s->activation}, {"layernorm", s->norm ? "true" : "false"},
                                       {"scaling", s->scale == 1 ? "none" : "fixed"}, {"scale", scale}, {NULL, NULL}};

    snprintf(scale, sizeof scale, "%g", s->scale);
    TRY(adapter_plain(out, a, "bottleneck", same, settings, d, err));
    return experts_merge(*out, a, strcmp(options_string(a->settings, "merge"), "union") == 0, d, err);
}

const method method_mosa = {
    .name = "mosa",
    .summary = "one adapter split into sparse experts that do not overlap, of which each pass draws one; one adapter again at the end",
    .equation = "y = x + s * (act(LN(x) Wd_a + bd_a) Wu_b + bu_b), W_i = W_0 + Q_i * D_i, sum of the masks Q_i = 1",
    .cite = "arXiv 2312.02923",
    .options = option_table,
    .drop_path = 0.1,
    .lr = 1e-3,
    .passes = 2,
    .plan = plan,
    .loss = loss,
    .merge = merge,
    .unmerged = experts_unmerged,
};
