/* Visual prompt tuning (Jia et al., arXiv 2203.12119): trained tokens behind the class token. Shallow: into the first
 * of the layers only; deep: replaced by the own of each of the others. A layer without prompts of its own works on with
 * those that the layer before it gave. */
#include <math.h>
#include <string.h>

#include "adapters/adapter_impl.h"
#include "adapters/method.h"

typedef struct prompt {
    param *rows;
    double dropout;
    bool insert; /* else: replace */
} prompt;

static const option_spec option_table[] = {
    OPT_INT("prompts", "50", 1, 4096, "N", "number of prompt tokens"),
    OPT_FLAG_ON("deep", "own prompts for every block"),
    OPT_FLAG("shared", "the same prompts for every block"),
    OPTION_LAYERS,
    OPTION_UNFREEZE,
    OPT_CHOICE(
        "init", "width", "width|prompts",
        "uniform in +-sqrt(6 / (3 patch^2 + N)), N the model's width, or the number of prompts as Adapter+ has it"),
    OPT_REAL("dropout", "0.1", 0, 0.95, "P", "dropout on the prompts"),
    {0},
};

static const option_need needs[] = {{"shared", "deep", "true"}, {0}};

static value apply(const build_context *b, value x, const void *context)
{
    const prompt *p = context;
    int64_t at = inserted_row(b->a->shape);
    value rows = graph_dropout(b->g, graph_broadcast(b->g, p->rows), b->training ? p->dropout : 0);

    return p->insert ? graph_insert_tokens(b->g, x, rows, at) : graph_replace_tokens(b->g, x, rows, at);
}

static inlay_status plan(adapter *a, inlay_error *err)
{
    const backbone_shape *s = a->shape;
    /* KMnP/vpt has the width there, visinf/adapter_plus the number of prompts */
    bool by_prompts = strcmp(options_string(a->settings, "init"), "prompts") == 0;
    int64_t fan = by_prompts ? options_int(a->settings, "prompts") : s->width;
    double bound = sqrt(6.0 / (double)(3 * s->patch * s->patch + fan));

    param *rows = NULL;

    (void)err;
    for (int layer = 0; layer < s->depth; layer++) {
        prompt *p = ARENA_NEW(a->memory, prompt);
        if (!a->layers[layer] || (a->declared->transform_count && !options_flag(a->settings, "deep")))
            continue;
        p->insert = a->declared->transform_count == 0;
        p->dropout = options_real(a->settings, "dropout");
        p->rows = rows ? rows
                       : adapter_add_param(a, arena_printf(a->memory, "prompts.%d.weight", layer), 2,
                                           (int64_t[]){options_int(a->settings, "prompts"), s->width},
                                           (init_rule){INIT_UNIFORM, -bound, bound});
        rows = options_flag(a->settings, "shared") ? p->rows : NULL;
        adapter_add_transform(a, (site){SITE_BLOCK_INPUT, layer}, apply, p);
    }
    return INLAY_OK;
}

const method method_vpt = {
    .name = "vpt",
    .summary = "trained prompt tokens in the sequence, at the input or in every block",
    .equation = "[class; P; patches] into the block",
    .cite = "arXiv 2203.12119",
    .options = option_table,
    .needs = needs,
    .recipe = "adapter_plus_no_drop_path",
    .plan = plan,
};
