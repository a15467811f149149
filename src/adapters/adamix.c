/* AdaMix (Wang et al., arXiv 2205.12410): every pass draws one of several down- and one of several up-projections in
 * each layer; two passes a step are held together by the divergence of their predictions; at the end the experts are
 * averaged. */
#include <stdlib.h>
#include <string.h>

#include "adapters/experts.h"
#include "adapters/low_rank.h"

static const option_spec option_table[] = {
    OPT_CHOICE("kind", "adapter", "adapter|lora",
               "what the experts are: bottleneck adapters, or low-rank changes of weights"),
    OPT_INT("experts", "4", 1, 64, "N", "experts on each side that is not shared"),
    OPT_CHOICE("share", "up", "up|down|none|both",
               "side that has one projection for all experts (of lora: down is A, up is B)"),
    OPT_REAL("consistency", "1", 0, 1e6, "X", "weight of the divergence between the two passes"),
    OPTION_RANK("8"),
    OPTION_RANKS,
    OPTION_POSITION("intermediate"),
    OPTION_ACTIVATION("gelu"),
    OPTION_INIT("bert"),
    OPT_FLAG("equal_experts", "all experts begin with the same values"),
    OPTION_DROPOUT("0"),
    OPT_REAL("alpha", "16", 0, 1e6, "X", "with lora: the change is scaled by alpha / rank"),
    OPTION_TARGETS,
    OPTION_LAYERS,
    OPTION_DROP_LAYERS,
    {0},
};

static const option_need needs[] = {
    {"experts", "share", "up|down|none"},
    {"equal_experts", "share", "up|down|none"},
    {"position", "kind", "adapter"},
    {"activation", "kind", "adapter"},
    {"alpha", "kind", "lora"},
    {"targets", "kind", "lora"},
    {0},
};

static int experts_of(const adapter *a, const char *side)
{
    const char *share = options_string(a->settings, "share");
    bool shared = strcmp(share, side) == 0 || strcmp(share, "both") == 0;

    return shared ? 1 : (int)options_int(a->settings, "experts");
}

static const void *make(adapter *a, int layer, const char *slot, uint32_t draw)
{
    const options *o = a->settings;
    int64_t width = a->shape->width, rank = a->ranks[layer];
    bool equal = options_flag(o, "equal_experts");
    expert_side down = {arena_printf(a->memory, "blocks.%d.%s.down", layer, slot), experts_of(a, "down"), equal, draw},
                up = {arena_printf(a->memory, "blocks.%d.%s.up", layer, slot), experts_of(a, "up"), equal, draw + 1};
    bottleneck *b = ARENA_NEW(a->memory, bottleneck);
    bottleneck_start begin = bottleneck_initial(options_string(o, "init"), width);

    *b = (bottleneck){.factor = 1, .dropout = options_real(o, "dropout")};
    activation_from_name(options_string(o, "activation"), &b->act);
    b->down = experts_add(a, &down, "weight", 2, (int64_t[]){rank, width}, begin.down, NULL);
    b->down_bias = experts_add(a, &down, "bias", 1, (int64_t[]){rank}, begin.down_bias, NULL);
    b->up = experts_add(a, &up, "weight", 2, (int64_t[]){width, rank}, begin.up, NULL);
    b->up_bias = experts_add(a, &up, "bias", 1, &width, (init_rule){INIT_ZERO, 0, 0}, NULL);
    return b;
}

static inlay_status plan_lora(adapter *a, inlay_error *err)
{
    bool equal = strcmp(options_string(a->settings, "init"), "lora") == 0 || options_flag(a->settings, "equal_experts");
    low_rank_plan plan = {.experts_a = experts_of(a, "down"), .experts_b = experts_of(a, "up"), .equal = equal};

    return low_rank_add(a, &plan, err);
}

static inlay_status plan(adapter *a, inlay_error *err)
{
    if (strcmp(options_string(a->settings, "kind"), "lora") == 0)
        return plan_lora(a, err);
    bottleneck_add(a, options_string(a->settings, "position"), bottleneck_apply, make);
    return INLAY_OK;
}

static value loss(const adapter *a, graph *g, const pass_result *passes, const training_target *t)
{
    return experts_loss(g, passes, t, 0, options_real(a->settings, "consistency"));
}

static inlay_status conclude(adapter **out, const adapter *a, device *d, inlay_error *err)
{
    static const char *const bottleneck_options[] = {"rank",   "ranks",       "position", "activation",
                                                     "layers", "drop_layers", NULL};
    static const char *const lora_options[] = {"rank", "ranks", "alpha", "targets", "layers", "drop_layers", NULL};
    bool lora = strcmp(options_string(a->settings, "kind"), "lora") == 0;

    TRY(adapter_plain(out, a, lora ? "lora" : "bottleneck", lora ? lora_options : bottleneck_options, NULL, d, err));
    return experts_merge(*out, a, MERGE_MEAN, d, err);
}

const method method_adamix = {
    .name = "adamix",
    .summary =
        "several adapters of which each pass draws one, held together by a consistency loss and averaged at the end",
    .equation = "y = x + act(x Wd_i + bd_i) Wu_j + bu_j, i and j drawn for each layer and pass",
    .cite = "arXiv 2205.12410",
    .options = option_table,
    .needs = needs,
    .recipe = "adamix",
    .passes = 2,
    .plan = plan,
    .loss = loss,
    .conclude = conclude,
    .unfinished = experts_unfinished,
};
