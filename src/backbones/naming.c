#include "backbones/naming.h"

#include <assert.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

bool naming_match(const char *pattern, const char *name, int *layer)
{
    *layer = -1;
    for (; *pattern; pattern++) {
        if (*pattern == '*' && pattern[1] == '\0')
            return true;
        if (*pattern == '#') {
            long number = 0;
            if (!isdigit((unsigned char)*name))
                return false;
            for (; isdigit((unsigned char)*name) && number < 100000; name++)
                number = number * 10 + (*name - '0');
            *layer = (int)number;
        } else if (*pattern != *name++) {
            return false;
        }
    }
    return *name == '\0';
}

static const char *expand(arena *memory, const char *pattern, int layer)
{
    const char *mark = strchr(pattern, '#');

    if (!mark)
        return pattern;
    return arena_printf(memory, "%.*s%d%s", (int)(mark - pattern), pattern, layer, mark + 1);
}

/* The length of what stands in front of the mark in a tensor's name; -1: it is another tensor. */
static int64_t mark_at(const char *name, const char *mark)
{
    size_t length = strlen(name), end = strlen(mark);
    bool whole = length == end || (length > end && strchr("./", name[length - end - 1]));

    return whole && strcmp(name + length - end, mark) == 0 ? (int64_t)(length - end) : -1;
}

const naming *naming_find(const tensor_set *file, const naming *const *all)
{
    for (int i = 0; all[i]; i++)
        for (int j = 0; j < tensor_set_count(file); j++)
            if (mark_at(tensor_set_at(file, j)->name, all[i]->mark) >= 0)
                return all[i];
    return NULL;
}

/* Where the encoder's tensors are: behind `prefix`, the larger model that it is a part of behind its first `wrapper`
 * characters. */
typedef struct location {
    const char *prefix;
    size_t length, wrapper;
    const naming_place *place;
} location;

static inlay_status locate(arena *memory, const tensor_set *file, const naming *names, location *out, inlay_error *err)
{
    const tensor_view *found = NULL;

    for (int i = 0; i < tensor_set_count(file); i++) {
        const tensor_view *t = tensor_set_at(file, i);
        if (mark_at(t->name, names->mark) < 0)
            continue;
        if (found)
            FAIL(err, INLAY_ERR_UNSUPPORTED, "%s: '%s' and '%s' are two encoders: a file with one is expected", t->file,
                 found->name, t->name);
        found = t;
    }
    assert(found && "the naming was chosen by its mark");
    out->length = (size_t)mark_at(found->name, names->mark);
    out->prefix = arena_printf(memory, "%.*s", (int)out->length, found->name);
    for (out->place = names->places; out->place->prefix; out->place++) {
        size_t length = strlen(out->place->prefix);
        bool ends = length <= out->length && strcmp(out->prefix + out->length - length, out->place->prefix) == 0;
        out->wrapper = ends ? out->length - length : 0;
        if (ends && (length == 0 || out->wrapper == 0 || strchr("./", out->prefix[out->wrapper - 1])))
            break;
    }
    return INLAY_OK;
}

/* Takes the rows of the query, or those of key and value, out of a tensor that has all three. */
static inlay_status split(const tensor_view *t, bool query, tensor_view *out, inlay_error *err)
{
    int64_t third = t->count / 3;

    if (t->dims[0] % 3 != 0)
        FAIL(err, INLAY_ERR_SHAPE, "%s: tensor '%s' has %lld rows, which are no query, key and value", t->file, t->name,
             (long long)t->dims[0]);
    out->dims[0] = query ? t->dims[0] / 3 : t->dims[0] / 3 * 2;
    out->count = query ? third : 2 * third;
    if (!query)
        out->data = (const unsigned char *)t->data + (size_t)third * dtype_size(t->type);
    return INLAY_OK;
}

/* Rearranges a tensor of a JAX checkpoint into PyTorch's order; `out` gets its new shape. */
static inlay_status rearrange(backbone *b, const tensor_view *t, naming_change change, tensor_view *out,
                              inlay_error *err)
{
    int64_t in = t->dims[0], rest = t->count / (in ? in : 1), kept;
    float *wide, *transposed;

    *out = *t;
    if (change == CHANGE_NONE)
        return INLAY_OK;
    if (change == CHANGE_FLATTEN) {
        out->ndim = 1;
        out->dims[0] = t->count;
        return INLAY_OK;
    }
    if (change == CHANGE_QUERY || change == CHANGE_KEY_VALUE)
        return split(t, change == CHANGE_QUERY, out, err);
    if (t->ndim < 2 || (change == CHANGE_CONV && t->ndim != 4) || (change == CHANGE_OUT_PROJECTION && t->ndim != 3))
        FAIL(err, INLAY_ERR_SHAPE, "%s: tensor '%s' has %d dimensions, which a matrix of this checkpoint cannot have",
             t->file, t->name, t->ndim);
    kept = t->dims[t->ndim - 1];
    if (change != CHANGE_TRANSPOSE) {
        in = t->count / (kept ? kept : 1);
        rest = kept;
    }
    wide = memory_array(t->count + 1, sizeof *wide);
    transposed = backbone_buffer(b, (size_t)(t->count + 1) * sizeof *transposed);
    if (!wide || !transposed) {
        free(wide);
        FAIL(err, INLAY_ERR_NOMEM, "out of memory rearranging '%s'", t->name);
    }
    dtype_to_f32(wide, t->data, t->type, (size_t)t->count);
    out->ndim = 2;
    out->dims[0] = rest;
    out->dims[1] = in;
    if (change == CHANGE_CONV) { /* [y, x, c, o] -> [o, c, y, x] */
        int64_t area = t->dims[0] * t->dims[1], channels = t->dims[2];
        for (int64_t o = 0; o < rest; o++)
            for (int64_t c = 0; c < channels; c++)
                for (int64_t yx = 0; yx < area; yx++)
                    transposed[(o * channels + c) * area + yx] = wide[(yx * channels + c) * rest + o];
        out->ndim = 4;
        memcpy(out->dims, (int64_t[]){rest, channels, t->dims[0], t->dims[1]}, 4 * sizeof *out->dims);
    } else {
        for (int64_t i = 0; i < in; i++)
            for (int64_t o = 0; o < rest; o++)
                transposed[o * in + i] = wide[i * rest + o];
    }
    free(wide);
    out->data = transposed;
    out->type = DTYPE_F32;
    return INLAY_OK;
}

/* Stacks query, key and value along the first dimension. */
static inlay_status stack(backbone *b, const tensor_view parts[3], tensor_view *out, inlay_error *err)
{
    size_t size = (size_t)parts[0].count * dtype_size(parts[0].type);
    unsigned char *joined;

    for (int i = 1; i < 3; i++)
        if (parts[i].type != parts[0].type || parts[i].ndim != parts[0].ndim ||
            memcmp(parts[i].dims, parts[0].dims, sizeof(int64_t) * (size_t)parts[0].ndim) != 0)
            FAIL(err, INLAY_ERR_SHAPE, "%s: '%s' and '%s' differ in type or shape", parts[i].file, parts[0].name,
                 parts[i].name);
    joined = backbone_buffer(b, 3 * size);
    if (!joined)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory joining '%s' with key and value", parts[0].name);
    for (int i = 0; i < 3; i++)
        memcpy(joined + (size_t)i * size, parts[i].data, size);
    *out = parts[0];
    out->dims[0] *= 3;
    out->data = joined;
    return INLAY_OK;
}

static inlay_status load_rule(backbone *b, const tensor_set *file, const char *prefix, const naming_rule *rule,
                              int layer, bool *used, inlay_error *err)
{
    tensor_view parts[3], whole;
    int count = rule->sources[1] ? 3 : 1;
    const char *canonical = expand(b->memory, rule->canonical, layer);

    if (backbone_param(b, canonical))
        FAIL(err, INLAY_ERR_FORMAT, "%s: '%s%s' is there under another name as well", tensor_set_at(file, 0)->file,
             prefix, expand(b->memory, rule->sources[0], layer));
    for (int i = 0; i < count; i++) {
        const char *name = arena_printf(b->memory, "%s%s", prefix, expand(b->memory, rule->sources[i], layer));
        const tensor_view *t = tensor_set_find(file, name);
        if (!t)
            FAIL(err, INLAY_ERR_FORMAT, "%s: tensor '%s' is missing", tensor_set_at(file, 0)->file, name);
        if (t->type != DTYPE_F32 && t->type != DTYPE_BF16 && t->type != DTYPE_F16 && t->type != DTYPE_F64)
            FAIL(err, INLAY_ERR_UNSUPPORTED, "%s: tensor '%s' has type %s, expected F32, BF16, F16 or F64", t->file,
                 t->name, t->type_name);
        if (t->ndim < 1 || t->ndim > PARAM_MAX_DIMS)
            FAIL(err, INLAY_ERR_SHAPE, "%s: tensor '%s' has %d dimensions, expected 1 to %d", t->file, t->name, t->ndim,
                 PARAM_MAX_DIMS);
        for (int j = 0; j < tensor_set_count(file); j++)
            if (tensor_set_at(file, j) == t)
                used[j] = true;
        TRY(rearrange(b, t, rule->change, &parts[i], err));
    }
    whole = parts[0];
    if (count == 3)
        TRY(stack(b, parts, &whole, err));
    backbone_add_param(b, canonical, whole.ndim, whole.dims, whole.data, whole.type);
    return INLAY_OK;
}

/* Whether a list names the tensor; what it says is noted in the backbone, once for each row. */
static bool pass_over(backbone *b, const naming_pass *list, const char *name)
{
    int layer;

    for (; list && list->pattern; list++)
        if (naming_match(list->pattern, name, &layer)) {
            backbone_pass_over(b, list->pattern, list->reason);
            return true;
        }
    return false;
}

/* Applies every rule to the tensor whose name ends in `name`, behind `prefix`. */
static inlay_status load_named(backbone *b, const tensor_set *file, const naming *names, const char *prefix,
                               const char *name, bool *used, inlay_error *err)
{
    int layer;

    for (const naming_rule *rule = names->rules; rule->canonical; rule++)
        if (naming_match(rule->sources[0], name, &layer))
            TRY(load_rule(b, file, prefix, rule, layer, used, err));
    return INLAY_OK;
}

inlay_status naming_load(backbone *b, const tensor_set *file, const naming *names, inlay_error *err)
{
    bool *used = ARENA_ARRAY(b->memory, bool, tensor_set_count(file));
    location at = {0};
    const char *wrapper;

    TRY(locate(b->memory, file, names, &at, err));
    wrapper = arena_printf(b->memory, "%.*s", (int)at.wrapper, at.prefix);
    b->shape.layout = names->name;
    for (int i = 0; i < tensor_set_count(file); i++) {
        const char *name = tensor_set_at(file, i)->name;
        bool inside = strncmp(name, at.prefix, at.length) == 0, wrapped = strncmp(name, wrapper, at.wrapper) == 0;
        used[i] = used[i] || (inside && pass_over(b, names->passed, name + at.length));
        used[i] = used[i] || (wrapped && pass_over(b, at.place->outside, name + at.wrapper));
        if (!used[i] && inside)
            TRY(load_named(b, file, names, at.prefix, name + at.length, used, err));
        /* heads, and blocks in some files, stand beside the encoder: "classifier.weight" and "vit.layernorm.weight" */
        if (!used[i] && wrapped)
            TRY(load_named(b, file, names, wrapper, name + at.wrapper, used, err));
    }
    for (int i = 0; i < tensor_set_count(file); i++)
        if (!used[i])
            FAIL(err, INLAY_ERR_FORMAT, "%s: tensor '%s' is not part of a %s checkpoint as %s names it%s%s%s",
                 tensor_set_at(file, i)->file, tensor_set_at(file, i)->name, b->desc->name, names->name,
                 *at.prefix ? " (behind '" : "", at.prefix, *at.prefix ? "')" : "");
    return INLAY_OK;
}
