/* Adaptable adapters (Moosavi et al., arXiv 2205.01549; UKPLab/adaptable-adapters): bottlenecks with a learned rational activation, and in each layer a switch that
 * learns whether there is an adapter at all. What is saved has the adapters of the layers whose switch chose them, and no switches. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "adapters/bottleneck.h"

#define LAYERS_TEXT 1024

/* A switched adapter: a bottleneck, and the logits of (skip, adapter). */
typedef struct switched {
    bottleneck b;
    param *logits;
    double high, low;
} switched;

static const option_spec option_table[] = {
    {"switches", OPTION_FLAG, "true", NULL, 0, 0, NULL, "a learned switch in every layer; off: adapters in the given layers", false},
    {"layers", OPTION_STRING, "all", NULL, 0, 0, "LIST", "without switches: the layers that have adapters, say 0,3,11; all; none", false},
    {"focus", OPTION_STRING, "", NULL, 0, 0, "DIR", "take the layers from an adapter that was trained with switches, and train anew without", false},
    {"rank", OPTION_INT, "0", NULL, 0, 65536, "N", "width of the bottleneck; 0: a sixteenth of the backbone's", false},
    OPTION_POSITION("post"),
    OPTION_INIT("bert"),
    {"version", OPTION_CHOICE, "B", "A|B", 0, 0, NULL, "denominator of the activation: A: 1 + sum |b_j x^j|, B: 1 + |sum b_j x^j|", false},
    {"denominator_init", OPTION_REAL, "0.001", NULL, -10, 10, "X", "where the denominator's coefficients begin", false},
    {"temperature", OPTION_REAL, "0.1", NULL, 1e-3, 1e3, "X", "of the switches at the beginning", false},
    {"min_temperature", OPTION_REAL, "0.1", NULL, 1e-3, 1e3, "X", "of the switches from the middle of the run on", false},
    {"switch_lr", OPTION_REAL, "0.05", NULL, 1e-9, 100, "X", "learning rate of the switches at its peak", false},
    {"rational_lr", OPTION_REAL, "0.01", NULL, 1e-9, 100, "X", "learning rate of the activations' coefficients at its peak", false},
    OPTION_DROPOUT("0"),
    OPTION_DROP_LAYERS,
    {0},
};

static value apply(const adapter *a, graph *g, value x, const void *context, bool training)
{
    const switched *s = context;

    x = bottleneck_apply(a, g, x, &s->b, training);
    return s->logits ? graph_gate(g, x, s->logits, s->high, s->low) : x;
}

static const void *make(adapter *a, int layer, const char *slot, uint32_t draw)
{
    const options *o = a->settings;
    int64_t width = a->shape->width, rank = options_int(o, "rank") ? options_int(o, "rank") : width / 16 > 0 ? width / 16 : 1;
    switched *s = ARENA_NEW(a->memory, switched);
    bottleneck_start begin = bottleneck_initial(options_string(o, "init"), width);
    (void)draw;
#define NAME(part) arena_printf(a->memory, "blocks.%d.%s." part, layer, slot)

    *s = (switched){.b = {.factor = 1, .dropout = options_real(o, "dropout"), .safe = options_string(o, "version")[0] == 'B'},
                    .high = options_real(o, "temperature"), .low = options_real(o, "min_temperature")};
    s->b.down = adapter_add_param(a, NAME("down.weight"), 2, (int64_t[]){rank, width}, begin.down);
    s->b.down_bias = adapter_add_param(a, NAME("down.bias"), 1, &rank, begin.down_bias);
    /* R(x) = 1 to begin with */
    s->b.numerator = adapter_add_param(a, NAME("numerator"), 1, (int64_t[]){6}, (init_rule){INIT_FIRST, 1, 0});
    s->b.denominator = adapter_add_param(a, NAME("denominator"), 1, (int64_t[]){4}, (init_rule){INIT_CONSTANT, options_real(o, "denominator_init"), 0});
    adapter_peak_lr(a, s->b.numerator, options_real(o, "rational_lr"));
    adapter_peak_lr(a, s->b.denominator, options_real(o, "rational_lr"));
    s->b.up = adapter_add_param(a, NAME("up.weight"), 2, (int64_t[]){width, rank}, begin.up);
    s->b.up_bias = adapter_add_param(a, NAME("up.bias"), 1, &width, (init_rule){INIT_ZERO, 0, 0});
    if (options_flag(o, "switches")) {
        s->logits = adapter_add_param(a, NAME("switch"), 1, (int64_t[]){2}, (init_rule){INIT_CONSTANT, 0.5, 0});
        adapter_peak_lr(a, s->logits, options_real(o, "switch_lr"));
    }
#undef NAME
    return s;
}

/* Marks what "all", "none" or "0,3,11" names. */
static inlay_status read_layers(const adapter *a, const char *text, bool *chosen, inlay_error *err)
{
    bool all = strcmp(text, "all") == 0;

    for (int layer = 0; layer < a->shape->depth; layer++)
        chosen[layer] = all;
    if (all || strcmp(text, "none") == 0)
        return INLAY_OK;
    for (const char *at = text; *at;) {
        char *end;
        long layer = strtol(at, &end, 10);
        if (end == at || layer < 0 || layer >= a->shape->depth || (*end && *end != ','))
            FAIL(err, INLAY_ERR_USAGE, "layers: expected all, none or numbers from 0 to %lld with commas between, found '%s'", (long long)a->shape->depth - 1, text);
        chosen[layer] = true;
        at = end + (*end == ',');
    }
    return INLAY_OK;
}

/* --focus: the layers of the first phase's result become ours. */
static inlay_status focus(adapter *a, inlay_error *err)
{
    char layers[LAYERS_TEXT];
    const char *folder = options_string(a->settings, "focus");

    if (!*folder)
        return INLAY_OK;
    TRY(adapter_read_option(folder, "adaptable", "layers", layers, sizeof layers, err));
    TRY(options_set(a->settings, "layers", layers, folder, err));
    TRY(options_set(a->settings, "switches", "false", folder, err));
    return options_set(a->settings, "focus", "", folder, err);
}

static inlay_status plan(adapter *a, inlay_error *err)
{
    bool *chosen = ARENA_ARRAY(a->memory, bool, a->shape->depth);

    TRY(focus(a, err));
    TRY(read_layers(a, options_string(a->settings, "layers"), chosen, err));
    bottleneck_add(a, options_string(a->settings, "position"), options_flag(a->settings, "switches") ? NULL : chosen, apply, make);
    return INLAY_OK;
}

/* Whether a layer's switches chose the adapter: in each slot the greater logit decides, ties keep it off. A layer with two slots stays when one of them stays. */
static bool stays(const adapter *a, int layer, const device *d)
{
    bool found = false;
    char prefix[32];

    snprintf(prefix, sizeof prefix, "blocks.%d.", layer);
    for (int i = 0; i < a->param_count; i++) {
        const param *p = a->params[i].p;
        const char *dot = strrchr(p->name, '.');
        float logits[2];
        if (!dot || strcmp(dot, ".switch") != 0 || strncmp(p->name, prefix, strlen(prefix)) != 0)
            continue;
        param_get(p, d, logits);
        found |= logits[1] > logits[0];
    }
    return found;
}

static inlay_status merge(adapter **out, const adapter *a, device *d, inlay_error *err)
{
    static const char *const same[] = {"rank", "position", "version", "drop_layers", NULL};
    char layers[LAYERS_TEXT] = "";
    const char *const settings[][2] = {{"switches", "false"}, {"layers", layers}, {NULL, NULL}};

    for (int layer = a->first_layer; layer < a->shape->depth; layer++)
        if (!options_flag(a->settings, "switches") || stays(a, layer, d))
            snprintf(layers + strlen(layers), sizeof layers - strlen(layers), "%s%d", *layers ? "," : "", layer);
    if (!options_flag(a->settings, "switches"))
        snprintf(layers, sizeof layers, "%s", options_string(a->settings, "layers"));
    else if (!*layers)
        snprintf(layers, sizeof layers, "none");
    TRY(adapter_plain(out, a, "adaptable", same, settings, d, err));
    for (int i = 0; i < (*out)->param_count; i++) {
        param *to = (*out)->params[i].p, *from = adapter_find(a, to->name);
        TRY(adapter_average(to, &from, 1, 1, d, err));
    }
    return INLAY_OK;
}

static bool unmerged(const adapter *a)
{
    return options_flag(a->settings, "switches");
}

const method method_adaptable = {
    .name = "adaptable",
    .summary = "bottlenecks with a learned activation and a learned switch in each layer; the layers that it chooses are kept",
    .equation = "y = x + w (R(x Wd + bd) Wu + bu), R(x) = P(x) / Q(x), w from softmax((s + Gumbel noise) / temperature)",
    .cite = "arXiv 2205.01549",
    .options = option_table,
    .drop_path = 0.1,
    .lr = 1e-3,
    .plan = plan,
    .merge = merge,
    .unmerged = unmerged,
};
