/* AdapterFusion (Pfeiffer et al., arXiv 2005.00247; adapter-hub/adapters): given trained adapters stay as they are, and
 * for every layer and token an attention over their results is learned. AdapterDrop (arXiv 2010.11918) prunes it: the
 * option `keep` names the parts that are left. */
#include "adapters/fusion.h"

#include <stdlib.h>
#include <string.h>

#include "adapters/adapter_impl.h"
#include "adapters/method.h"
#include "base/file.h"
#include "base/json.h"

#define MOST_PARTS 256 /* each costs time and memory before anything in it can be evaluated */

/* One layer's mixture. */
typedef struct fusion {
    param *q, *q_bias, *k, *k_bias, *v;
    int layer, count;
    int *parts;         /* [count] */
    const edge **edges; /* [count] their adapters in this layer */
} fusion;

static const option_spec option_table[] = {
    OPT_TEXT("adapters", "", "DIR,DIR,...", "folders of the trained adapters that are fused, at least two"),
    OPT_REAL("regulariser", "0.01", 0, 1e6, "X",
             "weight of the squared distance of each layer's value matrix from the identity"),
    OPT_FLAG_ON("value", "a learned matrix on what is mixed; without: the results as they are"),
    OPT_TEXT("keep", "", "LIST",
             "parts that are fused in a layer, say 0:0,2;1:1,2; layers that are not named have all"),
    OPT_TEXT("parts", "", "JSON", "methods and options of the fused adapters; written by the program"),
    OPTION_LAYERS,
    OPTION_DROP_LAYERS,
    {0},
};

static const option_need needs[] = {{"regulariser", "value", "true"}, {0}};

/* Mixes the parts: softmax_n(q . k_n) v_n, q = z Q + bq, k_n = a_n K + bk, v_n = a_n V, a_n part n's function of z. */
static value apply(const build_context *b, value z, const void *context)
{
    const fusion *f = context;
    build_context of_part = *b;
    graph *g = b->g;
    value results = NO_VALUE, mix;

    of_part.training = false;
    for (int n = 0; n < f->count; n++) {
        const edge *e = f->edges[n];
        of_part.a = b->a->parts[f->parts[n]];
        results = graph_stack(g, results, e->function(&of_part, z, e->context), n, f->count);
    }
    mix = graph_mix(g, graph_linear(g, z, f->q, f->q_bias, 0, 0), graph_linear(g, results, f->k, f->k_bias, 0, 0),
                    f->v ? graph_linear(g, results, f->v, NULL, 0, 0) : results, f->count);
    graph_mark(g, graph_mix_weights(g, mix), FUSION_MARK, b->at.layer);
    return mix;
}

/* ---- the parts: from folders when a fusion begins, from the option `parts` when it is loaded ---- */

static void add_option(void *context, const option_spec *spec, const char *text)
{
    json_object_set_new(context, spec->name, json_string(text));
}

/* Sets the option `parts`: with the digest of its file, a part is known again when the run is resumed. */
static inlay_status describe_parts(adapter *a, inlay_error *err)
{
    json_t *list = json_array();
    char *text, digest[65];
    inlay_status status = INLAY_OK;

    for (int n = 0; n < a->part_count && status == INLAY_OK; n++) {
        json_t *settings = json_object();
        status = tensor_set_sha256(a->parts[n]->file, digest, err);
        options_each(a->parts[n]->settings, NULL, add_option, settings);
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:o}", "sha256", digest, "method", a->parts[n]->name, "options", settings));
    }
    text = json_dumps(list, JSON_COMPACT | JSON_PRESERVE_ORDER);
    if (status == INLAY_OK)
        status = text ? options_set(a->settings, "parts", text, "fusion", err)
                      : error_set(err, INLAY_ERR_NOMEM, "out of memory describing the parts");
    free(text);
    json_decref(list);
    return status;
}

static inlay_status open_parts(adapter *a, const char *folders, inlay_error *err)
{
    while (*folders) {
        if (a->part_count == MOST_PARTS)
            FAIL(err, INLAY_ERR_USAGE, "adapters: at most %d folders can be fused", MOST_PARTS);
        size_t length = strcspn(folders, ",");
        const char *folder = arena_printf(a->memory, "%.*s", (int)length, folders);
        adapter *part;
        if (adapter_load(&part, folder, a->backbone, false, NULL, err) != INLAY_OK)
            return error_prefix(err, "adapters: part %d", a->part_count);
        adapter_add_part(a, part);
        folders += length + (folders[length] == ',');
    }
    TRY(describe_parts(a, err));
    return options_set(a->settings, "adapters", "", "fusion", err);
}

static inlay_status make_part(adapter *a, const json_t *item, inlay_error *err)
{
    const char *name = json_string_value(json_object_get(item, "method")), *key;
    json_t *settings = json_object_get(item, "options"), *text;
    options *o;
    adapter *part;

    if (!name || !json_is_object(settings))
        FAIL(err, INLAY_ERR_FORMAT, "parts: keys 'method' (text) and 'options' (object) are expected of part %d",
             a->part_count);
    TRY(adapter_settings(&o, name, err));
    json_object_foreach(settings, key, text)
    {
        const char *given = json_string_value(text) ? json_string_value(text) : "";
        inlay_status status = options_set_foreign(o, key, given, "parts", err);
        if (status != INLAY_OK) {
            options_free(o);
            return status;
        }
    }
    TRY(adapter_new(&part, name, o, a->backbone, 1, NULL, err));
    adapter_add_part(a, part);
    return INLAY_OK;
}

static inlay_status make_parts(adapter *a, const char *text, inlay_error *err)
{
    json_error_t where = {.line = -1};
    json_t *list = json_loads(*text ? text : "[]", JSON_REJECT_DUPLICATES, &where);
    size_t count = json_array_size(list);
    inlay_status status = INLAY_OK;

    if (!list)
        status = where.line < 0 ? error_set(err, INLAY_ERR_NOMEM, "out of memory reading 'parts'")
                                : error_set(err, INLAY_ERR_FORMAT, "parts: column %d: %s", where.column, where.text);
    if (count > MOST_PARTS)
        status = error_set(err, INLAY_ERR_FORMAT, "parts: %zu adapters, at most %d can be fused", count, MOST_PARTS);
    for (size_t i = 0; status == INLAY_OK && i < json_array_size(list); i++)
        status = make_part(a, json_array_get(list, i), err);
    json_decref(list);
    return status;
}

/* ---- which of them fit together ---- */

/* Whether a part draws: experts and switches do, what a run makes of them at its end does not. */
static bool draws(const adapter *part, const edge *e)
{
    graph *g = graph_new(kernels_set(0), DTYPE_F32);
    bool found;

    e->function(&(build_context){.a = part, .g = g, .at = e->to},
                graph_input(g, "z", DTYPE_F32, 1, site_width(part->shape, e->from.kind)), e->context);
    found = graph_draws(g);
    graph_free(g);
    return found;
}

/* The one adapter of part n in a layer. */
static inlay_status find_edge(const adapter *a, int n, int layer, const edge **out, inlay_error *err)
{
    const adapter *part = a->parts[n];
    int count = 0;

    for (int i = 0; i < part->declared->edge_count; i++)
        if (part->declared->edges[i].to.layer == layer) {
            *out = &part->declared->edges[i];
            count++;
        }
    if (count != 1)
        FAIL(err, INLAY_ERR_USAGE,
             "adapters: part %d ('%s') has %d adapters in layer %d, but 1 is expected in every layer that is fused "
             "(layers and drop_layers leave layers out)",
             n, part->name, count, layer);
    if (draws(part, *out))
        FAIL(err, INLAY_ERR_USAGE,
             "adapters: part %d ('%s') draws experts or switches: the merge that its run saved is expected", n,
             part->name);
    return INLAY_OK;
}

static inlay_status check_parts(const adapter *a, inlay_error *err)
{
    if (a->part_count < 2)
        FAIL(err, INLAY_ERR_USAGE,
             "adapters: at least 2 folders of trained adapters are expected, with commas between, found %d",
             a->part_count);
    for (int n = 0; n < a->part_count; n++) {
        if (!adapter_can_skip(a->parts[n]))
            FAIL(err, INLAY_ERR_USAGE,
                 "adapters: part %d ('%s') transforms activations or trains weights of the backbone: only adapters "
                 "that add to a site can be fused",
                 n, a->parts[n]->name);
        for (int layer = 0; layer < a->shape->depth; layer++) {
            const edge *first, *e;
            if (!a->layers[layer])
                continue;
            TRY(find_edge(a, 0, layer, &first, err));
            TRY(find_edge(a, n, layer, &e, err));
            if (e->from.kind != first->from.kind || e->from.layer != first->from.layer || e->to.kind != first->to.kind)
                FAIL(err, INLAY_ERR_USAGE,
                     "adapters: in layer %d part 0 ('%s') reads '%s' and adds to '%s', part %d ('%s') reads '%s' and "
                     "adds to '%s': they must agree",
                     layer, a->parts[0]->name, site_name(first->from.kind), site_name(first->to.kind), n,
                     a->parts[n]->name, site_name(e->from.kind), site_name(e->to.kind));
        }
    }
    return INLAY_OK;
}

/* Reads the option `keep`: used[layer * parts + n] = whether part n is fused there. */
static inlay_status read_kept(const adapter *a, bool *used, inlay_error *err)
{
    const char *text = options_string(a->settings, "keep"), *at = text;
    int parts = a->part_count;

    for (int i = 0; i < a->shape->depth * parts; i++)
        used[i] = true;
    while (*at) {
        char *end;
        long layer = strtol(at, &end, 10), n = -1;
        bool good = end > at && *end == ':' && layer >= 0 && layer < a->shape->depth;
        for (int i = 0; good && i < parts; i++)
            used[layer * parts + i] = false;
        do {
            at = good ? end + 1 : at;
            n = good ? strtol(at, &end, 10) : n;
            good = good && end > at && n >= 0 && n < parts && !used[layer * parts + n] &&
                   (!*end || *end == ',' || *end == ';');
            if (!good)
                FAIL(err, INLAY_ERR_USAGE,
                     "keep: expected a layer (0 to %lld) and its parts (0 to %d), say 0:0,2;1:1,2, found '%s' in '%s'",
                     (long long)a->shape->depth - 1, parts - 1, at, text);
            used[layer * parts + n] = true;
        } while (*end == ',');
        at = end + (*end == ';');
    }
    return INLAY_OK;
}

/* ---- the fusion ---- */

static inlay_status make(adapter *a, int layer, const bool *used, inlay_error *err)
{
    fusion *f = ARENA_NEW(a->memory, fusion);
    init_rule random = {INIT_NORMAL, 0, 0.02}, zero = {INIT_ZERO, 0, 0};
    int64_t from, to;
#define NAME(part) arena_printf(a->memory, "blocks.%d.fusion." part, layer)

    f->layer = layer;
    f->parts = ARENA_ARRAY(a->memory, int, a->part_count);
    f->edges = ARENA_ARRAY(a->memory, const edge *, a->part_count);
    for (int n = 0; n < a->part_count; n++)
        if (used[n]) {
            TRY(find_edge(a, n, layer, &f->edges[f->count], err));
            f->parts[f->count++] = n;
        }
    from = site_width(a->shape, f->edges[0]->from.kind);
    to = site_width(a->shape, f->edges[0]->to.kind);
    f->q = adapter_add_param(a, NAME("query.weight"), 2, (int64_t[]){to, from}, random);
    f->q_bias = adapter_add_param(a, NAME("query.bias"), 1, &to, zero);
    f->k = adapter_add_param(a, NAME("key.weight"), 2, (int64_t[]){to, to}, random);
    f->k_bias = adapter_add_param(a, NAME("key.bias"), 1, &to, zero);
    if (options_flag(a->settings, "value"))
        f->v = adapter_add_param(a, NAME("value.weight"), 2, (int64_t[]){to, to}, (init_rule){INIT_DIAGONAL, 1, 1e-6});
    adapter_add_edge(a, f->edges[0]->from, f->edges[0]->to, apply, f);
#undef NAME
    return INLAY_OK;
}

static inlay_status plan(adapter *a, inlay_error *err)
{
    const char *folders = options_string(a->settings, "adapters");
    int64_t depth = a->shape->depth;
    bool *used, *layers;

    TRY(*folders ? open_parts(a, folders, err) : make_parts(a, options_string(a->settings, "parts"), err));
    TRY(check_parts(a, err));
    used = ARENA_ARRAY(a->memory, bool, depth * a->part_count);
    layers = ARENA_ARRAY(a->memory, bool, depth);
    TRY(read_kept(a, used, err));
    for (int n = 0; n < a->part_count; n++) {
        for (int layer = 0; layer < depth; layer++)
            layers[layer] = a->layers[layer] && used[layer * a->part_count + n];
        adapter_list_part(a, n, layers);
    }
    for (int layer = 0; layer < depth; layer++)
        if (a->layers[layer])
            TRY(make(a, layer, used + (ptrdiff_t)layer * a->part_count, err));
    return INLAY_OK;
}

static value loss(const adapter *a, graph *g, const pass_result *passes, const training_target *t)
{
    double weight = options_real(a->settings, "regulariser");
    value total = t->task->loss(g, passes[0].outputs, t->targets, t->smoothing);

    for (int i = 0; weight != 0 && i < a->declared->edge_count; i++) {
        const fusion *f = a->declared->edges[i].context;
        if (f->v && graph_has_param(g, f->v)) /* a layer that a step drops has no regulariser either */
            total = graph_add_scaled(g, total, graph_identity_distance(g, f->v), weight);
    }
    return total;
}

bool adapter_is_fusion(const adapter *a)
{
    return a->method->plan == plan;
}

int fusion_parts(const adapter *a, int layer, const int **parts)
{
    for (int i = 0; adapter_is_fusion(a) && i < a->declared->edge_count; i++) {
        const fusion *f = a->declared->edges[i].context;
        if (f->layer == layer) {
            *parts = f->parts;
            return f->count;
        }
    }
    return 0;
}

const method method_fusion = {
    .name = "fusion",
    .summary = "an attention over the results of given trained adapters, for each layer and token",
    .equation = "y = x + sum_n softmax_n((z Q + bq) . (a_n K + bk)) a_n V, a_n adapter n's function of z",
    .cite = "arXiv 2005.00247",
    .options = option_table,
    .needs = needs,
    .recipe = "fusion",
    .plan = plan,
    .loss = loss,
};
