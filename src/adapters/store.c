/* Adapters on disk: a folder with adapter.safetensors (what was trained, the head included) and adapter.json (all
 * else). */
#include <stdlib.h>
#include <string.h>

#include "adapters/adapter_impl.h"
#include "backbones/config.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"

/* Version 1 is read by every version of the program; it knows classification only, so that what is for another task is
 * version 2. */
#define ADAPTER_FORMAT 2

static void add_setting(void *context, const option_spec *spec, const char *text)
{
    json_t *item = NULL;

    if (spec->type == OPTION_FLAG)
        item = json_boolean(strcmp(text, "true") == 0);
    else if (spec->type == OPTION_INT)
        item = json_integer(strtoll(text, NULL, 10));
    else if (spec->type == OPTION_REAL)
        item = json_real(strtod(text, NULL));
    else
        item = json_string(text);
    json_object_set_new(context, spec->name, item);
}

/* Checks that the names of classes, which are recorded as they are and read back, are UTF-8. */
static inlay_status check_texts(const adapter *a, inlay_error *err)
{
    for (int64_t i = 0; i < a->outputs; i++)
        if (a->labels[i] && !text_is_utf8(a->labels[i]))
            FAIL(err, INLAY_ERR_FORMAT, "class %lld, '%s', has a name that is not UTF-8: adapter.json cannot hold it",
                 (long long)i, a->labels[i]);
    return INLAY_OK;
}

static json_t *describe(const adapter *a, const void *preprocessing, const void *record)
{
    const backbone *b = a->backbone;
    json_t *root = json_object(), *settings = json_object(), *labels = json_array();

    options_each(a->settings, NULL, add_setting, settings);
    for (int64_t i = 0; i < a->outputs; i++)
        json_array_append_new(labels, json_string(a->labels[i] ? a->labels[i] : ""));
    json_object_set_new(root, "format", json_string("inlay-adapter"));
    json_object_set_new(root, "format_version", json_integer(a->task == task_table[0] ? 1 : ADAPTER_FORMAT));
    json_object_set_new(root, "inlay_version", json_string(INLAY_VERSION_STRING));
    if (a->task != task_table[0])
        json_object_set_new(root, "task", json_string(a->task->name));
    json_object_set_new(root, "method", json_string(a->name));
    json_object_set_new(root, "options", settings);
    json_object_set_new(root, "backbone", backbone_facts(b));
    json_object_update_new(json_object_get(root, "backbone"),
                           json_pack("{s:s, s:s, s:o, s:s, s:I, s:I, s:I}", "architecture", b->shape.architecture,
                                     "layout", b->shape.layout, "path", json_text(b->path), "sha256", b->sha256,
                                     "width", (json_int_t)b->shape.width, "depth", (json_int_t)b->shape.depth,
                                     "image_size", (json_int_t)b->shape.height));
    json_object_set_new(root, "parameters",
                        json_pack("{s:I, s:I}", "adapter", (json_int_t)adapter_trained_total(a, false), "with_head",
                                  (json_int_t)adapter_trained_total(a, true)));
    json_object_set_new(root, "labels", labels);
    if (preprocessing)
        json_object_set(root, "preprocessing", (json_t *)(uintptr_t)preprocessing);
    if (record)
        json_object_set(root, "training", (json_t *)(uintptr_t)record);
    return root;
}

static inlay_status save_weights(const adapter *a, const device *d, const char *path, inlay_error *err)
{
    const struct adapter_declared *declared = a->declared;
    int count = declared->param_count;
    tensor_view *views = calloc((size_t)count, sizeof *views);
    float **values = calloc((size_t)count, sizeof *values);
    inlay_status status =
        views && values ? INLAY_OK : error_set(err, INLAY_ERR_NOMEM, "out of memory saving '%s'", path);

    for (int i = 0; status == INLAY_OK && i < count; i++) {
        const param *p = declared->params[i].p;
        values[i] = memory_array(p->count, sizeof *values[i]);
        if (!values[i]) {
            status = error_set(err, INLAY_ERR_NOMEM, "out of memory saving '%s'", path);
            break;
        }
        param_get(p, d, values[i]);
        views[i] =
            (tensor_view){.name = p->name, .type = DTYPE_F32, .ndim = p->ndim, .count = p->count, .data = values[i]};
        memcpy(views[i].dims, p->dims, (size_t)p->ndim * sizeof *p->dims);
    }
    if (status == INLAY_OK)
        status = safetensors_write(path, views, count, NULL, err);
    for (int i = 0; values && i < count; i++)
        free(values[i]);
    free(values);
    free(views);
    return status;
}

inlay_status adapter_save(const adapter *a, const device *d, const char *folder, const void *preprocessing,
                          const void *record, inlay_error *err)
{
    arena *memory = arena_new();
    json_t *root;
    char *text;
    inlay_status status = check_texts(a, err);

    if (status == INLAY_OK)
        status = backbone_identify(a->backbone, err);
    if (status == INLAY_OK)
        status = file_make_folder(folder, err);
    if (status == INLAY_OK)
        status = save_weights(a, d, path_join(memory, folder, "adapter.safetensors"), err);
    if (status == INLAY_OK) {
        const char *path = path_join(memory, folder, "adapter.json");
        root = describe(a, preprocessing, record);
        status = json_encode(&text, root, JSON_INDENT(2) | JSON_REAL_PRECISION(9), path, err);
        if (status == INLAY_OK)
            status = file_write(path, text, strlen(text), err);
        free(text);
        json_decref(root);
    }
    arena_free(memory);
    return status;
}

/* ---- loading ---- */

static inlay_status read_settings(options *o, const json_t *settings, const char *path, inlay_error *err)
{
    const char *key;
    json_t *item;

    json_object_foreach((json_t *)(uintptr_t)settings, key, item)
    {
        char text[64];
        const char *given = json_string_value(item);
        if (json_is_boolean(item))
            given = json_is_true(item) ? "true" : "false";
        else if (json_is_integer(item))
            snprintf(text, sizeof text, "%lld", (long long)json_integer_value(item));
        else if (json_is_real(item))
            snprintf(text, sizeof text, "%.17g", json_real_value(item));
        else if (!given)
            FAIL(err, INLAY_ERR_FORMAT, "%s: option '%s' is neither text, number nor truth value", path, key);
        TRY(options_set_foreign(o, key, given ? given : text, path, err));
    }
    return INLAY_OK;
}

/* Checks what else the model is a function of, where the weights are the same. Adapters of earlier versions have no
 * such keys. */
static inlay_status check_facts(const json_t *about, const char *path, const backbone *b, inlay_error *err)
{
    json_t *facts = backbone_facts(b), *item;
    const char *key;
    inlay_status status = INLAY_OK;

    json_object_foreach(facts, key, item)
    {
        const json_t *recorded = json_object_get(about, key);
        char was[64], is[64];
        if (status != INLAY_OK || !recorded ||
            strcmp(config_value_text(was, recorded), config_value_text(is, item)) == 0)
            continue;
        status = error_set(err, INLAY_ERR_MISMATCH,
                           "%s: the adapter was trained on the same weights as another model: 'backbone.%s' is %s, by "
                           "its configuration "
                           "'%s' has %s (eval and predict take it with --force-backbone)",
                           path, key, was, b->path, is);
    }
    json_decref(facts);
    return status;
}

static inlay_status check_backbone(const json_t *root, const char *path, backbone *b, bool insist, inlay_error *err)
{
    const json_t *about = json_object_get(root, "backbone");
    const char *sha = json_string_value(json_object_get(about, "sha256")),
               *trained = json_string_value(json_object_get(about, "path"));

    if (!sha)
        FAIL(err, INLAY_ERR_FORMAT, "%s: key 'backbone.sha256' is missing", path);
    if (insist)
        return INLAY_OK;
    TRY(backbone_identify(b, err));
    if (strcmp(sha, b->sha256) != 0)
        FAIL(err, INLAY_ERR_MISMATCH,
             "%s: the adapter was trained on another backbone: '%s' with sha256 %.12s, '%s' has %.12s (eval and "
             "predict take it with --force-backbone)",
             path, trained ? trained : "?", sha, b->path, b->sha256);
    return check_facts(about, path, b, err);
}

static inlay_status take_values(adapter *a, const char *path, inlay_error *err)
{
    TRY(tensor_set_open(&a->file, path, err));
    for (int i = 0; i < tensor_set_count(a->file); i++)
        if (!adapter_find(a, tensor_set_at(a->file, i)->name))
            FAIL(err, INLAY_ERR_FORMAT, "%s: tensor '%s' does not belong to a '%s' adapter with these options", path,
                 tensor_set_at(a->file, i)->name, a->name);
    for (const adapter_param *i = NULL; (i = adapter_each_param(a, i));) {
        param *p = i->p;
        const tensor_view *t = tensor_set_find(a->file, p->name);
        if (!t)
            FAIL(err, INLAY_ERR_FORMAT, "%s: tensor '%s' is missing", path, p->name);
        if (t->type != DTYPE_F32 && t->type != DTYPE_BF16 && t->type != DTYPE_F16 && t->type != DTYPE_F64)
            FAIL(err, INLAY_ERR_UNSUPPORTED, "%s: tensor '%s' has type %s, expected a floating type", path, t->name,
                 t->type_name);
        if (t->ndim != p->ndim || memcmp(t->dims, p->dims, (size_t)p->ndim * sizeof *p->dims) != 0)
            FAIL(err, INLAY_ERR_SHAPE, "%s: tensor '%s' has %lld values of another shape than expected (%lld values)",
                 path, t->name, (long long)t->count, (long long)p->count);
        param_set_source(p, t->data, t->type, false);
    }
    return INLAY_OK;
}

static inlay_status read_task(const task_desc **out, const json_t *root, const char *path, inlay_error *err)
{
    const json_t *item = json_object_get(root, "task");
    const char *name = json_string_value(item);

    *out = item ? task_find(name ? name : "") : task_table[0];
    if (!*out)
        FAIL(err, INLAY_ERR_UNSUPPORTED, "%s: key 'task' is '%s', which is no task that this program knows", path,
             name ? name : "(no text)");
    return INLAY_OK;
}

static inlay_status load(adapter **out, const json_t *root, const char *path, backbone *b, bool insist,
                         inlay_error *err)
{
    const char *name = json_string_value(json_object_get(root, "method")),
               *format = json_string_value(json_object_get(root, "format"));
    const json_t *labels = json_object_get(root, "labels"), *settings = json_object_get(root, "options");
    json_int_t version = json_integer_value(json_object_get(root, "format_version"));
    const task_desc *of;
    options *o;
    const char **names;
    inlay_status status;

    if (!format || strcmp(format, "inlay-adapter") != 0)
        FAIL(err, INLAY_ERR_FORMAT, "%s: key 'format' is not 'inlay-adapter'", path);
    if (version < 1 || version > ADAPTER_FORMAT)
        FAIL(err, INLAY_ERR_UNSUPPORTED, "%s: format version %lld, this program reads 1 to %d", path,
             (long long)version, ADAPTER_FORMAT);
    TRY(read_task(&of, root, path, err));
    if (!name || !json_is_array(labels) || json_array_size(labels) == 0 || !json_is_object(settings))
        FAIL(err, INLAY_ERR_FORMAT, "%s: keys 'method' (text), 'options' (object) and 'labels' (array) are expected",
             path);
    TRY(check_backbone(root, path, b, insist, err));
    TRY(adapter_settings(&o, name, err));
    status = read_settings(o, settings, path, err);
    names = calloc(json_array_size(labels), sizeof *names);
    for (size_t i = 0; names && i < json_array_size(labels); i++) {
        const char *label = json_string_value(json_array_get(labels, i));
        names[i] = label ? label : "";
    }
    if (status == INLAY_OK && !names)
        status = error_set(err, INLAY_ERR_NOMEM, "out of memory reading '%s'", path);
    if (status != INLAY_OK) {
        options_free(o);
        free(names);
        return status;
    }
    status = adapter_new(out, name, o, b, (int64_t)json_array_size(labels), names, err);
    free(names);
    if (status == INLAY_OK)
        (*out)->task = of;
    return status;
}

/* Reads adapter.json of a folder; release with json_decref. */
static inlay_status read_description(json_t **out, const char *folder, const char *path, inlay_error *err)
{
    *out = NULL;
    if (!file_exists(path))
        FAIL(err, INLAY_ERR_IO, "'%s' is not an adapter folder: there is no adapter.json in it", folder);
    return json_read(out, path, err);
}

inlay_status adapter_read_option(const char *folder, const char *method_name, const char *option, char *out,
                                 size_t room, inlay_error *err)
{
    arena *memory = arena_new();
    const char *path = path_join(memory, folder, "adapter.json"), *name, *text;
    json_t *root;
    inlay_status status = read_description(&root, folder, path, err);

    if (status == INLAY_OK) {
        name = json_string_value(json_object_get(root, "method"));
        text = json_string_value(json_object_get(json_object_get(root, "options"), option));
        if (!name || strcmp(name, method_name) != 0)
            status = error_set(err, INLAY_ERR_MISMATCH, "%s: method '%s' is expected, found '%s'", path, method_name,
                               name ? name : "none");
        else if (!text || strlen(text) >= room)
            status = error_set(err, INLAY_ERR_FORMAT, "%s: option '%s' is missing or too long", path, option);
        else
            snprintf(out, room, "%s", text);
    }
    json_decref(root);
    arena_free(memory);
    return status;
}

inlay_status adapter_load(adapter **out, const char *folder, backbone *b, bool insist, void **preprocessing,
                          inlay_error *err)
{
    arena *memory = arena_new();
    const char *path = path_join(memory, folder, "adapter.json");
    json_t *root;
    inlay_status status = read_description(&root, folder, path, err);

    *out = NULL;
    if (status == INLAY_OK)
        status = load(out, root, path, b, insist, err);
    if (status == INLAY_OK) {
        status = take_values(*out, path_join(memory, folder, "adapter.safetensors"), err);
        for (const adapter_param *i = NULL; (i = adapter_each_param(*out, i));)
            i->p->trainable = false;
    }
    if (status == INLAY_OK && preprocessing)
        *preprocessing = json_incref(json_object_get(root, "preprocessing"));
    if (status != INLAY_OK) {
        adapter_free(*out, NULL);
        *out = NULL;
    }
    json_decref(root);
    arena_free(memory);
    return status;
}
