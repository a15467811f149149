#include "compose/fold.h"

#include <stdlib.h>
#include <string.h>

#include "backbones/vit_config.h"
#include "base/file.h"
#include "base/json.h"

/* ---- writing a checkpoint ---- */

/* Adds a tensor of the requested type, in memory of its own. */
static inlay_status add_tensor(tensor_view *view, const char *name, int ndim, const int64_t *dims, const float *values,
                               dtype type, inlay_error *err)
{
    int64_t count = 1;
    void *block;

    for (int i = 0; i < ndim; i++)
        count *= dims[i];
    TRY(memory_alloc(&block, size_product(count, dtype_size(type)), name, err));
    for (int64_t i = 0; i < count; i++) {
        if (type == DTYPE_BF16)
            ((uint16_t *)block)[i] = f32_to_bf16(values[i]);
        else
            ((float *)block)[i] = values[i];
    }
    *view = (tensor_view){.name = name, .type = type, .ndim = ndim, .count = count, .data = block};
    memcpy(view->dims, dims, (size_t)ndim * sizeof *dims);
    return INLAY_OK;
}

#define NEUTRALS 8 /* tensors of a block that may have to be added */

typedef struct collection {
    const backbone_content *content;
    tensor_view *views; /* malloc'd */
    int count, capacity;
    dtype type;
} collection;

static inlay_status add(collection *c, const char *name, int ndim, const int64_t *dims, const float *values,
                        inlay_error *err)
{
    tensor_view view;

    TRY(add_tensor(&view, name, ndim, dims, values, c->type, err));
    ARRAY_PUSH(c->views, c->count, c->capacity, view);
    return INLAY_OK;
}

static const float *edited(const backbone_content *content, const param *p)
{
    for (int i = 0; i < content->edit_count; i++)
        if (content->edits[i].of == p)
            return content->edits[i].values;
    return NULL;
}

static inlay_status add_param(collection *c, const param *p, inlay_error *err)
{
    const float *values = edited(c->content, p);
    float *copy = memory_array(p->count, sizeof *copy);
    inlay_status status;

    if (!copy)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory writing '%s'", p->name);
    if (values)
        memcpy(copy, values, (size_t)p->count * sizeof *copy);
    else
        dtype_to_f32(copy, p->source, p->source_type, (size_t)p->count);
    status = add(c, p->name, p->ndim, p->dims, copy, err);
    free(copy);
    return status;
}

/* Adds a tensor that timm's model has and this one does without: of zeros, or of ones for a scale. */
static inlay_status add_neutral(collection *c, const char *name, int64_t size, float filling, inlay_error *err)
{
    float *values;
    inlay_status status;

    if (backbone_param(c->content->b, name))
        return INLAY_OK;
    values = malloc((size_t)size * sizeof *values);
    if (!values)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory writing '%s'", name);
    for (int64_t i = 0; i < size; i++)
        values[i] = filling;
    status = add(c, name, 1, &size, values, err);
    free(values);
    return status;
}

static inlay_status add_neutrals(collection *c, arena *memory, int64_t layer, inlay_error *err)
{
    const backbone *b = c->content->b;
    const backbone_shape *s = &b->shape;
    bool scaled = backbone_param(b, "blocks.0.ls1.gamma") || backbone_param(b, "blocks.0.ls2.gamma"),
         biased = backbone_param(b, "blocks.0.attn.qkv.bias") != NULL,
         normed = backbone_param(b, "blocks.0.attn.q_norm.weight") != NULL;
    const struct {
        const char *part;
        bool wanted;
        int64_t size;
        float value;
    } parts[] = {{"attn.qkv.bias", biased, 3 * s->width, 0},
                 {"attn.proj.bias", true, s->width, 0},
                 {"mlp.fc1.bias", true, s->hidden, 0},
                 {"mlp.fc2.bias", true, s->width, 0},
                 {"attn.q_norm.bias", normed, s->width / s->heads, 0},
                 {"attn.k_norm.bias", normed, s->width / s->heads, 0},
                 {"ls1.gamma", scaled, s->width, 1},
                 {"ls2.gamma", scaled, s->width, 1}};

    for (size_t i = 0; i < NEUTRALS; i++)
        if (parts[i].wanted)
            TRY(add_neutral(c, arena_printf(memory, "blocks.%lld.%s", (long long)layer, parts[i].part), parts[i].size,
                            parts[i].value, err));
    return INLAY_OK;
}

static inlay_status add_times(collection *c, const char *name, int ndim, const int64_t *dims, const float *values,
                              float factor, inlay_error *err)
{
    size_t count = (size_t)dims[0] * (size_t)(ndim > 1 ? dims[1] : 1);
    float *made = malloc(count * sizeof *made);
    inlay_status status;

    if (!made)
        FAIL(err, INLAY_ERR_NOMEM, "out of memory writing '%s'", name);
    for (size_t i = 0; i < count; i++)
        made[i] = factor * values[i];
    status = add(c, name, ndim, dims, made, err);
    free(made);
    return status;
}

/* Adds the head. timm's distilled model takes the mean of two heads, of the class and of the distillation token. The
 * head that was trained reads the mean of both tokens: both heads are it; or the class token only: then it counts twice
 * and the other one not at all. */
static inlay_status add_head(collection *c, inlay_error *err)
{
    const backbone_content *content = c->content;
    const vit_state *state = content->b->state;
    const int64_t dims[2] = {content->classes, content->b->shape.width};
    bool distilled = backbone_param(content->b, "dist_token") != NULL,
         alone = distilled && state && state->tokens_read == 1;

    if (!content->head_weight)
        return INLAY_OK;
    TRY(add_times(c, "head.weight", 2, dims, content->head_weight, alone ? 2 : 1, err));
    TRY(add_times(c, "head.bias", 1, dims, content->head_bias, alone ? 2 : 1, err));
    if (!distilled)
        return INLAY_OK;
    TRY(add_times(c, "head_dist.weight", 2, dims, content->head_weight, alone ? 0 : 1, err));
    return add_times(c, "head_dist.bias", 1, dims, content->head_bias, alone ? 0 : 1, err);
}

static inlay_status collect(collection *c, arena *memory, inlay_error *err)
{
    const backbone *b = c->content->b;
    bool average = b->shape.pool == POOL_AVERAGE, before = backbone_param(b, "norm_pre.weight") != NULL;

    if (average && backbone_param(b, "fc_norm.weight") && backbone_param(b, "norm.weight"))
        FAIL(err, INLAY_ERR_UNSUPPORTED,
             "'%s' has both 'norm.weight' and 'fc_norm.weight': timm has no model that uses both", b->path);
    if (before && backbone_param(b, "patch_embed.proj.bias"))
        FAIL(err, INLAY_ERR_UNSUPPORTED,
             "'%s' has both 'norm_pre.weight' and 'patch_embed.proj.bias': timm has no model with both", b->path);
    if (b->shape.pool != POOL_TOKEN && backbone_param(b, "dist_token"))
        FAIL(err, INLAY_ERR_UNSUPPORTED,
             "'%s' has a 'dist_token' and global_pool '%s': timm has no model that does both", b->path,
             pooling_name(b->shape.pool));
    for (param *const *i = NULL; (i = backbone_each_param(b, i));)
        if (strncmp((*i)->name, "head", 4) != 0)
            TRY(add_param(c, *i, err));
    for (int64_t layer = 0; layer < b->shape.depth; layer++)
        TRY(add_neutrals(c, memory, layer, err));
    if (!before)
        TRY(add_neutral(c, "patch_embed.proj.bias", b->shape.width, 0, err));
    return add_head(c, err);
}

inlay_status backbone_write(const backbone_content *content, const char *folder, dtype type, inlay_error *err)
{
    arena *memory = arena_new();
    collection c = {.content = content, .type = type};
    inlay_status status = file_make_folder(folder, err);

    if (status == INLAY_OK)
        status = collect(&c, memory, err);
    if (status == INLAY_OK)
        status = safetensors_write(path_join(memory, folder, "model.safetensors"), c.views, c.count, NULL, err);
    if (status == INLAY_OK) {
        json_t *root = backbone_config(content);
        char *text = NULL;
        status = root ? json_encode(&text, root, JSON_ANSWER, "config.json", err)
                      : error_set(err, INLAY_ERR_FORMAT, "the configuration of '%s' cannot be written as JSON", folder);
        if (status == INLAY_OK)
            status = file_write(path_join(memory, folder, "config.json"), text, strlen(text), err);
        free(text);
        json_decref(root);
    }
    for (int i = 0; i < c.count; i++)
        memory_free((void *)(uintptr_t)c.views[i].data);
    free(c.views);
    arena_free(memory);
    return status;
}

/* ---- folding ---- */

typedef struct editor {
    const backbone *b;
    backbone_edit *edits; /* malloc'd, values as well */
    int count, capacity;
} editor;

static float *edit(editor *e, const char *name, inlay_error *err, const param **found)
{
    const param *p = *found = backbone_param(e->b, name);
    backbone_edit made = {.of = p};

    if (!p) {
        error_set(err, INLAY_ERR_UNSUPPORTED, "the backbone has no tensor '%s' to fold into", name);
        return NULL;
    }
    for (int i = 0; i < e->count; i++)
        if (e->edits[i].of == p)
            return e->edits[i].values;
    made.values = memory_array(p->count, sizeof *made.values);
    if (!made.values) {
        error_set(err, INLAY_ERR_NOMEM, "out of memory folding into '%s'", name);
        return NULL;
    }
    dtype_to_f32(made.values, p->source, p->source_type, (size_t)p->count);
    ARRAY_PUSH(e->edits, e->count, e->capacity, made);
    return made.values;
}

/* Takes the values of weights of the backbone that the adapter has its own of. */
static inlay_status take_overrides(editor *e, const adapter *a, inlay_error *err)
{
    for (const adapter_param *i = NULL; (i = adapter_each_param(a, i));) {
        const param *p = i->p, *found;
        float *values = i->of_backbone ? edit(e, p->name, err, &found) : NULL;
        if (!values && i->of_backbone)
            return err ? err->code : INLAY_ERR_NOMEM;
        if (values)
            dtype_to_f32(values, p->source, p->source_type, (size_t)p->count);
    }
    return INLAY_OK;
}

static float *edit_weight(void *context, const char *name, int64_t *rows, int64_t *columns, inlay_error *err)
{
    const param *p = NULL;
    float *values = edit(context, name, err, &p);

    if (values) {
        *rows = p->dims[0];
        *columns = p->count / p->dims[0];
    }
    return values;
}

static float *edit_bias(void *context, const char *name, int64_t count, inlay_error *err)
{
    const param *p = NULL;
    float *values = edit(context, name, err, &p);

    if (values && p->count != count) {
        error_set(err, INLAY_ERR_SHAPE, "tensor '%s' has %lld values, expected %lld", name, (long long)p->count,
                  (long long)count);
        return NULL;
    }
    return values;
}

static float *values_of(const param *p)
{
    float *values = memory_array(p->count, sizeof *values);

    if (values)
        dtype_to_f32(values, p->source, p->source_type, (size_t)p->count);
    return values;
}

inlay_status fold_write(const adapter *a, const preprocess *prep, const char *folder, dtype type, inlay_error *err)
{
    const backbone *b = a->backbone;
    editor e = {.b = b};
    fold_target target = {&e, edit_weight, edit_bias};
    backbone_content content = {.b = b, .classes = a->outputs, .labels = a->labels, .prep = prep};
    float *weight = values_of(a->head_weight), *bias = values_of(a->head_bias);
    inlay_status status = weight && bias ? INLAY_OK : error_set(err, INLAY_ERR_NOMEM, "out of memory folding");

    if (status == INLAY_OK)
        status = take_overrides(&e, a, err);
    if (status == INLAY_OK && !a->method->fold && adapter_acts(a))
        status = error_set(err, INLAY_ERR_UNSUPPORTED,
                           "a '%s' adapter cannot be written into the backbone's weights: it is not linear", a->name);
    if (status == INLAY_OK && a->method->fold)
        status = a->method->fold(a, &target, err);
    if (status == INLAY_OK) {
        content.edits = e.edits;
        content.edit_count = e.count;
        content.head_weight = weight;
        content.head_bias = bias;
        status = backbone_write(&content, folder, type, err);
    }
    for (int i = 0; i < e.count; i++)
        free(e.edits[i].values);
    free(e.edits);
    free(weight);
    free(bias);
    return status;
}
