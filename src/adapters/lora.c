/* LoRA (Hu et al., arXiv 2106.09685): y = x W^T + (alpha / r) * dropout(x) A^T B^T. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/adapter_impl.h"
#include "adapters/experts.h"
#include "adapters/low_rank.h"

typedef struct low_rank {
    param *a, *b; /* may stand for a choice of experts */
    double scale, dropout, inner_dropout, drop_path;
    activation act;
    const char *weight; /* the backbone's weight that it changes, and the first row of it */
    int64_t first;
} low_rank;

/* What can be changed: a product's input and output site, its weight, and which of the weight's three parts. */
static const struct target {
    const char *name, *slot;
    site_kind from, to;
    const char *weight;
    int part;
} targets[] = {
    {"q", "attn.q", SITE_ATTN_NORM, SITE_Q, "attn.qkv.weight", 0},
    {"k", "attn.k", SITE_ATTN_NORM, SITE_K, "attn.qkv.weight", 1},
    {"v", "attn.v", SITE_ATTN_NORM, SITE_V, "attn.qkv.weight", 2},
    {"proj", "attn.proj", SITE_ATTN_HIDDEN, SITE_ATTN_PROJ, "attn.proj.weight", 0},
    {"fc1", "mlp.fc1", SITE_FFN_NORM, SITE_FFN_PRE, "mlp.fc1.weight", 0},
    {"fc2", "mlp.fc2", SITE_FFN_HIDDEN, SITE_FFN_PROJ, "mlp.fc2.weight", 0},
};
#define TARGETS (sizeof targets / sizeof *targets)

static const option_spec option_table[] = {
    OPTION_RANK("8"),
    OPTION_RANKS,
    OPT_REAL("alpha", "16", 0, 1e6, "X", "the change is scaled by alpha / rank"),
    OPT_REAL("scale", "0", -1e6, 1e6, "X", "factor on the change in place of alpha / rank; 0: that"),
    OPTION_ACTIVATION("none"),
    OPT_REAL("dropout", "0", 0, 0.95, "P", "dropout on the input of the change"),
    OPT_REAL("drop_path", "0", 0, 0.95, "P", "stochastic depth on the change"),
    OPTION_TARGETS,
    OPTION_LAYERS,
    OPTION_DROP_LAYERS,
    OPTION_UNFREEZE,
    {0},
};

static const option_need needs[] = {{"alpha", "scale", "0"}, {0}};

static value apply(const build_context *b, value x, const void *context)
{
    const low_rank *l = context;
    graph *g = b->g;

    x = graph_dropout(g, x, b->training ? l->dropout : 0);
    x = graph_activation(g, graph_linear(g, x, l->a, NULL, 0, 0), l->act);
    x = graph_dropout(g, x, b->training ? l->inner_dropout : 0);
    x = graph_linear(g, x, l->b, NULL, 0, 0);
    x = graph_affine(g, x, NULL, NULL, l->scale);
    return graph_drop_path(g, x, b->training ? l->drop_path : 0);
}

static void add(adapter *a, int layer, const struct target *t, const low_rank_plan *plan, uint32_t draw)
{
    int64_t width = a->shape->width, hidden = a->shape->hidden, rank = a->ranks[layer];
    int64_t in = t->from == SITE_FFN_HIDDEN ? hidden : width, out = t->to == SITE_FFN_PRE ? hidden : width;
    double bound = 1 / sqrt((double)in); /* Kaiming-uniform with a = sqrt(5) */
    low_rank *l = ARENA_NEW(a->memory, low_rank);
    double *dropout = plan->inner_dropout ? &l->inner_dropout : &l->dropout;
    mask_rule mask = plan->mask ? *plan->mask : (mask_rule){0};
    expert_side side_a = {arena_printf(a->memory, "blocks.%d.%s.lora_A", layer, t->slot), plan->experts_a, plan->equal,
                          draw},
                side_b = {arena_printf(a->memory, "blocks.%d.%s.lora_B", layer, t->slot), plan->experts_b, plan->equal,
                          draw + 1};
    param **as, **bs;

    l->scale = plan->scale != 0 ? plan->scale : options_real(a->settings, "alpha") / (double)rank;
    l->act = plan->act;
    l->drop_path = plan->drop_path;
    *dropout = options_real(a->settings, "dropout");
    l->weight = arena_printf(a->memory, "blocks.%d.%s", layer, t->weight);
    l->first = t->part * width;
    l->a = experts_add(a, &side_a, "weight", 2, (int64_t[]){rank, in}, (init_rule){INIT_UNIFORM, -bound, bound}, &as);
    l->b = experts_add(a, &side_b, "weight", 2, (int64_t[]){out, rank}, (init_rule){INIT_ZERO, 0, 0}, &bs);
    for (int side = 0; plan->mask && side < 2; side++) {
        mask.stream = draw + (uint32_t)side;
        experts_mask(a, side ? bs : as, side ? plan->experts_b : plan->experts_a, mask);
    }
    adapter_add_edge(a, (site){t->from, layer}, (site){t->to, layer}, apply, l);
}

inlay_status low_rank_add(adapter *a, const low_rank_plan *plan, inlay_error *err)
{
    uint32_t draw = 0, next = 0;
    const char *text = options_string(a->settings, "targets");
    bool wanted[TARGETS] = {false};

    while (*text) {
        size_t length = strcspn(text, ","), i = 0;
        while (i < TARGETS && !(strlen(targets[i].name) == length && strncmp(targets[i].name, text, length) == 0))
            i++;
        if (i == TARGETS)
            FAIL(err, INLAY_ERR_USAGE, "targets: '%.*s' is not one of q, k, v, proj, fc1, fc2", (int)length, text);
        wanted[i] = true;
        text += length + (text[length] == ',');
    }
    for (int layer = 0; layer < a->shape->depth; layer++) {
        const char *weight = ""; /* parts of one product draw their experts together, unless the plan says otherwise */
        for (size_t i = 0; i < TARGETS; i++) {
            if (!wanted[i] || !a->layers[layer])
                continue;
            if (plan->apart || strcmp(weight, targets[i].weight) != 0) {
                draw = next;
                next += 2;
            }
            weight = targets[i].weight;
            add(a, layer, &targets[i], plan, draw);
        }
    }
    if (*options_string(a->settings, "targets") == 0)
        FAIL(err, INLAY_ERR_USAGE, "targets: expected at least one of q, k, v, proj, fc1, fc2");
    return INLAY_OK;
}

static inlay_status plan_lora(adapter *a, inlay_error *err)
{
    const options *o = a->settings;
    low_rank_plan plan = {
        .experts_a = 1, .experts_b = 1, .scale = options_real(o, "scale"), .drop_path = options_real(o, "drop_path")};

    activation_from_name(options_string(o, "activation"), &plan.act);
    return low_rank_add(a, &plan, err);
}

/* Adds scale * B A to every weight that is changed. */
static inlay_status fold(const adapter *a, const fold_target *target, inlay_error *err)
{
    const char *act = options_string(a->settings, "activation");

    if (strcmp(act, "none") != 0)
        FAIL(err, INLAY_ERR_UNSUPPORTED,
             "lora with activation '%s' cannot be written into the weights: it is not linear", act);
    for (int e = 0; e < a->declared->edge_count; e++) {
        const low_rank *l = a->declared->edges[e].context;
        int64_t rows, columns, rank = l->a->dims[0], out = l->b->dims[0];
        float *w = target->weight(target->context, l->weight, &rows, &columns, err), *low, *up;
        if (!w)
            return err ? err->code : INLAY_ERR_FORMAT;
        low = memory_array(l->a->count, sizeof *low);
        up = memory_array(l->b->count, sizeof *up);
        if (!low || !up) {
            free(low);
            free(up);
            FAIL(err, INLAY_ERR_NOMEM, "out of memory folding '%s'", l->weight);
        }
        dtype_to_f32(low, l->a->source, l->a->source_type, (size_t)l->a->count);
        dtype_to_f32(up, l->b->source, l->b->source_type, (size_t)l->b->count);
        for (int64_t i = 0; i < out; i++)
            for (int64_t j = 0; j < columns; j++) {
                double sum = 0;
                for (int64_t r = 0; r < rank; r++)
                    sum += (double)up[i * rank + r] * (double)low[r * columns + j];
                w[(l->first + i) * columns + j] += (float)(l->scale * sum);
            }
        free(low);
        free(up);
    }
    return INLAY_OK;
}

const method method_lora = {
    .name = "lora",
    .summary = "low-rank change of the attention's and feed-forward part's weights; folds into them",
    .equation = "y = x W^T + (alpha / rank) * x A^T B^T",
    .cite = "arXiv 2106.09685",
    .options = option_table,
    .needs = needs,
    .recipe = "lora",
    .plan = plan_lora,
    .fold = fold,
};
