/* Adaptable adapters (Moosavi et al., arXiv 2205.01549; UKPLab/adaptable-adapters): bottlenecks with a learned rational
 * activation, and in each layer a switch that learns whether there is an adapter at all. What is saved has the adapters
 * of the layers whose switch chose them, and no switches. */
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

/* What the activation can begin as: its coefficients for versions A and B, fitted over [-3, 3] by
 * tools/fit_rational.py. */
typedef struct coefficients {
    double numerator[6], denominator[4];
} coefficients;

static const struct start {
    const char *name;
    coefficients a, b;
} starts[] = {
    {"identity", {{0, 1}, {0}}, {{0, 1}, {0}}},
    {"gelu",
     {{-0.00102303, 0.498685, 0.40629, 0.10914, 0.0110297, 0.000522751}, {0.000840839, 0.210244, 0.00556863, 0}},
     {{-0.00042517, 0.5, 0.402701, 0.0738316, -0.0128347, -0.00371904},
      {-1.76018e-06, 0.147665, -5.9279e-07, -0.007438}}},
    {"relu",
     {{0.0299675, 0.616992, 2.373, 3.0587, 1.51878, 0.251439}, {1.19077, 4.3972, 0.907646, 0.346944}},
     {{0.0379345, 0.911337, 3.278, 3.96151, 1.87616, 0.300237}, {4.12873, 2.01028, 3.10561, 0.0682464}}},
    {"swish",
     {{3.36404e-07, 0.5, 0.249997, 0.0532593, 0.00579977, 0.000274757},
      {1.12778e-06, 0.106518, 2.53534e-07, 0.000549487}},
     {{-3.75701e-07, 0.500002, 0.255035, 0.0557889, 0.00629527, 0.000312544},
      {0.0100729, 0.10655, 0.000976861, 0.000551345}}},
    {"tanh",
     {{0, 1, 0, 0.107629, 0, 0.00086945}, {3.77175e-05, 0.440904, 0, 0.0145606}},
     {{-8.36265e-09, 0.999994, -8.81988e-06, 0.107702, -4.18057e-07, 0.000870829},
      {-8.92963e-06, 0.441008, -3.21236e-06, 0.0145788}}},
    {"sigmoid",
     {{0.5, 0.250007, 0.0776325, 0.0179661, 0.00263932, 0.000178657}, {1.47094e-06, 0.155262, 1.93299e-06, 0.00527828}},
     {{0.5, 0.248872, 0.0523164, 0.00549862, 0.000227936, -3.10471e-06},
      {0.00225472, -0.10576, 0.000220337, -0.00047276}}},
    {"leaky_relu",
     {{0.0297975, 0.618461, 2.32096, 3.04459, 1.47962, 0.249657}, {1.14116, 4.38226, 0.868186, 0.34529}},
     {{0.038017, 0.906717, 3.16073, 3.82954, 1.78727, 0.289437}, {3.97037, 1.95472, 2.97038, 0.0661262}}},
};

static const option_spec option_table[] = {
    OPT_FLAG_ON("switches", "a learned switch in each of the layers; off: plain adapters there"),
    OPTION_LAYERS,
    OPT_TEXT("focus", "", "DIR",
             "take the layers from an adapter that was trained with switches, and train anew without"),
    OPT_INT("rank", "0", 0, 65536, "N", "width of the bottleneck; 0: a sixteenth of the backbone's"),
    OPTION_RANKS,
    OPTION_POSITION("post"),
    OPTION_INIT("bert"),
    OPT_CHOICE("version", "B", "A|B", "denominator of the activation: A: 1 + sum |b_j x^j|, B: 1 + |sum b_j x^j|"),
    OPT_CHOICE("start", "one", "one|identity|gelu|relu|swish|tanh|sigmoid|leaky_relu",
               "the function that the activation begins as; one: R(x) = 1 but for --denominator-init"),
    OPT_REAL("denominator_init", "0.001", -10, 10, "X", "where the denominator's coefficients begin, with --start one"),
    OPT_REAL("temperature", "0.1", 1e-3, 1e3, "X", "of the switches at the beginning"),
    OPT_REAL("min_temperature", "0.1", 1e-3, 1e3, "X", "of the switches from the middle of the run on"),
    OPT_REAL("switch_lr", "0.05", 1e-9, 100, "X", "learning rate of the switches at its peak"),
    OPT_REAL("rational_lr", "0.01", 1e-9, 100, "X", "learning rate of the activations' coefficients at its peak"),
    OPTION_DROPOUT("0"),
    OPTION_DROP_LAYERS,
    {0},
};

/* A focus brings the layers with it and leaves the switches behind. */
static const option_need needs[] = {
    {"temperature", "switches", "true"},
    {"min_temperature", "switches", "true"},
    {"switch_lr", "switches", "true"},
    {"temperature", "focus", ""},
    {"min_temperature", "focus", ""},
    {"switch_lr", "focus", ""},
    {"switches", "focus", ""},
    {"layers", "focus", ""},
    {"denominator_init", "start", "one"},
    {0},
};

static value apply(const build_context *b, value x, const void *context)
{
    const switched *s = context;

    x = bottleneck_apply(b, x, &s->b);
    return s->logits ? graph_gate(b->g, x, s->logits, s->high, s->low) : x;
}

/* The coefficients that the option `start` names; NULL: the activation begins as one. */
static const coefficients *start_of(const adapter *a)
{
    const char *name = options_string(a->settings, "start");

    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++)
        if (strcmp(starts[i].name, name) == 0)
            return options_string(a->settings, "version")[0] == 'A' ? &starts[i].a : &starts[i].b;
    return NULL;
}

static const void *make(adapter *a, int layer, const char *slot, uint32_t draw)
{
    const options *o = a->settings;
    int64_t width = a->shape->width, rank = a->ranks[layer] ? a->ranks[layer] : width / 16 > 0 ? width / 16 : 1;
    switched *s = ARENA_NEW(a->memory, switched);
    bottleneck_start begin = bottleneck_initial(options_string(o, "init"), width);
    (void)draw;
#define NAME(part) arena_printf(a->memory, "blocks.%d.%s." part, layer, slot)

    *s = (switched){
        .b = {.factor = 1, .dropout = options_real(o, "dropout"), .safe = options_string(o, "version")[0] == 'B'},
        .high = options_real(o, "temperature"),
        .low = options_real(o, "min_temperature")};
    s->b.down = adapter_add_param(a, NAME("down.weight"), 2, (int64_t[]){rank, width}, begin.down);
    s->b.down_bias = adapter_add_param(a, NAME("down.bias"), 1, &rank, begin.down_bias);
    /* R(x) = 1 to begin with, unless another start is named */
    s->b.numerator = adapter_add_param(a, NAME("numerator"), 1, (int64_t[]){6}, (init_rule){INIT_FIRST, 1, 0});
    s->b.denominator = adapter_add_param(a, NAME("denominator"), 1, (int64_t[]){4},
                                         (init_rule){INIT_CONSTANT, options_real(o, "denominator_init"), 0});
    if (start_of(a)) {
        adapter_begin_with(a, s->b.numerator, start_of(a)->numerator);
        adapter_begin_with(a, s->b.denominator, start_of(a)->denominator);
    }
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

/* Takes the layers of the first phase's result, which --focus names. */
static inlay_status focus(adapter *a, inlay_error *err)
{
    char layers[LAYERS_TEXT];
    const char *folder = options_string(a->settings, "focus");

    if (!*folder)
        return INLAY_OK;
    TRY(adapter_read_option(folder, "adaptable", "layers", layers, sizeof layers, err));
    TRY(options_set(a->settings, "layers", layers, folder, err));
    TRY(options_set(a->settings, "switches", "false", folder, err));
    TRY(options_set(a->settings, "focus", "", folder, err));
    return adapter_read_layers(a, err);
}

static inlay_status plan(adapter *a, inlay_error *err)
{
    TRY(focus(a, err));
    bottleneck_add(a, options_string(a->settings, "position"), apply, make);
    return INLAY_OK;
}

/* Whether a layer's switches chose the adapter: in each slot the greater logit decides, ties keep it off. A layer with
 * two slots stays when one of them stays. */
static bool stays(const adapter *a, int layer, const device *d)
{
    bool found = false;
    char prefix[32];

    snprintf(prefix, sizeof prefix, "blocks.%d.", layer);
    for (const adapter_param *i = NULL; (i = adapter_each_param(a, i));) {
        const param *p = i->p;
        const char *dot = strrchr(p->name, '.');
        float logits[2];
        if (!dot || strcmp(dot, ".switch") != 0 || strncmp(p->name, prefix, strlen(prefix)) != 0)
            continue;
        param_get(p, d, logits);
        found |= logits[1] > logits[0];
    }
    return found;
}

/* The layers that are kept, and the ranks that the option names among them. */
static void list_kept(const adapter *a, const device *d, const char **layers, const char **ranks)
{
    bool ranked = *options_string(a->settings, "ranks") != 0, switches = options_flag(a->settings, "switches");

    *layers = *ranks = "";
    for (int layer = 0; layer < a->shape->depth; layer++) {
        if (!a->layers[layer] || (switches && !stays(a, layer, d)))
            continue;
        *layers = arena_printf(a->memory, "%s%s%d", *layers, **layers ? "," : "", layer);
        if (ranked && a->ranks[layer])
            *ranks =
                arena_printf(a->memory, "%s%s%d:%lld", *ranks, **ranks ? "," : "", layer, (long long)a->ranks[layer]);
    }
    if (!**layers)
        *layers = "none";
}

static inlay_status conclude(adapter **out, const adapter *a, device *d, inlay_error *err)
{
    static const char *const same[] = {"rank", "position", "version", NULL};
    const char *layers, *ranks;

    list_kept(a, d, &layers, &ranks);
    const char *const settings[][2] = {{"switches", "false"}, {"layers", layers}, {"ranks", ranks}, {NULL, NULL}};
    TRY(adapter_plain(out, a, "adaptable", same, settings, d, err));
    for (const adapter_param *i = NULL; (i = adapter_each_param(*out, i));) {
        param *to = i->p, *from = adapter_find(a, to->name);
        TRY(adapter_average(to, &from, 1, 1, d, err));
    }
    return INLAY_OK;
}

static bool unfinished(const adapter *a)
{
    return options_flag(a->settings, "switches");
}

const method method_adaptable = {
    .name = "adaptable",
    .summary =
        "bottlenecks with a learned activation and a learned switch in each layer; the layers that it chooses are kept",
    .equation =
        "y = x + w (R(x Wd + bd) Wu + bu), R(x) = P(x) / Q(x), w from softmax((s + Gumbel noise) / temperature)",
    .cite = "arXiv 2205.01549",
    .options = option_table,
    .needs = needs,
    .recipe = "adaptable",
    .plan = plan,
    .conclude = conclude,
    .unfinished = unfinished,
};
