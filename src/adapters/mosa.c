/* MoSA (arXiv 2312.02923; Theia-4869/MoSA): one adapter whose matrices are split into sparse experts that do not
 * overlap; every pass draws one of them for each side, and at the end they are one adapter again. Its style "lora" is
 * the authors' MoSL: the same of low-rank changes. Nothing split: one adapter of which a random share is trained. */
#include <stdlib.h>
#include <string.h>

#include "adapters/experts.h"
#include "adapters/low_rank.h"

/* The adapters that are split: their position, activation and scale. position NULL: low-rank changes. */
static const struct style {
    const char *name, *position, *activation;
    bool norm;
    double scale;
} styles[] = {
    {"adaptformer", "parallel", "gelu", true, 0.1},
    {"pfeiffer", "intermediate", "relu", true, 1},
    {"houlsby", "pre_post", "silu", false, 1},
    {"lora", NULL, NULL, false, 1},
};

static const option_spec option_table[] = {
    OPT_CHOICE("style", "adaptformer", "adaptformer|pfeiffer|houlsby|lora", "the adapter that is split"),
    OPT_INT("experts", "4", 1, 64, "N", "sparse experts"),
    OPT_CHOICE("split", "up", "up|down|both|none",
               "projections that are split (of lora: down is A, up is B); the other is dense and shared; none: one "
               "adapter, of which a random 1/N of each tensor is trained, N as --experts says"),
    OPT_FLAG("split_biases",
             "biases of a split side are divided among the experts as well; else each trains all of its own"),
    OPT_CHOICE("scaling", "style", "style|none|fixed|learned",
               "factor on the adapter's output: as the style has it, none, fixed, or one learned number"),
    OPT_REAL("scale", "1", -1e6, 1e6, "X", "value of the fixed factor, start of the learned one"),
    OPT_CHOICE("mask", "all", "all|row|column",
               "what is divided among the experts: all entries, or those of each row or column"),
    OPT_CHOICE("merge", "average", "average|union|joint",
               "at the end: the experts' mean, as the authors' code has it, or each entry from the expert that trained "
               "it; joint: that divided by N, their other way"),
    OPT_REAL("consistency", "1", 0, 1e6, "X", "weight of the divergence between the two passes"),
    OPT_REAL("second_loss", "0", 0, 1e6, "X", "weight of the second pass's cross-entropy"),
    OPT_FLAG("deep_regulariser",
             "0.01 times the mean squared distance of the two passes' tokens behind the first six blocks, too"),
    OPT_FLAG("decay_masked", "weight decay reaches what an expert's mask leaves out, as in the authors' code"),
    OPTION_RANK("64"),
    OPTION_RANKS,
    OPTION_DROPOUT("0.1"),
    OPTION_TARGETS,
    OPTION_LAYERS,
    OPTION_DROP_LAYERS,
    {0},
};

/* Where nothing is split there is one pass and no merge; low-rank changes have no biases. */
static const option_need needs[] = {
    {"targets", "style", "lora"},
    {"split_biases", "style", "adaptformer|pfeiffer|houlsby"},
    {"split_biases", "split", "up|down|both"},
    {"scale", "scaling", "fixed|learned"},
    {"merge", "split", "up|down|both"},
    {"consistency", "split", "up|down|both"},
    {"second_loss", "split", "up|down|both"},
    {"deep_regulariser", "split", "up|down|both"},
    {0},
};

static const struct style *style_of(const adapter *a)
{
    const struct style *s = styles;

    while (strcmp(s->name, options_string(a->settings, "style")) != 0)
        s++;
    return s;
}

/* The factor on the adapter's output; a learned one begins there. */
static double scale_of(const adapter *a)
{
    const char *scaling = options_string(a->settings, "scaling");

    if (strcmp(scaling, "style") == 0)
        return style_of(a)->scale;
    return strcmp(scaling, "none") == 0 ? 1 : options_real(a->settings, "scale");
}

static bool scale_learned(const adapter *a)
{
    return strcmp(options_string(a->settings, "scaling"), "learned") == 0;
}

static int experts_of(const adapter *a, const char *side)
{
    const char *split = options_string(a->settings, "split");
    bool here = strcmp(split, side) == 0 || strcmp(split, "both") == 0;

    return here ? (int)options_int(a->settings, "experts") : 1;
}

static mask_rule mask_of(const adapter *a, uint32_t number)
{
    const char *mask = options_string(a->settings, "mask");

    return (mask_rule){.kind = mask[0] == 'a'   ? MASK_ALL
                               : mask[0] == 'r' ? MASK_ROW
                                                : MASK_COLUMN,
                       .stream = number,
                       .decay_masked = options_flag(a->settings, "decay_masked")};
}

/* Streams that partitions are drawn from: a weight's has the number of its draw, any other tensor's one from here on.
 */
#define OTHER_STREAMS 0x80000000u

/* Adds a weight and its bias on one side; experts of a split side have masks on the weight. */
static void add_side(adapter *a, const expert_side *side, int64_t rows, int64_t cols, init_rule init, param **weight,
                     param **bias)
{
    mask_rule rule = mask_of(a, side->draw), vector = mask_of(a, side->draw + OTHER_STREAMS);
    param **weights, **biases;

    *weight = experts_add(a, side, "weight", 2, (int64_t[]){rows, cols}, init, &weights);
    *bias = experts_add(a, side, "bias", 1, (int64_t[]){rows}, (init_rule){INIT_ZERO, 0, 0}, &biases);
    experts_mask(a, weights, side->experts, rule);
    vector.kind = MASK_ALL;
    if (options_flag(a->settings, "split_biases"))
        experts_mask(a, biases, side->experts, vector);
}

static const void *make(adapter *a, int layer, const char *slot, uint32_t draw)
{
    const struct style *s = style_of(a);
    int64_t width = a->shape->width, rank = a->ranks[layer];
    bottleneck *b = ARENA_NEW(a->memory, bottleneck);
    bottleneck_start begin = bottleneck_initial("adaptformer", width); /* biases are 0 */
    expert_side down = {arena_printf(a->memory, "blocks.%d.%s.down", layer, slot), experts_of(a, "down"), true, draw},
                up = {arena_printf(a->memory, "blocks.%d.%s.up", layer, slot), experts_of(a, "up"), true, draw + 1};

    *b = (bottleneck){.factor = scale_learned(a) ? 1 : scale_of(a), .dropout = options_real(a->settings, "dropout")};
    activation_from_name(s->activation, &b->act);
    if (s->norm) {
        b->norm = adapter_add_param(a, arena_printf(a->memory, "blocks.%d.%s.norm.weight", layer, slot), 1, &width,
                                    (init_rule){INIT_CONSTANT, 1, 0});
        b->norm_bias = adapter_add_param(a, arena_printf(a->memory, "blocks.%d.%s.norm.bias", layer, slot), 1, &width,
                                         (init_rule){INIT_ZERO, 0, 0});
    }
    add_side(a, &down, rank, width, begin.down, &b->down, &b->down_bias);
    add_side(a, &up, width, rank, begin.up, &b->up, &b->up_bias);
    if (scale_learned(a))
        b->scaling = adapter_add_param(a, arena_printf(a->memory, "blocks.%d.%s.scaling", layer, slot), 1,
                                       (int64_t[]){1}, (init_rule){INIT_CONSTANT, scale_of(a), 0});
    return b;
}

static inlay_status plan_low_rank(adapter *a, inlay_error *err)
{
    mask_rule rule = mask_of(a, 0);
    low_rank_plan plan = {.experts_a = experts_of(a, "down"),
                          .experts_b = experts_of(a, "up"),
                          .equal = true,
                          .apart = true,
                          .mask = &rule,
                          .inner_dropout = true,
                          .scale = scale_of(a)};

    if (scale_learned(a) || plan.scale == 0)
        FAIL(err, INLAY_ERR_USAGE, "scaling: style lora has a fixed factor that is not 0");
    return low_rank_add(a, &plan, err);
}

/* Makes one adapter of which a random part of each tensor is trained. */
static void make_sparse(adapter *a)
{
    uint32_t stream = OTHER_STREAMS;

    for (const adapter_param *i = NULL; (i = adapter_each_param(a, i));) {
        mask_rule rule = mask_of(a, stream++);
        rule.kind = i->p->ndim > 1 ? rule.kind : MASK_ALL;
        rule.parts = (int)options_int(a->settings, "experts");
        if (i->p->count >= rule.parts)
            adapter_mask(a, i->p, rule);
    }
    a->passes = 1;
}

static inlay_status plan(adapter *a, inlay_error *err)
{
    if (style_of(a)->position)
        bottleneck_add(a, style_of(a)->position, bottleneck_apply, make);
    else
        TRY(plan_low_rank(a, err));
    if (strcmp(options_string(a->settings, "split"), "none") == 0)
        make_sparse(a);
    return INLAY_OK;
}

static value loss(const adapter *a, graph *g, const pass_result *passes, const training_target *t)
{
    double weight = options_real(a->settings, "consistency");
    value total;

    if (a->passes == 1)
        return t->task->loss(g, passes[0].outputs, t->targets, t->smoothing);
    total = experts_loss(g, passes, t, options_real(a->settings, "second_loss"), weight);

    for (int layer = 0; options_flag(a->settings, "deep_regulariser") && layer < 6 && layer + 1 < a->shape->depth;
         layer++)
        if (passes[0].of.blocks[layer] != passes[1].of.blocks[layer])
            total =
                graph_add_scaled(g, total, graph_distance(g, passes[0].of.blocks[layer], passes[1].of.blocks[layer]),
                                 weight * 0.01 / (double)a->shape->depth);
    return total;
}

static expert_merge way_to_merge(const adapter *a)
{
    const char *how = options_string(a->settings, "merge");

    return how[0] == 'a' ? MERGE_MEAN : how[0] == 'u' ? MERGE_UNION : MERGE_JOINT;
}

static inlay_status conclude(adapter **out, const adapter *a, device *d, inlay_error *err)
{
    static const char *const same[] = {"rank", "ranks", "layers", "drop_layers", NULL};
    static const char *const same_low_rank[] = {"rank", "ranks", "layers", "drop_layers", "targets", NULL};
    const struct style *s = style_of(a);
    const char *scaling = scale_learned(a) ? "learned" : scale_of(a) == 1 ? "none" : "fixed";
    char scale[32];
    const char *const settings[][2] = {{"position", s->position},
                                       {"activation", s->activation},
                                       {"layernorm", s->norm ? "true" : "false"},
                                       {"scaling", scaling},
                                       {"scale", scale},
                                       {NULL, NULL}};

    snprintf(scale, sizeof scale, "%.17g", scale_of(a));
    TRY(adapter_plain(out, a, s->position ? "bottleneck" : "lora", s->position ? same : same_low_rank,
                      s->position ? settings : settings + 4, d, err));
    return experts_merge(*out, a, way_to_merge(a), d, err);
}

const method method_mosa = {
    .name = "mosa",
    .summary = "one adapter split into sparse experts that do not overlap, of which each pass draws one; one adapter "
               "again at the end",
    .equation = "y = x + s * (act(LN(x) Wd_a + bd_a) Wu_b + bu_b), W_i = W_0 + Q_i * D_i, sum of the masks Q_i = 1",
    .cite = "arXiv 2312.02923",
    .options = option_table,
    .needs = needs,
    .recipe = "mosa",
    .passes = 2,
    .plan = plan,
    .loss = loss,
    .conclude = conclude,
    .unfinished = experts_unfinished,
};
