#include "adapters/adapter_impl.h"

#include <stdlib.h>
#include <string.h>

#include "adapters/method.h"

const method *const method_table[] = {
#define METHOD(name) &method_##name,
#include "adapters/methods.def"
#undef METHOD
    NULL,
};

/* Settings that the literature calls by a name of their own. */
const preset preset_table[] = {
#define PRESET(name, method, settings, summary, cite, recipe) {#name, #method, settings, summary, cite, recipe},
#include "adapters/presets.def"
#undef PRESET
    {NULL, NULL, NULL, NULL, NULL, NULL},
};

const method *method_find(const char *name, const preset **p)
{
    const preset *found = NULL;

    for (const preset *row = preset_table; row->name; row++)
        if (strcmp(row->name, name) == 0)
            found = row;
    if (p)
        *p = found;
    for (int i = 0; method_table[i]; i++)
        if (strcmp(method_table[i]->name, found ? found->method : name) == 0)
            return method_table[i];
    return NULL;
}

static inlay_status apply_preset(options *o, const preset *p, inlay_error *err)
{
    const char *list = p->settings, *text;
    char where[96], pair[96];

    snprintf(where, sizeof where, "preset '%s'", p->name);
    while (options_next_pair(&list, pair, sizeof pair, &text))
        TRY(options_default(o, pair, text, where, err));
    return INLAY_OK;
}

inlay_status adapter_settings(options **out, const char *name, inlay_error *err)
{
    const preset *p;
    const method *m = method_find(name, &p);
    inlay_status status = INLAY_OK;
    char known[512] = "";

    *out = NULL;
    if (!m) {
        for (const preset *row = preset_table; row->name; row++)
            snprintf(known + strlen(known), sizeof known - strlen(known), "%s, ", row->name);
        for (int i = 0; method_table[i]; i++)
            snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", method_table[i]->name,
                     method_table[i + 1] ? ", " : "");
        FAIL(err, INLAY_ERR_USAGE, "unknown method '%s' (known: %s)", name, known);
    }
    *out = options_new();
    options_add_table(*out, "Method", m->options);
    if (p)
        status = apply_preset(*out, p, err);
    if (status != INLAY_OK) {
        options_free(*out);
        *out = NULL;
    }
    return status;
}

/* ---- what a plan declares ---- */

static uint32_t name_hash(const char *name)
{
    return hash_text(0, name);
}

static uint32_t address_hash(const param *p)
{
    return hash_mix(0, (uint64_t)(uintptr_t)p);
}

static adapter_param *list_param(adapter *a, param *p, init_rule init)
{
    struct adapter_declared *d = a->declared;
    adapter_param item = {.p = p, .init = init, .stream = (uint32_t)d->param_count};

    p->trainable = a->trainable;
    p->exact = true;
    hash_index_add(&d->by_name, a->memory, name_hash(p->name), d->param_count);
    hash_index_add(&d->by_address, a->memory, address_hash(p), d->param_count);
    ARRAY_PUSH(d->params, d->param_count, d->param_capacity, item);
    return &d->params[d->param_count - 1];
}

/* Lists a value of the adapter's own in place of a weight of the backbone, which stays as it is. */
static void list_override(adapter *a, const param *of)
{
    adapter_param *item = list_param(a, param_override(a->memory, of), (init_rule){INIT_ZERO, 0, 0});

    item->of_backbone = true;
    item->stands_for = of;
    hash_index_add(&a->declared->by_address, a->memory, address_hash(of), a->declared->param_count - 1);
}

param *adapter_stand_in(const void *context, param *p)
{
    const struct adapter_declared *d = ((const adapter *)context)->declared;
    uint32_t hash = address_hash(p);
    int found = d->param_count;

    for (int e = hash_index_next(&d->by_address, hash, -1); e >= 0; e = hash_index_next(&d->by_address, hash, e)) {
        int id = d->by_address.entries[e].id;
        if (id < found && d->params[id].stands_for == p) /* the first, where it was unfrozen twice */
            found = id;
    }
    return found < d->param_count ? d->params[found].p : p;
}

const adapter_param *adapter_each_param(const adapter *a, const adapter_param *last)
{
    const struct adapter_declared *d = a->declared;
    int next = last ? (int)(last - d->params) + 1 : 0;

    return next < d->param_count ? &d->params[next] : NULL;
}

bool adapter_acts(const adapter *a)
{
    return a->declared->edge_count > 0 || a->declared->transform_count > 0;
}

param *adapter_add_param(adapter *a, const char *name, int ndim, const int64_t *dims, init_rule init)
{
    param *p = param_new(a->memory, name, ndim, dims);

    list_param(a, p, init);
    return p;
}

static adapter_param *item_of(const adapter *a, const param *p)
{
    const struct adapter_declared *d = a->declared;
    uint32_t hash = address_hash(p);
    int e = hash_index_next(&d->by_address, hash, -1);

    while (d->params[d->by_address.entries[e].id].p != p)
        e = hash_index_next(&d->by_address, hash, e);
    return &d->params[d->by_address.entries[e].id];
}

void adapter_begin_as(adapter *a, const param *p, const param *other)
{
    item_of(a, p)->stream = item_of(a, other)->stream;
}

void adapter_begin_with(adapter *a, const param *p, const double *values)
{
    item_of(a, p)->begin = values;
}

void adapter_fix(adapter *a, param *p, const float *values)
{
    item_of(a, p)->fixed = true;
    p->trainable = false;
    param_set_source(p, values, DTYPE_F32, false);
}

void adapter_add_part(adapter *a, adapter *part)
{
    ARRAY_PUSH(a->parts, a->part_count, a->part_capacity, part);
}

/* The layer of a parameter, as its name has it; -1: it is in no block. */
static int layer_of(const param *p)
{
    const char *block = strstr(p->name, "blocks.");

    return block ? (int)strtol(block + strlen("blocks."), NULL, 10) : -1;
}

void adapter_list_part(adapter *a, int n, const bool *layers)
{
    const adapter *part = a->parts[n];
    struct adapter_declared *given = part->declared;

    for (int i = 0; i < given->param_count; i++) {
        param *p = given->params[i].p;
        int layer = layer_of(p);
        if (p == part->head_weight || p == part->head_bias || (layer >= 0 && !layers[layer]))
            continue;
        p->name = arena_printf(a->memory, "parts.%d.%s", n, p->name);
        hash_index_add(&given->by_name, part->memory, name_hash(p->name), i); /* it has that name there as well */
        list_param(a, p, given->params[i].init)->fixed = true;
        p->trainable = false;
    }
}

void adapter_mask(adapter *a, const param *p, mask_rule rule)
{
    item_of(a, p)->mask = rule;
}

void adapter_peak_lr(adapter *a, const param *p, double lr)
{
    item_of(a, p)->peak_lr = lr;
}

const unsigned char *adapter_drawn_mask(const adapter *a, const param *p)
{
    return item_of(a, p)->drawn;
}

param *adapter_choose(adapter *a, param *const *of, int count, uint32_t draw)
{
    return count == 1 ? of[0] : param_choose(a->memory, of, count, draw);
}

void adapter_add_edge(adapter *a, site from, site to, adapter_function function, const void *context)
{
    edge e = {from, to, function, context};

    ARRAY_PUSH(a->declared->edges, a->declared->edge_count, a->declared->edge_capacity, e);
}

void adapter_add_transform(adapter *a, site at, adapter_function function, const void *context)
{
    transform t = {at, function, context};

    ARRAY_PUSH(a->declared->transforms, a->declared->transform_count, a->declared->transform_capacity, t);
}

/* Whether a weight of the backbone belongs to the adapter's layers. Outside the blocks, what is in front of them goes
 * with the first layer, what is behind them with the last. */
static bool in_layers(const adapter *a, const param *p)
{
    bool behind = strncmp(p->name, "norm.", 5) == 0 || strncmp(p->name, "fc_norm.", 8) == 0;
    int layer = layer_of(p);

    return a->layers[layer >= 0 ? layer : behind ? a->shape->depth - 1 : 0];
}

void adapter_unfreeze(adapter *a, const char *part)
{
    for (param *const *i = NULL; (i = backbone_each_param(a->backbone, i));) {
        const param *p = *i;
        if (strncmp(p->name, "head", 4) != 0 && strstr(p->name, part) && in_layers(a, p))
            list_override(a, p);
    }
}

void adapter_unfreeze_whole(adapter *a, const char *name)
{
    const param *p = backbone_param(a->backbone, name);

    if (p && in_layers(a, p))
        list_override(a, p);
}

param *adapter_find(const adapter *a, const char *name)
{
    const struct adapter_declared *d = a->declared;
    uint32_t hash = name_hash(name);
    int found = d->param_count;

    for (int e = hash_index_next(&d->by_name, hash, -1); e >= 0; e = hash_index_next(&d->by_name, hash, e)) {
        int id = d->by_name.entries[e].id;
        if (id < found && strcmp(d->params[id].p->name, name) == 0)
            found = id;
    }
    return found < d->param_count ? d->params[found].p : NULL;
}

/* Unfreezes what the option `unfreeze` says, of methods that have it. */
static void unfreeze_chosen(adapter *a)
{
    const char *what = options_has(a->settings, "unfreeze") ? options_string(a->settings, "unfreeze") : "none";

    if (strcmp(what, "none") != 0)
        adapter_unfreeze(a, strcmp(what, "all") == 0 ? "" : what);
}

inlay_status adapter_new(adapter **out, const char *name, options *settings, backbone *b, int64_t outputs,
                         const char *const *labels, inlay_error *err)
{
    arena *memory = arena_new();
    adapter *a = ARENA_NEW(memory, adapter);
    inlay_status status;

    *a = (adapter){.memory = memory,
                   .method = method_find(name, NULL),
                   .name = arena_strdup(memory, name),
                   .settings = settings,
                   .declared = ARENA_NEW(memory, struct adapter_declared),
                   .backbone = b,
                   .shape = &b->shape,
                   .task = task_table[0],
                   .outputs = outputs,
                   .trainable = true};
    a->labels = ARENA_ARRAY(memory, const char *, outputs + 1);
    for (int64_t i = 0; labels && i < outputs; i++)
        a->labels[i] = labels[i] ? arena_strdup(memory, labels[i]) : NULL;
    a->passes = a->method && a->method->passes ? a->method->passes : 1;
    status =
        a->method ? adapter_read_layers(a, err) : error_set(err, INLAY_ERR_USAGE, "method '%s' is not known", name);
    if (status == INLAY_OK)
        status = options_check_needs(settings, a->method->needs, err);
    if (status == INLAY_OK)
        status = a->method->plan(a, err);
    if (status == INLAY_OK)
        unfreeze_chosen(a);
    /* timm's trunc_normal_ with its default bounds, +-2: at this std it cuts nothing off */
    a->head_weight = adapter_add_param(a, "head.weight", 2, (int64_t[]){outputs, a->shape->width},
                                       (init_rule){INIT_NORMAL, 0, 0.02});
    a->head_bias = adapter_add_param(a, "head.bias", 1, &outputs, (init_rule){INIT_ZERO, 0, 0});
    if (status != INLAY_OK) {
        adapter_free(a, NULL);
        a = NULL;
    }
    *out = a;
    return status;
}

void adapter_free(adapter *a, const device *d)
{
    if (!a)
        return;
    for (const adapter_param *i = NULL; (i = adapter_each_param(a, i));) {
        if (d) {
            param_release(i->p, d);
            d->k->release(i->drawn);
        }
        param_release_forms(i->p);
    }
    for (int i = 0; i < a->part_count; i++)
        adapter_free(a->parts[i], d);
    free(a->parts);
    free(a->declared->params);
    free(a->declared->edges);
    free(a->declared->transforms);
    options_free(a->settings);
    tensor_set_close(a->file);
    arena_free(a->memory);
}

/* Draws mask[i], whether entry i belongs to the rule's part, for `count` entries that lie `stride` apart. */
static void draw_mask(unsigned char *mask, int *order, int count, int64_t stride, const mask_rule *rule,
                      rng_stream stream)
{
    rng_permutation(order, count, stream);
    for (int rank = 0; rank < count; rank++)
        mask[order[rank] * stride] =
            rank >= (int64_t)rule->part * count / rule->parts && rank < ((int64_t)rule->part + 1) * count / rule->parts;
}

static inlay_status make_mask(adapter_param *item, device *d, uint64_t seed, inlay_error *err)
{
    const param *p = item->p;
    const mask_rule *rule = &item->mask;
    int64_t rows = p->ndim > 1 ? p->dims[0] : 1, cols = p->count / rows;
    unsigned char *mask = malloc((size_t)p->count), *there;
    int *order = memory_array(p->count, sizeof *order);
    rng_stream stream = {.seed = seed, .purpose = RNG_MASK, .stream = rule->stream};

    there = d->k->alloc((size_t)p->count);
    if (!mask || !order || !there) {
        free(mask);
        free(order);
        d->k->release(there);
        FAIL(err, INLAY_ERR_NOMEM, "out of memory: the mask of '%s'", p->name);
    }
    if (rule->kind == MASK_ALL)
        draw_mask(mask, order, (int)p->count, 1, rule, stream);
    for (int64_t r = 0; rule->kind == MASK_ROW && r < rows; r++) {
        stream.step = (uint32_t)r;
        draw_mask(mask + r * cols, order, (int)cols, 1, rule, stream);
    }
    for (int64_t c = 0; rule->kind == MASK_COLUMN && c < cols; c++) {
        stream.step = (uint32_t)c;
        draw_mask(mask + c, order, (int)rows, cols, rule, stream);
    }
    d->k->copy_in(there, mask, (size_t)p->count);
    d->k->release(item->drawn);
    item->drawn = there;
    free(mask);
    free(order);
    return INLAY_OK;
}

inlay_status adapter_initialise(adapter *a, device *d, uint64_t seed, inlay_error *err)
{
    for (int i = 0; i < a->declared->param_count; i++) {
        adapter_param *item = &a->declared->params[i];
        uint64_t count = (uint64_t)item->p->count;
        rng_stream stream = {.seed = seed, .purpose = RNG_INIT, .stream = item->stream};
        float *values;
        if (item->fixed && !item->p->source && !item->p->data)
            FAIL(err, INLAY_ERR_USAGE, "'%s' has no value: it belongs to a given adapter, and none is given",
                 item->p->name);
        TRY(param_materialise(item->p, d, err));
        if (item->mask.parts)
            TRY(make_mask(item, d, seed, err));
        if (item->of_backbone || item->fixed)
            continue;
        values = calloc(count, sizeof *values);
        if (!values)
            FAIL(err, INLAY_ERR_NOMEM, "out of memory: %llu values of '%s'", (unsigned long long)count, item->p->name);
        switch (item->init.kind) {
        case INIT_ZERO:
            break;
        case INIT_CONSTANT:
            for (uint64_t j = 0; j < count; j++)
                values[j] = (float)item->init.a;
            break;
        case INIT_DIAGONAL:
            for (uint64_t j = 0; j < count; j++)
                values[j] = (float)(j / (uint64_t)item->p->dims[1] == j % (uint64_t)item->p->dims[1] ? item->init.a
                                                                                                     : item->init.b);
            break;
        case INIT_FIRST:
            for (uint64_t j = 0; j < count; j++)
                values[j] = (float)(j == 0 ? item->init.a : item->init.b);
            break;
        case INIT_NORMAL:
            rng_fill_normal(values, count, item->init.a, item->init.b, stream);
            break;
        case INIT_TRUNC_NORMAL:
            rng_fill_trunc_normal(values, count, item->init.a, item->init.b, item->init.a - 2 * item->init.b,
                                  item->init.a + 2 * item->init.b, stream);
            break;
        case INIT_UNIFORM:
            rng_fill_uniform(values, count, item->init.a, item->init.b, stream);
            break;
        }
        for (uint64_t j = 0; item->begin && j < count; j++)
            values[j] = (float)item->begin[j];
        param_set(item->p, d, values);
        free(values);
    }
    return INLAY_OK;
}

int64_t adapter_param_total(const adapter *a, bool with_head)
{
    int64_t total = 0;

    for (const adapter_param *i = NULL; (i = adapter_each_param(a, i));)
        if (with_head || (i->p != a->head_weight && i->p != a->head_bias))
            total += i->p->count;
    return total;
}

int64_t adapter_trained_total(const adapter *a, bool with_head)
{
    int64_t total = 0;

    for (const adapter_param *item = NULL; (item = adapter_each_param(a, item));) {
        if (item->fixed || (!with_head && (item->p == a->head_weight || item->p == a->head_bias)))
            continue;
        total += item->mask.parts ? ((int64_t)item->mask.part + 1) * item->p->count / item->mask.parts -
                                        (int64_t)item->mask.part * item->p->count / item->mask.parts
                                  : item->p->count;
    }
    return total;
}
