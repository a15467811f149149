#include "compose/fold.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

/* ---- writing a checkpoint ---- */

static json_t *describe(const checkpoint_content *c)
{
    static const char *const modes[] = {"center", "squash", "border"};
    const backbone_shape *s = &c->b->shape;
    const preprocess *p = c->prep;
    json_t *args = json_pack("{s:I, s:I, s:I, s:I, s:I, s:f}", "img_size", (json_int_t)s->height, "patch_size", (json_int_t)s->patch, "embed_dim", (json_int_t)s->width,
                             "depth", (json_int_t)s->depth, "num_heads", (json_int_t)s->heads, "mlp_ratio", (double)s->hidden / (double)s->width);
    json_t *cfg = json_pack("{s:[I,I,I], s:s, s:f, s:s, s:[f,f,f], s:[f,f,f], s:I, s:s, s:s}", "input_size", (json_int_t)s->channels, (json_int_t)s->height,
                            (json_int_t)s->image_width, "interpolation", resample_name(p->interpolation), "crop_pct", p->crop_pct, "crop_mode", modes[p->mode], "mean",
                            (double)p->mean[0], (double)p->mean[1], (double)p->mean[2], "std", (double)p->std[0], (double)p->std[1], (double)p->std[2], "num_classes",
                            (json_int_t)c->classes, "first_conv", "patch_embed.proj", "classifier", "head");
    json_t *root = json_pack("{s:s, s:I, s:I, s:s}", "architecture", c->b->model_name ? c->b->model_name : "vit_custom", "num_classes", (json_int_t)c->classes,
                             "num_features", (json_int_t)s->width, "global_pool", pooling_name(s->pool));

    if (s->eps < 0.99e-6 || s->eps > 1.01e-6)
        json_object_set_new(args, "norm_eps", json_real(s->eps));
    if (s->act != ACT_GELU)
        json_object_set_new(args, "act_layer", json_string(activation_name(s->act)));
    if (c->labels) {
        json_t *names = json_array();
        for (int64_t i = 0; i < c->classes; i++)
            json_array_append_new(names, json_string(c->labels[i] ? c->labels[i] : ""));
        json_object_set_new(root, "label_names", names);
    }
    json_object_set_new(root, "model_args", args);
    json_object_set_new(root, "pretrained_cfg", cfg);
    return root;
}

/* A tensor of the requested type, in memory of its own. */
static inlay_status add_tensor(tensor_view *view, const char *name, int ndim, const int64_t *dims, const float *values, dtype type, inlay_error *err)
{
    int64_t count = 1;
    void *block;

    for (int i = 0; i < ndim; i++)
        count *= dims[i];
    TRY(memory_alloc(&block, (size_t)count * dtype_size(type), name, err));
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

static inlay_status collect(const checkpoint_content *c, tensor_view *views, int *count, dtype type, inlay_error *err)
{
    const backbone *b = c->b;

    for (int i = 0; i < b->param_count; i++) {
        const param *p = b->params[i];
        float *copy;
        inlay_status status;
        if (strncmp(p->name, "head", 4) == 0)
            continue;
        copy = malloc((size_t)p->count * sizeof *copy);
        if (!copy)
            FAIL(err, INLAY_ERR_NOMEM, "out of memory writing '%s'", p->name);
        if (c->values && c->values[i])
            memcpy(copy, c->values[i], (size_t)p->count * sizeof *copy);
        else
            dtype_to_f32(copy, p->source, p->source_type, (size_t)p->count);
        status = add_tensor(&views[*count], p->name, p->ndim, p->dims, copy, type, err);
        free(copy);
        TRY(status);
        ++*count;
    }
    if (c->head_weight) {
        TRY(add_tensor(&views[*count], "head.weight", 2, (int64_t[]){c->classes, b->shape.width}, c->head_weight, type, err));
        ++*count;
        TRY(add_tensor(&views[*count], "head.bias", 1, (int64_t[]){c->classes}, c->head_bias, type, err));
        ++*count;
    }
    return INLAY_OK;
}

inlay_status checkpoint_write(const checkpoint_content *content, const char *folder, dtype type, inlay_error *err)
{
    arena *memory = arena_new();
    tensor_view *views = ARENA_ARRAY(memory, tensor_view, content->b->param_count + 2);
    int count = 0;
    inlay_status status = file_make_folder(folder, err);

    if (status == INLAY_OK)
        status = collect(content, views, &count, type, err);
    if (status == INLAY_OK)
        status = safetensors_write(path_join(memory, folder, "model.safetensors"), views, count, NULL, err);
    if (status == INLAY_OK) {
        json_t *root = describe(content);
        char *text = json_dumps(root, JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9));
        status = text ? file_write(path_join(memory, folder, "config.json"), text, strlen(text), err) : error_set(err, INLAY_ERR_NOMEM, "out of memory writing '%s'", folder);
        free(text);
        json_decref(root);
    }
    for (int i = 0; i < count; i++)
        memory_free((void *)(uintptr_t)views[i].data);
    arena_free(memory);
    return status;
}

/* ---- folding ---- */

typedef struct editor {
    const backbone *b;
    float **values; /* for each parameter of the backbone, NULL until it is edited */
} editor;

static float *edit(editor *e, const char *name, inlay_error *err, const param **found)
{
    for (int i = 0; i < e->b->param_count; i++) {
        const param *p = e->b->params[i];
        if (strcmp(p->name, name) != 0)
            continue;
        if (!e->values[i]) {
            e->values[i] = malloc((size_t)p->count * sizeof *e->values[i]);
            if (!e->values[i]) {
                error_set(err, INLAY_ERR_NOMEM, "out of memory folding into '%s'", name);
                return NULL;
            }
            dtype_to_f32(e->values[i], p->source, p->source_type, (size_t)p->count);
        }
        *found = p;
        return e->values[i];
    }
    error_set(err, INLAY_ERR_UNSUPPORTED, "the backbone has no tensor '%s' to fold into", name);
    return NULL;
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
        error_set(err, INLAY_ERR_SHAPE, "tensor '%s' has %lld values, expected %lld", name, (long long)p->count, (long long)count);
        return NULL;
    }
    return values;
}

static float *values_of(const param *p)
{
    float *values = malloc((size_t)p->count * sizeof *values);

    if (values)
        dtype_to_f32(values, p->source, p->source_type, (size_t)p->count);
    return values;
}

inlay_status fold_write(const adapter *a, const preprocess *prep, const char *folder, dtype type, inlay_error *err)
{
    const backbone *b = a->backbone;
    editor e = {.b = b, .values = calloc((size_t)b->param_count, sizeof *e.values)};
    fold_target target = {&e, edit_weight, edit_bias};
    checkpoint_content content = {.b = b, .values = e.values, .classes = a->classes, .labels = a->labels, .prep = prep};
    float *weight = values_of(a->head_weight), *bias = values_of(a->head_bias);
    inlay_status status = e.values && weight && bias ? INLAY_OK : error_set(err, INLAY_ERR_NOMEM, "out of memory folding");

    if (status == INLAY_OK && !a->method->fold && (a->edge_count || a->transform_count))
        status = error_set(err, INLAY_ERR_UNSUPPORTED, "a '%s' adapter cannot be written into the backbone's weights: it is not linear", a->name);
    if (status == INLAY_OK && a->method->fold)
        status = a->method->fold(a, &target, err);
    if (status == INLAY_OK) {
        content.head_weight = weight;
        content.head_bias = bias;
        status = checkpoint_write(&content, folder, type, err);
    }
    for (int i = 0; e.values && i < b->param_count; i++)
        free(e.values[i]);
    free(e.values);
    free(weight);
    free(bias);
    return status;
}
